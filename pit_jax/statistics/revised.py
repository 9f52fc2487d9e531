"""Whether what is preferred makes revisions better: the filter of MARV, of scores alone."""

import numpy as np
from jaxtyping import Bool, Float


def gains(
  chosen: Float[np.ndarray, "N r s"], rejected: Float[np.ndarray, "N r s"]
) -> Float[np.ndarray, " N"]:
  """Returns by how much revisions made from the chosen text are better, on average.

  gain_i = mean_{r,s} chosen_irs − mean_{r,s} rejected_irs

  (Lan et al. 2024, arXiv 2410.15287: MARV, multi-agent revision validation, of r revisers with s
  samples each)

  Args:
    chosen: the score of each revision; NaN of one that failed, which does not count.
    rejected: of those made from the other text.

  Returns:
    The gains, in the unit of the scores; NaN of a pair of which one side has no revision.
  """
  return _means(chosen) - _means(rejected)


def kept(
  chosen: Float[np.ndarray, "N r s"],
  rejected: Float[np.ndarray, "N r s"],
  margin: float | int = 0.0,
) -> Bool[np.ndarray, " N"]:
  """Returns which pairs are kept: those whose gain is more than a margin; see `gains`.

  Pairs without a gain are not.
  """
  return gains(chosen, rejected) > margin


def at_random(share: Bool[np.ndarray, " N"], seed: int) -> Bool[np.ndarray, " N"]:
  """Returns as many pairs as others keep, drawn at random: what a filter is compared with."""
  return np.random.default_rng(seed).permutation(share)


def _means(scores: Float[np.ndarray, "N r s"]) -> Float[np.ndarray, " N"]:
  is_scored = np.isfinite(scores)
  counts = is_scored.sum(axis=(1, 2))
  totals = np.where(is_scored, scores, 0.0).sum(axis=(1, 2))
  return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
