"""Encoded data sets on disk: written once, in pieces, and read a few rows at a time.

A set is a folder with its tokens (ArrayRecord, one record per row) and what is known of its rows.
Its name is a hash of all that decides the tokens, so that a set is never out of date, and runs
with the same data may share one cache. Nobody removes old sets, nor the `.unfinished-…` folder
that a killed process leaves; the whole cache may be removed while no run is at work.
"""

import hashlib
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from array_record.python import array_record_module

from pit_jax.data import tables

FORMAT = 1  # of the files
ROWS = "rows.arrayrecord"
CONTENTS = "contents.npz"
COUNTS = ("kept", "cut", "dropped")


def fingerprint(texts: Sequence[Sequence]) -> str:
  """Returns a sha256 (16 hex digits) of columns of texts, which all have as many rows."""
  digest = hashlib.sha256()
  for row in zip(*texts, strict=True):
    # repr quotes each text, so that none can run over into the next.
    digest.update(repr(row).encode() + b"\n")

  return digest.hexdigest()[:16]


def open_or_write(
  folder: pathlib.Path,
  kind: str,
  key: Sequence,
  make: type,
  pieces: Callable[[], Iterable[tables.Piece]],
  pad_id: int,
) -> tables.Table:
  """Returns an encoded data set from the cache, which is written first if it is not there.

  Args:
    folder: the cache; made if needed.
    kind: what the rows hold; the name begins with it.
    key: everything else that decides the rows, as JSON.
    make, pad_id: as for `tables.Table`.
    pieces: encodes the rows, when they are not there.

  Raises a ValueError where the set on disk is damaged.
  """
  digest = hashlib.sha256(json.dumps([FORMAT, kind, *key]).encode()).hexdigest()[:16]
  path = pathlib.Path(folder) / f"{kind}-{digest}"
  if not path.exists():
    _write(path, pieces())
  return _open(path, make, pad_id)


def _write(path: pathlib.Path, pieces: Iterable[tables.Piece]) -> None:
  """Writes a set under another name and renames it, so that a kill leaves no half one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as temporary:
    unfinished = pathlib.Path(temporary) / path.name
    unfinished.mkdir()
    # One record per chunk: whoever wants a row reads no other.
    writer = array_record_module.ArrayRecordWriter(str(unfinished / ROWS), "group_size:1")
    written = []

    for piece in pieces:
      for row in piece.rows:
        writer.write(row)
      written.append(piece._replace(rows=[]))

    writer.close()
    lengths, index, counts = tables.summarise(written)
    numbers = [counts[name] for name in COUNTS]
    np.savez(unfinished / CONTENTS, lengths=lengths, index=index, counts=numbers)

    try:
      os.rename(unfinished, path)
    except OSError:
      if not path.exists():  # else another process was faster, with the same content
        raise


def _open(path: pathlib.Path, make: type, pad_id: int) -> tables.Table:
  try:
    with np.load(path / CONTENTS) as file:
      counts = dict(zip(COUNTS, file["counts"].tolist(), strict=True))
      contents = tables.Contents(file["lengths"], file["index"], counts)

    # Nothing is read ahead: the rows wanted next lie elsewhere.
    options = "readahead_buffer_size:0,max_parallelism:0"
    reader = array_record_module.ArrayRecordReader(str(path / ROWS), options)
    records = reader.num_records()
  except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
    raise _damaged(path, str(error)) from error

  if records != len(contents.lengths):
    raise _damaged(path, f"{records} rows where {len(contents.lengths)} should be")
  sizes = tables.TOKEN.itemsize * contents.lengths.sum(axis=1)

  def read(numbers: Sequence[int]) -> list[bytes]:
    try:
      rows = reader.read(list(numbers))
    except RuntimeError as error:
      raise _damaged(path, str(error)) from error

    if list(map(len, rows)) != sizes[numbers].tolist():
      raise _damaged(path, "rows are not as long as they should be")
    return rows

  return tables.Table(make, read, contents, pad_id)


def _damaged(path: pathlib.Path, reason: str) -> ValueError:
  return ValueError(f"{path} is damaged ({reason}); remove it, and it is written again")
