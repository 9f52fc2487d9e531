"""Comparisons that several seeds made on the same prompts.

What becomes of a prompt under one seed is no independent witness of what becomes of it under
another: easy prompts are easy for all. So the prompt is what is drawn, with all its outcomes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Array, Int

from pit_jax.statistics import metrics, resampling

OUTCOMES = "wlt"  # the columns of a tally, by the letters of `metrics.Comparison.outcomes`

Tally = Int[Array | np.ndarray, "B 3"]


def tally(columns: Sequence[str]) -> np.ndarray:
  """Returns the counts of wins, losses and ties of each prompt over all seeds, Int[B 3].

  Each has a column of outcomes, of the same prompts in the same order.

  Raises:
    ValueError: if the seeds judged different numbers of prompts.
  """
  if len({len(column) for column in columns}) > 1:
    numbers = ", ".join(str(len(column)) for column in columns)
    raise ValueError(f"seeds judged {numbers} of the same prompts; give each the same ones")

  letters = np.array([list(column) for column in columns])
  return np.stack([(letters == letter).sum(axis=0) for letter in OUTCOMES], axis=1)


def compare(counts: Tally, *, failed: int = 0) -> metrics.Comparison:
  """Returns the comparison over all outcomes, with a bootstrap interval over prompts.

  Prompts of the tally without any verdict count as nothing; `failed` is the number of such pairs.
  """
  judged = _judged(counts)
  resampled = resampling.draws(len(judged), metrics.RESAMPLES, 0) @ judged if judged.size else None
  return metrics.of_counts(judged.sum(axis=0).tolist(), failed, resampled)


def describe(counts: Tally) -> Mapping[str, float | int | None]:
  """Returns the statistics that tests need of a tally in which something was judged.

  Prompt b has n_b outcomes, of which Δ_b = wins − losses; e_b = Δ_b − Δ n_b sum to 0, and the
  variance of Δ is Σ_b e_b² / n² (a ratio of sums, linearised), which for independent outcomes were
  (win + lose − Δ²) / n.

  Returns:
    `prompts`, B; on how many wins were more (`won`) or fewer (`lost`) than losses;
    `standard_error` of the win rate, in percent points, with B − 1 for B (None of one prompt); and
    the `inflation`, by how much the variance exceeds that of independent outcomes. Where no two
    outcomes differ it is not known, and taken as that of prompts whose outcomes always agree.
  """
  judged = _judged(counts)
  sizes = judged.sum(axis=1)
  summed = judged[:, 0] - judged[:, 1]
  count = len(judged)
  n = int(sizes.sum())
  delta = summed.sum() / n
  scatter = ((summed - delta * sizes) ** 2).sum()

  variance = judged[:, :2].sum() / n - delta**2
  # 50 and not 100: a win rate is (100 + Δ) / 2.
  error = float(50 * np.sqrt(count / (count - 1) * scatter) / n) if count > 1 else None
  return {
    "prompts": count,
    "won": int((summed > 0).sum()),
    "lost": int((summed < 0).sum()),
    "standard_error": error,
    "inflation": float(scatter / (n * variance)) if scatter > 0 else n / count,
  }


def _judged(counts: Tally) -> np.ndarray:
  counts = np.asarray(counts)
  return counts[counts.sum(axis=1) > 0]
