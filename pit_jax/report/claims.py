"""Which claims about a method hold in a run, in words that an interval bears out.

A method states what it claims, as that one system beats another or is ahead of it by so much at
most; comparisons of the results test it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # its parts are imported when they are used

from pit_jax.report import verdict
from pit_jax.statistics import resampling, significance

# An expectation is what a method rests on and its paper does not test.
PAPER = "paper's claim"
EXPECTED = "expectation"
HOLDS = "holds"
HERE = "for these models"
OPPOSITE = "the opposite"
OPPOSITE_HERE = "the opposite for these models"
NOT_SHOWN = "not shown"
NOT_TESTED = "not tested"
SAID = {
  HOLDS: "holds over the seeds of this run",
  HERE: "holds for these models",
  OPPOSITE: "is contradicted over the seeds of this run",
  OPPOSITE_HERE: "is contradicted for these models",
  NOT_SHOWN: "is not borne out by this run",
  NOT_TESTED: "was not tested",
}
WORDS = {1: (HOLDS, HERE), -1: (OPPOSITE, OPPOSITE_HERE)}  # by direction: over seeds, or here alone


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim, and what a run says of it."""

  statement: str  # from its kind on, as "paper's claim that …"
  outcome: str  # of SAID
  grounds: str  # the figures that decided, or why there are none

  @property
  def sentence(self) -> str:
    """The claim, its outcome and the grounds as one sentence."""
    return f"The {self.statement} {SAID[self.outcome]}: {self.grounds}."


@dataclasses.dataclass(frozen=True)
class Stated:
  """A claim that system a beats system b, or that it is ahead of it by so much at most."""

  a: str
  b: str
  statement: str
  kind: str = PAPER
  is_at_best: bool = False  # each system at its best temperature
  without: tuple[str, ...] = ()  # judges who have no say
  judge: str = ""  # who alone has a say; "": the one believed most
  # Δ of a over b in percent that it is claimed to be below, as the least and the most that this
  # bound may be where it was measured itself; None: the claim is that a beats b.
  at_most: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Test:
  """A comparison that is to say whether a surely beats b by more than some Δ, or b beats a."""

  statement: str
  row: Mapping
  alone: Sequence[Mapping] = ()  # the same of each seed
  beyond: tuple[float, float] = (0.0, 0.0)  # that Δ, in percent: the least and the most it may be
  wanted: int = 1  # 1 where it is claimed to be more than that, −1 where it is to be less

  @property
  def p(self) -> float:
    """The p-value over prompts."""
    # The sign test knows of 0 alone: what is beyond some Δ is beyond 0 too, what is below need not.
    signs = significance.p_value(self.row) if self.wanted > 0 else 0.0
    low, high = self.row["ci95"]
    # Prompts of one outcome have an interval without width, which tells nothing by itself.
    if low == high:
      return signs or 1.0
    if not any(self.beyond) and self.wanted > 0:
      return signs

    # The interval is ± 1.96 standard errors.
    distance = abs(self.row["delta"] - self._nearest(self.row["delta"]))
    error = (high - low) / (2 * resampling.Z)
    return max(signs, float(2 * scipy.stats.norm.sf(distance / error)))

  @property
  def p_over_seeds(self) -> float:
    """The p-value over seeds; 1 where there is one seed only, which tells of no other."""
    over_seeds = self.row.get("over_seeds")
    if not over_seeds:
      return 1.0
    return significance.p_over_seeds(over_seeds, self._nearest(over_seeds["delta"]))

  def grounds(self, p: float) -> str:
    """Returns the figure that decided, at a p-value that is corrected."""
    return figure(self.row, p)

  def _nearest(self, delta: float) -> float:
    """Returns what a bound may be that is nearest to a Δ."""
    return min(max(delta, self.beyond[0]), self.beyond[1])

  def direction(self, bounds: Sequence[float], p: float) -> int:
    """Returns 1 or −1 for the side on which an interval lies where p agrees, else 0."""
    low, high = bounds
    least, most = self.beyond
    if p > significance.LEVEL:
      return 0
    return 1 if low > most else -1 if high < least else 0


@dataclasses.dataclass(frozen=True)
class Measured(Test):
  """A test of figures that are no comparisons: whether one is above another, or above a number.

  Its row has `delta`, `ci95` and, of several seeds, `over_seeds`, in the figures' own unit, and
  `said`, the two figures in words.
  """

  @property
  def p(self) -> float:
    """The p-value over prompts."""
    low, high = self.row["ci95"]
    if low == high:
      return 1.0
    error = (high - low) / (2 * resampling.Z)
    return float(2 * scipy.stats.norm.sf(abs(self.row["delta"]) / error))

  def grounds(self, p: float) -> str:
    """Returns both figures, their difference and its intervals."""
    told = f"95% interval {_ends(self.row['ci95'])}"
    if "over_seeds" in self.row:
      told += f", over seeds {_ends(self.row['over_seeds']['ci95'])}"
    low, high = self.row["ci95"]
    if low * high > 0 and p > significance.LEVEL:
      told += f"; p = {p:.2f} once corrected"
    return f"{self.row['said']}, {verdict.signed(self.row['delta'], 2)} ({told})"


