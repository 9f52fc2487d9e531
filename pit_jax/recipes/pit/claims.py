"""Which claims about PIT hold in a run, in words that an interval bears out."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy  # its parts are imported when they are used

from pit_jax.recipes.pit import gate
from pit_jax.report import verdict
from pit_jax.statistics import resampling, significance

# An expectation is what the paper rests on and does not test.
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
# The smallest Δ of table 1: what all of PIT is worth where it is worth least. A single stage that
# is surely worth more is more than marginal.
MARGINAL = 7.2


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
class _Stated:
  """A claim that system a beats system b; R_PIT, which trained every pit, is no judge of it."""

  a: str
  b: str
  statement: str
  kind: str = PAPER
  is_at_best: bool = False  # each system at its best temperature
  without: tuple[str, ...] = ("R_PIT",)


@dataclasses.dataclass(frozen=True)
class _Test:
  """A comparison that is to say whether a surely beats b by more than some Δ, or b beats a."""

  statement: str
  row: Mapping
  alone: Sequence[Mapping] = ()  # the same of each seed
  beyond: float = 0.0  # that Δ, in percent

  @property
  def p(self) -> float:
    """The p-value over prompts."""
    signs = significance.p_value(self.row)
    low, high = self.row["ci95"]
    # A few prompts of one outcome have an interval without width: the sign test speaks alone.
    if not self.beyond or low == high:
      return signs

    # It knows of 0 alone, which more than some Δ is, too. The interval is ± 1.96 standard errors.
    distance = abs(self.row["delta"] - self.beyond)
    error = (high - low) / (2 * resampling.Z)
    return max(signs, float(2 * scipy.stats.norm.sf(distance / error)))

  @property
  def p_over_seeds(self) -> float:
    """The p-value over seeds; 1 where there is one seed only, which tells of no other."""
    over_seeds = self.row.get("over_seeds")
    return significance.p_over_seeds(over_seeds, self.beyond) if over_seeds else 1.0

  def direction(self, bounds: Sequence[float], p: float) -> int:
    """Returns 1 or −1 for the side on which an interval lies where p agrees, else 0."""
    low, high = bounds
    if low <= self.beyond <= high or p > significance.LEVEL:
      return 0
    return 1 if low > self.beyond else -1


BOTH = ("R_P", "R_PIT")
STATED = (
  _Stated("pit", "pit_first_only", "the curriculum beats its first stage alone"),
  _Stated("pit", "pit_second_only", "the curriculum beats its second stage alone"),
  _Stated(
    "pit", "rlhf_longer",
    "PIT beats RLHF that was carried on for as many steps as the improver had", EXPECTED,
  ),
  _Stated(
    "pit", "rlhf_longer_best_of_2",
    "PIT beats the best of two samples of that policy, as many as one round takes", EXPECTED,
    without=BOTH,  # R_P chose the sample
  ),
  _Stated("pit", "pit_single_term", "the five terms of eq. 2 beat one of them", EXPECTED),
  _Stated(
    "pit", "pit_rp_difference", "R_PIT is a better reward than a difference of R_P", EXPECTED,
    without=BOTH,  # each trained one of the two
  ),
  _Stated(
    "pit", "original", "PIT improves answers also with each at its best temperature",
    is_at_best=True, without=BOTH,  # R_P chose the temperatures
  ),
  _Stated(
    "pit", "best_of_2", "one round, two samples, beats the best of two samples", EXPECTED,
    without=BOTH,
  ),
  _Stated("pit", "best_of_n", "one round, two samples, beats the best of n samples", EXPECTED),
  _Stated("pit_rounds", "best_of_n", "rounds beat best-of-n at equal samples", EXPECTED),
  _Stated("pit_rounds", "pit", "all rounds, ended by the stop rule, beat the first one", EXPECTED),
  _Stated("pit_rounds", "self_refine_rounds", "PIT's rounds beat Self-Refine's"),
)  # fmt: skip


def judged(results: Mapping) -> list[Claim]:
  """Returns the claims that a run has comparisons for, with what these say.

  A claim holds for these models where its Δ lies above 0 with the whole 95% interval over prompts,
  a sign test agrees, and no single seed's interval lies below. It holds, without more words, where
  moreover the seeds agree: their t interval lies above 0, and its test agrees. The opposite is
  found where all that is so of the other side. In between nothing is shown: that two systems are as
  good as each other is none of the outcomes.

  Both tests are corrected for all claims that are read together (Holm), that over prompts also for
  all comparisons of its judge (`p_holm`, where the comparison has one), so that the chance of a
  single word too many is at most 5%. There is none where the gate is shut.
  """
  checked = gate.check(results)
  if checked is not None and not checked["passed"]:
    return []
  entries = [one for stated in STATED for one in _judged(results, stated)]
  marginal = _single_stages(results["comparisons"])

  # What is said of single stages is one more look at the data, and corrected with the rest.
  tests = [one for one in entries if isinstance(one, _Test)]
  decided = iter(_decided([*tests, *marginal]))
  claims = [_claim(one, *next(decided)) if isinstance(one, _Test) else one for one in entries]
  return [*claims, *_contradicted(marginal, list(decided))]


def _decided(tests: Sequence[_Test]) -> list[tuple[str, float]]:
  """Returns the outcome of each test, and its p-value over prompts, corrected for all of them."""
  over_prompts = significance.holm(np.array([test.p for test in tests]))
  over_seeds = significance.holm(np.array([test.p_over_seeds for test in tests]))
  # Corrected for the claims, and for all comparisons of the judge: the larger one counts.
  holm = [test.row.get("p_holm") or 0.0 for test in tests]
  p_values = np.maximum(over_prompts, holm).tolist()
  outcomes = map(_outcome, tests, p_values, over_seeds.tolist())
  return list(zip(outcomes, p_values, strict=True))


def _outcome(test: _Test, p: float, p_over_seeds: float) -> str:
  direction = test.direction(test.row["ci95"], p)
  sides = [test.direction(row["ci95"], 0.0) for row in test.alone]
  if not direction or -direction in sides:
    return NOT_SHOWN
  seeds = test.row.get("over_seeds")
  agree = seeds is not None and test.direction(seeds["ci95"], p_over_seeds) == direction

  return WORDS[direction][0 if agree else 1]


def _claim(test: _Test, outcome: str, p: float) -> Claim:
  """Returns the claim with its figure, and every seed's Δ where they do not have one sign."""
  grounds = _figure(test.row, p)
  deltas = [row["delta"] for row in test.alone]
  if deltas and min(deltas) <= 0 <= max(deltas):
    said = ", ".join(f"{verdict.signed(delta)}%" for delta in deltas)
    grounds += f", and the seeds disagree ({said})"
  return Claim(test.statement, outcome, grounds)


