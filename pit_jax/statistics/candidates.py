"""Choosing among several answers, and what the choice costs in KL."""

import math

import numpy as np
from jaxtyping import Float, Int


def best(scores: Float[np.ndarray, "N B"]) -> Int[np.ndarray, " B"]:
  """Returns argmax_i R_P(x, y_i) of every prompt, the first of N candidates with equal scores."""
  return scores.argmax(axis=0)


def tournament(gaps: Float[np.ndarray, "N N B"]) -> Int[np.ndarray, " B"]:
  """Returns argmax_i Σ_{j ≠ i} R_PIT(x, y_i, y_j) of every prompt, the first of equal ones.

  gaps[i, j] is that of i over j; the diagonal, an answer against itself, has no say.
  """
  others = ~np.eye(len(gaps), dtype=bool)
  return np.where(others[..., None], gaps, 0.0).sum(axis=1).argmax(axis=0)


def kl_bound(count: int) -> float:
  """Returns the most KL that choosing among n ≥ 1 samples costs: log n − (n − 1) / n, in nats.

  The bound (Beirami et al. 2024) holds whatever chooses, because the chosen one lies in a set A
  of answers with probability at most 1 − (1 − π(A))^n; alike samples cost less.

  Raises:
    ValueError: if there is nothing to choose from.
  """
  if count < 1:
    raise ValueError(f"the best of {count} samples does not exist; use n = 1 or more")
  return math.log(count) - (count - 1) / count
