"""Reads preference rows, as they are, from files, hubs and the embedded task.

Every reader yields `(place, row)`: where the row is, in words fit for an error message, and either
its fields or the `RowError` that says why it has none. Whether a bad row stops the reading is the
caller's decision, and so is checking the fields. Libraries that one source alone needs are imported
by its reader: they are slow to load.
"""

import gzip
import io
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pit_jax.data import rows, schemas

Row = tuple[str, Any]  # place; fields or RowError


def read(
  source: str, limit: int | None = None, seed: int = 0, is_streamed: bool = False
) -> Iterator[Row]:
  """Yields the rows of a source.

  Args:
    source: `synthetic`, `jsonl:PATH`, `parquet:PATH`, `hh:PATH`, `hf:NAME[:split]` or
      `tfds:NAME[:split]`; on the Hugging Face hub NAME is OWNER/NAME or OWNER/NAME/CONFIG.
    limit: how many rows the synthetic source makes; it has no size of its own.
    seed: which rows the synthetic source makes.
    is_streamed: whether `hf:` fetches rows as they are read, and not the whole data set first; the
      other sources do not depend on it.

  Raises:
    ValueError: there is no such source, or its file or name is missing.
  """
  kind, _, argument = source.partition(":")
  if kind == "synthetic" and not argument:
    return _synthetic(limit, seed)
  if kind not in READERS or not argument:
    raise ValueError(
      f"data source {source!r} is not known; use synthetic, jsonl:PATH, parquet:PATH, hh:PATH, "
      "hf:NAME[:split] or tfds:NAME[:split]"
    )
  found = _hf(argument, is_streamed) if kind == "hf" else READERS[kind](argument)
  return _by_schema(found, has_dialogues=kind in ("hh", "hf", "tfds"))


def _by_schema(read_rows: Iterator[Row], has_dialogues: bool) -> Iterator[Row]:
  for place, fields in read_rows:
    try:
      fields = schemas.convert(fields, has_dialogues)
    except rows.RowError as error:
      fields = error
    yield place, fields


def _synthetic(limit: int | None, seed: int) -> Iterator[Row]:
  if limit is None:
    raise ValueError("the synthetic source has no size of its own; say how many rows (limit)")
  from pit_jax.data import synthetic

  made = synthetic.preferences(limit, seed)
  return ((f"synthetic, row {i}", fields) for i, fields in enumerate(made))


def _jsonl(path: str) -> Iterator[Row]:
  """Reads one JSON object per line; empty lines do not count as rows."""
  number = 0
  try:
    with _open(path) as lines:
      for number, line in enumerate(lines, start=1):
        if line.strip():
          yield f"{path}, line {number}", _parse(line, is_first=number == 1)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    place = f"{path}, line {number + 1}"
    yield place, rows.RowError("truncated gzip", f"the compressed data end here ({error})")


def _open(path: str) -> io.BufferedIOBase:
  """Opens a file for reading bytes, decompressed when it begins as gzip files do."""
  with _existing(path).open("rb") as file:
    is_gzip = file.read(2) == b"\x1f\x8b"
  return gzip.open(path, "rb") if is_gzip else open(path, "rb")


def _existing(path: str) -> pathlib.Path:
  if not pathlib.Path(path).is_file():
    raise ValueError(f"no file {path} (working directory {os.getcwd()}); check the data source")
  return pathlib.Path(path)


def _parse(line: bytes, is_first: bool) -> Any:
  """Returns the JSON value of a line, or the RowError that says what is wrong with it."""
  try:
    decoded = line.decode("utf-8-sig" if is_first else "utf-8")
    return json.loads(decoded)
  except UnicodeDecodeError as error:
    return rows.RowError("invalid UTF-8", str(error))
  except (ValueError, RecursionError) as error:
    return rows.RowError("broken JSON", str(error))


def _hh(path: str) -> Iterator[Row]:
  for place, fields in _jsonl(path):
    if isinstance(fields, Mapping):
      fields = {name: value for name, value in fields.items() if name != "prompt"}
    yield place, fields


