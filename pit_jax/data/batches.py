"""Padding, and the order in which training and evaluation see the rows of a record.

A record (types.py) in this room holds NumPy arrays with one leading axis over all rows.
"""

import fractions
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np

from pit_jax import types


def bucket(length: int) -> int:
  """Returns the smallest allowed padded length, so that programs are compiled for few shapes.

  Allowed are multiples of 8 up to 128, of 16 up to 256, of 32 up to 512 and so on: eight lengths
  per doubling, hence at most a ninth of a row longer than 64 is padding.

  Args:
    length: tokens of the longest row, at least 1.

  Raises:
    ValueError: the length is below 1.
  """
  if length < 1:
    raise ValueError(f"a padded length of {length} tokens has no use; give at least 1")
  step = max(8, 2 ** ((length - 1).bit_length() - 4))
  return -(-length // step) * step


def pad_prompts(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Prompts:
  """Pads rows of token ids on the left.

  Args:
    ids: the rows, of any lengths up to `length`.
    length: tokens per padded row.
    pad_id: what to fill with; the mask, not this id, says what is padding.

  Raises:
    ValueError: a row is longer than `length`.
  """
  lengths = _lengths(ids, length)
  mask = np.arange(length) >= length - lengths[:, None]
  return types.Prompts(tokens=_fill(ids, mask, pad_id), mask=mask)


def pad_responses(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Responses:
  """Pads rows of token ids on the right; see `pad_prompts`."""
  lengths = _lengths(ids, length)
  mask = np.arange(length) < lengths[:, None]
  return types.Responses(tokens=_fill(ids, mask, pad_id), mask=mask)


def _lengths(ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
  lengths = np.array([len(row) for row in ids], np.int64)
  if lengths.max(initial=0) > length:
    row = int(lengths.argmax())
    raise ValueError(
      f"row {row} has {lengths[row]} tokens and the padded length is {length}; "
      "cut the row or pad to bucket(longest row)"
    )
  return lengths


def _fill(ids: Sequence[Sequence[int]], mask: np.ndarray, pad_id: int) -> np.ndarray:
  """Puts the tokens of all rows, in order, where the mask is True."""
  tokens = np.full(mask.shape, pad_id, np.int32)
  tokens[mask] = [token for row in ids for token in row]
  return tokens


def count_rows(record: Any) -> int:
  """Returns how many rows a record has.

  Raises:
    ValueError: its arrays disagree on the number of rows.
  """
  counts = {leaf.shape[0] for leaf in jax.tree.leaves(record)}
  if len(counts) != 1:
    raise ValueError(f"the arrays of a record have {sorted(counts)} rows; all must have as many")
  return counts.pop()


def take(record: Any, rows: Any) -> Any:
  """Returns the given rows (an index array or a slice) of a record."""
  return jax.tree.map(lambda leaf: leaf[rows], record)


class Batches:
  """Shuffled batches without end; `batches[step]` is a function of the seed and the step alone.

  Every epoch has an order of its own. A batch may hold the last rows of one epoch and the first of
  the next, so that each epoch contains each row exactly once, whatever the batch size.
  """

  def __init__(self, record: Any, batch_size: int, seed: int):
    """Describes the order; nothing is read yet.

    Args:
      record: NumPy arrays with one leading axis over the rows.
      batch_size: rows per batch, at least 1; may exceed the rows there are.
      seed: any integer; two seeds give unrelated orders.

    Raises:
      ValueError: there is no row, or the batch size is below 1.
    """
    self.rows = _check(record, batch_size)
    self.batch_size = batch_size
    self._record = record
    # Grain's epoch e under seed s is epoch e - 1 under seed s + 1; hashing keeps seeds apart.
    digest = hashlib.blake2b(str(seed).encode(), digest_size=4).digest()
    order = grain.MapDataset.range(self.rows).shuffle(seed=int.from_bytes(digest))
    self._order = order.repeat().batch(batch_size)

  def __getitem__(self, step: int) -> Any:
    """Returns the record of one training step.

    Args:
      step: counted from 0, through all epochs.
    """
    if step < 0:
      raise ValueError(f"step {step} is before the first; steps count from 0")
    return take(self._record, np.asarray(self._order[step]))

  def steps(self, epochs: float | int) -> int:
    """Returns the fewest steps that show every row at least `epochs` times."""
    return math.ceil(fractions.Fraction(str(epochs)) * self.rows / self.batch_size)


def in_order(record: Any, batch_size: int) -> Iterator[tuple[Any, int]]:
  """Yields the rows once and in order, for evaluation, in batches of one shape.

  The last batch is filled up with copies of the last row, which are real enough to compute on.

  Args:
    record: NumPy arrays with one leading axis over the rows.
    batch_size: rows per batch.

  Yields:
    A batch, and how many of its first rows count.

  Raises:
    ValueError: there is no row, or the batch size is below 1.
  """
  rows = _check(record, batch_size)
  for start in range(0, rows, batch_size):
    wanted = np.arange(start, start + batch_size)
    yield take(record, np.minimum(wanted, rows - 1)), min(batch_size, rows - start)


def _check(record: Any, batch_size: int) -> int:
  rows = count_rows(record)
  if rows < 1:
    raise ValueError("a record without rows cannot be batched; is a fold empty or all dropped?")
  if batch_size < 1:
    raise ValueError(f"batch size {batch_size} is too small; use at least 1")
  return rows
