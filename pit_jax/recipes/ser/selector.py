"""Which pairs a reward model may label for itself, and when rounds of that end.

Scores are in nats, so that σ of a difference is the probability of a preference. Bradley–Terry
knows them up to a constant only, so what is near 0 is said by the mean of a pool.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Bool, Float, Int

Scores = Float[np.ndarray, " N"]
Signs = Int[np.ndarray, " N"]

ONE = "one"  # one answer is surely good and the other surely bad
TWO = "two"  # the two are far from each other
UNION = "union"  # either
STATUSES = (ONE, TWO, UNION)


def centred(first: Scores, second: Scores) -> tuple[Scores, Scores]:
  """Returns the scores of a pool less their mean over both answers of all pairs, in nats."""
  mean = np.concatenate([first, second]).mean() if len(first) else 0.0
  return first - mean, second - mean


def preferred(
  first: Scores,
  second: Scores,
  *,
  status: str,
  upper: float | int,
  lower: float | int,
  difference: float | int,
) -> Signs:
  """Returns 1 where the first answer is kept as the better one, −1 the second, 0 where neither is.

  j ≻ k   where  σ(s_j) > upper and σ(s_k) < lower    (status "one")
          or     σ(s_j) − σ(s_k) > difference         (status "two")
  (Huang et al. 2024, arXiv 2411.00418, the learning statuses 1 and 2; the published code has their
  union.) What holds of both answers, which no thresholds of lower ≤ upper allow, keeps neither.

  Args:
    first: centred scores of the answers that stand first, in nats.
    second: those of the others.
    status: one of STATUSES.
    upper: probability above which an answer is surely good.
    lower: probability below which one is surely bad.
    difference: of two such probabilities, beyond which the pair is surely told apart.
  """
  good = scipy.special.expit(first), scipy.special.expit(second)

  def is_kept(better: Scores, worse: Scores) -> Bool[np.ndarray, " N"]:
    one = (better > upper) & (worse < lower)
    two = better - worse > difference
    return {ONE: one, TWO: two, UNION: one | two}[status]

  return is_kept(*good).astype(int) - is_kept(*good[::-1]).astype(int)


def preferred_by_gap(gaps: Scores, difference: float | int) -> Signs:
  """Returns the same of a gap model, which scores pairs: one threshold, and nothing to centre.

  j ≻ k   where  σ(g/2) − σ(−g/2) > difference,    g = r(x, j, k) − r(x, k, j)

  This is status "two" of two answers that lie g apart, around the mean. g changes its sign with the
  order of the answers, so its mean over both orders is 0 as it is.
  """
  apart = np.tanh(gaps / 4)  # σ(g/2) − σ(−g/2)
  return (apart > difference).astype(int) - (apart < -difference).astype(int)


def are_few(kept: int, pool: int, least: float | int) -> bool:
  """Returns whether less than a share of a pool is kept, so that another round is not worth it."""
  return kept < least * pool


def has_fallen(accuracy: float | int, best: float | int, pairs: int) -> bool:
  """Returns whether an accuracy is below the best one by more than one standard error of that.

  The error is √(p (1 − p) / n), of the best accuracy p on so many pairs.
  """
  return accuracy < best - math.sqrt(best * (1 - best) / pairs)


def best_round(accuracies: Sequence[float | int]) -> int:
  """Returns the number of the round with the highest accuracy, of equal ones the earliest.

  Round 0 is the model of the seed's labels.
  """
  return int(np.argmax(accuracies))
