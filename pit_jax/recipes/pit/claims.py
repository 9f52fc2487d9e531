"""Which claims about PIT hold in a run."""

import functools
from collections.abc import Iterator, Mapping, Sequence

from pit_jax.recipes.pit import gate
from pit_jax.report import claims, verdict

# The smallest Δ of table 1: what all of PIT is worth where it is worth least. A single stage that
# is surely worth more is more than marginal.
MARGINAL = 7.2
GAP = ("R_PIT",)  # it trained every pit, and is no judge of one
BOTH = ("R_P", "R_PIT")
STATED = (
  claims.Stated("pit", "pit_first_only", "the curriculum beats its first stage alone", without=GAP),
  claims.Stated(
    "pit", "pit_second_only", "the curriculum beats its second stage alone", without=GAP
  ),
  claims.Stated(
    "pit",
    "rlhf_longer",
    "PIT beats RLHF that was carried on for as many steps as the improver had",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit",
    "rlhf_longer_best_of_2",
    "PIT beats the best of two samples of that policy, as many as one round takes",
    claims.EXPECTED,
    without=BOTH,  # R_P chose the sample
  ),
  claims.Stated(
    "pit",
    "pit_single_term",
    "the five terms of eq. 2 beat one of them",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit",
    "pit_rp_difference",
    "R_PIT is a better reward than a difference of R_P",
    claims.EXPECTED,
    without=BOTH,  # each trained one of the two
  ),
  claims.Stated(
    "pit",
    "improver_dpo",
    "R_PIT and RL beat DPO of the same improver on the same labels",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_critique",
    "pit",
    "what a critic says of a draft helps the improver",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_critique",
    "pit_again",
    "it helps more than a second round, for about as many tokens",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_critique",
    "pit_uncriticised",
    "PIT with critiques improves drafts more than PIT without",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_critique",
    "pit_uncriticised_again",
    "it does more than two rounds of PIT without, for about as many tokens",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit",
    "original",
    "PIT improves answers also with each at its best temperature",
    is_at_best=True,
    without=BOTH,  # R_P chose the temperatures
  ),
  claims.Stated(
    "pit",
    "best_of_2",
    "one round, two samples, beats the best of two samples",
    claims.EXPECTED,
    without=BOTH,
  ),
  claims.Stated(
    "pit",
    "best_of_n",
    "one round, two samples, beats the best of n samples",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_rounds",
    "best_of_n",
    "rounds beat best-of-n at equal samples",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated(
    "pit_rounds",
    "pit",
    "all rounds, ended by the stop rule, beat the first one",
    claims.EXPECTED,
    without=GAP,
  ),
  claims.Stated("pit_rounds", "self_refine_rounds", "PIT's rounds beat Self-Refine's", without=GAP),
)


def judged(results: Mapping) -> list[claims.Claim]:
  """Returns the claims that a run has comparisons for, with what these say; see `claims.decide`.

  There is none where the gate is shut.
  """
  checked = gate.check(results)
  if checked is not None and not checked["passed"]:
    return []
  absent = results.get("absent", {}) if gate.concerns_improver(results) else {}
  entries = claims.tests(results, STATED, absent)
  marginal = _single_stages(results["comparisons"])

  # What is said of single stages is one more look at the data, and corrected with the rest.
  found, outcomes = claims.decide(entries, marginal)
  return [*found, *_contradicted(marginal, outcomes)]


def said(results: Mapping) -> tuple[list[claims.Claim], str]:
  """Returns what the run says of each claim and what is to be known of all.

  Neither is there where the gate is shut: that and why is the headline.
  """
  found = judged(results)
  if not found:
    return found, ""
  is_own = verdict.score_judge(results) == "R_P"
  own = " Where R_P is the judge, it also trained the policy." if is_own else ""
  return found, claims.remark(results) + own


def _single_stages(comparisons: Sequence[Mapping]) -> list[claims.Test]:
  """Returns what tests whether single stages are more than marginally better (table 2)."""
  find = functools.partial(verdict.find, comparisons, b="original", without=("R_PIT",))
  rows = map(find, ("pit_first_only", "pit_second_only"))
  return [claims.Test("", row, beyond=(MARGINAL, MARGINAL)) for row in rows if row]


def _contradicted(
  tests: Sequence[claims.Test], decided: Sequence[tuple[str, float]]
) -> Iterator[claims.Claim]:
  """Yields what table 2 says of single stages, where a run surely finds more in one of them."""
  figures = {claims.HOLDS: [], claims.HERE: []}
  for test, (outcome, p) in zip(tests, decided, strict=True):
    figures.setdefault(outcome, []).append(claims.figure(test.row, p))

  if grounds := [*figures[claims.HOLDS], *figures[claims.HERE]]:
    statement = "paper's finding that a single stage is only marginally better than original"
    outcome = claims.OPPOSITE if figures[claims.HOLDS] else claims.OPPOSITE_HERE
    yield claims.Claim(f"{statement} (table 2)", outcome, " and ".join(grounds))
