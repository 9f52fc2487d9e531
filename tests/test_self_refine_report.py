"""Self-Refine in the experiments and the report: counts, tokens, seconds, comparisons."""

import time

import jax
import pytest
import report_example
import scripted

from pit_jax import compiling
from pit_jax.data.critiques import NO_ANSWER, NO_FEEDBACK, REFINED, TOO_LONG, UNCHANGED
from pit_jax.evaluate import clock
from pit_jax.improve import self_refine
from pit_jax.improve.self_refine import STOPPED
from pit_jax.recipes.pit import cost, rounds
from pit_jax.report import pages, tabular, verdict

METHOD = report_example.METHOD

PLAYED = self_refine.Refinements(
  texts=[
    ["version 0"] * 4,
    ["version 1"] * 2 + ["version 0"] * 2,
    ["version 2", "version 1"] + ["version 0"] * 2,
  ],
  feedback=[["a b", "a b", "c", " "], ["a", "it is fine", "c d", None]],
  written=[["version 1", "version 1", "version 0", None], ["version 2", None, "", None]],
  outcomes=[
    [REFINED, REFINED, UNCHANGED, NO_FEEDBACK],
    [REFINED, STOPPED, NO_ANSWER, TOO_LONG],
  ],
)
QUESTIONS = ["1 2 3", "1 2 0", "5 6 7", "4 0 9"]


def test_rounds_are_counted_by_what_became_of_them():
  first, second = rounds.refinements(scripted.make_suite(QUESTIONS), PLAYED)
  shares = ("refined", "unchanged", "stopped", "fallback")
  assert [first[name] for name in shares] == [0.5, 0.25, 0.0, 0.25]
  assert [second[name] for name in shares] == [0.25, 0.0, 0.25, 0.5]
  assert first["kinds"] == {NO_FEEDBACK: 1} and second["kinds"] == {NO_ANSWER: 1, TOO_LONG: 1}
  assert (first["feedback_tokens"], first["answer_tokens"]) == (5 / 4, 6 / 4)
  assert (second["feedback_tokens"], second["answer_tokens"]) == (6 / 4, 2 / 4)
  assert (first["score"], first["delta"]) == ((2 + 2 + 5 + 4) / 4, 50.0)
  assert (second["score"], second["win"]) == ((3 + 2 + 5 + 4) / 4, 50.0)


def test_feedback_and_failures_are_paid_for():
  rows = cost.of_refinements(scripted.make_suite(QUESTIONS), PLAYED)
  assert [(row["system"], row["budget"], row["judge"]) for row in rows] == [
    ("self_refine", budget, "R_P") for budget in (1, 3, 5)
  ]
  assert [row["samples"] for row in rows] == [1, 1 + 7 / 4, 1 + 7 / 4 + 5 / 4]
  assert [row["tokens"] for row in rows] == [2, 2 + 11 / 4, 2 + 11 / 4 + 8 / 4]
  assert [row["reads"] for row in rows] == [0, 0, 0]
  assert [row["score"] for row in rows] == [11 / 4, 13 / 4, 14 / 4]
  assert rows[0]["gain"] is None
  assert rows[2]["gain"] == pytest.approx(100 * (14 / 4 - 11 / 4) / (19 / 4))
  few = cost.of_refinements(scripted.make_suite(QUESTIONS[:1]), PLAYED.first(1))
  assert [row["tokens"] for row in few] == [2, 6, 9]


def test_seconds_are_those_of_sampling_without_compiling():
  found = {}
  with clock.timed(found, "slow", 4):
    time.sleep(0.2)
    with clock.timed(found, "mixed", 2):
      time.sleep(0.1)
      jax.monitoring.record_event_duration_secs(compiling.BACKEND, 0.06)
      jax.monitoring.record_event_duration_secs("/jax/checkpoint/write", 9.0)
  assert found["mixed"] >= 0.02 - 1e-6 and found["slow"] >= 0.06 - 1e-6
  with clock.timed(found, "compiled", 1):
    began = time.monotonic()
    jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jax.numpy.sin(y) + i, x))(1.0)
    lasted = time.monotonic() - began
  assert 0 <= found["compiled"] < lasted


def test_seconds_stand_beside_the_most_samples():
  results = report_example.example() | {"sampling": {"original": 0.25, "pit": 1.0, "none": 3.0}}
  table = tabular.build(pages.check(results), METHOD)["cost"]
  rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
  shown = {(row["spent on"], row["samples"]): row["seconds"] for row in rows}
  known = {key: value for key, value in shown.items() if value != "·"}
  assert known == {("original", "1.0"): "0.250", ("pit, every round", "5.0"): "1.250"}
  assert "seconds" not in tabular.build(report_example.example(), METHOD)["cost"].columns


def test_all_rounds_of_both_methods_are_compared():
  systems = ("original", "pit", "pit_rounds", cost.PAIR, *cost.SELECTORS)
  texts = {name: ["version 0"] * 4 for name in systems}
  suite = scripted.make_suite(QUESTIONS)
  rows = cost._compare(suite, texts | {"self_refine_rounds": PLAYED.texts[-1]})
  found = [
    (r["a"], r["b"], r["judge"], r["win"]) for r in rows if "self_refine_rounds" in r.values()
  ]
  assert found == [
    ("self_refine_rounds", "original", "R_P", 50.0),
    ("self_refine_rounds", "original", "R_PIT", 50.0),
    ("pit_rounds", "self_refine_rounds", "R_P", 0.0),
  ]


def test_the_report_shows_them_and_a_shut_gate_holds_them_back(tmp_path):
  suite = scripted.make_suite(QUESTIONS)
  played = {
    "self_refine": rounds.refinements(suite, PLAYED),
    "cost": [*report_example.example()["cost"], *cost.of_refinements(suite, PLAYED)],
  }
  results = report_example.example() | played
  results["samples"][0]["self_refine"] = [
    {"feedback": "too <short>", "written": "longer", "outcome": REFINED, "text": "longer"}
  ]
  made = tabular.build(pages.check(results), METHOD)
  table = made["self_refine"]
  shown = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
  assert [row["fell back"] for row in shown] == ["25.0%", "50.0%"] and shown[0]["Δ %"].startswith(
    "+50"
  )
  assert "no feedback 1, no answer 1, prompt too long 1." in table.note
  assert "two samples" in made["cost"].note
  page = pages.write(results, tmp_path, METHOD).read_text()
  assert "Self-Refine" in page and "too &lt;short&gt;" in page
  shut = verdict.presentable(report_example.closed_gate() | played, METHOD)
  assert all("delta" not in row and "ci95" not in row for row in shut["self_refine"])
