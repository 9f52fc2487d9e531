"""Padding: rows of token ids, of any lengths, as rectangles of few different widths."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pit_jax import types

# Widths of a column, at most, that batches of like length are padded to; and sizes of a batch.
LEVELS = 4


def bucket(length: int) -> int:
  """Returns the smallest allowed padded length, so that programs are compiled for few shapes.

  Allowed are multiples of 8 up to 128, of 16 up to 256, of 32 up to 512 and so on: eight lengths
  per doubling, hence at most a ninth of a row longer than 64 is padding.

  Raises a ValueError where the length is below 1.
  """
  if length < 1:
    raise ValueError(f"a padded length of {length} tokens has no use; give at least 1")
  # Lengths above 2^(k−1) up to 2^k go in steps of an eighth of 2^(k−1).
  step = max(8, 2 ** ((length - 1).bit_length() - 4))
  return -(-length // step) * step


def level(length: int, widest: int) -> int:
  """Returns the quarter of the widest padding, rounded up to 8, that a row of a length fits into.

  The widest padding is the bucket of the longest row there is.
  """
  quarter = -(-widest // (8 * LEVELS)) * 8
  return min(-(-max(length, 1) // quarter) * quarter, widest)


def rows_of_batch(rows: int, size: int, parts: int) -> int:
  """Returns how many rows the fewest quarters of a batch have that hold so many, at most a whole.

  Args:
    rows: those there are.
    size: rows of a whole batch, a multiple of `parts`.
    parts: over how many devices a batch is spread, whose multiple a quarter is.
  """
  quarter = -(-size // (LEVELS * parts)) * parts
  return min(-(-max(rows, 1) // quarter) * quarter, size)


def pad_prompts(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Prompts:
  """Pads rows of token ids on the left.

  Padded rows have `length` tokens. The mask, and not the id they are filled with, says what is
  padding.

  Raises a ValueError where a row is longer than `length`.
  """
  return fill(types.Prompts, *flatten(ids), length, pad_id)


def pad_responses(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> types.Responses:
  """Pads rows of token ids on the right; see `pad_prompts`."""
  return fill(types.Responses, *flatten(ids), length, pad_id)


def fill(make: type, tokens: np.ndarray, lengths: np.ndarray, length: int, pad_id: int) -> Any:
  """Pads rows that lie end to end: prompts (by `make`) on the left, responses on the right.

  `tokens` are Int[sum of lengths] and `lengths` Int[rows]; the others as for `pad_prompts`.
  """
  if lengths.max(initial=0) > length:
    row = int(lengths.argmax())
    raise ValueError(
      f"row {row} has {lengths[row]} tokens and the padded length is {length}; "
      "cut the row or pad to bucket(longest row)"
    )

  places = np.arange(length)
  is_left = make is types.Prompts
  mask = places >= length - lengths[:, None] if is_left else places < lengths[:, None]
  filled = np.full(mask.shape, pad_id, np.int32)
  filled[mask] = tokens
  return make(tokens=filled, mask=mask)


def joined(prompts: types.Prompts, responses: types.Responses) -> list[np.ndarray]:
  """Returns the real tokens of [prompt | response] of every row, Int[n]."""
  parts = [(np.asarray(part.tokens), np.asarray(part.mask)) for part in (prompts, responses)]
  tokens, mask = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
  return [row[is_real] for row, is_real in zip(tokens, mask, strict=True)]


def flatten(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the tokens of all rows, end to end, and the rows' lengths, both Int."""
  lengths = np.fromiter(map(len, ids), np.int64, len(ids))
  tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(lengths.sum()))
  return tokens, lengths
