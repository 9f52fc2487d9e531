"""Sequence packing: demonstrations share rows of fixed length, in an order by seed and step."""

import bisect
import fractions
import functools
import math

import numpy as np

from pit_jax import types
from pit_jax.data import batches, tables

WINDOW = 1_024  # demonstrations among which those are looked for that fill a row


class Batches:
  """Shuffled batches of packed rows without end; `batches[step]` depends on seed and step alone.

  The demonstrations of an epoch, shuffled, are cut into windows of WINDOW; those of a window go,
  one after the other, each into the first row with room. Only lengths decide. Every epoch has an
  order of its own and contains each demonstration exactly once; a batch may hold the last rows of
  one epoch and the first of the next. How many demonstrations a batch has differs.
  """

  def __init__(self, table: tables.Table, batch_size: int, seed: int, length: int):
    """Describes the order in which demonstrations share rows of `length` tokens; reads nothing yet.

    A batch has `batch_size` packed rows; the seed is as for `batches.shuffled`.

    Raises a ValueError as `batches.Batches`, and where a demonstration is too long for a row.
    """
    batches.check(len(table), batch_size)
    self._lengths = table.contents.lengths.sum(axis=1)
    if (longest := int(self._lengths.max())) > length:
      raise ValueError(
        f"a demonstration has {longest} tokens and a packed row {length}; use a packed_length of "
        f"at least {longest}"
      )

    self.batch_size = batch_size
    self.length = length
    self._table = table
    self._stream = batches.shuffled(len(table), seed)

    # Two epochs, since a batch may lie across the end of one.
    self._epoch = functools.lru_cache(maxsize=2)(self._pack_epoch)
    self._ends: list[int] = []  # packed rows until the end of each epoch

  def __getitem__(self, step: int) -> types.Packed:
    """Returns the record of one training step, counted from 0, through all epochs."""
    return self._record(self.rows_of(step))

  def rows_of(self, step: int) -> list[list[int]]:
    """Returns the numbers of the demonstrations in each packed row of one training step."""
    if step < 0:
      raise ValueError(f"step {step} is before the first; steps count from 0")
    places = range(step * self.batch_size, (step + 1) * self.batch_size)
    return [self._row(place) for place in places]

  def steps(self, epochs: float | int) -> int:
    """Returns the fewest steps that show every demonstration at least `epochs` times.

    A part of an epoch counts as that part of its packed rows.
    """
    whole, part = divmod(fractions.Fraction(str(epochs)), 1)
    end = self._end(whole - 1) + math.ceil(part * (self._end(whole) - self._end(whole - 1)))
    return math.ceil(end / self.batch_size)

  def _row(self, place: int) -> list[int]:
    """Returns the demonstrations of the packed row at a place of the endless stream."""
    while not self._ends or self._ends[-1] <= place:
      self._end(len(self._ends))
    epoch = bisect.bisect_right(self._ends, place)
    return self._epoch(epoch)[place - self._end(epoch - 1)]

  def _end(self, epoch: int) -> int:
    """Returns how many packed rows there are until the end of an epoch."""
    while len(self._ends) <= epoch:
      before = self._ends[-1] if self._ends else 0
      self._ends.append(before + len(self._epoch(len(self._ends))))

    return self._ends[epoch] if epoch >= 0 else 0

  def _pack_epoch(self, epoch: int) -> list[list[int]]:
    rows = []
    count = len(self._lengths)
    for start in range(0, count, WINDOW):
      places = range(epoch * count + start, epoch * count + min(start + WINDOW, count))
      numbers = np.array([self._stream[place] for place in places])
      packed = first_fit(self._lengths[numbers], self.length)
      rows += [numbers[row].tolist() for row in packed]

    return rows

  def _record(self, rows: list[list[int]]) -> types.Packed:
    numbers = np.array([number for row in rows for number in row])
    flat, lengths = self._table.tokens(numbers)
    sizes = lengths.sum(axis=1)

    # For every token its packed row, its place there and its demonstration: no loop over tokens.
    counts = list(map(len, rows))
    split = np.split(sizes, np.cumsum(counts)[:-1])
    starts = [np.cumsum([0, *sizes_of[:-1]]) for sizes_of in split]
    row = np.repeat(np.repeat(np.arange(len(rows)), counts), sizes)
    offset = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = offset + np.repeat(np.concatenate(starts), sizes)
    ends = np.repeat(np.concatenate([np.cumsum(sizes_of) for sizes_of in split]), sizes)

    def put(values, empty, dtype):
      array = np.full((len(rows), self.length), empty, dtype)
      array[row, place] = values
      return array

    return types.Packed(
      tokens=put(flat, self._table.pad_id, np.int32),
      mask=put(True, False, bool),
      ends=put(ends, 0, np.int32),
      is_response=put(offset >= np.repeat(lengths[:, 0], sizes), False, bool),
    )


def first_fit(lengths: np.ndarray, room: int) -> list[list[int]]:
  """Puts lengths, Int[n], in order, each into the first row with room; returns each row's places.

  A row holds `room`, and no length is more.
  """
  free = np.full(len(lengths), room)
  rows = []
  for place, length in enumerate(lengths.tolist()):
    row = int(np.argmax(free >= length))  # of rows not begun yet the first is free
    if row == len(rows):
      rows.append([])
    rows[row].append(place)
    free[row] -= length

  return rows
