"""A published classifier in the unit of a run, as files: kept with the run, and sent to others."""

import pathlib
import shutil
from typing import Any

import jax
import transformers

from pit_jax import hosts, parallel
from pit_jax.data import classifier_text, hf_text
from pit_jax.exchange import hf
from pit_jax.models import architecture, pure
from pit_jax.rollout import classifiers


def save(
  directory: pathlib.Path, classifier: classifiers.Classifier, *, dtype: str = "float32"
) -> dict[str, Any]:
  """Writes a classifier with its own tokenizer, and returns what `load` needs beside it.

  The run's unit is in the head of one of our families. One that PyTorch computes is a copy of its
  directory, whatever the dtype, and what its logits are multiplied by is returned alone.
  """
  reader = classifier.reader
  described = {"reader": reader.describe(), "hash": reader.hash, "tokenizer": reader.fingerprint}
  if isinstance(classifier, classifiers.Torch):
    if hosts.is_first():
      directory.mkdir(parents=True, exist_ok=True)
      for path in filter(pathlib.Path.is_file, classifier.directory.iterdir()):
        shutil.copyfile(path, directory / path.name)

    return described | {"gain": classifier.gain}

  network = (classifier.model, classifier.params)
  hf.save(directory, *network, dtype=dtype, pad_token_id=classifier.pad_id)
  if hosts.is_first():
    reader.fast.save_pretrained(directory)
  return described | {"gain": None}


def load(
  directory: pathlib.Path,
  described: dict[str, Any],
  shape: architecture.ModelConfig | None,
  *,
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> classifiers.Classifier:
  """Returns a classifier that `save` wrote and described, ready to be asked; see `compiled`.

  Without a shape of its network PyTorch computes it.

  Raises:
    ValueError: weights or tokenizer cannot be read, or are not those that were saved.
  """
  fast = hf_text.read(directory, by_class=shape is None)
  reader = classifier_text.open_reader(fast, **described["reader"])
  for name, current in (("hash", reader.hash), ("tokenizer", reader.fingerprint)):
    if current != described[name]:
      raise ValueError(
        f"{directory}: {name} {described[name]} of what the classifier reads is now {current}; "
        "restore the files that were exported, or use the version of the library that wrote them"
      )

  if shape is None:
    return in_torch(directory, reader).scaled(described["gain"])
  published = published_config(directory)
  return compiled(directory, reader, shape, published, mesh=mesh, batch_size=batch_size)


def compiled(
  directory: pathlib.Path,
  reader: classifier_text.Reader,
  shape: architecture.ModelConfig,
  published: "transformers.PreTrainedConfig",
  *,
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> classifiers.Compiled:
  """Reads a classifier with one label of one of our families, whose config.json was `published`.

  Batches, the rows of a compiled call, are multiples of the mesh's data × fsdp sizes.

  Raises:
    ValueError: its weights cannot be read or do not fit.
  """
  model = pure.scalar_model(shape)
  params = hf.load(directory, model, parallel.homes(model, mesh))
  pad_id = classifiers.pad_id(published)
  return classifiers.Compiled(reader, model, params, pad_id, batch_size, mesh)


def in_torch(directory: pathlib.Path, reader: classifier_text.Reader) -> classifiers.Torch:
  """Reads a classifier with one label of any family that transformers knows.

  No code of the directory is run, and of a pickle nothing but tensors is read.

  Raises:
    ValueError: its weights cannot be read, or are not all that the classifier needs.
  """
  if not hosts.is_first():
    return classifiers.Torch(reader, directory, None)
  import torch

  kind = transformers.AutoModelForSequenceClassification
  settings = {"local_files_only": True, "trust_remote_code": False, "dtype": torch.float32}
  try:
    network, loading = kind.from_pretrained(str(directory), output_loading_info=True, **settings)
  except (OSError, ValueError, KeyError, RuntimeError) as error:
    raise ValueError(f"{directory} holds no readable weights: {error}") from error

  if absent := sorted(loading["missing_keys"]):
    raise ValueError(
      f"{directory}: the weights lack {', '.join(absent)}, which would be random; give a directory "
      "that holds a whole classifier"
    )

  return classifiers.Torch(reader, directory, network.eval())


def published_config(directory: str | pathlib.Path) -> "transformers.PreTrainedConfig":
  """Returns the config.json of a directory as transformers reads it; none of its code is run."""
  options = {"local_files_only": True, "trust_remote_code": False}
  return transformers.AutoConfig.from_pretrained(str(directory), **options)