def _parquet(path: str) -> Iterator[Row]:
  """Reads a Parquet file in pieces, so that a large one need not fit into memory twice."""
  import pyarrow
  import pyarrow.parquet

  number = 0
  try:
    with pyarrow.parquet.ParquetFile(_existing(path)) as file:
      for piece in file.iter_batches(batch_size=1024):
        for fields in _table_rows(piece):
          yield f"{path}, row {number}", fields
          number += 1
  except (pyarrow.ArrowException, OSError) as error:
    yield f"{path}, row {number}", rows.RowError("broken Parquet", str(error))


def _table_rows(piece: Any) -> Iterator[Any]:
  """Yields the rows of an Arrow table's piece; invalid text spoils its own row only."""
  columns = list(zip(piece.schema.names, piece.columns, strict=True))
  for i in range(piece.num_rows):
    try:
      yield {name: column[i].as_py() for name, column in columns}
    except UnicodeDecodeError as error:
      yield rows.RowError("invalid UTF-8", str(error))


def _hf(argument: str, is_streamed: bool = False) -> Iterator[Row]:
  """Reads a Hugging Face data set: a name on the hub, a directory, or a file."""
  import datasets

  name, split = _split_name(argument)
  path, options = pathlib.Path(name), {"split": split, "streaming": is_streamed}
  if path.is_file():
    suffix = pathlib.Path(path.name.removesuffix(".gz")).suffix
    kind = {".jsonl": "json"}.get(suffix, suffix.removeprefix("."))
    table = datasets.load_dataset(kind, data_files=str(path), **options)
  elif (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
    table = _saved(argument)
  elif path.is_dir():
    table = datasets.load_dataset(name, **options)
  else:
    table = _on_the_hub(name, options)
  return ((f"hf:{name}:{split}, row {i}", row) for i, row in enumerate(table))


def _saved(argument: str) -> Any:
  """Opens what `save_to_disk` wrote: one data set, or several under the names of splits.

  Raises:
    ValueError: a split is asked for and there are none, or it is not among those there are.
  """
  import datasets

  name, split = _split_name(argument)
  found = datasets.load_from_disk(name)
  if isinstance(found, datasets.DatasetDict):
    if split not in found:
      raise ValueError(f"hf:{name} has no split {split!r}; it has {', '.join(found) or 'none'}")
    return found[split]
  if argument != name:
    raise ValueError(f"hf:{name} is one data set without splits; leave {split!r} out")
  return found


def _on_the_hub(name: str, options: dict) -> Any:
  """Opens OWNER/NAME or OWNER/NAME/CONFIG; one defined by a script, in the hub's Parquet copy."""
  import datasets

  owner, *parts = name.split("/")
  repository, config = "/".join([owner, *parts[:1]]), "/".join(parts[1:]) or None
  try:
    return datasets.load_dataset(repository, config, **options)
  except RuntimeError as error:
    if "scripts are no longer supported" not in str(error):
      raise
  copy = {"revision": "refs/convert/parquet", "data_dir": config or "default"}
  return datasets.load_dataset(repository, **copy, **options)


def _tfds(argument: str) -> Iterator[Row]:
  """Reads a TensorFlow data set, without TensorFlow: a name in the catalogue, or a directory."""
  import tensorflow_datasets as tfds

  name, split = _split_name(argument)
  if pathlib.Path(name).is_dir():
    table = tfds.builder_from_directory(name).as_data_source(split)
  else:
    table = tfds.data_source(name, split=split)
  return ((f"tfds:{name}:{split}, row {i}", table[i]) for i in range(len(table)))


def _split_name(argument: str) -> tuple[str, str]:
  """Splits NAME[:split]; the split is `train` unless given, and huggingface:NAME is a name."""
  space, found, rest = argument.partition("huggingface:")
  prefix, argument = (found, rest) if found and not space else ("", argument)
  name, _, split = argument.partition(":")
  return prefix + name, split or "train"


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
  "jsonl": _jsonl,
  "parquet": _parquet,
  "hh": _hh,
  "hf": _hf,
  "tfds": _tfds,
}