def said(results: Mapping) -> tuple[list[Claim], str]:
  """Returns what the run says of each claim and what is to be known of all.

  Neither is there where the gate is shut: that and why is the headline.
  """
  claims = judged(results)
  return claims, _remark(results) if claims else ""


def _remark(results: Mapping) -> str:
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

  is_own = verdict.score_judge(results) == "R_P"
  return (
    f"An expectation is what the method rests on and the paper does not test. {seeds} All tests "
    "are corrected for the number of claims (Holm)."
    + (" Where R_P is the judge, it also trained the policy." if is_own else "")
  )


def _judged(results: Mapping, stated: _Stated) -> Iterator[Claim | _Test]:
  """Yields what is to test the claim, or why nothing can, unless the run has no such systems."""
  statement = f"{stated.kind} that {stated.statement}"
  rows = [
    row
    for row in results["comparisons"]
    if (row["a"], row["b"]) == (stated.a, stated.b)
    and (row.get("temperature") == "best") == stated.is_at_best
  ]

  if not rows:
    # Who is absent is named once, for the first round and for all.
    reason = results.get("absent", {}).get(stated.b.removesuffix("_rounds"))
    if reason and gate.concerns_improver(results):
      yield Claim(statement, NOT_TESTED, reason)
    return

  row = verdict.find(rows, stated.a, stated.b, without=stated.without)
  if row is None:
    yield Claim(statement, NOT_TESTED, _unjudged(rows))
  else:
    yield _Test(statement, row, _each_seed(rows, row))


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


def _figure(row: Mapping, p: float) -> str:
  """Returns the Δ that decided, with its intervals, and the corrected p where that is too large."""
  is_corrected_away = verdict.direction(row) and p > significance.LEVEL
  corrected = f"; p = {p:.2f} once corrected" if is_corrected_away else ""
  return (
    f"{row['a']} over {row['b']} Δ = {verdict.signed(row['delta'])}% ({verdict.bounds_text(row)}; "
    f"{row['judge']}, {verdict.prompts(row):,} prompts{corrected})"
  )


def _single_stages(comparisons: Sequence[Mapping]) -> list[_Test]:
  """Returns what tests whether single stages are more than marginally better (table 2)."""
  find = functools.partial(verdict.find, comparisons, b="original", without=("R_PIT",))
  rows = map(find, ("pit_first_only", "pit_second_only"))
  return [_Test("", row, beyond=MARGINAL) for row in rows if row]


def _contradicted(tests: Sequence[_Test], decided: Sequence[tuple[str, float]]) -> Iterator[Claim]:
  """Yields what table 2 says of single stages, where a run surely finds more in one of them."""
  figures = {HOLDS: [], HERE: []}
  for test, (outcome, p) in zip(tests, decided, strict=True):
    figures.setdefault(outcome, []).append(_figure(test.row, p))

  if grounds := [*figures[HOLDS], *figures[HERE]]:
    statement = "paper's finding that a single stage is only marginally better than original"
    outcome = OPPOSITE if figures[HOLDS] else OPPOSITE_HERE
    yield Claim(f"{statement} (table 2)", outcome, " and ".join(grounds))
