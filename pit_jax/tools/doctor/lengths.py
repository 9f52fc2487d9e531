"""How long prompts and responses are in tokens, and what is lost where they are cut."""

import dataclasses
import itertools
import operator
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from pit_jax.data import encode, rows

PIECE = 2_048  # rows encoded at once


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens of every row without any limit."""

  prompt: Int[np.ndarray, " rows"]  # of the policy's prompt, the form's own tokens included
  chosen: Int[np.ndarray, " rows"]  # of the chosen response, end-of-sequence included
  rejected: Int[np.ndarray, " rows"]  # likewise
  shared: Int[np.ndarray, " rows"]  # those that both responses have in common at their beginnings

  def becomes_equal(self, limit: int) -> Bool[np.ndarray, " rows"]:
    """Returns which pairs are the same once responses are cut to a limit, in tokens."""
    return np.minimum(self.chosen, self.rejected).clip(max=limit) <= self.shared.clip(max=limit)


def measure(preferences: Sequence[rows.Preference], settings: encode.Settings) -> Lengths:
  """Encodes rows as training does, without its limits, and keeps their lengths alone."""
  pieces = []
  for start in range(0, len(preferences), PIECE):
    piece = preferences[start : start + PIECE]
    asked = settings.formats["policy"].conversations([row.prompt for row in piece])
    prompts = settings.template.encode(settings.tokenizer, asked).ids
    chosen, rejected = (
      settings.template.encode_responses(settings.tokenizer, texts).ids
      for texts in ([row.chosen for row in piece], [row.rejected for row in piece])
    )
    shared = list(map(_shared, chosen, rejected))

    sizes = [list(map(len, column)) for column in (prompts, chosen, rejected)]
    pieces.append(np.array([*sizes, shared]))

  return Lengths(*np.concatenate(pieces, axis=1))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
  """Returns how many tokens two texts have in common at their beginnings."""
  apart = itertools.compress(itertools.count(), map(operator.ne, one, other))
  return next(apart, min(len(one), len(other)))
