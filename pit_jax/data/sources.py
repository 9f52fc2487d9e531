"""Reads preference rows from files, hubs and the embedded task, by the schema that they fit.

Whether a bad row stops the reading is the caller's decision, and so is checking the fields.
"""

import pathlib
from collections.abc import Iterable, Iterator

from pit_jax import config_keys
from pit_jax.data import columns as naming
from pit_jax.data import files, hubs, schemas

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "assets" / "example.jsonl"
MADE = (*config_keys.TASKS, config_keys.INSTRUCTIONS)  # which have no size of their own
OWN = (*MADE, "example")
HUBS = ("hf", "tfds")
KINDS = (
  f"{', '.join(OWN)}, jsonl:PATH, csv:PATH, parquet:PATH, hh:PATH, hf:NAME[:split] or "
  "tfds:NAME[:split]"
)


def read(
  source: str,
  limit: int | None = None,
  seed: int = 0,
  is_streamed: bool = False,
  schema: str = schemas.AUTO,
  columns: str = "",
) -> Iterator[schemas.Row]:
  """Yields the rows of a source.

  Args:
    source: one of KINDS; "example" is a file of 210 rows that comes with the library. A file of
      `jsonl:` may also be one JSON list; it, CSV and dialogues may be gzipped. NAME may be a file
      or a directory; on the Hugging Face hub it is OWNER/NAME or OWNER/NAME/CONFIG.
    limit, seed: how many rows a source of MADE has, and which.
    is_streamed: whether `hf:` fetches rows as they are read, and not the whole data set first; the
      other sources do not depend on it.
    schema: "auto", or the name of the one that all rows have.
    columns: what the columns are called in a schema's words, as `data.columns` says; see `columns`.

  Raises a ValueError where there is no such source or schema, or its file or name is missing, or
  the columns cannot be called so.
  """
  if source.startswith("hh:") and schema == schemas.AUTO:
    schema = "hh"
  rows = _rows(source, limit, seed, is_streamed)
  return schemas.convert(naming.renamed(rows, columns), schema)


def _rows(source: str, limit: int | None, seed: int, is_streamed: bool) -> Iterable[files.Row]:
  """Returns the rows of a source as they are; arguments and errors as for `read`."""
  check(source)
  kind, _, argument = source.partition(":")
  if source in MADE:
    return _made(source, limit, seed)
  if kind == "example":
    return files.read_jsonl(str(EXAMPLE))
  if kind == "hf":
    return hubs.read_hugging_face(argument, is_streamed)
  if kind == "tfds":
    return hubs.read_tensorflow(argument)
  return files.READERS[kind](argument)


def check(source: str) -> None:
  """Raises a ValueError where there is no such source, or its file is missing; reads nothing."""
  kind, _, argument = source.partition(":")
  if source in OWN:
    return
  if kind in files.READERS and argument:
    files.existing(argument)
  elif kind in HUBS and argument:
    hubs.check(argument)
  elif pathlib.Path(source).is_file():
    raise ValueError(f"data source {source!r} is a file without its kind; use {named(source)}")
  else:
    raise ValueError(f"data source {source!r} is not known; use {KINDS}")


def named(path: str) -> str:
  """Returns a file as a source, by the suffix of its name."""
  return f"{files.KINDS.get(files.suffix(path), 'jsonl')}:{path}"


def _made(source: str, limit: int | None, seed: int) -> Iterator[files.Row]:
  if limit is None:
    raise ValueError(f"data.rows=None: the source {source!r} has no size of its own; use 1 or more")
  from pit_jax.tasks import chains, classes, instructions, kinds, synthetic

  tasks = {
    config_keys.CLASSES: classes,
    config_keys.CHAINS: chains,
    config_keys.BY_KIND: kinds,
    config_keys.INSTRUCTIONS: instructions,
  }
  preferences = tasks.get(source, synthetic).preferences(limit, seed)
  return ((f"{source}, row {i}", fields) for i, fields in enumerate(preferences))
