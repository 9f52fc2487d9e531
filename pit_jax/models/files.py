"""Models on disk: a directory with config.json and model.safetensors."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from pit_jax.models import architecture
from pit_jax.types import Params

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(directory: pathlib.Path, config: architecture.ModelConfig, params: Params) -> None:
  """Writes a model's shape and parameters, one tensor per parameter under its dotted name."""
  directory.mkdir(parents=True, exist_ok=True)
  tensors = {name: np.asarray(leaf) for name, leaf in _named(params)}
  safetensors.numpy.save_file(tensors, directory / WEIGHTS)
  (directory / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load(directory: pathlib.Path) -> tuple[architecture.ModelConfig, Params]:
  """Reads back what `save` wrote.

  Raises:
    ValueError: if a file is missing or cannot be read, naming it.
  """
  try:
    config = architecture.from_dict(json.loads((directory / CONFIG).read_text()))
    tensors = safetensors.numpy.load_file(directory / WEIGHTS)
  except (OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
    raise ValueError(
      f"{directory} holds no readable model ({CONFIG} and {WEIGHTS}): {error}"
    ) from error
  params: dict[str, Any] = {}
  for name, tensor in tensors.items():
    *parents, last = name.split(".")
    node = params
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = tensor
  return config, params


def check(params: Params, wanted: Params, name: str) -> None:
  """Raises a ValueError that lists every missing, extra or misshapen parameter.

  Args:
    params: what was read.
    wanted: parameters or shapes of the model to fill.
    name: where the parameters came from, for the message.
  """
  have, want = ({n: x.shape for n, x in _named(tree)} for tree in (params, wanted))
  wrong = [f"{n} is missing" for n in want if n not in have]
  wrong += [f"{n} is not part of the model" for n in have if n not in want]
  wrong += [
    f"{n} has shape {have[n]}, not {want[n]}" for n in want if n in have and have[n] != want[n]
  ]
  if wrong:
    raise ValueError(f"{name} does not fit the model: {'; '.join(wrong)}")


def _named(tree: Params) -> list[tuple[str, Any]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [(".".join(key.key for key in path), leaf) for path, leaf in leaves]
