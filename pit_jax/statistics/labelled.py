"""Accuracy on labels, with intervals by prompt: plainly, and without the help of length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from pit_jax.statistics import lengths, resampling

Right = Float[Array | np.ndarray, " B"]  # 1 where a label is met, ½ a tie, 0
Prompts = Int[Array | np.ndarray, " B"]  # of each pair the number of its prompt
Lengths = Real[Array | np.ndarray, " B"]  # tokens
Estimate = tuple[float, tuple[float, float] | None]

RESAMPLES = 2_000


def right(margins: Real[Array | np.ndarray, " B"]) -> Right:
  """Returns the correctness of margins, chosen less rejected: 1 above 0, and ½ at exactly 0."""
  return (1 + np.sign(np.asarray(margins, np.float64))) / 2


def describe(met: Right, chosen: Lengths, rejected: Lengths, prompts: Prompts) -> dict:
  """Returns a rule's accuracy on labels, beside that of the rule that prefers the longer response.

  Two figures take length away. `balanced` is the mean of the accuracies on pairs whose chosen
  response is the longer and on those whose chosen one is the shorter: a rule that knows lengths
  alone has 50%, whichever way it goes and however lengths are distributed. `matched` is the
  accuracy on pairs of like length, within 10% of the longer one.

  Of each pair it takes whether the rule `met` the label, the lengths of the chosen and the rejected
  response, and the prompt; pairs of a prompt are resampled together.

  Returns:
    `n` pairs of `prompts` prompts; `accuracy`, `above_length` (accuracy less that of the longer
    one's), `balanced` and `matched`, in [−1, 1], each with its `…_ci95`, and None where there is no
    such pair; `matched_n`.

  Raises:
    ValueError: if there is no pair or the numbers of pairs differ.
  """
  met, chosen, rejected = (np.asarray(column, np.float64) for column in (met, chosen, rejected))
  if not met.size or not met.size == chosen.size == rejected.size == len(prompts):
    raise ValueError(
      f"{met.size} pairs with {chosen.size} and {rejected.size} lengths and {len(prompts)} "
      "prompts; give one of each per pair, at least one"
    )

  everywhere = np.ones(met.size, bool)
  matched = lengths.is_matched(chosen, rejected)
  figures = {
    "accuracy": average(met, prompts, [everywhere]),
    "above_length": average(met - right(chosen - rejected), prompts, [everywhere]),
    "balanced": average(met, prompts, [chosen > rejected, chosen < rejected]),
    "matched": average(met, prompts, [matched]),
  }

  result: dict[str, Any] = {
    "n": met.size,
    "prompts": len(np.unique(prompts)),
    "matched_n": int(matched.sum()),
  }
  for name, estimate in figures.items():
    result |= dict(zip((name, f"{name}_ci95"), estimate or (None, None), strict=True))
  return result


def average(
  values: Float[Array | np.ndarray, " B"],
  prompts: Prompts,
  parts: Sequence[Bool[Array | np.ndarray, " B"]],
  *,
  resamples: int = RESAMPLES,
  seed: int = 0,
) -> Estimate | None:
  """Returns the mean over some parts of the mean of values in each, with its bootstrap interval.

  None where a part is empty. Values are one per pair; pairs of a prompt are drawn together, in at
  least one bootstrap sample, of which those that lack a part are left out of the interval.
  """
  if not all(np.any(part) for part in parts):
    return None
  numbers, place = np.unique(prompts, return_inverse=True)
  weights = resampling.weights(numbers.size, resamples, seed)
  means = []

  for part in parts:
    part = np.asarray(part)
    sums = np.bincount(place[part], weights=values[part], minlength=numbers.size)
    counts = np.bincount(place[part], minlength=numbers.size)
    with np.errstate(invalid="ignore"):
      means.append((weights @ sums) / (weights @ counts))

  return resampling.estimate(np.mean(means, axis=0))
