"""Accuracy and calibration of a reward model, by how sure it is."""

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Bool, Num, Real

from pit_jax.statistics import metrics, resampling

Margins = Real[Array | np.ndarray, " B"]
Labels = Num[Array | np.ndarray, " B"] | Bool[Array | np.ndarray, " B"]


def wilson(share: float | int, trials: float | int) -> tuple[float, float]:
  """Returns the 95% interval of a share (Wilson 1927), sound for few trials and shares near 0 or 1.

  The share, in [0, 1], is of trials that succeeded (ties count one half); of trials that depend on
  each other there is the effective number, above 0.
  """
  z2 = resampling.Z**2
  centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
  spread = share * (1 - share) / trials + z2 / (4 * trials**2)
  half = resampling.Z * np.sqrt(spread) / (1 + z2 / trials)

  # At shares of 0 and 1 a bound is the share itself, but for rounding.
  return max(0.0, min(float(centre - half), share)), min(1.0, max(float(centre + half), share))


def describe(margins: Margins, labels: Labels) -> dict:
  """Returns the accuracy of margins against labels, and how honest their size is.

  Args:
    margins: reward of the first response less that of the second, in nats.
    labels: 1 where the first is the better one, else 0.

  Returns:
    `n`, `accuracy` in [0, 1] (a margin of 0 is half right) with `ci95`, the mean |`margin`| in
    nats, and `ece`, see `metrics.expected_calibration_error`.
  """
  figures = _of(*_sized(margins, labels))
  return figures | {"ece": metrics.expected_calibration_error(margins, labels)}


def by_size(margins: Margins, labels: Labels, groups: int = 5) -> list[dict]:
  """Returns the accuracy in groups of like |margin|, smallest first.

  The groups are of as equal a number of pairs as there can be; none is empty. Of each there are
  `low` and `high`, its least and its largest |margin| in nats, `confidence`, the mean of
  σ(|margin|), and what `describe`, which takes the same, says but `ece`.
  """
  size, right = _sized(margins, labels)
  parts = np.array_split(np.argsort(size, kind="stable"), groups)
  return [
    {
      "low": float(size[group].min()),
      "high": float(size[group].max()),
      "confidence": float(scipy.special.expit(size[group]).mean()),
      **_of(size[group], right[group]),
    }
    for group in parts
    if group.size
  ]


def _sized(margins: Margins, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
  """Returns the sizes of margins, and which have the label's sign; a margin of 0 is half right."""
  margins = np.asarray(margins, np.float64)
  labels = np.asarray(labels)
  if not margins.size or margins.size != labels.size:
    raise ValueError(
      f"{margins.size} margins with {labels.size} labels; give one of each per pair, at least one"
    )

  return np.abs(margins), np.where(margins == 0, 0.5, (margins > 0) == (labels > 0.5))


def _of(size: np.ndarray, right: np.ndarray) -> dict:
  accuracy = float(right.mean())
  interval = wilson(accuracy, size.size)
  return {"n": size.size, "accuracy": accuracy, "ci95": interval, "margin": float(size.mean())}
