"""Choosing among several answers by what most of them say, and how well scores order them."""

import collections
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pit_jax.statistics import metrics, resampling


def majority(answers: Sequence[Sequence[Hashable]]) -> Int[np.ndarray, " B"]:
  """Returns, of each prompt, the first of its candidates whose answer most of them have.

  Of answers that as many have, the one that came first counts. Every prompt has one candidate or
  more.
  """
  places = []
  for several in answers:
    counts = collections.Counter(several)  # which keeps the order in which answers came
    (most, _), *_ = counts.most_common(1)
    places.append([*several].index(most))
  return np.array(places, dtype=np.int64)


def ordered(
  scores: Float[np.ndarray, "B N"], is_right: Bool[np.ndarray, "B N"]
) -> tuple[float, tuple[float, float] | None]:
  """Returns how often a right candidate is scored above a wrong one of the same prompt.

  share = mean over prompts of  mean over (right i, wrong j) of [s_i > s_j] + ½ [s_i = s_j]

  Prompts without a right or without a wrong candidate say nothing. ½ is chance.

  Returns:
    The share, NaN where no prompt has both, and its bootstrap interval over prompts; None there.
  """
  shares = []
  for row, right in zip(scores, is_right, strict=True):
    if right.any() and not right.all():
      ahead = row[right][:, None] - row[~right][None, :]
      shares.append(float(((np.sign(ahead) + 1) / 2).mean()))
  if not shares:
    return float("nan"), None
  values = np.array(shares)
  counts = resampling.weights(len(values), metrics.RESAMPLES, 0)
  return resampling.estimate(counts @ values / len(values))
