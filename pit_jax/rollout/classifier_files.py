"""A published classifier in the unit of a run, as files: kept with the run, and sent to others."""

import pathlib
import shutil
from typing import Any

import jax

from pit_jax import hosts
from pit_jax.data import classifier_text, hf_text
from pit_jax.models import architecture, hf
from pit_jax.rollout import classifiers


def save(
  directory: pathlib.Path, classifier: classifiers.Classifier, *, dtype: str = "float32"
) -> dict[str, Any]:
  """Writes a classifier with its own tokenizer, and returns what `load` needs beside it.

  The unit of one of our families is in its head. One that PyTorch computes is a copy of its
  directory, and what its logits are multiplied by is returned alone.

  Args:
    directory: made if needed.
    classifier: in the unit of the run.
    dtype: of the tensors written; those of a copy are as they were.
  """
  described = {"reader": classifier.reader.describe(), "hash": classifier.reader.hash}
  described["tokenizer"] = classifier.reader.fingerprint
  if isinstance(classifier, classifiers.Torch):
    if hosts.is_first():
      directory.mkdir(parents=True, exist_ok=True)
      for path in filter(pathlib.Path.is_file, classifier.directory.iterdir()):
        shutil.copyfile(path, directory / path.name)
    return described | {"gain": classifier.gain}
  padding = {"pad_token_id": classifier.pad_id}
  hf.save(directory, classifier.model, classifier.params, dtype=dtype, **padding)
  if hosts.is_first():
    classifier.reader.fast.save_pretrained(directory)
  return described | {"gain": None}


def load(
  directory: pathlib.Path,
  described: dict[str, Any],
  shape: architecture.ModelConfig | None,
  *,
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> classifiers.Classifier:
  """Returns a classifier that `save` wrote, ready to be asked.

  Args:
    directory: where it lies.
    described: what `save` returned.
    shape: of its network; None: PyTorch computes it.
    mesh: the devices.
    batch_size: rows per compiled call.

  Raises:
    ValueError: weights or tokenizer cannot be read, or are not those that were saved.
  """
  fast = hf_text.read(directory, by_class=shape is None)
  reader = classifier_text.open_reader(fast, **described["reader"])
  for name, found in (("hash", reader.hash), ("tokenizer", reader.fingerprint)):
    if found != described[name]:
      raise ValueError(
        f"{directory}: {name} {described[name]} of what the classifier reads is now {found}; "
        "restore the files that were exported, or use the version of the library that wrote them"
      )
  if shape is None:
    return classifiers.in_torch(directory, reader).scaled(described["gain"])
  published = classifiers.described(directory)
  return classifiers.compiled(directory, reader, shape, published, mesh=mesh, batch_size=batch_size)
