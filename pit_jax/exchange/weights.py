"""Parameters by the names the world gives them: one table, and how a model is filled from it.

Where the tensors come from (`Weights`) is another file's matter: hf.py reads directories, gguf.py
reads GGUF files. Filling goes parameter by parameter, each straight to its devices, so that the
host never holds a second model.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax import hosts
from pit_jax.models import architecture, lora, pure
from pit_jax.types import Params

# Ours within a block → theirs within a layer, and how many of our leading axes are inputs: their
# matrices are [out, in] with heads and head width in one axis. 0 is a vector.
LAYER = {
  "attention_norm.scale": ("input_layernorm.weight", 0),
  "query": ("self_attn.q_proj.weight", 1),
  "key": ("self_attn.k_proj.weight", 1),
  "value": ("self_attn.v_proj.weight", 1),
  "output": ("self_attn.o_proj.weight", 2),
  "query_bias": ("self_attn.q_proj.bias", 0),
  "key_bias": ("self_attn.k_proj.bias", 0),
  "value_bias": ("self_attn.v_proj.bias", 0),
  "output_bias": ("self_attn.o_proj.bias", 0),
  "query_norm.scale": ("self_attn.q_norm.weight", 0),
  "key_norm.scale": ("self_attn.k_norm.weight", 0),
  "gate": ("mlp.gate_proj.weight", 1),
  "up": ("mlp.up_proj.weight", 1),
  "down": ("mlp.down_proj.weight", 1),
}
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORMS = {  # without and with norms after attention and MLP
  False: {"mlp_norm.scale": ("post_attention_layernorm.weight", 0)},
  True: {
    "post_attention_norm.scale": ("post_attention_layernorm.weight", 0),
    "mlp_norm.scale": ("pre_feedforward_layernorm.weight", 0),
    "post_mlp_norm.scale": ("post_feedforward_layernorm.weight", 0),
  },
}


@runtime_checkable
class Weights(Protocol):
  """Tensors under their Hugging Face names.

  Attributes:
    name: where they come from, for messages.
    shapes: of every tensor.
    wrong: what is known to be unreadable, in words.
  """

  name: str
  shapes: Mapping[str, tuple[int, ...]]
  wrong: list[str]

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """One parameter and the tensors that hold it.

  Attributes:
    ours: the parameter's dotted name.
    shape: of the parameter, the layers' axis included.
    theirs: the tensors' names, one per layer, or one.
    inputs: leading axes of a layer's parameter that are inputs; 0 where nothing is transposed.
    is_label: the tensor has one leading axis more, of size 1 (a classifier's only label).
    dtype: of the parameter; in int8, `<ours>_scale` goes with it.
  """

  ours: str
  shape: tuple[int, ...]
  theirs: tuple[str, ...]
  inputs: int
  is_label: bool = False
  dtype: str = "float32"

  @property
  def is_stacked(self) -> bool:
    """Whether the parameter's first axis is the layers'."""
    return self.ours.startswith("trunk.blocks.")

  @property
  def inner(self) -> tuple[int, ...]:
    """The parameter's shape in one layer."""
    return self.shape[1:] if self.is_stacked else self.shape

  @property
  def their_shape(self) -> tuple[int, ...]:
    """The shape of each of the tensors."""
    if self.inputs:
      split = math.prod(self.inner[: self.inputs])
      return (math.prod(self.inner) // split, split)

    if self.is_label:
      return (1, *self.inner)
    return self.inner if self.ours == "trunk.embedding" else (math.prod(self.inner),)

  def adapter(self, part: str) -> str:
    """Returns the dotted name of "a" or "b" of the parameter's adapter."""
    parent, _, last = self.ours.rpartition(".")
    return f"{parent}.adapters.{last}.{part}"

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Returns a layer's parameter from its tensor."""
    return (tensor.T if self.inputs else tensor).reshape(self.inner)

  def to_theirs(self, leaf: np.ndarray) -> np.ndarray:
    """Returns the tensor of a layer's parameter."""
    out, into = self.their_shape if self.inputs else (0, 0)
    tensor = leaf.reshape(into, out).T if self.inputs else leaf.reshape(self.their_shape)
    return np.ascontiguousarray(tensor)


def entries(model: pure.PureModel) -> list[Entry]:
  """Returns the table of a model: every parameter but a scalar head's bias and adapters."""
  table = LAYER | NORMS[model.config.post_norms]
  shapes = pure.named(jax.eval_shape(model.init, jax.random.key(0)))
  rows = []

  for ours, leaf in shapes.items():
    name = ours.removeprefix("trunk.")
    inputs = 0
    is_label = False
    prefix = [""]
    if name == "bias" or ".adapters." in name or name.endswith("_scale"):
      continue

    if name.startswith("blocks."):
      theirs, inputs = table[name.removeprefix("blocks.")]
      prefix = [f"model.layers.{layer}." for layer in range(model.config.layers)]
    elif name == "head":
      theirs, inputs, is_label = (
        ("score.weight", 0, True) if pure.is_scalar(model) else (HEAD, 1, False)
      )
    else:
      theirs = {"embedding": EMBEDDING, "norm.scale": "model.norm.weight"}[name]

    names = tuple(start + theirs for start in prefix)
    rows.append(Entry(ours, tuple(leaf.shape), names, inputs, is_label, str(leaf.dtype)))

  return rows


def fill(model: pure.PureModel, weights: Weights, sharding: Params | None = None) -> Params:
  """Returns a model's parameters, as it keeps them, each read straight to its devices.

  Args:
    model: what to fill; without adapters.
    weights: where the tensors come from.
    sharding: where each parameter lives; None is the first device.

  Raises:
    ValueError: if any tensor is missing, superfluous, misshapen or unreadable, and all are listed;
      or one holds what is no finite number.
  """
  table = entries(model)
  if model.config.tied and EMBEDDING not in weights.shapes and HEAD in weights.shapes:
    # One tensor for both may be written under either name.
    table = [dataclasses.replace(e, theirs=(HEAD,)) if EMBEDDING in e.theirs else e for e in table]

  # All that does not fit is said before anything is read.
  _check(weights, table, model.config.tied)
  places = _places(sharding)
  leaves = {}

  for entry in table:
    for name, shape, take in _parts(entry):

      def part(index, entry=entry, take=take):
        return _read(entry, weights, index, take)

      leaves[name] = jax.make_array_from_callback(shape, places[name], part)

  if pure.is_scalar(model):
    leaves["bias"] = jax.device_put(np.float32(0), places["bias"])  # classifiers have none
  return pure.nested(leaves)


def is_tied(weights: Weights) -> bool:
  """Returns whether one tensor is both embedding and head.

  A head of its own counts whatever config.json says of tying, as transformers has it: some wrote
  models that were trained apart and left tie_word_embeddings as it was.
  """
  if HEAD not in weights.shapes or EMBEDDING not in weights.shapes:
    return True
  return np.array_equal(weights.read(HEAD), weights.read(EMBEDDING))


def finite(weight: np.ndarray, tensor: str, source: str) -> np.ndarray:
  """Returns a tensor as it is.

  Raises:
    ValueError: if any of it is infinite or no number; what it would be part of could say nothing.
  """
  count = weight.size - np.count_nonzero(np.isfinite(weight))
  if count:
    raise ValueError(
      f"{source}: {tensor} holds {count} of {weight.size} values that are infinite or no number; "
      "the file is damaged, or the training that wrote it diverged"
    )

  return weight


def put(leaves: Mapping[str, Any], sharding: Params | None = None) -> Params:
  """Returns the nested dict of arrays under dotted names, each on its devices."""
  places = _places(sharding)
  return pure.nested({name: jax.device_put(leaf, places[name]) for name, leaf in leaves.items()})


def _places(sharding: Params | None) -> Mapping[str, jax.sharding.Sharding]:
  """Returns the sharding of each parameter by its dotted name; the first device by default."""
  single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  named = pure.named(sharding) if sharding is not None else {}
  return collections.defaultdict(lambda: single, named)


def tensor(
  entry: Entry, layer: int, leaves: Mapping[str, Any], adapter: architecture.Adapter | None
) -> np.ndarray:
  """Returns a tensor of a model in float32, what its adapter adds included.

  Args:
    entry: of the parameter.
    layer: which of the entry's tensors.
    leaves: the model's parameters under their dotted names.
    adapter: of the model.
  """

  def leaf(name):
    value = leaves[name][layer] if entry.is_stacked else leaves[name]
    return np.asarray(hosts.fetch(value), np.float32)

  weight = leaf(entry.ours)
  if entry.dtype == "int8":
    weight = weight * leaf(f"{entry.ours}_scale")

  if entry.adapter("a") in leaves:
    a, b = (leaf(entry.adapter(matrix)) for matrix in "ab")
    weight = weight + np.tensordot(a, b, axes=1) * adapter.scale

  return entry.to_theirs(weight)


def _parts(entry: Entry) -> list[tuple[str, tuple[int, ...], Callable]]:
  """Returns name, shape and what is taken of each tensor, for all that an entry fills."""
  if entry.dtype != "int8":
    return [(entry.ours, entry.shape, lambda weight: weight.astype(entry.dtype))]

  # Both read and quantise for themselves, so that the host keeps no weight in between.
  def quantised(which):
    def take(weight):
      return np.asarray(lora.quantise(jnp.asarray(weight, jnp.float32), entry.inputs)[which])

    return take

  scale = (entry.shape[0], *entry.inner[entry.inputs :])
  return [
    (entry.ours, entry.shape, quantised(0)),
    (f"{entry.ours}_scale", scale, quantised(1)),
  ]


def _check(weights: Weights, table: list[Entry], tied: bool) -> None:
  """Raises a ValueError that lists every missing, superfluous, misshapen or unreadable tensor."""
  expected = {name: entry.their_shape for entry in table for name in entry.theirs}
  shapes = weights.shapes
  wrong = list(weights.wrong)

  # A tied head may be written out; see `is_tied`. Rotation frequencies, which older checkpoints
  # hold of every layer, say nothing that config.json does not.
  harmless = {name for name in shapes if name.endswith(".rotary_emb.inv_freq")}
  harmless |= {HEAD} if tied else set()
  wrong += [f"{name} is missing" for name in expected if name not in shapes]
  wrong += [
    f"{name} is not part of the model" for name in shapes.keys() - expected.keys() - harmless
  ]

  wrong += [
    f"{name} has shape {shapes[name]}, not {shape}"
    for name, shape in expected.items()
    if name in shapes and shapes[name] != shape
  ]
  if wrong:
    raise ValueError(f"{weights.name} does not fit the model: {'; '.join(sorted(wrong))}")


def _read(entry: Entry, weights: Weights, index: tuple[slice, ...], take: Callable) -> np.ndarray:
  """Returns a part of a parameter; nothing outlives the call but the result."""

  def read(name):
    return take(entry.to_ours(finite(weights.read(name), name, weights.name)))

  if not entry.is_stacked:
    return read(entry.theirs[0])[index]
  layers = range(entry.shape[0])[index[0]]
  inner = index[1:]
  result = None

  for place, number in enumerate(layers):
    piece = read(entry.theirs[number])[inner]
    # Only the first layer tells the type that `take` makes.
    if result is None:
      result = np.empty((len(layers), *piece.shape), piece.dtype)
    result[place] = piece

  return result
