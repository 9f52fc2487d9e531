"""Metrics of a run's answers: comparisons with intervals, calibration, gap order.

Everything here works on finished scores, one per prompt, on the host. Percentages lie in
[0, 100], differences of percentages in [−100, 100].
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Bool, Int, Num, Real

from pit_jax.statistics import resampling

Values = Real[Array | np.ndarray, " B"]
Labels = Num[Array | np.ndarray, " B"] | Bool[Array | np.ndarray, " B"]

RESAMPLES = 2000  # of the bootstrap
GAPS = ("wl", "ww", "ll", "lw")  # r(x, y1, y2) with w the preferred and l the other response


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Win, loss and tie rates of system a against b on the same prompts, in percent; NaN of none."""

  n: int  # prompts
  win: float
  lose: float
  tie: float
  delta: float  # win − lose
  ci95: tuple[float, float]  # of delta
  failed: int = 0  # prompts that could not be judged; they are not among the n
  outcomes: str = ""  # per prompt, in order: (w)in, (l)ose, (t)ie or (f)ailed; "" where not kept


def compare(
  scores_a: Values,
  scores_b: Values,
  *,
  tie: float | int = 1e-9,
  failed: int = 0,
  resamples: int = RESAMPLES,
  seed: int = 0,
) -> Comparison:
  """Counts on how many prompts a scores above b, with a bootstrap interval for the difference.

  Δ = 100 · (#{a > b} − #{a < b}) / n        (the Δ of Wang et al. 2023, table 1)

  The interval resamples prompts, keeping the two scores of a prompt together. Where every prompt
  has the same outcome the resamples all agree and the interval has no width.

  Args:
    scores_a: score of a's response, one per prompt, higher is better.
    scores_b: score of b's response to the same prompts in the same order.
    tie: scores no further apart than this count as equal; at least 0.
    failed: further prompts that have no scores; where there are any, they may be all.
    resamples: bootstrap samples, at least 1; the same `seed` gives the same interval.

  Raises:
    ValueError: if the lengths differ, there is no prompt, or a score is not finite.
  """
  if failed and not len(scores_a) and not len(scores_b):
    return _from_counts((0, 0, 0), failed, resamples, seed)
  scores_a, scores_b = _columns(scores_a=scores_a, scores_b=scores_b)
  difference = scores_a - scores_b
  wins = int((difference > tie).sum())
  losses = int((difference < -tie).sum())
  ties = difference.size - wins - losses
  return _from_counts((wins, losses, ties), failed, resamples, seed)


def pool(comparisons: Sequence[Comparison | Mapping]) -> Comparison:
  """Joins comparisons of the same two systems, as though all prompts had been one experiment.

  A comparison depends on its prompts only through the three counts, so those are added and the
  bootstrap runs over all prompts. The interval tells how sure we are about *these* trained
  models; it does not cover models from other seeds.

  Args:
    comparisons: results of `compare`, or their records as in results.json (n, win, lose, failed),
      each with prompts of its own: of the same prompts the interval would be too narrow.

  Raises:
    ValueError: if there is nothing to pool, or a record's percentages are no counts of its n.
  """
  if not comparisons:
    raise ValueError("nothing to pool: got an empty list of comparisons; give at least one")
  records = [dict(row) if isinstance(row, Mapping) else vars(row) for row in comparisons]
  counts = np.sum([_counts(record) for record in records], axis=0).tolist()
  return _from_counts(counts, sum(record.get("failed", 0) for record in records))


def expected_calibration_error(margins: Values, labels: Labels, bins: int = 10) -> float:
  """Returns the expected calibration error of a reward model's confidence, 0 at best.

  ECE = Σ_b n_b/n · |accuracy_b − confidence_b|        (Guo et al. 2017, eq. 5)

  The model prefers the response its margin points to, with confidence σ(|margin|) in [0.5, 1]; so
  the figure does not depend on which response of a pair was written first. A margin of exactly 0
  is right half of the time.

  Args:
    margins: reward of the first response minus reward of the second, in nats.
    labels: 1 or True where the first response is the preferred one, else 0 or False.
    bins: equal-width bins over [0.5, 1].

  Raises:
    ValueError: if the lengths differ, there is no pair, or a value is not finite.
  """
  margins, labels = _columns(margins=margins, labels=labels)
  confidence = scipy.special.expit(np.abs(margins))
  correct = np.where(margins == 0, 0.5, (margins > 0) == (labels > 0.5))

  # A confidence of exactly 1 belongs to the last bin.
  bin_of = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
  surplus = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
  return float(np.abs(surplus).sum() / margins.size)


