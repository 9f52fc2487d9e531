"""Parameters by the names the world gives them: one table, and how a model is filled from it.

Where the tensors come from (`Weights`) is another file's matter: hf.py reads directories, gguf.py
reads GGUF files. Filling goes parameter by parameter, each straight to its devices, so that the
host never holds a second model.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from pit_jax.models import pure
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
  """

  ours: str
  shape: tuple[int, ...]
  theirs: tuple[str, ...]
  inputs: int
  is_label: bool = False

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

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Returns a layer's parameter from its tensor."""
    return (tensor.T if self.inputs else tensor).reshape(self.inner)

  def to_theirs(self, leaf: np.ndarray) -> np.ndarray:
    """Returns the tensor of a layer's parameter."""
    out, into = self.their_shape if self.inputs else (0, 0)
    tensor = leaf.reshape(into, out).T if self.inputs else leaf.reshape(self.their_shape)
    return np.ascontiguousarray(tensor)


def entries(model: pure.PureModel) -> list[Entry]:
  """Returns the table of a model: every parameter but the bias of a scalar head."""
  table = LAYER | NORMS[model.config.post_norms]
  shapes = named(jax.eval_shape(model.init, jax.random.key(0)))
  found = []
  for ours, leaf in shapes.items():
    name, inputs, is_label, prefix = ours.removeprefix("trunk."), 0, False, [""]
    if name.startswith("blocks."):
      theirs, inputs = table[name.removeprefix("blocks.")]
      prefix = [f"model.layers.{layer}." for layer in range(model.config.layers)]
    elif name == "head":
      theirs, inputs, is_label = (
        ("score.weight", 0, True) if is_scalar(model) else ("lm_head.weight", 1, 0)
      )
    elif name == "bias":
      continue
    else:
      theirs = {"embedding": "model.embed_tokens.weight", "norm.scale": "model.norm.weight"}[name]
    names = tuple(part + theirs for part in prefix)
    found.append(Entry(ours, tuple(leaf.shape), names, inputs, bool(is_label)))
  return found


def fill(
  model: pure.PureModel, weights: Weights, sharding: Params | None = None, score_bias: float = 0.0
) -> Params:
  """Returns a model's parameters, in float32, each read straight to its devices.

  Args:
    model: what to fill.
    weights: where the tensors come from.
    sharding: where each parameter lives; None is the first device.
    score_bias: of a scalar model's head, which has no tensor.

  Raises:
    ValueError: if any tensor is missing, superfluous, misshapen or unreadable; all are listed.
  """
  table = entries(model)
  _check(weights, table, model.config.tied)
  places = named(sharding) if sharding is not None else {}
  single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  leaves = {}
  for entry in table:

    def part(index, entry=entry):
      return _read(entry, weights, index)

    place = places.get(entry.ours, single)
    leaves[entry.ours] = jax.make_array_from_callback(entry.shape, place, part)
  if is_scalar(model):
    leaves["bias"] = jax.device_put(np.float32(score_bias), places.get("bias", single))
  return nested(leaves)


def is_scalar(model: pure.PureModel) -> bool:
  """Returns whether a model's head gives one number."""
  return "bias" in model.axes


def named(tree: Params) -> dict[str, Any]:
  """Returns the leaves of a nested dict under their dotted names."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {".".join(key.key for key in path): leaf for path, leaf in leaves}


def nested(leaves: dict[str, Any]) -> Params:
  """Returns the nested dict of leaves under dotted names."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *parents, last = name.split(".")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def _check(weights: Weights, table: list[Entry], tied: bool) -> None:
  """Raises a ValueError that lists every missing, superfluous, misshapen or unreadable tensor."""
  wanted = {name: entry.their_shape for entry in table for name in entry.theirs}
  have, wrong = weights.shapes, list(weights.wrong)
  # A tied head may be written out; it says nothing that the embedding does not.
  harmless = {"lm_head.weight"} if tied else set()
  wrong += [f"{name} is missing" for name in wanted if name not in have]
  wrong += [f"{name} is not part of the model" for name in have.keys() - wanted.keys() - harmless]
  wrong += [
    f"{name} has shape {have[name]}, not {shape}"
    for name, shape in wanted.items()
    if name in have and have[name] != shape
  ]
  if wrong:
    raise ValueError(f"{weights.name} does not fit the model: {'; '.join(sorted(wrong))}")


def _read(entry: Entry, weights: Weights, index: tuple[slice, ...]) -> np.ndarray:
  """Returns a part of a parameter; nothing outlives the call but the result."""
  if not entry.is_stacked:
    return entry.to_ours(weights.read(entry.theirs[0]))[index].astype(np.float32)
  layers, inner = range(entry.shape[0])[index[0]], index[1:]
  result = None
  for place, number in enumerate(layers):
    part = entry.to_ours(weights.read(entry.theirs[number]))[inner]
    if result is None:
      result = np.empty((len(layers), *part.shape), np.float32)
    result[place] = part
  return result