def _ends(bounds: Sequence[float]) -> str:
  return " to ".join(verdict.signed(bound, 2) for bound in bounds)


def measured(
  statement: str,
  rows: Mapping[str, Mapping],
  a: str,
  b: str | float,
  name: str,
  *,
  kind: str = PAPER,
  what: str = "",
) -> list[Measured]:
  """Returns the test that a figure of row a is above that of row b, or above a number.

  The two are taken as independent, which is cautious for figures of the same prompts. There is no
  test, and the list is empty, where a figure or its interval is missing.

  Args:
    statement: what is claimed.
    rows: by what a and b are called, each with NAME, NAME_ci95 and, of several seeds,
      NAME_over_seeds, as `evaluate.seeds.rows` pools them; of `delta` these are `ci95` and
      `over_seeds`.
    a: the row whose figure is claimed to be higher.
    b: the other row, or a number that has no interval.
    name: of the figure.
    kind: PAPER or EXPECTED.
    what: the figure in words.
  """
  sides = [_figure_of(rows.get(side) if isinstance(side, str) else side, name) for side in (a, b)]
  if None in sides:
    return []
  (first, low, high, own), (second, least, most, other) = sides
  delta, half = first - second, float(np.hypot(high - low, most - least)) / 2
  row = {"delta": delta, "ci95": (delta - half, delta + half)}
  alone = []
  if own is not None and (other is not None or not isinstance(b, str)):
    deltas = np.array(own) - np.array(other if other is not None else second)
    row["over_seeds"] = significance.over_seeds(deltas, own_error=half / resampling.Z)
    # Of a single seed no interval is known, so that none stands against the others.
    alone = [{"delta": one, "ci95": (-np.inf, np.inf)} for one in deltas.tolist()]
  against = f"{b} {second:.3g}" if isinstance(b, str) else f"{b:g}"
  against = f"{b} {second:.3g}" if isinstance(b, str) else f"{b:g}"
  row["said"] = f"{what or name} of {a} {first:.3g} against {against}".replace("-", "−")
  return [Measured(f"{kind} that {statement}", row, alone)]


def _figure_of(row: Mapping | float | None, name: str) -> tuple | None:
  """Returns a figure, the ends of its interval, and its value under each seed or None."""
  if isinstance(row, int | float):
    return float(row), float(row), float(row), None
  prefix = "" if name == "delta" else f"{name}_"
  if row is None or row.get(name) is None or not row.get(f"{prefix}ci95"):
    return None
  return row[name], *row[f"{prefix}ci95"], row.get(f"{prefix}over_seeds", {}).get("values")


def tests(
  results: Mapping, stated: Sequence[Stated], absent: Mapping[str, str]
) -> list[Claim | Test]:
  """Returns what is to test each claim, or why nothing can.

  Claims are left out of whose systems the run knows nothing: it has neither a comparison of them
  nor, by the name of the second, a reason in `absent`.
  """
  return [one for claim in stated if (one := _test(results, claim, absent)) is not None]


def decide(
  entries: Sequence[Claim | Test], others: Sequence[Test] = ()
) -> tuple[list[Claim], list[tuple[str, float]]]:
  """Returns the claims of what is to test them, and the outcome and p-value of other tests.

  A claim holds for these models where its Δ lies above 0 with the whole 95% interval over prompts,
  a sign test agrees, and no single seed's interval lies below. It holds, without more words, where
  moreover the seeds agree: their t interval lies above 0, and its test agrees. The opposite is
  found where all that is so of the other side. In between nothing is shown: that two systems are as
  good as each other is none of the outcomes. Of a claim that Δ is below a bound, that bound stands
  for 0, and below for above; where the bound is an interval itself, it is the end nearer to Δ.

  Both tests are corrected for all claims and other tests that are read together (Holm), that over
  prompts also for all comparisons of its judge (`p_holm`, where the comparison has one), so that
  the chance of a single word too many is at most 5%.
  """
  tested = [one for one in entries if isinstance(one, Test)]
  outcomes = _decided([*tested, *others])
  of_claims = iter(outcomes)
  found = [_claim(one, *next(of_claims)) if isinstance(one, Test) else one for one in entries]
  return found, outcomes[len(tested) :]


def _decided(tested: Sequence[Test]) -> list[tuple[str, float]]:
  """Returns the outcome of each test, and its p-value over prompts, corrected for all of them."""
  over_prompts = significance.holm(np.array([test.p for test in tested]))
  over_seeds = significance.holm(np.array([test.p_over_seeds for test in tested]))
  # Corrected for the claims, and for all comparisons of the judge: the larger one counts. What a
  # comparison's own test says is of 0, and nothing of a Δ that is to be below some other bound.
  holm = [(test.row.get("p_holm") or 0.0) if test.wanted > 0 else 0.0 for test in tested]
  p_values = np.maximum(over_prompts, holm).tolist()
  outcomes = map(_outcome, tested, p_values, over_seeds.tolist())
  return list(zip(outcomes, p_values, strict=True))


