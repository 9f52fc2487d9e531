"""Whether a reward model judges by the principles that it is shown, and whether policies follow."""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pit_jax.statistics import resampling


def right(
  margins: Float[np.ndarray, "N K"], truth: Int[np.ndarray, "N K"]
) -> list[dict[str, int | float | None]]:
  """Returns on how many pairs that differ by each of K principles a is told from b rightly.

  Args:
    margins: by how much a reward model that is shown the principle alone prefers a to b.
    truth: 1 where a is better by the principle, −1 where b is, 0 where there is no difference.

  Returns:
    Of each principle the `n` pairs that differ, and the `accuracy` on them; None where there are
    none.
  """
  differ = truth != 0
  agrees = np.sign(margins) == truth
  told = []
  for column in range(truth.shape[1]):
    n = int(differ[:, column].sum())
    agreed = int((agrees & differ)[:, column].sum())
    told.append({"n": n, "accuracy": agreed / n if n else None})
  return told


def conflicts(margins: Float[np.ndarray, "N K"], truth: Int[np.ndarray, "N K"]) -> dict[str, Any]:
  """Returns how often a reward model follows the shown one of two principles that contradict.

  A conflict is a pair of answers and a pair of principles: a better by one, b better by the other.
  Each is counted once; `first` and `second` are the shares in which a model that is shown that
  principle alone is with it (the first in the bank's order), `both` those with it either way: a
  model that does not read principles has 0 there.
  """
  n = 0
  followed = np.zeros(3, int)
  agrees = np.sign(margins) == truth
  for one in range(truth.shape[1]):
    for other in range(one + 1, truth.shape[1]):
      contradict = truth[:, one] * truth[:, other] < 0
      first, second = agrees[contradict, one], agrees[contradict, other]
      n += int(contradict.sum())
      followed += (first.sum(), second.sum(), (first & second).sum())

  names = ("first", "second", "both")
  shares = followed / n if n else [None] * 3
  return {"n": n, **{name: None if share is None else float(share)
                     for name, share in zip(names, shares, strict=True)}}  # fmt: skip


def difference(
  held: Bool[np.ndarray, "A N"], against: Bool[np.ndarray, "Z N"]
) -> dict[str, float | list[float] | None]:
  """Returns how much more often N prompts' answers pass a check under some policies than others.

  Args:
    held: whether each prompt's answer passes, of each of A policies.
    against: the same of Z other policies.

  Returns:
    The shares `with` and `without`, their `difference`, and its 95% interval over prompts.
  """
  if not len(held) or not len(against):
    return {"with": float(held.mean()) if len(held) else None,
            "without": float(against.mean()) if len(against) else None,
            "difference": None}  # fmt: skip
  by_prompt = held.mean(axis=0) - against.mean(axis=0)
  mean = float(by_prompt.mean())
  told: dict[str, float | list[float] | None] = {
    "with": float(held.mean()),
    "without": float(against.mean()),
    "difference": mean,
  }
  if len(by_prompt) < 2:
    return told
  error = float(by_prompt.std(ddof=1)) / math.sqrt(len(by_prompt))
  return {**told, "ci95": [mean - resampling.Z * error, mean + resampling.Z * error]}
