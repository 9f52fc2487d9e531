"""Padding: rows of token ids, of any lengths, as rectangles of few different widths."""

import itertools
from collections.abc import Sequence

import numpy as np

from pit_jax import types

LEVELS = 4  # widths of a column, at most, that batches of like length are padded to


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
  # Lengths above 2^(k−1) up to 2^k go in steps of an eighth of 2^(k−1).
  step = max(8, 2 ** ((length - 1).bit_length() - 4))
  return -(-length // step) * step


def level(length: int, widest: int) -> int:
  """Returns the quarter of the widest padding, rounded up to 8, that a length fits into.

  Args:
    length: tokens of a batch's longest row.
    widest: the bucket of the longest row there is.
  """
  quarter = -(-widest // (8 * LEVELS)) * 8
  return min(-(-max(length, 1) // quarter) * quarter, widest)


def pad_prompts(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Prompts:
  """Pads rows of token ids on the left.

  Args:
    ids: the rows, of any lengths up to `length`.
    length: tokens per padded row.
    pad_id: what to fill with; the mask, not this id, says what is padding.

  Raises:
    ValueError: a row is longer than `length`.
  """
  return fill_prompts(*flatten(ids), length, pad_id)


def pad_responses(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Responses:
  """Pads rows of token ids on the right; see `pad_prompts`."""
  return fill_responses(*flatten(ids), length, pad_id)


def fill_prompts(
  tokens: np.ndarray, lengths: np.ndarray, length: int, pad_id: int
) -> types.Prompts:
  """Pads rows on the left, as `pad_prompts`, that lie end to end.

  Args:
    tokens: Int[sum of lengths].
    lengths: Int[rows].
    length: tokens per padded row.
    pad_id: what to fill with.
  """
  _check(lengths, length)
  mask = np.arange(length) >= length - lengths[:, None]
  return types.Prompts(tokens=_fill(tokens, mask, pad_id), mask=mask)


def fill_responses(
  tokens: np.ndarray, lengths: np.ndarray, length: int, pad_id: int
) -> types.Responses:
  """Pads rows on the right, as `pad_responses`, that lie end to end; see `fill_prompts`."""
  _check(lengths, length)
  mask = np.arange(length) < lengths[:, None]
  return types.Responses(tokens=_fill(tokens, mask, pad_id), mask=mask)


def flatten(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the tokens of all rows, end to end, and the rows' lengths, both Int."""
  lengths = np.fromiter(map(len, ids), np.int64, len(ids))
  tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(lengths.sum()))
  return tokens, lengths


def _check(lengths: np.ndarray, length: int) -> None:
  if lengths.max(initial=0) > length:
    row = int(lengths.argmax())
    raise ValueError(
      f"row {row} has {lengths[row]} tokens and the padded length is {length}; "
      "cut the row or pad to bucket(longest row)"
    )


def _fill(tokens: np.ndarray, mask: np.ndarray, pad_id: int) -> np.ndarray:
  """Puts the tokens of all rows, in order, where the mask is True."""
  filled = np.full(mask.shape, pad_id, np.int32)
  filled[mask] = tokens
  return filled
