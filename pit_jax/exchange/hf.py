"""Model directories as the rest of the world writes them: config.json and safetensors.

Writing goes shard by shard. No pickle is opened and no code of a directory is run.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import huggingface_hub
import numpy as np
import safetensors
import safetensors.numpy

from pit_jax import hosts, layout, lfs
from pit_jax.exchange import directories, families, weights
from pit_jax.models import architecture, pure
from pit_jax.types import Params

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 * 2**30
SAMPLE_BYTES = 2**20  # of the beginning and of the end of a file, for its fingerprint
READABLE = ("F32", "BF16", "F16")


def read(directory: str | os.PathLike) -> architecture.ModelConfig:
  """Returns the decoder that a directory holds: what config.json describes, in float32.

  Where that ties the head to the embedding and the weights hold another head, both are kept, as
  transformers does. A plan needs no weights: without any, config.json has its way.

  Raises:
    ValueError: as `families.read` and `Directory`, or the directory holds adapters alone.
  """
  directory = pathlib.Path(directory)
  directories.refuse_adapters(directory)
  config = families.read(directory)
  has_weights = (directory / INDEX).exists() or (directory / WEIGHTS).exists()
  if config.tied and has_weights and not families.is_classifier(directory):
    config = dataclasses.replace(config, tied=weights.is_tied(Directory(directory)))

  return config


def load(
  directory: str | os.PathLike, model: pure.PureModel, sharding: Params | None = None
) -> Params:
  """Reads a model's parameters, each straight to its devices; see `weights.fill`.

  A directory has model.safetensors, or an index and its shards, of float32, bfloat16 or float16. A
  scalar model reads a classifier with one label.

  Raises:
    ValueError: as `weights.fill`, or if there are no safetensors.
  """
  return weights.fill(model, Directory(pathlib.Path(directory)), sharding)


def fingerprint(directory: str | os.PathLike, names: Iterable[str] | None = None) -> str:
  """Returns a sha256 (16 hex digits) that tells models apart without reading all of them.

  It covers config.json, and of each named file of weights (None: those that `load` reads) its size,
  its beginning and its end.
  """
  directory = pathlib.Path(directory)
  digest = hashlib.sha256((directory / "config.json").read_bytes())
  for name in names or _files(directory):
    size = (directory / name).stat().st_size
    digest.update(f"{name} {size}".encode())
    with (directory / name).open("rb") as file:
      digest.update(file.read(SAMPLE_BYTES))
      file.seek(max(0, size - SAMPLE_BYTES))
      digest.update(file.read())

  return digest.hexdigest()[:16]


class Directory:
  """The tensors of a directory; see `weights.Weights`."""

  def __init__(self, directory: pathlib.Path):
    """Reads what there is, but no tensor.

    Raises:
      ValueError: if there are no safetensors, or a file cannot be read.
    """
    self.name = str(directory)
    self.shapes: dict[str, tuple[int, ...]] = {}
    self.wrong: list[str] = []
    self._homes: dict[str, pathlib.Path] = {}

    try:
      for file in _files(directory):
        self._look_into(directory / file)
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
      raise ValueError(f"{directory} holds no readable weights: {error}") from error

  def _look_into(self, file: pathlib.Path) -> None:
    lfs.check(file)
    with safetensors.safe_open(file, "numpy") as opened:
      for tensor in opened.keys():  # noqa: SIM118, no mapping
        found = opened.get_slice(tensor)
        self.shapes[tensor] = tuple(found.get_shape())
        self._homes[tensor] = file
        if (kind := found.get_dtype()) not in READABLE:
          self.wrong.append(f"{tensor} is of type {kind}; {', '.join(READABLE)} are read")

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor; the file is mapped no longer than that, so that its pages do not stay."""
    with safetensors.safe_open(self._homes[tensor], "numpy") as opened:
      return opened.get_tensor(tensor)


def _files(directory: pathlib.Path) -> list[str]:
  if (directory / INDEX).exists():
    lfs.check(directory / INDEX)
    weight_map = directories.read_object(directory / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
      raise ValueError(f"{INDEX} has no weight_map, which says what lies in which file")
    return sorted(set(weight_map.values()))

  if (directory / WEIGHTS).exists():
    return [WEIGHTS]
  raise ValueError(
    f"neither {WEIGHTS} nor {INDEX} is there; other formats, pickles above all, are not read"
  )


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
    model: written as a causal language model, or, where it is scalar, as a classifier with one
      label, whose head has no bias: what transformers returns is the score.
    params: its parameters, on any devices; adapters are merged into their matrices. The first
      host writes; all of them take part.
    dtype: of the tensors: float32, bfloat16 or float16.
    shard_bytes: most bytes per file.
    more: fields for config.json: token ids and the like.

  Raises:
    ValueError: a scalar model's head has a bias, for which a classifier has no place.
  """
  directory = pathlib.Path(directory)
  leaves = pure.named(layout.to_devices(params))
  describe(directory, model, leaves, dtype=dtype, **more)
  width = np.dtype(dtype).itemsize
  sources = {
    name: (entry, layer)
    for entry in weights.entries(model)
    for layer, name in enumerate(entry.theirs)
  }
  split = huggingface_hub.split_state_dict_into_shards_factory(
    sources,
    get_storage_size=lambda source: math.prod(source[0].inner) * width,
    filename_pattern="model{suffix}.safetensors",
    max_shard_size=shard_bytes,
  )

  for file, names in split.filename_to_tensors.items():
    tensors = {
      name: weights.tensor(*sources[name], leaves, model.config.adapter).astype(dtype)
      for name in names
    }
    if hosts.is_first():
      write(directory / file, tensors)

  if split.is_sharded and hosts.is_first():
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes a file of safetensors in place of an older one, readable for whom other files are."""
  # The library renames a temporary file, which its owner alone may read, whatever the umask says.
  path.unlink(missing_ok=True)
  path.touch()
  mode = path.stat().st_mode
  # Some versions of transformers refuse a file that names no format.
  safetensors.numpy.save_file(dict(tensors), path, metadata={"format": "pt"})
  path.chmod(mode)


def describe(
  directory: pathlib.Path, model: pure.PureModel, leaves: Params, *, dtype: str, **more: Any
) -> None:
  """Begins a model's directory: makes it, removes an older model from it, writes config.json."""
  if not hosts.is_first():
    return
  is_scalar = pure.is_scalar(model)

  if is_scalar and float(leaves["bias"]):
    raise ValueError(
      f"the head's bias is {float(leaves['bias']):g}, and a classifier of transformers has none: "
      "move the zero of the score, so that it is 0"
    )

  directory.mkdir(parents=True, exist_ok=True)
  # An index left here would speak for shards that are gone, as would an adapter's description.
  for old in (*directory.glob("*.safetensors"), directory / INDEX, directory / directories.ADAPTER):
    old.unlink(missing_ok=True)
  if is_scalar:  # its one label is a number, which pipelines are to give as it is
    more |= {"num_labels": 1, "problem_type": "regression"}

  # Adapters and how a base is kept are a matter of training, not of the model.
  shape = dataclasses.replace(model.config, adapter=None, stored="float32")
  config = families.write(shape, dtype=dtype, **more)
  config.architectures = [families.class_name(config, is_scalar=is_scalar)]
  config.save_pretrained(directory)
