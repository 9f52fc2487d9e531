"""Which claims about PIT hold in a run, in words that an interval bears out."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from pit_jax.evaluate import verdict

PAPER, EXPECTED = "paper's claim", "expectation"  # the second kind the paper rests on, untested
HOLDS, OPPOSITE, NOT_SHOWN, NOT_TESTED = "holds", "the opposite", "not shown", "not tested"
SAID = {
  HOLDS: "holds in this run",
  OPPOSITE: "is contradicted by this run",
  NOT_SHOWN: "is not borne out by this run",
  NOT_TESTED: "was not tested",
}
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
  _Stated(
    "pit_rounds", "pit", "all rounds, ended by the stop rule, beat the first one", EXPECTED,
  ),
  _Stated("pit_rounds", "self_refine_rounds", "PIT's rounds beat Self-Refine's"),
)  # fmt: skip


def judged(results: Mapping) -> list[Claim]:
  """Returns the claims that a run has comparisons for, with what these say.

  A claim holds where its Δ lies above 0 with the whole 95% interval, a sign test agrees (p ≤ 0.05,
  uncorrected), and no single seed's interval lies below; the opposite is found where interval and
  test say so of the other side. In between nothing is shown: that two systems are as good as each
  other is none of the outcomes. There is none where the gate is shut.
  """
  if _obstacle(results):
    return []
  claims = [claim for stated in STATED for claim in _judged(results, stated)]
  return [*claims, *_single_stages(results["comparisons"])]


def sentences(results: Mapping) -> list[str]:
  """Returns what the run says of each claim, or why it can say nothing; [] without an improver."""
  if obstacle := _obstacle(results):
    return [f"No claim about PIT can be judged in this run, because {obstacle}."]
  return [claim.sentence for claim in judged(results)]


def remark(results: Mapping) -> str:
  """Returns what is to be known of all outcomes together; "" where there are none."""
  if not judged(results):
    return ""
  text = (
    "An expectation is what the method rests on and the paper does not test. Intervals cover the "
    "choice of prompts and not of seeds: another training run may differ by more."
  )
  if verdict.score_judge(results) == "R_P":
    text += " Where R_P is the judge, it also trained the policy."
  return text


def _obstacle(results: Mapping) -> str:
  """Returns why no improver of the run can be judged; "" where one can, or there is none."""
  if not verdict.concerns_improver(results):
    return ""
  gate = verdict.gate(results)
  return "" if gate["passed"] else gate["reason"].rstrip(".")


def _judged(results: Mapping, stated: _Stated) -> Iterator[Claim]:
  """Yields the claim, unless the run compared no such systems."""
  statement = f"{stated.kind} that {stated.statement}"
  rows = [
    row
    for row in results["comparisons"]
    if (row["a"], row["b"]) == (stated.a, stated.b)
    and (row.get("temperature") == "best") == stated.is_at_best
  ]
  if not rows and verdict.concerns_improver(results):
    system = stated.b.removesuffix("_rounds")
    if reason := results.get("absent", {}).get(system):
      yield Claim(statement, NOT_TESTED, reason)
  if not rows:
    return
  judges = [judge for judge in verdict.JUDGES if judge not in stated.without]
  row = verdict.find(rows, stated.a, stated.b, judges)
  if row is None:
    yield Claim(statement, NOT_TESTED, _unjudged(rows))
    return
  alone = _each_seed(rows, row)
  yield Claim(statement, _outcome(row, alone), _figure(row) + _disagreement(alone))


def _unjudged(rows: Sequence[Mapping]) -> str:
  asked = list(dict.fromkeys(row["judge"] for row in rows if verdict.is_judged(row)))
  if not asked:
    few = any(row["n"] for row in rows)
    return "most prompts could not be judged" if few else "no prompt could be judged"
  return f"only {' and '.join(asked)} compared the two, which trained or chose one of them"


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


def _outcome(row: Mapping, alone: Sequence[Mapping]) -> str:
  found = verdict.direction(row)
  if found < 0:
    return OPPOSITE
  return HOLDS if found > 0 and all(seed["ci95"][1] >= 0 for seed in alone) else NOT_SHOWN


def _figure(row: Mapping) -> str:
  return (
    f"{row['a']} over {row['b']} Δ = {verdict.signed(row['delta'])} ({verdict.bounds_text(row)}; "
    f"{row['judge']}, {verdict.prompts(row):,} prompts)"
  )


def _disagreement(alone: Sequence[Mapping]) -> str:
  """Says every seed's Δ where they do not have one sign."""
  deltas = [row["delta"] for row in alone]
  if not deltas or min(deltas) > 0 or max(deltas) < 0:
    return ""
  return f", and the seeds disagree ({', '.join(map(verdict.signed, deltas))})"


def _single_stages(comparisons: Sequence[Mapping]) -> Iterator[Claim]:
  """Yields what table 2 says of single stages, where a run surely finds more in one of them."""
  judges = [judge for judge in verdict.JUDGES if judge != "R_PIT"]
  found = (
    verdict.find(comparisons, system, "original", judges)
    for system in ("pit_first_only", "pit_second_only")
  )
  clear = [row for row in found if row and row["ci95"][0] > MARGINAL and verdict.direction(row)]
  if clear:
    statement = "paper's finding that a single stage is only marginally better than original"
    yield Claim(f"{statement} (table 2)", OPPOSITE, " and ".join(map(_figure, clear)))
