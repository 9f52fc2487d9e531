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
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pit_jax import lfs, utf8
from pit_jax.data import values

Row = tuple[str, Any]  # place; fields or RowError

GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
TRUNCATED = (EOFError, zlib.error, gzip.BadGzipFile)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def read_jsonl(path: str) -> Iterator[Row]:
  """Reads one JSON object per line, empty lines not counted; or one JSON list of objects."""
  try:
    with _open(path) as file:
      lines = file
      # A JSON list is parsed whole; lines are read as they are asked for.
      if file.peek(1).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"[":
        content = file.read()
        items = _parse(content, is_first=True)
        if isinstance(items, list):
          yield from ((f"{path}, item {i}", fields) for i, fields in enumerate(items, start=1))
          return

        lines = content.splitlines()

      lines = iter(lines)
      head = next(lines, b"")
      if divided := _divided(head):
        raise ValueError(
          f"{path} looks like a table divided by {divided}; use csv:{path}, or correct line 1"
        )
      lines = itertools.chain([head], lines)
      yield from ((f"{path}, line {number}", value) for number, value in json_lines(lines))
  except TRUNCATED as error:
    yield f"{path}, line 1", _truncated(error)


def _divided(head: bytes) -> str:
  """Returns what divides the columns of a line of names; "" where it may be JSON that is broken."""
  line = head.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace").strip()
  for delimiter, words in DELIMITERS.items():
    cells = line.split(delimiter)
    are_names = all(re.fullmatch(r'"?[^"{}\[\]:]+"?', cell.strip()) for cell in cells)
    if len(cells) > 2 and are_names:
      return words
  return ""


def json_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
  """Yields of JSON lines that are not empty the number, from 1, and the value or its RowError."""
  number = 0
  try:
    for number, line in enumerate(lines, start=1):
      if line.strip():
        # A byte order mark may stand before the first row only.
        yield number, _parse(line, is_first=number == 1)
  except TRUNCATED as error:
    yield number + 1, _truncated(error)


def _truncated(error: Exception) -> values.RowError:
  return values.RowError("truncated gzip", f"the compressed data end here ({error})")


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
      if head.lstrip()[:1] in ("{", "["):
        raise ValueError(f"{path} looks like JSON; use jsonl:{path}, or correct line 1")
      _check_names(head, path)
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
  except TRUNCATED as error:
    yield place, _truncated(error)


def _check_names(head: str, path: str) -> None:
  """Raises a ValueError for a line of names that is no UTF-8: a column could not be found by it."""
  try:
    head.encode("utf-8")
  except UnicodeEncodeError as error:
    raise ValueError(f"{path}, line 1: {utf8.told(error)}") from error


def _delimiter(head: str, path: str) -> str:
  """Returns what divides a table's columns, by its line of names; a ValueError if it is unclear."""
  usual = "\t" if path.removesuffix(".gz").endswith(".tsv") else ","
  if usual in head:
    return usual
  present = [delimiter for delimiter in DELIMITERS if delimiter in head]
  if len(present) < 2:
    return present[0] if present else usual
  named = " and ".join(DELIMITERS[delimiter] for delimiter in present)
  raise ValueError(
    f"{path}: the line of names has {named}, but no {DELIMITERS[usual]}; divide its columns by "
    f"{DELIMITERS[usual]}"
  )


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
    with pyarrow.parquet.ParquetFile(existing(path)) as file:
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
      yield values.RowError("invalid UTF-8", utf8.told(error))


@contextlib.contextmanager
def _open(path: str) -> Iterator[io.BufferedReader | gzip.GzipFile]:
  """Opens a file for reading bytes, decompressed when it begins as gzip files do."""
  with existing(path).open("rb") as file:
    is_gzip = file.read(len(GZIP)) == GZIP
  with gzip.open(path, "rb") if is_gzip else open(path, "rb") as file:
    first = file.peek(2)[:2]
    if file.peek(len(PARQUET))[: len(PARQUET)] == PARQUET:
      raise ValueError(f"{path} is Parquet; use parquet:{path}")
    # Without a mark the first character tells: tables and JSON begin with one of ASCII.
    if first in UTF_16_MARKS or b"\0" in first:
      raise ValueError(f"{path} is UTF-16; save it as UTF-8, with `iconv -f UTF-16 -t UTF-8`")
    yield file


def existing(path: str) -> pathlib.Path:
  """Returns the path of a file; raises a ValueError for none, or one Git LFS has not fetched."""
  if not pathlib.Path(path).is_file():
    raise ValueError(f"no file {path} (working directory {os.getcwd()}); check the path")
  lfs.check(path)
  return pathlib.Path(path)


def _parse(line: bytes, is_first: bool) -> Any:
  """Returns the JSON value of a line, or the RowError that says what is wrong with it."""
  try:
    return json.loads(line.decode("utf-8-sig" if is_first else "utf-8"))
  except UnicodeDecodeError as error:
    return values.RowError("invalid UTF-8", utf8.told(error))
  except (ValueError, RecursionError) as error:
    return values.RowError("broken JSON", str(error))


READERS = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet, "hh": read_hh}
KINDS = {  # suffix of files → what reads them
  **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
  **dict.fromkeys((".csv", ".tsv"), "csv"),
  ".parquet": "parquet",
}
SUFFIXES = {suffix: READERS[kind] for suffix, kind in KINDS.items()}


def suffix(path: str | os.PathLike) -> str:
  """Returns the last suffix of a file's name, without that of a compressed file."""
  return pathlib.Path(pathlib.Path(path).name.removesuffix(".gz")).suffix
