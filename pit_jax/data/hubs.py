"""Reads rows, as they are, from data sets of Hugging Face and TensorFlow, on their hubs or saved.

The libraries are slow to load and imported where they are used. What goes wrong in them, or on the
way to a hub, is raised as a ValueError of one line.
"""

import contextlib
import itertools
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from pit_jax import lfs
from pit_jax.data import files

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+(/[^/]+)?)?")  # [OWNER/]NAME, or OWNER/NAME/CONFIG
# Suffix → which of the library's readers reads such files.
FILE_KINDS = {".jsonl": "json"} | {f".{kind}": kind for kind in ("json", "csv", "parquet", "arrow")}
LONGEST = 400  # characters of an error that are shown
LOG = logging.getLogger(__name__)


def read_hugging_face(argument: str, is_streamed: bool = False) -> Iterator[files.Row]:
  """Reads NAME[:split] of Hugging Face: a file, a directory, or a data set on the hub.

  Files of JSON, CSV and Parquet, and directories of JSON, are read as `jsonl:` reads them: the
  library would turn texts that look like dates into dates.

  Raises a ValueError where there is no such path, data set or split, or the hub cannot be reached.
  """
  name, split = _split_name(argument)
  path = pathlib.Path(name)
  if path.is_file() and files.suffix(path) in files.SUFFIXES and split == "train":
    return files.SUFFIXES[files.suffix(path)](name)
  check(argument)
  if path.is_dir():
    lfs.check(*(file for file in path.rglob("*") if files.suffix(file) in files.SUFFIXES))
  is_saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()

  with _one_line(f"hf:{argument}"):
    if is_saved:
      table = _saved(argument)
    elif json_files := _json_files(path, split):
      return itertools.chain.from_iterable(map(files.read_jsonl, json_files))
    else:
      table = _opened(name, split, is_streamed)

  return _rows_of(table, f"hf:{name}:{split}")


def read_tensorflow(argument: str) -> Iterator[files.Row]:
  """Reads NAME[:split] without TensorFlow: a name in the catalogue, or a directory.

  Raises a ValueError where there is no such path, data set or split.
  """
  import tensorflow_datasets as tfds

  name, split = _split_name(argument)
  check(argument)
  with _one_line(f"tfds:{argument}"):
    if pathlib.Path(name).is_dir():
      table = tfds.builder_from_directory(name).as_data_source(split)
    else:
      table = tfds.data_source(name, split=split)

  return _rows_of(table, f"tfds:{name}:{split}")


def _rows_of(table: Any, place: str) -> Iterator[files.Row]:
  with _one_line(place):
    for i, fields in enumerate(table):
      yield f"{place}, row {i}", fields


def check(argument: str) -> None:
  """Refuses NAME[:split] that can only be a path, where there is nothing: no hub need be asked."""
  name, _ = _split_name(argument)
  path = pathlib.Path(name)
  is_path = name.startswith(("/", ".", "~")) or files.suffix(path) in files.SUFFIXES
  # Where OWNER/NAME is a folder, CONFIG is below it; the library would read the whole folder.
  is_below_folder = pathlib.Path(*path.parts[:2]).is_dir()

  if (is_path or is_below_folder) and not path.exists():
    raise ValueError(
      f"no file or directory {name} (working directory {os.getcwd()}); check the data source"
    )


def _opened(name: str, split: str, is_streamed: bool) -> Any:
  """Opens a file or directory that the library alone can read, or a data set on the hub."""
  import datasets

  options = {"split": split, "streaming": is_streamed}
  path = pathlib.Path(name)
  if path.is_file():
    if (suffix := files.suffix(path)) not in FILE_KINDS:
      raise ValueError(f"files of Hugging Face are {', '.join(FILE_KINDS)}")
    return datasets.load_dataset(FILE_KINDS[suffix], data_files=str(path), **options)

  if path.is_dir():
    return datasets.load_dataset(name, **options)
  if not HUB_NAME.fullmatch(name):
    raise ValueError("no path here, and on the hub it would be OWNER/NAME or OWNER/NAME/CONFIG")
  return _on_the_hub(name, options)


def _saved(argument: str) -> Any:
  """Opens what `save_to_disk` wrote: one data set, or several under the names of splits."""
  import datasets

  name, split = _split_name(argument)
  opened = datasets.load_from_disk(name)
  if isinstance(opened, datasets.DatasetDict):
    if split not in opened:
      raise ValueError(f"it has no split {split!r}; it has {', '.join(opened) or 'none'}")
    return opened[split]

  if argument != name:
    raise ValueError(f"it is one data set without splits; leave {split!r} out")
  return opened


def _on_the_hub(name: str, options: dict) -> Any:
  """Opens OWNER/NAME or OWNER/NAME/CONFIG; one defined by a script, in the hub's Parquet copy."""
  import datasets

  parts = name.split("/")
  repository = "/".join(parts[:2])
  config = "/".join(parts[2:]) or None
  LOG.warning("asking the hub for %s; where it is out of reach, that takes minutes to show", name)

  try:
    return datasets.load_dataset(repository, config, **options)
  except RuntimeError as error:
    if "scripts are no longer supported" not in str(error):
      raise

  # The hub itself converts data sets of scripts, on a branch of this name.
  copy = {"revision": "refs/convert/parquet", "data_dir": config or "default"}
  return datasets.load_dataset(repository, **copy, **options)


def _json_files(path: pathlib.Path, split: str) -> list[str]:
  """Returns the files of a directory's split if all of them are JSON, else none."""
  import datasets

  if not path.is_dir():
    return []
  # It sorts files into splits by the library's rules, and reads none of them.
  builder = datasets.load_dataset_builder(str(path))
  listed = (builder.config.data_files or {}).get(split) or []
  are_json = all(files.SUFFIXES.get(files.suffix(file)) is files.read_jsonl for file in listed)
  return list(listed) if are_json else []


@contextlib.contextmanager
def _one_line(source: str) -> Iterator[None]:
  """Raises whatever goes wrong as a ValueError of one line; retries of the hub are not told."""
  client = logging.getLogger("huggingface_hub")
  level = client.level
  client.setLevel(logging.ERROR)

  try:
    yield
  # The libraries, and the clients below them, have no error in common.
  except Exception as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} …"
    raise ValueError(f"{source} cannot be read: {reason}") from error
  finally:
    client.setLevel(level)


def _split_name(argument: str) -> tuple[str, str]:
  """Splits NAME[:split]; the split is `train` unless given, and huggingface:NAME is a name."""
  rest = argument.removeprefix("huggingface:")
  name, _, split = rest.partition(":")
  return argument[: len(argument) - len(rest)] + name, split or "train"
