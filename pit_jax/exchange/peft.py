"""Adapters as PEFT writes and reads them: adapter_config.json and adapter_model.safetensors.

A scalar model's head goes with its adapters. Beside them lies the config.json of the model they
make of the base, so that the directory says what it is.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import safetensors

from pit_jax import hosts, lfs
from pit_jax.exchange import directories, hf, weights
from pit_jax.models import architecture, products, pure
from pit_jax.types import Params

CONFIG = directories.ADAPTER
KIND = "adapters"  # what such a directory holds, in words
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
SCORE = f"{PREFIX}score.weight"
# What an adapter may say only in this way; ours know nothing else.
FIXED = {
  "peft_type": ("LORA",),
  "bias": ("none",),
  "use_rslora": (None, False),
  "use_dora": (None, False),
  "fan_in_fan_out": (None, False),
  "rank_pattern": (None, {}),
  "alpha_pattern": (None, {}),
  "layers_to_transform": (None,),
  "lora_bias": (None, False),
  "target_parameters": (None, []),
  "trainable_token_indices": (None,),
  "modules_to_save": (None, [], ["score"], ["classifier", "score"]),
}


def save(
  directory: str | os.PathLike, model: pure.PureModel, params: Params, *, base: str, **more: Any
) -> None:
  """Writes what a model with adapters adds to its base, into a directory that is made if needed.

  Args:
    directory: see `load`.
    model: a language model or a scalar model.
    params: its parameters, on any devices; what is frozen of them is not read.
    base: the base's name or directory, for PEFT; what is relative it takes from where it runs.
    more: fields for config.json: token ids and the like.
  """
  directory = pathlib.Path(directory)
  is_scalar = pure.is_scalar(model)
  leaves = pure.named(pure.split(model, params)[0])
  hf.describe(directory, model, leaves, dtype="float32", **more)
  tensors = {}

  for parameter, layer, name, matrix in _places(model):
    leaf = np.asarray(hosts.fetch(leaves[parameter][layer]), np.float32)
    # Theirs are [out, in] and ours [in, out]; safetensors writes memory as it lies.
    tensors[name] = np.ascontiguousarray(leaf.reshape(_shape(leaf.shape, matrix)[::-1]).T)

  if is_scalar:
    tensors[SCORE] = np.asarray(hosts.fetch(leaves["head"]), np.float32)[None]
  if not hosts.is_first():
    return
  hf.write(directory / WEIGHTS, tensors)

  described = {
    "peft_type": "LORA",
    "task_type": "SEQ_CLS" if is_scalar else "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": model.config.adapter.rank,
    "lora_alpha": model.config.adapter.alpha,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": sorted(map(_module, model.config.adapter.targets)),
    "modules_to_save": ["score"] if is_scalar else None,
    "inference_mode": True,
  }

  (directory / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def is_adapter(directory: str | os.PathLike) -> bool:
  """Returns whether a directory holds adapters rather than a whole model."""
  return (pathlib.Path(directory) / CONFIG).is_file()


def read(directory: str | os.PathLike) -> architecture.Adapter:
  """Returns rank, scale and targets of a directory's adapters.

  Raises:
    ValueError: adapter_config.json cannot be read, or asks for what there is no switch for.
  """
  path = pathlib.Path(directory) / CONFIG
  lfs.check(path)
  raw = directories.read_object(path, f"{path.parent}: ")
  wrong = [
    f"{name}={raw[name]!r} is not supported, only {' or '.join(map(repr, allowed))}"
    for name, allowed in FIXED.items()
    if raw.get(name) not in allowed
  ]
  targets = raw.get("target_modules")
  by_module = {_module(name): name for name in products.INPUTS}
  if not isinstance(targets, list) or set(targets) - set(by_module):
    wrong.append(f"target_modules={targets!r}; name some of {', '.join(by_module)}")

  if wrong:
    raise ValueError(f"{path}: {'; '.join(wrong)}")
  ordered = tuple(name for module, name in by_module.items() if module in targets)
  return architecture.Adapter(raw["r"], float(raw["lora_alpha"]), ordered)


def load(
  directory: str | os.PathLike, model: pure.PureModel, sharding: Params | None = None
) -> Params:
  """Returns the parameters that a directory adds to a model's base, straight to their devices.

  The directory has adapter_config.json and adapter_model.safetensors, the model the adapters that
  `read` finds there. Without a sharding parameters live on the first device.

  Raises:
    ValueError: if any tensor is missing, superfluous or misshapen; all are listed.
  """
  trained = pure.split(model, jax.eval_shape(model.init, jax.random.key(0)))[0]
  shapes = {name: leaf.shape for name, leaf in pure.named(trained).items()}
  saved = tensors(pathlib.Path(directory) / WEIGHTS)
  places = list(_places(model))
  expected = {name: _shape(shapes[ours][1:], matrix) for ours, _, name, matrix in places}
  if pure.is_scalar(model):
    expected[SCORE] = (1, *shapes["head"])
  found = {name: tensor.shape for name, tensor in saved.items()}
  weights.check(str(directory), "the adapters", expected, found)

  parts = {}
  for ours, _, name, _ in places:
    parts.setdefault(ours, []).append(saved[name].T.reshape(shapes[ours][1:]))
  leaves = {ours: np.stack(layers) for ours, layers in parts.items()}
  if pure.is_scalar(model):
    leaves |= {"head": saved[SCORE][0], "bias": np.float32(0)}
  return weights.put(leaves, sharding)


def _places(model: pure.PureModel) -> Iterator[tuple[str, int, str, str]]:
  """Yields parameter, layer, tensor's name and "a" or "b" of every tensor of the adapters."""
  for entry in weights.entries(model):
    if entry.is_stacked and entry.ours.rpartition(".")[2] in model.config.adapter.targets:
      for layer, tensor in enumerate(entry.theirs):
        for matrix in "ab":
          name = f"{PREFIX}{tensor.removesuffix('.weight')}.lora_{matrix.upper()}.weight"
          yield entry.adapter(matrix), layer, name, matrix


def _shape(shape: tuple[int, ...], part: str) -> tuple[int, int]:
  """Returns the shape of a tensor: theirs are [out, in], ours split heads and head width."""
  rank = shape[-1] if part == "a" else shape[0]
  size = math.prod(shape) // rank
  return (rank, size) if part == "a" else (size, rank)


def tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  lfs.check(path)
  try:
    with safetensors.safe_open(path, "numpy") as opened:
      names = list(opened.keys())  # no mapping
      return {name: opened.get_tensor(name).astype(np.float32) for name in names}
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(f"{path} cannot be read, and pickles never are: {error}") from error


def _module(name: str) -> str:
  """Returns PEFT's module name of one of a layer's matrices: q_proj."""
  return weights.LAYER[name].split(".")[-2]
