"""The order in which training and evaluation see the rows of a data set."""

import fractions
import functools
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np

from pit_jax import types
from pit_jax.data import padding, tables

WINDOW = 64  # batches among whose rows those of like length are put together


def count_rows(record: Any) -> int:
  """Returns how many rows a record has.

  Raises a ValueError where its arrays disagree on the number of rows.
  """
  counts = {leaf.shape[0] for leaf in jax.tree.leaves(record)}
  if len(counts) != 1:
    raise ValueError(f"the arrays of a record have {sorted(counts)} rows; all must have as many")
  return counts.pop()


def take(record: Any, rows: Any) -> Any:
  """Returns the given rows (an index array or a slice) of a record."""
  return jax.tree.map(lambda leaf: leaf[rows], record)


def shuffled(rows: int, seed: int) -> grain.MapDataset:
  """Returns the row at every place of an endless stream, each epoch in an order of its own.

  The seed is any integer; two seeds give unrelated orders.
  """
  # Grain's epoch e under seed s is epoch e - 1 under seed s + 1; hashing keeps seeds apart.
  return grain.MapDataset.range(rows).shuffle(seed=_hash(seed)).repeat()


def _hash(*content: int) -> int:
  digest = hashlib.blake2b(" ".join(map(str, content)).encode(), digest_size=4).digest()
  return int.from_bytes(digest)


def count_steps(rows: int, batch_size: int, epochs: float | int) -> int:
  """Returns the fewest steps that show every row at least `epochs` times."""
  # Exact: in floats 1.1 epochs of 100 rows are a little more than 110, and a step more.
  return math.ceil(fractions.Fraction(str(epochs)) * rows / batch_size)


