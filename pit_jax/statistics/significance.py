"""Significance of comparisons: sign tests, corrected for their number, and power.

On a prompt a wins, b wins, or they tie. Shares and Δ are fractions of prompts in this file's
formulas and percent in its arguments and results.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Real

from pit_jax.statistics import winrates

LEVEL = 0.05  # of a two-sided test
POWER = 0.8  # the chance to find a difference that is there
DELTAS = (2, 5, 10, 20)  # percent


def sign_test(wins: int, losses: int) -> float:
  """Returns the two-sided p-value of "neither wins more prompts", exact; ties say nothing of it."""
  return float(scipy.stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def p_value(comparison: Mapping) -> float:
  """Returns the p-value of a row's sign test; where seeds repeat prompts, of one trial per prompt.

  The row is one of results.json in which something was judged.
  """
  if repeated := comparison.get("repeated"):
    return sign_test(repeated["won"], repeated["lost"])
  n = comparison["n"]
  return sign_test(*(round(n * comparison[outcome] / 100) for outcome in ("win", "lose")))


def holm(p_values: Real[Array | np.ndarray, " K"]) -> np.ndarray:
  """Returns p-values corrected for their number, Float[K] (Holm 1979).

  p̃_(i) = max_{j ≤ i} min(1, (K − j + 1) · p_(j)) over the sorted p-values. Rejecting where
  p̃ ≤ α, the chance of even one false rejection is at most α, however the tests depend on
  each other. They are those of all tests that are read together.
  """
  values = np.asarray(p_values, np.float64)
  order = np.argsort(values, kind="stable")
  raised = np.minimum(1.0, values[order] * np.arange(values.size, 0, -1))
  corrected = np.empty_like(values)

  # No larger p-value may end below a smaller one.
  corrected[order] = np.maximum.accumulate(raised)
  return corrected


def over_seeds(
  deltas: Real[Array | np.ndarray, " S"],
  shared_error: float | int = 0.0,
  own_error: float | int = 0.0,
) -> dict[str, float | int | tuple[float, float]]:
  """Returns the t interval of Δ over seeds: where further training runs lie on average.

  Δ̄ ± t √(max(s² / S, o²) + e²)        t of S − 1 degrees of freedom, s² over S − 1

  Seeds that each judge prompts of their own differ by the prompts too, so that s knows of both.
  Of few seeds s may be small by chance, and even 0: it counts for no less than what the choice of
  prompts alone makes of it, o. What is common to seeds that judge the same prompts is in no s, and
  is added as e.

  Args:
    deltas: Δ of every seed, in percent; at least 2.
    shared_error: e, the standard error of Δ̄ over the choice of prompts that seeds share, in percent
      points.
    own_error: o, that over the choice of each seed's own prompts, as `own_error` returns it.

  Returns:
    The number of `seeds`, their mean `delta`, its `standard_error` in percent points, `ci95`, and
    `p` of "the mean over all seeds is 0", two-sided.
  """
  values = np.asarray(deltas, np.float64)
  if values.size < 2:
    raise ValueError(f"an interval over seeds needs at least 2 of them, got {values.size}")
  mean = float(values.mean())
  degrees = values.size - 1
  error = float(np.hypot(max(scipy.stats.sem(values), own_error), shared_error))
  half = float(scipy.stats.t.ppf(1 - LEVEL / 2, degrees)) * error
  estimate = {"seeds": values.size, "delta": mean, "standard_error": error}

  return {**estimate, "ci95": (mean - half, mean + half), "p": p_over_seeds(estimate)}


def own_error(comparisons: Sequence[Mapping]) -> float:
  """Returns the standard error of the seeds' mean Δ over the choice of prompts, in percent points.

  √(Σ_s v_s / n_s) / S, where v is the variance of win − lose, over n − 1; of equal seeds it is the
  standard error of one seed's Δ, over √S. A seed of a single prompt adds nothing. Every seed has a
  comparison of prompts of its own, with `n`, `win` and `lose`.
  """
  errors = [  # a win rate is (100 + Δ) / 2
    2 * winrates.from_percentages(row["n"], row["win"], row["lose"]).standard_error
    for row in comparisons
    if row["n"] > 1
  ]

  return math.hypot(*errors) / len(comparisons)


def p_over_seeds(found: Mapping, delta: float | int = 0.0) -> float:
  """Returns the two-sided p-value of "the mean over all seeds is this Δ", in percent.

  Of what `over_seeds` found, `seeds`, `delta` and `standard_error` count. Where neither the seeds
  nor any of their prompts differ, the prompts' own test decides.
  """
  distance = abs(found["delta"] - delta)
  if not found["standard_error"]:
    return 0.0 if distance else 1.0
  return float(2 * scipy.stats.t.sf(distance / found["standard_error"], found["seeds"] - 1))


def prompts_needed(delta: float | int, decided: float | int) -> int:
  """Returns the sample size: prompts that find a Δ in 80% of experiments, at the 5% level.

  n = ((z_{1−α/2} √d + z_{power} √(d − Δ²)) / Δ)²        (Connor 1987, paired comparisons)

  Args:
    delta: Δ = win − lose, in percent, not 0.
    decided: d = win + lose, in percent; at least |Δ|. Few ties mean many prompts.

  Raises:
    ValueError: if no comparison can have these figures.
  """
  difference = abs(delta) / 100
  share = decided / 100
  if not 0 < difference <= share <= 1:
    raise ValueError(
      f"Δ {delta} with {decided}% of prompts decided: use 0 < |Δ| ≤ decided ≤ 100, in percent"
    )

  z_level, z_power = scipy.special.ndtri([1 - LEVEL / 2, POWER])
  spread = z_level * math.sqrt(share) + z_power * math.sqrt(share - difference**2)
  return math.ceil((spread / difference) ** 2)


def detectable(prompts: int, decided: float | int) -> float | None:
  """Returns the smallest Δ, in percent, that n ≥ 1 prompts find in 80% of experiments.

  It is the Δ for which `prompts_needed` is n, to a tenth; None where even a comparison that one
  side wins whenever it is decided (win + lose, in percent) needs more prompts.
  """
  tenths = range(1, math.floor(10 * decided) + 1)
  return next((t / 10 for t in tenths if prompts_needed(t / 10, decided) <= prompts), None)


def power(comparison: Mapping) -> dict:
  """Returns the power of a row of results.json: prompts that so many ties need for a given Δ.

  That is who was compared under which judge, `n`, `decided` in percent, the `detectable` Δ, and
  `needed`: [{delta, prompts}] for some Δ that such a comparison can have. Where several seeds
  judged the same prompts, prompts that all of them judge are counted.
  """
  decided = min(comparison["win"] + comparison["lose"], 100.0)
  repeated = comparison.get("repeated")
  # How many prompts with all their outcomes tell as much as one independent outcome.
  each = repeated["inflation"] * repeated["prompts"] / comparison["n"] if repeated else 1.0
  return {
    **{key: comparison[key] for key in ("a", "b", "judge", "n")},
    "decided": decided,
    **({"repeated": repeated} if repeated else {}),
    "detectable": detectable(_independent(comparison), decided),
    "needed": [
      {"delta": delta, "prompts": math.ceil(prompts_needed(delta, decided) * each)}
      for delta in DELTAS
      if delta <= decided
    ],
  }


def annotate(comparisons: Sequence[Mapping]) -> list[dict]:
  """Returns comparisons with what their counts say: win rate, standard error, p-values, power.

  Args:
    comparisons: rows of results.json. Those of one judge (and seed) are read together, so
      `p_holm` is corrected for their number. A row of several seeds on the same prompts says in
      `repeated` what `repeated.describe` returns: a prompt is then one trial of the sign test,
      which the side has that won it more often.

  Returns:
    The rows with `win_rate` and `standard_error` (None for a single prompt), `p`, `p_holm`, and
    `detectable`, the smallest Δ that so many prompts find in 80% of experiments. A comparison in
    which nothing was judged has None of each, and no `p_holm`.
  """
  rows = [{**row, **_of_counts(row)} for row in comparisons]
  families: dict[tuple, dict[tuple, list[dict]]] = {}
  for row in (row for row in rows if row["n"]):
    # A pair that is also there turned around is one test.
    test = (frozenset((row["a"], row["b"])), row.get("temperature"), row.get("experiment"))
    family = families.setdefault((row["judge"], row.get("seed")), {})
    family.setdefault(test, []).append(row)

  for family in families.values():
    corrected = holm(np.array([same[0]["p"] for same in family.values()]))
    for same, value in zip(family.values(), corrected.tolist(), strict=True):
      for row in same:
        row["p_holm"] = value

  return rows


def _of_counts(row: Mapping) -> dict:
  n, win, lose = (row[key] for key in ("n", "win", "lose"))
  if not n:
    return dict.fromkeys(("win_rate", "standard_error", "p", "detectable"))

  # A standard error needs two prompts.
  rate = vars(winrates.from_percentages(n, win, lose)) if n > 1 else {}
  return {
    "win_rate": rate.get("win_rate"),
    "standard_error": row.get("repeated", rate).get("standard_error"),
    "p": p_value(row),
    "detectable": detectable(_independent(row), min(win + lose, 100.0)),
  }


def _independent(row: Mapping) -> int:
  """Returns the effective sample size: independent outcomes that tell as much as those of a row."""
  repeated = row.get("repeated")
  return max(1, int(row["n"] / repeated["inflation"])) if repeated else row["n"]
