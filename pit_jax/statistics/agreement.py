"""Agreement of two judges: Cohen's κ of outcomes of comparisons, Kendall's τ of scores."""

import dataclasses

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Float, Num

from pit_jax.statistics import resampling

# C comparisons of B prompts: 1 won, 0 tied, −1 lost, NaN not judged.
Outcomes = Num[Array | np.ndarray, "C B"]


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Two judges on the same comparisons."""

  n: int  # outcomes
  agreement: float  # percent of outcomes that are the same
  decided: float | None  # the same, of those where neither judge sees a tie; None: there are none
  kappa: float | None  # in [−1, 1]; None where both judges only ever say one thing
  ci95: tuple[float, float] | None  # of kappa


def compare(
  first: Outcomes, second: Outcomes, *, resamples: int = 1000, seed: int = 0
) -> Agreement:
  """Returns the agreement of two judges on comparisons, plainly and beyond chance.

  κ = (p_o − p_e) / (1 − p_e)        (Cohen 1960)

  with p_o the share of equal outcomes and p_e what independent judges with the same habits would
  reach. Outcomes are wins, ties and losses; a judge that never ties cannot agree on ties. The
  interval is of at least 1 bootstrap sample over prompts, each with all its comparisons. What
  either judge did not judge is no part of it.

  Raises:
    ValueError: if there is nothing to compare or the shapes differ.
  """
  first, second = (np.sign(np.asarray(outcomes, float)) for outcomes in (first, second))
  is_known = np.isfinite(first) & np.isfinite(second) if first.shape == second.shape else None
  if is_known is None or not is_known.any():
    raise ValueError(
      f"outcomes of shapes {first.shape} and {second.shape}; give both judges' of the same "
      "comparisons, at least one that both judged"
    )

  # A number for each pair of outcomes: 0, 4 and 8 are the same twice, −1 was not judged.
  cells = np.where(is_known, 3 * (first + 1) + second + 1, -1)
  counts = np.stack([(cells == cell).sum(axis=0) for cell in range(9)], axis=1)
  table = counts.sum(axis=0)
  weights = resampling.weights(first.shape[1], resamples, seed)
  kappa, ci95 = resampling.estimate(_kappa(weights @ counts))

  # The corners of the table, where neither judge sees a tie.
  decided = int(table[[0, 2, 6, 8]].sum())
  return Agreement(
    n=int(is_known.sum()),
    agreement=100 * int(table[[0, 4, 8]].sum()) / int(is_known.sum()),
    decided=100 * int(table[[0, 8]].sum()) / decided if decided else None,
    kappa=kappa if np.isfinite(kappa) else None,
    ci95=ci95,
  )


def kendall(
  first: Float[np.ndarray, " B"],
  second: Float[np.ndarray, " B"],
  *,
  resamples: int = 1000,
  seed: int = 0,
) -> tuple[float | None, tuple[float, float] | None]:
  """Returns Kendall's τ_b of two judges' scores of the same answers, and its 95% interval.

  τ_b = (C − D) / √((P − T_1)(P − T_2))        (Kendall 1945)

  with C and D the pairs of answers that the judges order alike and otherwise, P all pairs, and T_i
  those that judge i does not order. The interval is of at least 1 bootstrap sample over answers.
  Both are None where a judge gives all answers the same score.
  """
  tau = float(scipy.stats.kendalltau(first, second).statistic)
  if not np.isfinite(tau):
    return None, None
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(resamples):
    drawn = rng.integers(len(first), size=len(first))
    values.append(scipy.stats.kendalltau(first[drawn], second[drawn]).statistic)
  return tau, resampling.interval(np.array(values))


def _kappa(tables: Float[np.ndarray, "S 9"]) -> Float[np.ndarray, " S"]:
  """Returns κ of 3 × 3 tables of counts, NaN where chance alone agrees always."""
  with np.errstate(divide="ignore", invalid="ignore"):
    shares = (tables / tables.sum(axis=1, keepdims=True)).reshape(-1, 3, 3)
    observed = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
