"""Reward against KL along training, and where more of it began to harm.

Every checkpoint answers the same prompts, so changes between two are measured prompt by prompt. Of
the prompts only moments are kept: they say all that the tests need, and those of several runs join
as though all prompts had been one experiment.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Real

from pit_jax.statistics import resampling

LEVEL = 0.05  # of all intervals of a chain together
RESAMPLES = 2000

Values = Real[Array | np.ndarray, "K B"]  # of K checkpoints, in order, on B prompts


def moments(values: Values) -> dict:
  """Returns `n`, the `mean` of every checkpoint, and their `covariance` over the prompts.

  Raises:
    ValueError: if there are fewer than two prompts.
  """
  values = np.asarray(values, np.float64)
  if values.shape[1] < 2:
    raise ValueError(f"an interval needs at least 2 prompts, got {values.shape[1]}")
  covariance = np.atleast_2d(np.cov(values))
  return {"n": values.shape[1], "mean": values.mean(axis=1), "covariance": covariance}


def join(parts: Sequence[Mapping]) -> dict:
  """Returns the moments of the same checkpoints on the prompts, all different, of several parts.

  (n − 1) C = Σ_i (n_i − 1) C_i + n_i (m_i − m)(m_i − m)ᵀ        (Chan et al. 1979)
  """
  counts = np.array([part["n"] for part in parts])
  means = np.array([part["mean"] for part in parts])
  mean = counts @ means / counts.sum()
  apart = means - mean
  scatter = (counts[:, None, None] * apart[:, :, None] * apart[:, None, :]).sum(axis=0)
  scatter += sum((part["n"] - 1) * np.array(part["covariance"]) for part in parts)

  return {"n": int(counts.sum()), "mean": mean, "covariance": scatter / (counts.sum() - 1)}


def average(parts: Sequence[Mapping]) -> dict:
  """Returns moments of the mean over several parts: the same checkpoints on the same prompts.

  Var(a · mean_i X_i) ≤ mean_i Var(a · X_i) for any contrast a of the checkpoints, whatever the
  parts have in common, so the covariance is the mean of theirs: no interval is too narrow, and
  those of parts that differ are wider than they had to be.
  """
  means = {key: np.mean([part[key] for part in parts], axis=0) for key in ("mean", "covariance")}
  return {"n": parts[0]["n"], **means}


def intervals(known: Mapping, level: float = LEVEL) -> list[tuple[float, float]]:
  """Returns Student's t interval of each checkpoint's mean, at the level of each alone."""
  return _around(known["mean"], np.diag(known["covariance"]), known["n"], level)


def changes(known: Mapping, level: float = LEVEL) -> tuple[list[float], list[tuple[float, float]]]:
  """Returns the change from each earlier checkpoint to the last, and paired t intervals of each."""
  mean = np.array(known["mean"])
  covariance = np.array(known["covariance"])
  change = mean[-1] - mean[:-1]

  # Of differences on the same prompts, which rounding may take below 0.
  variances = np.diag(covariance)[:-1] + covariance[-1, -1] - 2 * covariance[-1, :-1]
  return change.tolist(), _around(change, variances.clip(min=0), known["n"], level)


def knee(kl: Mapping, proxy: Mapping, judge: Mapping) -> dict:
  """Looks for over-optimisation: a checkpoint since which the judge fell while the proxy rose.

  Every earlier checkpoint of less KL than the last is compared with it. It is a candidate if the
  judge's change lies below 0 and the proxy's above 0, with intervals that hold at 95% for all
  these checkpoints together (Bonferroni): a highest of several noisy means is none yet. The knee
  is the candidate that the judge puts highest.

  Args:
    kl: moments of the KL to the SFT model, in nats per response; the first checkpoint has 0.
    proxy: of the reward that training maximises.
    judge: of a score that training does not see.

  Returns:
    `since`: every such checkpoint's `index`, with the `judge` and `proxy` change to the last one
    and their `judge_ci95` and `proxy_ci95`; and the `knee`, None where there is none, with its
    `index`, its `kl`, and as `ci95` the KL of the candidates that the judge may put highest, from
    normal draws of their means.
  """
  distance = np.array(kl["mean"])
  earlier = np.flatnonzero(distance[:-1] < distance[-1])
  if not earlier.size:
    return {"since": [], "knee": None}
  level = LEVEL / earlier.size
  moved = {"judge": changes(judge, level), "proxy": changes(proxy, level)}

  since: list[dict[str, Any]] = [
    {
      "index": int(index),
      **{name: change[index] for name, (change, _) in moved.items()},
      **{f"{name}_ci95": bounds[index] for name, (_, bounds) in moved.items()},
    }
    for index in earlier
  ]

  bent = [row["index"] for row in since if row["judge_ci95"][1] < 0 < row["proxy_ci95"][0]]
  if not bent:
    return {"since": since, "knee": None}
  best = max(bent, key=lambda index: judge["mean"][index])

  # One seed for all, so that a report made again has the same interval.
  generator = np.random.default_rng(0)
  spread = np.array(judge["covariance"])[np.ix_(bent, bent)] / judge["n"]
  means = generator.multivariate_normal(np.array(judge["mean"])[bent], spread, RESAMPLES)
  bounds = resampling.middle(distance[bent][means.argmax(axis=1)])
  place = {"index": best, "kl": float(distance[best]), "ci95": bounds}
  return {"since": since, "knee": place}


def _around(mean, variances, n: int, level: float) -> list[tuple[float, float]]:
  half = scipy.special.stdtrit(n - 1, 1 - level / 2) * np.sqrt(variances / n)
  return list(zip((mean - half).tolist(), (mean + half).tolist(), strict=True))
