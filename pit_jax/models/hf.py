"""Model directories as the rest of the world writes them: config.json, safetensors, names.

One table maps Hugging Face tensors to parameters. Reading goes parameter by parameter, each
straight to its devices, and writing shard by shard: the host never holds a second model. No pickle
is opened and no code of a directory is run.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from pit_jax.models import families, pure
from pit_jax.types import Params

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4 * 2**30

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


@dataclasses.dataclass(frozen=True)
class Entry:
  """One parameter and the tensors that hold it.

  Attributes:
    ours: the parameter's dotted name.
    shape: of the parameter, the layers' axis included.
    theirs: the tensors' names, one per layer, or one.
    inputs: leading axes of a layer's parameter that are inputs; 0 where nothing is transposed.
    vocabulary: the tensor has one leading axis more, of size 1 (a classifier's only label).
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
  is_scalar, found = "bias" in shapes, []
  for ours, leaf in shapes.items():
    name, inputs, is_label, prefix = ours.removeprefix("trunk."), 0, False, [""]
    if name.startswith("blocks."):
      theirs, inputs = table[name.removeprefix("blocks.")]
      prefix = [f"model.layers.{layer}." for layer in range(model.config.layers)]
    elif name == "head":
      theirs, inputs, is_label = (
        ("score.weight", 0, True) if is_scalar else ("lm_head.weight", 1, 0)
      )
    elif name == "bias":
      continue
    else:
      theirs = {"embedding": "model.embed_tokens.weight", "norm.scale": "model.norm.weight"}[name]
    names = tuple(part + theirs for part in prefix)
    found.append(Entry(ours, tuple(leaf.shape), names, inputs, bool(is_label)))
  return found


def load(
  directory: str | os.PathLike, model: pure.PureModel, sharding: Params | None = None
) -> Params:
  """Reads a model's parameters, each straight to its devices, in float32.

  Args:
    directory: with model.safetensors, or an index and its shards; of float32, bfloat16, float16.
    model: what to fill; a scalar model reads a classifier with one label.
    sharding: where each parameter lives; None is the first device.

  Raises:
    ValueError: if there are no safetensors, or any tensor is missing, superfluous, misshapen or of
      another type; the message lists all of them.
  """
  table, homes = entries(model), _homes(directory)
  _check(directory, table, homes, model.config.tied)
  places = named(sharding) if sharding is not None else {}
  single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  leaves = {}
  for entry in table:

    def part(index, entry=entry):
      return _read(entry, homes, index)

    place = places.get(entry.ours, single)
    leaves[entry.ours] = jax.make_array_from_callback(entry.shape, place, part)
  shapes = named(jax.eval_shape(model.init, jax.random.key(0)))
  if "bias" in shapes:
    bias = np.float32(_config(directory).get(families.SCORE_BIAS, 0.0))
    leaves["bias"] = jax.device_put(bias, places.get("bias", single))
  return nested(leaves)


def save(
  directory: str | os.PathLike,
  model: pure.PureModel,
  params: Params,
  *,
  dtype: str = "float32",
  shard_bytes: int = SHARD_BYTES,
  **more: Any,
) -> None:
  """Writes a model as transformers and vLLM read it; see `load`.

  Args:
    directory: made if needed.
    model: a language model, written as a causal language model, or a scalar model, written as a
      classifier with one label. A scalar head's bias goes into config.json as `score_bias`: what
      transformers returns is the score without it.
    params: its parameters, on any devices.
    dtype: of the tensors: float32, bfloat16 or float16.
    shard_bytes: most bytes per file.
    more: fields for config.json: token ids and the like.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  leaves = named(params)
  if "bias" in leaves:
    more |= {families.SCORE_BIAS: float(leaves["bias"]), "num_labels": 1}
  config = families.write(model.config, dtype=dtype, **more)
  config.architectures = [families.class_name(config, is_scalar="bias" in leaves)]
  config.save_pretrained(directory)
  homes: dict[str, str] = {}
  shards = list(_shards(entries(model), np.dtype(dtype).itemsize, shard_bytes))
  for number, shard in enumerate(shards, start=1):
    file = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
    tensors = {
      name: entry.to_theirs(np.asarray(leaf, np.float32)).astype(dtype)
      for entry, layer, name in shard
      for leaf in [leaves[entry.ours][layer] if entry.is_stacked else leaves[entry.ours]]
    }
    homes |= dict.fromkeys(tensors, file)
    safetensors.numpy.save_file(tensors, directory / file, metadata={"format": "pt"})
  if len(shards) > 1:
    size = sum(math.prod(e.shape) for e in entries(model)) * np.dtype(dtype).itemsize
    index = {"metadata": {"total_size": size}, "weight_map": homes}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


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


def _shards(table: list[Entry], width: int, limit: int) -> Iterator[list[tuple]]:
  """Yields lists of (entry, layer, tensor name), each of at most `limit` bytes, or one tensor."""
  shard, size = [], 0
  for entry in table:
    for layer, name in enumerate(entry.theirs):
      more = math.prod(entry.inner) * width
      if shard and size + more > limit:
        yield shard
        shard, size = [], 0
      shard.append((entry, layer, name))
      size += more
  yield shard


def _config(directory) -> dict[str, Any]:
  return json.loads((pathlib.Path(directory) / "config.json").read_text())


def _homes(directory: str | os.PathLike) -> dict[str, pathlib.Path]:
  """Returns the file of every tensor."""
  directory = pathlib.Path(directory)
  index, single = directory / INDEX, directory / WEIGHTS
  try:
    if index.exists():
      files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    elif single.exists():
      files = [WEIGHTS]
    else:
      raise ValueError(
        f"neither {WEIGHTS} nor {INDEX} is there; other formats, pickles above all, are not read"
      )
    homes = {}
    for file in files:
      with safetensors.safe_open(directory / file, "numpy") as opened:
        homes |= dict.fromkeys(opened.keys(), directory / file)
    return homes
  except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
    raise ValueError(f"{directory} holds no readable weights: {error}") from error


def _check(directory, table: list[Entry], homes: dict[str, pathlib.Path], tied: bool) -> None:
  """Raises a ValueError that lists every missing, superfluous or misshapen tensor."""
  wanted = {name: entry.their_shape for entry in table for name in entry.theirs}
  wrong = [f"{name} is missing" for name in wanted if name not in homes]
  # A tied head may be written out; it says nothing that the embedding does not.
  harmless = {"lm_head.weight"} if tied else set()
  wrong += [
    f"{name} is not part of the model" for name in homes if name not in wanted.keys() | harmless
  ]
  for file in sorted(set(homes.values())):
    with safetensors.safe_open(file, "numpy") as opened:
      for name in wanted.keys() & set(opened.keys()):
        tensor = opened.get_slice(name)
        if tuple(tensor.get_shape()) != wanted[name]:
          wrong.append(f"{name} has shape {tuple(tensor.get_shape())}, not {wanted[name]}")
        if tensor.get_dtype() not in ("F32", "BF16", "F16"):
          wrong.append(f"{name} is of type {tensor.get_dtype()}; F32, BF16 and F16 are read")
  if wrong:
    raise ValueError(f"{directory} does not fit the model: {'; '.join(sorted(wrong))}")


def _read(entry: Entry, homes: dict[str, pathlib.Path], index: tuple[slice, ...]) -> np.ndarray:
  """Returns a part of a parameter; nothing outlives the call but the result."""

  def layer(name: str, inner: tuple[slice, ...]) -> np.ndarray:
    with safetensors.safe_open(homes[name], "numpy") as opened:
      return entry.to_ours(opened.get_tensor(name))[inner]

  if not entry.is_stacked:
    return layer(entry.theirs[0], index).astype(np.float32)
  layers, inner = range(entry.shape[0])[index[0]], index[1:]
  first = layer(entry.theirs[layers[0]], inner)
  result = np.empty((len(layers), *first.shape), np.float32)
  for place, number in enumerate(layers):
    result[place] = first if place == 0 else layer(entry.theirs[number], inner)
  return result
