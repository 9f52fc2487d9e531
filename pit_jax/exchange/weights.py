"""Parameters by the names the world gives them: one table, and how a model is filled from it.

Where the tensors come from (`Weights`) is another file's matter: hf.py reads directories, gguf.py
reads GGUF files. Filling goes parameter by parameter, each straight to its devices, so that the
host never holds a second model.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax import hosts
from pit_jax.models import architecture, lora, products, pure
from pit_jax.types import Params

# Ours within a block → theirs within a layer. Of matrices theirs are [out, in], with heads and head
# width in one axis.
LAYER = {
  "attention_norm.scale": "input_layernorm.weight",
  "query": "self_attn.q_proj.weight",
  "key": "self_attn.k_proj.weight",
  "value": "self_attn.v_proj.weight",
  "output": "self_attn.o_proj.weight",
  "query_bias": "self_attn.q_proj.bias",
  "key_bias": "self_attn.k_proj.bias",
  "value_bias": "self_attn.v_proj.bias",
  "output_bias": "self_attn.o_proj.bias",
  "query_norm.scale": "self_attn.q_norm.weight",
  "key_norm.scale": "self_attn.k_norm.weight",
  "gate": "mlp.gate_proj.weight",
  "up": "mlp.up_proj.weight",
  "down": "mlp.down_proj.weight",
}
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORMS = {  # without and with norms after attention and MLP
  False: {"mlp_norm.scale": "post_attention_layernorm.weight"},
  True: {
    "post_attention_norm.scale": "post_attention_layernorm.weight",
    "mlp_norm.scale": "pre_feedforward_layernorm.weight",
    "post_mlp_norm.scale": "post_feedforward_layernorm.weight",
  },
}


@runtime_checkable
class Weights(Protocol):
  """Tensors under their Hugging Face names."""

  name: str  # where they come from, for messages
  shapes: Mapping[str, tuple[int, ...]]  # of every tensor
  wrong: list[str]  # what is known to be unreadable, in words

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """One parameter and the tensors that hold it."""

  ours: str  # the parameter's dotted name
  shape: tuple[int, ...]  # of the parameter, the layers' axis included
  theirs: tuple[str, ...]  # the tensors' names, one per layer, or one
  inputs: int  # leading axes of a layer's parameter that are inputs; 0: nothing is transposed
  is_label: bool = False  # the tensor has a leading axis of size 1 more (a classifier's only label)
  dtype: str = "float32"  # of the parameter; in int8, `<ours>_scale` goes with it

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
    shape = self.their_shape
    tensor = leaf.reshape(shape[::-1]).T if self.inputs else leaf.reshape(shape)
    return np.ascontiguousarray(tensor)


def entries(model: pure.PureModel) -> list[Entry]:
  """Returns the table of a model: every parameter but a scalar head's bias and adapters."""
  is_scalar = pure.is_scalar(model)
  table = LAYER | NORMS[model.config.post_norms]
  table |= {"embedding": EMBEDDING, "norm.scale": "model.norm.weight"}
  table["head"] = "score.weight" if is_scalar else HEAD
  inputs = products.INPUTS | {"head": 0 if is_scalar else 1}
  layers = [f"model.layers.{layer}." for layer in range(model.config.layers)]
  rows = []

  for ours, leaf in pure.named(jax.eval_shape(model.init, jax.random.key(0))).items():
    name = ours.removeprefix("trunk.").removeprefix("blocks.")
    if name == "bias" or name.startswith("adapters.") or name.endswith("_scale"):
      continue

    prefixes = layers if ours.startswith("trunk.blocks.") else [""]
    theirs = tuple(prefix + table[name] for prefix in prefixes)
    is_label = is_scalar and name == "head"
    shape = tuple(leaf.shape)
    rows.append(Entry(ours, shape, theirs, inputs.get(name, 0), is_label, str(leaf.dtype)))

  return rows


def fill(model: pure.PureModel, weights: Weights, sharding: Params | None = None) -> Params:
  """Returns the parameters of a model without adapters, each read straight to its devices.

  They are kept as the model keeps them. Without a sharding all live on the first device.

  Raises:
    ValueError: if any tensor is missing, superfluous, misshapen or unreadable, and all are listed;
      or one holds what is no finite number.
  """
  table = entries(model)
  if model.config.tied and EMBEDDING not in weights.shapes and HEAD in weights.shapes:
    # One tensor for both may be written under either name.
    table = [dataclasses.replace(e, theirs=(HEAD,)) if EMBEDDING in e.theirs else e for e in table]

  expected = {name: entry.their_shape for entry in table for name in entry.theirs}
  # A tied head may be written out; see `is_tied`. Rotation frequencies, which older checkpoints
  # hold of every layer, say nothing that config.json does not.
  harmless = {name for name in weights.shapes if name.endswith(".rotary_emb.inv_freq")}
  harmless |= {HEAD} if model.config.tied else set()
  told = weights.shapes.keys() - (harmless - expected.keys())
  found = {name: weights.shapes[name] for name in told}
  # All that does not fit is said before anything is read.
  check(weights.name, "the model", expected, found, weights.wrong)
  places = _places(sharding)
  leaves = {}

  for entry in table:
    for name, shape, take in _parts(entry):
      read = functools.partial(_read, entry, weights, take)
      leaves[name] = jax.make_array_from_callback(shape, places[name], read)

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
  """Returns a layer's tensor of an entry in float32, what the model's adapter adds included.

  The leaves are all of the model's parameters, under their dotted names.
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
  def quantised(which, weight):
    return np.asarray(lora.quantise(jnp.asarray(weight, jnp.float32), entry.inputs)[which])

  matrix, scale = (functools.partial(quantised, which) for which in (0, 1))
  outputs = (entry.shape[0], *entry.inner[entry.inputs :])
  return [(entry.ours, entry.shape, matrix), (f"{entry.ours}_scale", outputs, scale)]


def check(
  source: str,
  whole: str,
  expected: Mapping[str, tuple[int, ...]],
  found: Mapping[str, tuple[int, ...]],
  wrong: Sequence[str] = (),
) -> None:
  """Raises a ValueError that lists every missing, superfluous or misshapen tensor.

  Names have shapes, expected in the whole and found in the source, of which more may be wrong.
  """
  wrong = [*wrong, *(f"{name} is missing" for name in expected.keys() - found.keys())]
  wrong += [f"{name} is not part of {whole}" for name in found.keys() - expected.keys()]
  wrong += [
    f"{name} has shape {found[name]}, not {shape}"
    for name, shape in expected.items()
    if found.get(name, shape) != shape
  ]
  if wrong:
    raise ValueError(f"{source} does not fit the model: {'; '.join(sorted(wrong))}")


def _read(entry: Entry, weights: Weights, take: Callable, index: tuple[slice, ...]) -> np.ndarray:
  """Returns a part of a parameter; nothing outlives the call but the result."""

  def read(name):
    return take(entry.to_ours(finite(weights.read(name), name, weights.name)))

  if not entry.is_stacked:
    return read(entry.theirs[0])[index]
  layers = entry.theirs[index[0]]
  result = None

  for place, name in enumerate(layers):
    piece = read(name)[index[1:]]
    # Only the first layer tells the type that `take` makes.
    if result is None:
      result = np.empty((len(layers), *piece.shape), piece.dtype)
    result[place] = piece

  return result