def sign_agreement(
  gains: Values, gold_differences: Values, *, tie: float | int = 1e-9
) -> dict[str, float | int | None]:
  """Counts how often a gap reward points the way the gold score moved.

  Args:
    gains: what y1 gains over y2 by the gap reward, 0 where it is no better; see `gains.of`.
    gold_differences: gold(y1) − gold(y2) of the same pairs.
    tie: pairs whose gold differs by no more than this say nothing and are left out.

  Returns:
    `fraction` in [0, 1] (a gain of 0 counts one half; None of tied pairs alone), and of `n` pairs.
  """
  gains, gold = _columns(gains=gains, gold_differences=gold_differences)
  signs = np.sign(gains) * np.sign(gold)
  signs = signs[np.abs(gold) > tie]
  return {"fraction": float((1 + signs).mean() / 2) if signs.size else None, "n": signs.size}


def gap_order(wl: Values, ww: Values, ll: Values, lw: Values) -> dict[str, float | bool]:
  """Checks on held-out pairs that the gap rewards have the order they were trained for.

  r(w,l) ≥ r(w,w) ≈ r(l,l) ≥ r(l,w)        (Wang et al. 2023, eq. 1)

  Here `wl` is r(x, y_w, y_l), one per pair: the better response, the worse as reference.

  Returns:
    The mean of each, `accuracy` (fraction of pairs with r(w,l) > r(l,w)) and `holds`: whether the
    means are in this order, "≈" meaning |ww − ll| < (wl − lw) / 4.
  """
  columns = _columns(wl=wl, ww=ww, ll=ll, lw=lw)
  means = {name: float(gaps.mean()) for name, gaps in zip(GAPS, columns, strict=True)}
  ordered = means["wl"] >= max(means["ww"], means["ll"])
  ordered &= min(means["ww"], means["ll"]) >= means["lw"]
  near = abs(means["ww"] - means["ll"]) < 0.25 * (means["wl"] - means["lw"])
  accuracy = float((columns[0] > columns[3]).mean())
  return {**means, "accuracy": accuracy, "holds": bool(ordered and near)}


def repetition(responses: Sequence[Sequence[Hashable]], order: int = 3) -> float:
  """Returns the mean fraction of n-grams that stood earlier in the same response.

  They are sequences of token ids or words. One that is shorter than n, the order, repeats nothing.

  Raises:
    ValueError: if no response is given.
  """
  if not responses:
    raise ValueError("repetition of no responses: give at least one")
  return float(np.mean([_repeated(response, order) for response in responses]))


def _repeated(response: Sequence[Hashable], order: int) -> float:
  total = len(response) - order + 1
  grams = {tuple(response[i : i + order]) for i in range(total)}
  return 1 - len(grams) / total if grams else 0.0


def _from_counts(
  counts: Sequence[int], failed: int, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
  # Drawing n prompts with replacement and counting outcomes is one multinomial draw, so no
  # resample ever touches the prompts themselves.
  n = sum(counts)
  shares = np.array(counts) / max(n, 1)
  return of_counts(counts, failed, np.random.default_rng(seed).multinomial(n, shares, resamples))


def of_counts(
  counts: Sequence[int], failed: int, resampled: Int[np.ndarray, "S 3"] | None
) -> Comparison:
  """Returns the comparison of so many wins, losses and ties, and of the same in each resample."""
  n = sum(counts)
  unknown = float("nan")
  if resampled is None or not n:
    return Comparison(0, unknown, unknown, unknown, unknown, (unknown, unknown), failed)
  win, lose, tie = (100 * count / n for count in counts)
  deltas = 100 * (resampled[:, 0] - resampled[:, 1]) / resampled.sum(axis=1)
  bounds = resampling.interval(deltas) or (unknown, unknown)
  return Comparison(n, win, lose, tie, 100 * (counts[0] - counts[1]) / n, bounds, failed)


def _counts(record: Mapping) -> tuple[int, int, int]:
  if not record["n"]:
    return 0, 0, 0
  exact = [record["n"] * record[outcome] / 100 for outcome in ("win", "lose")]
  wins, losses = (round(count) for count in exact)

  # A percentage kept to three decimals still names one count for up to 50,000 prompts.
  if max(abs(wins - exact[0]), abs(losses - exact[1])) > 0.25:
    raise ValueError(
      f"win {record['win']}% and lose {record['lose']}% are not counts of {record['n']} prompts; "
      "store percentages with at least three decimals"
    )

  return wins, losses, record["n"] - wins - losses


def _columns(**columns: Labels) -> list[np.ndarray]:
  """Returns columns of the same pairs as numbers, or says what is wrong with one."""
  numbers = {name: np.asarray(values, np.float64) for name, values in columns.items()}
  for name, values in numbers.items():
    if not values.size:
      raise ValueError(f"{name} is empty; at least one value is needed")

    if bad := int((~np.isfinite(values)).sum()):
      raise ValueError(f"{bad} of {values.size} values of {name} are not finite; repair the scorer")

  if len({values.size for values in numbers.values()}) > 1:
    counts = ", ".join(f"{name} {values.size}" for name, values in numbers.items())
    raise ValueError(f"lengths differ: {counts}; give one value per prompt, in the same order")
  return list(numbers.values())
