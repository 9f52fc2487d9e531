"""Encoded data sets: token ids of many rows on disk or in memory, a few of them at a time padded.

A row is the ids of its columns, one after the other: prompts first, then responses.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pit_jax import types
from pit_jax.data import padding

# Little-endian everywhere, since machines may share a cache.
TOKEN = np.dtype("<i4")
# How many of a record's columns are prompts; the others are responses.
PROMPTS = dict.fromkeys((types.Prompts, types.Demonstrations, types.Preferences), 1)
PROMPTS[types.GapPreferences] = 2


class Piece(NamedTuple):
  """Some consecutive rows of a data set, encoded."""

  rows: list[bytes]  # of each kept row, the ids of all its columns
  lengths: np.ndarray  # Int[rows columns], tokens
  index: np.ndarray  # Int[rows], of each kept row, its place among the rows given
  cut: int  # how many of the kept rows lost a part
  dropped: int


class Contents(NamedTuple):
  """What is known of a data set without its tokens; it fits into memory at any size."""

  lengths: np.ndarray  # Int[rows columns], tokens
  index: np.ndarray  # Int[rows], of each row, its place among the rows given
  counts: dict[str, int]  # kept; cut (of the kept); dropped


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """An encoded data set; `table[rows]` is a record of these rows, read and padded on demand."""

  make: type  # the record's class
  read: Callable[[Sequence[int]], list[bytes]]  # row numbers → the rows' bytes
  contents: Contents  # lengths, origin and counts of the rows
  pad_id: int
  # Of pairs, the numbers that stand beside them, Float[rows] each; see `types.Columns`.
  columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.contents.lengths)

  @property
  def widths(self) -> tuple[int, int]:
    """The padded lengths of prompts and responses into which every row fits."""
    return self._widths(slice(None))

  @property
  def longest_row(self) -> int:
    """The tokens of the longest row, all its columns together."""
    return int(self.contents.lengths.sum(axis=1).max(initial=0))

  def longest_each(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of each row's longest prompt and longest response, 0 without any."""
    prompts, responses = np.split(self.contents.lengths[rows], [PROMPTS[self.make]], axis=1)
    return prompts.max(axis=1, initial=0), responses.max(axis=1, initial=0)

  def longest(self, rows: Any) -> tuple[int, int]:
    """Returns the tokens of the longest prompt and of the longest response of some rows."""
    prompts, responses = self.longest_each(rows)
    return int(prompts.max(initial=0)), int(responses.max(initial=0))

  def __getitem__(self, rows: Any) -> Any:
    """Returns a record of some rows (numbers or a slice), padded to the buckets of the longest."""
    return self.padded(rows, self._widths(rows))

  def _widths(self, rows: Any) -> tuple[int, int]:
    return tuple(padding.bucket(max(length, 1)) for length in self.longest(rows))

  def padded(self, rows: Any, widths: tuple[int, int]) -> Any:
    """Returns a record of some rows, its prompts and its responses padded to these lengths.

    Raises a ValueError where a row is longer.
    """
    tokens, lengths = self.tokens(rows)
    # Rows lie end to end, each with its columns in order: of every token its column.
    owner = np.repeat(np.tile(np.arange(lengths.shape[1]), len(lengths)), lengths.ravel())
    prompts = PROMPTS[self.make]
    columns = []

    for column in range(lengths.shape[1]):
      make = types.Prompts if column < prompts else types.Responses
      own = (tokens[owner == column], lengths[:, column], widths[column >= prompts])
      columns.append(padding.fill(make, *own, self.pad_id))

    if self.make is types.Prompts:
      return columns[0]
    beside = {name: column[rows] for name, column in self.columns.items()}
    return self.make(*columns, **({"columns": beside} if beside else {}))

  def with_columns(self, **columns: np.ndarray) -> "Table":
    """Returns the table with more columns of numbers, Float[rows] each.

    Raises a ValueError where a column is not as long as the table.
    """
    for name, column in columns.items():
      if len(column) != len(self):
        raise ValueError(f"column {name!r} has {len(column)} numbers for {len(self)} rows")

    arrays = {name: np.asarray(column, np.float32) for name, column in columns.items()}
    return dataclasses.replace(self, columns={**self.columns, **arrays})

  def tokens(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of some rows, end to end, and their columns' lengths, Int[n columns]."""
    numbers = np.arange(len(self))[rows]
    data = b"".join(self.read(numbers.tolist()))
    return np.frombuffer(data, TOKEN).astype(np.int32), self.contents.lengths[numbers]


def in_memory(make: type, pieces: Iterable[Piece], pad_id: int) -> Table:
  """Returns a table of records of a class that holds its rows itself."""
  pieces = list(pieces)
  rows = [row for piece in pieces for row in piece.rows]
  return Table(make, lambda numbers: [rows[i] for i in numbers], summarise(pieces), pad_id)


def piece(columns: Sequence[Sequence[Sequence[int]]], kept: np.ndarray, cut: np.ndarray) -> Piece:
  """Returns the kept rows, Bool[rows], of columns of ids; `cut`, Bool[rows], lost a part."""
  index = np.flatnonzero(kept)
  tokens, lengths = padding.flatten([column[i] for i in index for column in columns])
  lengths = lengths.astype(np.int32).reshape(len(index), len(columns))
  data = tokens.astype(TOKEN).tobytes()
  ends = TOKEN.itemsize * lengths.sum(axis=1).cumsum()
  rows = [data[start:end] for start, end in itertools.pairwise([0, *ends.tolist()])]
  return Piece(rows, lengths, index, int(cut[index].sum()), len(kept) - len(index))


def summarise(pieces: Sequence[Piece]) -> Contents:
  """Returns what there is to know of all pieces together; their rows are not read."""
  sizes = (len(piece.index) + piece.dropped for piece in pieces)
  starts = itertools.accumulate(sizes, initial=0)
  index = [piece.index + start for piece, start in zip(pieces, starts, strict=False)]
  index = np.concatenate(index)
  cut = sum(piece.cut for piece in pieces)
  dropped = sum(piece.dropped for piece in pieces)
  lengths = np.concatenate([piece.lengths for piece in pieces])
  return Contents(lengths, index, {"kept": len(index), "cut": cut, "dropped": dropped})
