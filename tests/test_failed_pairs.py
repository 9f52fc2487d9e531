"""Pairs that a judge could not judge: counted apart, pooled, shown, and no ground for any claim."""

import json

import numpy as np
import pytest
import report_example

from pit_jax.evaluate import seeds
from pit_jax.feedback import judges
from pit_jax.recipes.pit import gate
from pit_jax.report import pages, tabular, verdict
from pit_jax.statistics import metrics

METHOD, POOLED = report_example.METHOD, report_example.POOLED


def counted(a, b, failed=0):
  return metrics.compare(np.array(a, float), np.array(b, float), failed=failed)


NOTHING = counted([], [], failed=5)


def judge_of(difference, failures):
  """Returns a judge that says this of every pair."""
  said = judges.Verdicts(np.array(difference), failures=failures)
  return judges.Judge("language_model", lambda *_: said, None, tie=0.5)


def compare(judge):
  return judge.compare(["q"] * 5, ["a"] * 5, ["b"] * 5)


def test_failed_pairs_are_no_part_of_the_percentages():
  found = compare(judge_of([1, np.nan, -1, 0.5, np.nan], {1: "timed out", 4: "timed out"}))
  alone = counted([1, -1, 0], [0, 0, 0])
  assert (found.n, found.failed, alone.failed) == (3, 2, 0)
  assert (found.win, found.lose, found.tie) == (alone.win, alone.lose, alone.tie)
  assert found.ci95 == alone.ci95


def test_a_judge_that_is_wrong_without_saying_so_is_an_error():
  with pytest.raises(ValueError, match="1 of 4 values of scores_a are not finite"):
    compare(judge_of([1, np.nan, -1, 0, np.nan], {4: "timed out"}))


def test_of_nothing_judged_nothing_is_known():
  found = compare(judge_of([np.nan] * 5, dict.fromkeys(range(5), "timed out")))
  assert (found.n, found.failed) == (0, 5)
  assert np.isnan([found.win, found.lose, found.tie, found.delta, *found.ci95]).all()
  with pytest.raises(ValueError, match="scores_a is empty"):
    counted([], [])


def test_pooling_adds_what_failed():
  some = counted([1.0, 2.0, 0.0], [0.0, 3.0, 0.0], failed=4)
  pooled = metrics.pool([some, NOTHING, json.loads(json.dumps(vars(some)))])
  assert (pooled.n, pooled.failed) == (6, 13)
  assert (pooled.win, pooled.lose) == (pytest.approx(100 / 3), pytest.approx(100 / 3))
  nothing = metrics.pool([NOTHING, NOTHING])
  assert (nothing.n, nothing.failed) == (0, 10) and np.isnan(nothing.delta)


def row_of(comparison, a="pit", b="original", **more):
  names = {"a": a, "b": b, "judge": "language_model", "temperature": 1.0}
  return names | vars(comparison) | more


def results_with(*rows):
  """Returns a run's results with further comparisons; its gate is open unless they shut it."""
  results = report_example.example()
  del results["gate"]
  results["comparisons"] += rows
  return pages.check(results)


GOOD = counted(np.ones(90), np.zeros(90), failed=10)


def test_what_failed_is_shown_with_its_reasons(unrendered, tmp_path):
  failures = {"timed out": 3, "budget used up": 2}
  results = results_with(
    row_of(GOOD, "original", "policy_sft", failures={"timed out": 10}),
    row_of(NOTHING, failures=failures),
  )
  results["gate"] = {"passed": True, "reason": ""}
  table = tabular.build(results, METHOD)["other_judges"]
  shown = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
  failed = [row["failed"] for row in shown]
  assert failed[-2:] == ["10", "5"] and set(failed[:-2]) == {"·"}
  assert (shown[-1]["prompts"], shown[-1]["Δ %"], shown[-1]["95% interval"]) == ("0", "·", "·")
  assert "count as nothing: timed out 13, budget used up 2." in table.note
  page = pages.write(results, tmp_path, METHOD).read_text()
  assert "timed out 13" in page and "None" not in page
  made = tabular.build(report_example.example(), METHOD)
  assert all("failed" not in made[name].columns for name in ("comparisons", "other_judges"))