class Batches:
  """Shuffled batches without end; `batches[step]` is a function of the seed and the step alone.

  Every epoch has an order of its own. A batch may hold the last rows of one epoch and the first of
  the next, so that each epoch contains each row exactly once, whatever the batch size.

  By length, batches hold rows of like length and are padded to that. The batches of an epoch are
  cut into windows of WINDOW; the rows of a window are sorted, by the quarter of the widest padding
  that a prompt fits into and then by the length of the response, up and down in turns; and the
  window's batches are shuffled. A batch across two epochs stays as it is. Prompts and responses
  are padded to quarters each, hence to 16 pairs of widths at most: finer steps would pad less and
  compile more programs.
  """

  def __init__(self, table: tables.Table, batch_size: int, seed: int, by_length: bool = False):
    """Describes the order; nothing is read yet.

    A batch may have more rows than there are. By length, it is padded to its own longest row; else
    every batch is padded to the longest row of all. The seed is as for `shuffled`.

    Raises a ValueError where there is no row, or the batch size is below 1.
    """
    check(len(table), batch_size)
    self.rows = len(table)
    self.batch_size = batch_size
    self._table = table
    self._seed = seed
    self._by_length = by_length
    self._rows_of = shuffled(self.rows, seed).batch(batch_size)
    self._widths = table.widths

    # A decorated method would keep the instance alive. Steps come in order: one window suffices.
    self._window = functools.lru_cache(maxsize=1)(self._sorted_window)

  def __getitem__(self, step: int) -> Any:
    """Returns the record of one training step, counted from 0, through all epochs."""
    rows = self.rows_of(step)
    if not self._by_length:
      return self._table.padded(rows, self._widths)
    longest = zip(self._table.longest(rows), self._widths, strict=True)
    return self._table.padded(rows, tuple(padding.level(*pair) for pair in longest))

  def rows_of(self, step: int) -> np.ndarray:
    """Returns the numbers of the rows of one training step."""
    if step < 0:
      raise ValueError(f"step {step} is before the first; steps count from 0")
    start, stop = self._bounds(step)
    is_sorted = self._by_length and start is not None
    return self._window(start, stop)[step - start] if is_sorted else self._rows_of[step]

  def steps(self, epochs: float | int) -> int:
    """Returns the fewest steps that show every row at least `epochs` times."""
    return count_steps(self.rows, self.batch_size, epochs)

  def _bounds(self, step: int) -> tuple[int | None, int | None]:
    """Returns the first step of a step's window and the one after its last; None across epochs."""
    epoch = step * self.batch_size // self.rows
    # From the first step that begins in the epoch (rounded up) to the last that ends in it.
    first = -(-epoch * self.rows // self.batch_size)
    last = (epoch + 1) * self.rows // self.batch_size
    if not first <= step < last:
      return None, None
    start = first + (step - first) // WINDOW * WINDOW

    return start, min(start + WINDOW, last)

  def _sorted_window(self, start: int, stop: int) -> np.ndarray:
    """Returns the rows of every step of a window, Int[steps, batch size]."""
    rows = np.concatenate([self._rows_of[step] for step in range(start, stop)])
    order = order_by_length(*self._table.longest_each(rows), self._widths[0])
    rows_by_step = rows[order].reshape(stop - start, self.batch_size)

    # Shuffled as whole batches; sorted, training would go from short rows to long ones.
    return rows_by_step[np.random.default_rng(_hash(self._seed, start)).permutation(stop - start)]


def order_by_length(prompts: np.ndarray, responses: np.ndarray, widest: int) -> np.ndarray:
  """Returns an order in which neighbours have prompts and responses of like length, in tokens.

  The longest prompt is padded to `widest`.
  """
  levels = np.array([padding.level(length, widest) for length in prompts.tolist()])
  is_downwards = np.unique(levels, return_inverse=True)[1] % 2 == 1
  # Its last key goes first. Up and down in turns, the ends of neighbouring levels are alike.
  return np.lexsort((np.where(is_downwards, -responses, responses), levels))


def in_order(
  record: Any, batch_size: int, by_length: bool = False
) -> Iterator[tuple[Any, np.ndarray]]:
  """Yields every row once, for evaluation: batches, and the numbers of the rows in them.

  A record is NumPy arrays with one leading axis over the rows. All batches have as many rows: the
  last is filled up with copies of its last row, which are real enough to compute on; its first rows
  alone are numbered.

  By length, rows of like length are put together, and what is padding in all rows of a batch is cut
  off its Prompts and Responses, of which there are some; other arrays keep their width. Else rows
  are in order and batches of one shape.

  Raises a ValueError where there is no row, or the batch size is below 1.
  """
  rows = count_rows(record)
  check(rows, batch_size)
  order = _order_of(record) if by_length else np.arange(rows)

  for start in range(0, rows, batch_size):
    wanted = np.arange(start, start + batch_size)
    batch = take(record, order[np.minimum(wanted, rows - 1)])
    yield _trim(batch) if by_length else batch, order[start : start + batch_size]


def _is_part(node: Any) -> bool:
  return isinstance(node, types.Prompts | types.Responses)


def _order_of(record: Any) -> np.ndarray:
  """Returns an order of a record's rows in which neighbours are of like length."""
  parts = jax.tree.leaves(record, is_leaf=_is_part)
  prompts, responses = (
    np.max([part.mask.sum(axis=1) for part in parts if isinstance(part, kind)] or [zero], axis=0)
    for kind, zero in ((types.Prompts, 0), (types.Responses, np.zeros(count_rows(record), int)))
  )
  widest = max(part.mask.shape[1] for part in parts if isinstance(part, types.Prompts))

  return order_by_length(prompts, responses, widest)


def _trim(record: Any) -> Any:
  """Cuts off what is padding in all rows, to a quarter of the width."""

  def trim(part):
    if not _is_part(part):
      return part
    width = padding.level(int(part.mask.sum(axis=1).max()), part.mask.shape[1])
    cut = slice(-width, None) if isinstance(part, types.Prompts) else slice(width)
    return jax.tree.map(lambda leaf: leaf[:, cut], part)

  return jax.tree.map(trim, record, is_leaf=_is_part)


def check(rows: int, batch_size: int) -> None:
  """Raises a ValueError when so many rows cannot be batched."""
  if rows < 1:
    raise ValueError("a record without rows cannot be batched; is a fold empty or all dropped?")
  if batch_size < 1:
    raise ValueError(f"batch size {batch_size} is too small; use at least 1")
