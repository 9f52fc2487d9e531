"""Texts in rows of fixed length, where what they share at their beginnings stands once.

A model that scores many texts would read the same tokens again and again: the prompt of several
responses, the system prompt of all. Here they stand once in a row, and what continues them follows;
`attention.causal` keeps the continuations apart, so each text is read as if it stood alone.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from pit_jax.data import packing

WINDOW = 1_024  # groups of texts among which those are looked for that fill a row
FEWEST = 8  # tokens that neighbours share, beyond what all do, for which they stay together


@dataclasses.dataclass(frozen=True)
class Rows:
  """Texts that share rows."""

  tokens: np.ndarray  # Int[rows T], right-padded
  ends: np.ndarray  # Int[rows T], the first place that does not see a token; 0 on padding
  row: np.ndarray  # Int[N], of each text
  last: np.ndarray  # Int[N], the place of its last token there


def pack(texts: Sequence[np.ndarray], length: int, *, shares: bool = True) -> Rows:
  """Returns texts in rows of `length` tokens.

  Texts are sorted, so that those that begin alike are neighbours; neighbours that share much form a
  group; and groups go, one after the other, each into the first row with room.

  Args:
    texts: token ids of each text, Int[n]; none is empty.
    length: T, tokens of a row.
    shares: False writes every text out, for kernels that cannot be told what texts share.

  Raises:
    ValueError: if there is no text, or one is empty or longer than a row.
  """
  sizes = np.array([len(text) for text in texts], int)
  if not sizes.size or sizes.min() < 1 or sizes.max() > length:
    given = f"{sizes.size} texts of {sizes.min(initial=length)} to {sizes.max(initial=0)} tokens"
    raise ValueError(f"{given} cannot be packed into rows of {length}; give texts of 1 to {length}")

  # Big-endian, bytes are in the order of the numbers.
  order = sorted(range(len(texts)), key=lambda number: np.asarray(texts[number], ">i4").tobytes())
  ordered = [np.asarray(texts[number], np.int32) for number in order]
  shared = [_alike(*pair) if shares else 0 for pair in itertools.pairwise(ordered)]
  common = min(shared, default=0)

  # Every row begins with what all texts share, so a group needs room for the rest alone.
  alone = sizes[order] - common
  groups, totals = _groups(alone, np.array(shared, int) - common, length - common)
  rows = [
    [groups[start + place] for place in row]
    for start in range(0, len(groups), WINDOW)
    for row in packing.first_fit(totals[start : start + WINDOW], length - common)
  ]
  packed = Rows(
    tokens=np.zeros((len(rows), length), np.int32),
    ends=np.zeros((len(rows), length), np.int32),
    row=np.zeros(len(texts), np.int32),
    last=np.zeros(len(texts), np.int32),
  )

  for number, members in enumerate(rows):
    # The first text of a group is no neighbour of the one before.
    kept = [
      shared[place - 1] if place > group[0] else common for group in members for place in group
    ]
    places = [place for group in members for place in group]
    last = _write(packed.tokens[number], packed.ends[number], [ordered[i] for i in places], kept)
    numbers = [order[place] for place in places]
    packed.row[numbers] = number
    packed.last[numbers] = last

  return packed


def _alike(one: np.ndarray, other: np.ndarray) -> int:
  """Returns how many tokens two texts share at their beginning."""
  size = min(len(one), len(other))
  differ = one[:size] != other[:size]
  return int(differ.argmax()) if differ.any() else size


def _groups(alone: np.ndarray, shared: np.ndarray, room: int) -> tuple[list[range], np.ndarray]:
  """Returns the runs of texts that are put into one row, and the tokens of each run.

  All counts are without the tokens that all texts share.

  Args:
    alone: tokens of each text, Int[N].
    shared: those that it shares with its neighbour, Int[N − 1].
    room: tokens of a row.
  """
  starts = [0]
  totals = [int(alone[0])]

  for place, (size, beginning) in enumerate(zip(alone[1:], shared, strict=True), start=1):
    added = int(size - beginning)
    if beginning >= FEWEST and totals[-1] + added <= room:
      totals[-1] += added
    else:
      starts.append(place)
      totals.append(int(size))

  ends = [*starts[1:], len(alone)]
  return [range(*bounds) for bounds in zip(starts, ends, strict=True)], np.array(totals)


def _write(
  tokens: np.ndarray, ends: np.ndarray, texts: Sequence[np.ndarray], kept: Sequence[int]
) -> list[int]:
  """Writes the texts of a row, and returns the place of each one's last token.

  Args:
    tokens, ends: of the row, Int[T]; both are written.
    texts: in the order in which they stand.
    kept: how many tokens each has in common with the one before; of the first it says nothing.
  """
  path = np.zeros(0, int)  # the places of the text before
  place = 0
  last = []

  for text, beginning in zip(texts, kept, strict=True):
    beginning = min(beginning, len(path))
    ends[path[beginning:]] = place  # no later text sees them
    new = np.arange(place, place + len(text) - beginning)
    tokens[new] = text[beginning:]
    path = np.concatenate([path[:beginning], new])
    place += len(new)
    last.append(int(path[-1]))

  ends[path] = place
  return last
