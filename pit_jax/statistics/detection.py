"""How rightly flaws are named: precision, recall and F1, over letters with several checks each."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pit_jax.statistics import resampling

Named = Bool[np.ndarray, "B C"]
RESAMPLES = 1_000


def describe(named: Named, failed: Named, classes: tuple[str, ...], *, seed: int = 0) -> dict:
  """Returns precision, recall and F1 of what is named, over all classes together and of each.

  F1 = 2·hits / (named + failed), counted over all letters; of a class or a set in which nothing is
  named and nothing has failed it is None.

  Args:
    named: of each letter, which classes of flaws a critic names.
    failed: of each letter, which there are.
    classes: their names.
    seed: of the bootstrap over letters.

  Returns:
    `precision`, `recall`, `f1`, `f1_ci95`, and `parts`, class → its F1.
  """
  hits = (named & failed).astype(float)
  counts = [hits, named.astype(float), failed.astype(float)]
  told: dict[str, Any] = dict.fromkeys(("precision", "recall", "f1", "f1_ci95"))
  told["parts"] = {
    name: _f1(*(count[:, place].sum() for count in counts)) for place, name in enumerate(classes)
  }
  if not len(named):
    return told

  whole = [count.sum(axis=1) for count in counts]
  total_hits, total_named, total_failed = (float(count.sum()) for count in whole)
  told["precision"] = total_hits / total_named if total_named else None
  told["recall"] = total_hits / total_failed if total_failed else None
  weights = resampling.weights(len(named), RESAMPLES, seed)
  sums = [weights @ count for count in whole]
  with np.errstate(invalid="ignore"):
    estimate, interval = resampling.estimate(2 * sums[0] / (sums[1] + sums[2]))
  told["f1"] = None if np.isnan(estimate) else estimate
  told["f1_ci95"] = None if interval is None else list(interval)
  return told


def each(named: Named, failed: Named) -> Float[np.ndarray, " B"]:
  """Returns the F1 of what is named in each letter; 1 where nothing is named and nothing failed."""
  hits = (named & failed).sum(axis=1)
  both = named.sum(axis=1) + failed.sum(axis=1)
  return np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)


def _f1(hits: float, named: float, failed: float) -> float | None:
  return float(2 * hits / (named + failed)) if named + failed else None
