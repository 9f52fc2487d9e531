"""Reads rows, as they are, from files: JSON lines, one JSON list, CSV and Parquet.

Every reader yields `(place, row)`: where the row is, in words fit for an error message, and either
its fields or the `RowError` that says why it has none.
"""

import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pit_jax import lfs
from pit_jax.data import values

Row = tuple[str, Any]  # place; fields or RowError

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def read_jsonl(path: str) -> Iterator[Row]:
  """Reads one JSON object per line, empty lines not counted; or one JSON list of objects."""
  number = 0
  try:
    with _open(path) as file:
      lines = file
      # A JSON list is parsed whole; lines are read as they are asked for.
      if file.peek(1).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"[":
        content = file.read()
        items = _list_of(content)
        if items is not None:
          yield from ((f"{path}, item {i}", fields) for i, fields in enumerate(items, start=1))
          return

        lines = content.splitlines()

      for number, line in enumerate(lines, start=1):
        if line.strip():
          yield f"{path}, line {number}", _parse(line, is_first=number == 1)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    place = f"{path}, line {number + 1}"
    yield place, values.RowError("truncated gzip", f"the compressed data end here ({error})")


def read_hh(path: str) -> Iterator[Row]:
  """Reads dialogues; what both have in common is the prompt, and a column `prompt` left out."""
  for place, fields in read_jsonl(path):
    if isinstance(fields, Mapping):
      fields = {name: value for name, value in fields.items() if name != "prompt"}
    yield place, fields


def read_csv(path: str) -> Iterator[Row]:
  """Reads a table with a line of names, its columns divided by commas, in *.tsv by tabs.

  Where the line of names has none of them, the semicolons or tabs that it has divide the columns.
  Texts in quotes may have several lines. Invalid text spoils its own row only.

  Raises:
    ValueError: a name is there twice, what divides the columns is unclear, or the text is UTF-16.
  """
  csv.field_size_limit(sys.maxsize)  # the module's own limit is 128 KiB
  place = f"{path}, line 1"
  try:
    with _open(path) as file:
      # csv reads line ends itself, for some stand in quotes; escaped bytes spoil their own row.
      text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
      head = text.readline()
      lines = itertools.chain([head], text)
      table = csv.reader(lines, delimiter=_delimiter(head, path), strict=True)
      names = [name.strip() for name in next(table, [])]
      if len(set(names)) < len(names):
        raise ValueError(f"{path}: a column's name is there twice; they are {', '.join(names)}")

      # Before a row is read, so that an error in it names the line where it begins.
      place = f"{path}, line {table.line_num + 1}"
      for cells in table:
        if cells:
          yield place, _named(names, cells)
        place = f"{path}, line {table.line_num + 1}"
  except csv.Error as error:
    yield place, values.RowError("broken CSV", str(error))
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    yield place, values.RowError("truncated gzip", f"the compressed data end here ({error})")


def _delimiter(head: str, path: str) -> str:
  """Returns what divides the columns of a table, by its line of names.

  Raises:
    ValueError: it holds several of what may divide columns, and not what its name announces.
  """
  usual = "\t" if path.removesuffix(".gz").endswith(".tsv") else ","
  if usual in head:
    return usual
  present = [delimiter for delimiter in DELIMITERS if delimiter in head]

  if len(present) > 1:
    named = " and ".join(DELIMITERS[delimiter] for delimiter in present)
    raise ValueError(
      f"{path}: the line of names has {named}, but no {DELIMITERS[usual]}; divide its columns by "
      f"{DELIMITERS[usual]}"
    )

  return present[0] if present else usual


def _named(names: list[str], cells: list[str]) -> dict[str, str] | values.RowError:
  if len(cells) == len(names):
    return dict(zip(names, cells, strict=True))
  detail = f"{len(cells)} columns, where the first line names {len(names)}: {', '.join(names)}"
  return values.RowError("broken CSV", detail)


def read_parquet(path: str) -> Iterator[Row]:
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
    yield f"{path}, row {number}", values.RowError("broken Parquet", str(error))


def _table_rows(piece: Any) -> Iterator[Any]:
  """Yields the rows of an Arrow table's piece; invalid text spoils its own row only."""
  columns = list(zip(piece.schema.names, piece.columns, strict=True))
  for i in range(piece.num_rows):
    try:
      yield {name: column[i].as_py() for name, column in columns}
    except UnicodeDecodeError as error:
      yield values.RowError("invalid UTF-8", str(error))


@contextlib.contextmanager
def _open(path: str) -> Iterator[io.BufferedReader | gzip.GzipFile]:
  """Opens a file for reading bytes, decompressed when it begins as gzip files do.

  Raises:
    ValueError: there is no such file, or its text is UTF-16.
  """
  with _existing(path).open("rb") as file:
    is_gzip = file.read(len(GZIP)) == GZIP
  with gzip.open(path, "rb") if is_gzip else open(path, "rb") as file:
    first = file.peek(2)[:2]
    # Without a mark the first character tells: tables and JSON begin with one of ASCII.
    if first in UTF_16_MARKS or b"\0" in first:
      raise ValueError(f"{path} is UTF-16; save it as UTF-8, with `iconv -f UTF-16 -t UTF-8`")
    yield file


def _existing(path: str) -> pathlib.Path:
  """Returns the path of a file that is there.

  Raises:
    ValueError: there is none, or Git LFS has not fetched it.
  """
  if not pathlib.Path(path).is_file():
    raise ValueError(f"no file {path} (working directory {os.getcwd()}); check the data source")
  lfs.check(path)
  return pathlib.Path(path)


def _list_of(content: bytes) -> list | None:
  """Returns the rows of a file that is one JSON list; None if it is anything else."""
  try:
    value = json.loads(content.decode("utf-8-sig"))
  except (ValueError, RecursionError):
    return None

  return value if isinstance(value, list) else None


def _parse(line: bytes, is_first: bool) -> Any:
  """Returns the JSON value of a line, or the RowError that says what is wrong with it."""
  try:
    return json.loads(line.decode("utf-8-sig" if is_first else "utf-8"))
  except UnicodeDecodeError as error:
    return values.RowError("invalid UTF-8", str(error))
  except (ValueError, RecursionError) as error:
    return values.RowError("broken JSON", str(error))


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
  "jsonl": read_jsonl,
  "csv": read_csv,
  "parquet": read_parquet,
  "hh": read_hh,
}
SUFFIXES = {  # of files → how they are read
  ".jsonl": read_jsonl,
  ".json": read_jsonl,
  ".ndjson": read_jsonl,
  ".csv": read_csv,
  ".tsv": read_csv,
  ".parquet": read_parquet,
}


def suffix(path: str | os.PathLike) -> str:
  """Returns the last suffix of a file's name, without that of a compressed file."""
  return pathlib.Path(pathlib.Path(path).name.removesuffix(".gz")).suffix