def _outcome(test: Test, p: float, p_over_seeds: float) -> str:
  direction = test.direction(test.row["ci95"], p)
  sides = [test.direction(row["ci95"], 0.0) for row in test.alone]
  if not direction or -direction in sides:
    return NOT_SHOWN
  seeds = test.row.get("over_seeds")
  agree = seeds is not None and test.direction(seeds["ci95"], p_over_seeds) == direction

  return WORDS[direction * test.wanted][0 if agree else 1]


def _claim(test: Test, outcome: str, p: float) -> Claim:
  """Returns the claim with its figure, and every seed's Δ where they do not have one sign."""
  grounds = test.grounds(p)
  deltas = [row["delta"] for row in test.alone]
  if deltas and min(deltas) <= 0 <= max(deltas):
    unit, digits = ("", 2) if isinstance(test, Measured) else ("%", 1)
    said = ", ".join(f"{verdict.signed(delta, digits)}{unit}" for delta in deltas)
    grounds += f", and the seeds disagree ({said})"
  return Claim(test.statement, outcome, grounds)


def share(results: Mapping, a: str, b: str, part: float, judge: str = "") -> tuple[float, float]:
  """Returns the least and the most that a part of the Δ of a over b may be, in percent.

  They are the ends of its intervals, over prompts and over seeds; a loss has no part. Of judges it
  is the one named, or "", the most believed one.
  """
  row = verdict.find(results["comparisons"], a, b, (judge,) if judge else None)
  if row is None:
    return 0.0, 0.0
  intervals = [row["ci95"], *([row["over_seeds"]["ci95"]] if "over_seeds" in row else [])]
  low = min(one[0] for one in intervals)
  high = max(one[1] for one in intervals)
  return part * max(low, 0.0), part * max(high, 0.0)


def remark(results: Mapping) -> str:
  """Returns what is to be known of all outcomes together."""
  seeds = (
    "One seed tells of these models alone: intervals cover the choice of prompts, and another "
    "training run may differ by more."
  )
  if any("over_seeds" in row for row in results["comparisons"]):
    seeds = (
      "“Holds” and “the opposite” take the prompts of all seeds and a t-test over the seeds; “for "
      "these models” is what the prompts say where the seeds do not suffice."
    )

  return (
    f"An expectation is what the method rests on and the paper does not test. {seeds} All tests "
    "are corrected for the number of claims (Holm)."
  )


def _test(results: Mapping, stated: Stated, absent: Mapping[str, str]) -> Claim | Test | None:
  statement = f"{stated.kind} that {stated.statement}"
  rows = [
    row
    for row in results["comparisons"]
    if (row["a"], row["b"]) == (stated.a, stated.b)
    and (row.get("temperature") == "best") == stated.is_at_best
    and stated.judge in ("", row["judge"])
  ]

  if not rows:
    # Who is absent is named once, for the first round and for all.
    reason = absent.get(stated.b.removesuffix("_rounds"))
    return Claim(statement, NOT_TESTED, reason) if reason else None

  row = verdict.find(rows, stated.a, stated.b, without=stated.without)
  if row is None:
    return Claim(statement, NOT_TESTED, _unjudged(rows))
  bounded = {} if stated.at_most is None else {"beyond": stated.at_most, "wanted": -1}
  return Test(statement, row, _each_seed(rows, row), **bounded)


def _unjudged(rows: Sequence[Mapping]) -> str:
  judges = list(dict.fromkeys(row["judge"] for row in rows if verdict.is_judged(row)))
  if not judges:
    few = any(row["n"] for row in rows)
    return "most prompts could not be judged" if few else "no prompt could be judged"

  return f"only {' and '.join(judges)} compared the two, which trained or chose one of them"


def _each_seed(rows: Sequence[Mapping], whole: Mapping) -> list[Mapping]:
  """Returns the same comparison of each seed alone; none where there is one seed only."""
  same = ("a", "b", "judge", "temperature")
  return [
    row
    for row in rows
    if row.get("seed") not in (None, "all")
    and verdict.is_judged(row)
    and all(row.get(key) == whole.get(key) for key in same)
  ]


def figure(row: Mapping, p: float) -> str:
  """Returns the Δ that decided, with its intervals, and the corrected p where that is too large."""
  is_corrected_away = verdict.direction(row) and p > significance.LEVEL
  corrected = f"; p = {p:.2f} once corrected" if is_corrected_away else ""
  return (
    f"{row['a']} over {row['b']} Δ = {verdict.signed(row['delta'])}% ({verdict.bounds_text(row)}; "
    f"{row['judge']}, {verdict.prompts(row):,} prompts{corrected})"
  )