def test_a_judge_that_judged_nothing_shuts_the_gate_and_claims_nothing():
  results = results_with(row_of(NOTHING, "original", "policy_sft"), row_of(NOTHING))
  shut = gate.gate(results)
  assert not shut["passed"] and "language_model" in shut["reason"]
  found = verdict.find(results["comparisons"], "pit", "original", ("language_model", "R_P"))
  assert found["judge"] == "R_P"
  assert all("language_model" not in label for label, _, _ in verdict.key_figures(results))


@pytest.mark.parametrize(("score", "passed"), [(1.0, True), (-1.0, False)])
def test_the_gate_asks_the_language_model_too(score, passed):
  row = counted(np.full(90, score), np.zeros(90), failed=10)
  results = results_with(row_of(row, "original", "policy_sft"), row_of(GOOD))
  assert gate.gate(results)["passed"] is passed


def results_under(few, many):
  """Returns results in which a language model judged few prompts, and R_P and gold all of them."""
  rows = [row_of(counted(*few), "original", "policy_sft")]
  rows += [row_of(counted(*many), "original", "policy_sft", judge=name) for name in ("gold", "R_P")]
  return {"recipe": "pit", "comparisons": rows}


UNCLEAR = ([1] * 14 + [0] * 10, [0] * 14 + [1] * 10)  # 14 wins, 10 losses


def test_few_prompts_that_cannot_tell_leave_the_gate_to_all_prompts():
  clear = ([1] * 140 + [0] * 60, [0] * 140 + [1] * 60)
  found = gate.gate(results_under(UNCLEAR, clear))
  assert found["passed"]
  assert (
    "under R_P and gold; language_model cannot tell from 24 prompts: Δ = +17%" in (found["reason"])
  )
  against = ([0] * 20 + [1] * 4, [1] * 20 + [0] * 4)
  found = gate.gate(results_under(against, clear))
  assert not found["passed"] and "under language_model" in found["reason"]
  found = gate.gate(results_under(([1] * 24, [0] * 24), UNCLEAR))
  assert not found["passed"] and "under R_P" in found["reason"], "as many prompts are not fewer"


@pytest.mark.parametrize(
  ("score", "words"),
  [
    (1.0, "One round of PIT writes what a language model prefers to the RLHF policy's answers"),
    (-1.0, "writes what a language model likes less than the RLHF policy's answers"),
    (0.0, "makes no measurable difference"),
  ],
)
def test_the_headline_says_whose_opinion_it_is_and_what_is_missing(score, words):
  row = counted(np.full(90, score), np.zeros(90), failed=10)
  results = {"headline": ["pit", "original"], "comparisons": [row_of(row)]}
  results |= {"gate": {"passed": True, "reason": ""}}
  said = verdict.headline(results, METHOD)
  assert words in said and "of 90 held-out prompts (10 more could not be judged)" in said


def test_a_judge_without_scores_scores_no_system():
  rows = [row_of(GOOD), row_of(GOOD) | {"judge": "R_PIT"}, row_of(GOOD) | {"judge": "R_P"}]
  systems = {"pit": {"score": 1.0, "score_R_P": 1.0}}
  assert verdict.score_judge({"comparisons": rows, "systems": systems}) == "R_P"
  assert verdict.score_judge({"comparisons": rows[:1]}) == "gold", "nobody scored"


def test_seeds_add_their_failures():
  kinds = ({"timed out": 10}, {"timed out": 6, "budget used up": 4}, {"server error (500)": 5})
  comparisons = (GOOD, GOOD, NOTHING)
  runs = {
    seed: results_with(row_of(comparison, failures=failures))
    for seed, (comparison, failures) in enumerate(zip(comparisons, kinds, strict=True))
  }
  pooled = seeds.pool(runs, POOLED)
  (row,) = [
    r for r in pooled["comparisons"] if (r["judge"], r["seed"]) == ("language_model", "all")
  ]
  assert (row["n"], row["failed"], row["win"]) == (180, 25, 100.0)
  assert row["failures"] == {"timed out": 16, "budget used up": 4, "server error (500)": 5}
  assert all("failures" not in r for r in pooled["comparisons"] if r["judge"] != "language_model")
