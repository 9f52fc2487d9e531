"""A handful of verdicts decides nothing: neither gate nor headline nor claim."""

import numpy as np
import pytest
import scipy.stats

from pit_jax.recipes import pit
from pit_jax.recipes.pit import claims, gate
from pit_jax.report import claims as shared
from pit_jax.report import verdict
from pit_jax.statistics import metrics


def row(wins, losses, a="pit", b="original", judge="gold", failed=0, **more):
  signs = np.repeat([1.0, -1.0], [wins, losses])
  names = {"a": a, "b": b, "judge": judge, "temperature": 1.0}
  return names | vars(metrics.compare(signs, 0 * signs, failed=failed)) | more


def results_of(*rows, **more):
  known = {"headline": ["pit", "original"], "seconds": {}, "systems": {}}
  return known | {"comparisons": list(rows)} | more


METHOD = pit.RECIPE.page
OPEN = {"gate": {"passed": True, "reason": ""}}
GATE = {"a": "original", "b": "policy_sft"}


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (5, 0), (6, 0), (0, 5), (0, 6), (60, 40)])
def test_a_direction_needs_interval_and_sign_test(wins, losses):
  found = row(wins, losses)
  is_clear = scipy.stats.binomtest(wins, wins + losses).pvalue <= 0.05
  low, high = found["ci95"]
  leaves_out = not low <= 0 <= high
  assert verdict.direction(found) == (is_clear and leaves_out) * np.sign(wins - losses)
  said = verdict.interval_text(found)
  assert ("in a sign test" in said) == (leaves_out and not is_clear)


def test_one_prompt_is_no_improvement_whatever_its_interval():
  found = row(1, 0)
  assert found["ci95"] == (100.0, 100.0)
  said = verdict.headline(results_of(found, **OPEN), METHOD)
  assert "no measurable difference" in said and "but p = 1.00 in a sign test" in said
  reason = gate.gate(results_of(row(1, 0, **GATE), row(1, 0, judge="R_P", **GATE)))["reason"]
  assert reason.startswith("original does not beat policy_sft under R_P")
  for pair in (("pit", "rlhf_longer"), ("pit_first_only", "original")):
    known = claims.judged(results_of(row(2, 0, *pair), **OPEN))
    assert [claim.outcome for claim in known] == [shared.NOT_SHOWN] * (pair[0] == "pit")
  (claim,) = claims.judged(results_of(row(0, 3, "pit", "rlhf_longer"), **OPEN))
  assert claim.outcome == shared.NOT_SHOWN and "p = 0.25 in a sign test" in claim.sentence
  (claim,) = claims.judged(results_of(row(0, 6, "pit", "rlhf_longer"), **OPEN))
  assert claim.outcome == shared.OPPOSITE_HERE  # one seed tells of no other


def test_a_judge_most_of_whose_prompts_failed_does_not_speak():
  ended = {"judge": "language_model", "failed": 118}  # ten of them would be clear by themselves
  main = [row(10, 0, **ended), row(300, 400, judge="R_P")]
  assert "under R_P" in verdict.headline(results_of(*main, **OPEN), METHOD)
  assert [label for label, *_ in verdict.key_figures(results_of(*main))] == ["Δ under R_P"]
  pair = ("pit", "rlhf_longer")
  (claim,) = claims.judged(results_of(row(10, 0, *pair, **ended), row(300, 400, *pair), **OPEN))
  assert claim.outcome == shared.OPPOSITE_HERE and "gold, 700 prompts" in claim.sentence
  (claim,) = claims.judged(results_of(row(10, 0, *pair, **ended), **OPEN))
  assert (claim.outcome, claim.grounds) == (shared.NOT_TESTED, "most prompts could not be judged")
  shut = gate.gate(results_of(row(10, 0, **GATE, **ended), row(500, 100, judge="R_P", **GATE)))
  assert shut == {"passed": False, "reason": "language_model could judge only 10 of 128 prompts"}
  half = row(64, 0, judge="language_model", failed=64)
  assert "a language model" in verdict.headline(results_of(half, main[1], **OPEN), METHOD)
