"""The experiments on models whose answers are known, and on a finished run."""

import dataclasses
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import report_example
import scripted
import tiny_run

from pit_jax import configurations
from pit_jax.evaluate import findings, seeds
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import judges
from pit_jax.recipes import base, finished
from pit_jax.recipes.pit import cost, gap, rounds
from pit_jax.report import pages
from pit_jax.run import workdirs
from pit_jax.statistics import agreement, lengths, ratings

METHOD, POOLED = report_example.METHOD, report_example.POOLED


def with_gold(suite, score):
  """Puts a judge that scores by a function before the others."""
  judge = judges._pointwise(
    "gold", lambda questions, texts: np.array(list(map(score, questions, texts)), float), 1e-9
  )
  return dataclasses.replace(suite, judges=[judge, *suite.judges])


QUESTIONS = ["5 6 7 8", "5 6 4 9", "5 4 9 9", "5 5 6 7"]


def test_rounds_are_rated_from_all_their_pairs():
  suite = scripted.make_suite(QUESTIONS)
  made = suite.rounds(["version 0"] * 4, 3, 200)
  rows = rounds.rate(suite, made.texts[0], {"pit": made.texts[1:]})
  assert {row["judge"] for row in rows} == {"R_P"}, "the gap model only compares"
  assert {row["games"] for row in rows} == {3 * 4}
  worth = np.array([[float(v) for v in question.split()] for question in QUESTIONS]).T
  players = ["original", "pit 1", "pit 2", "pit 3"]
  outcomes = {
    (players[i], players[j]): np.sign(worth[i] - worth[j])
    for i, j in itertools.combinations(range(4), 2)
  }
  assert rows == [{"judge": "R_P", "games": 12, **vars(row)} for row in ratings.rate(outcomes)]


def test_several_methods_are_rated_together():
  suite = scripted.make_suite(QUESTIONS)
  versions = [[f"version {k}"] * 4 for k in range(4)]
  rows = rounds.rate(suite, versions[0], {"pit": versions[1:3], "self_refine": versions[3:]})
  assert {row["system"] for row in rows} == {"original", "pit 1", "pit 2", "self_refine 1"}


def test_judges_agree_where_their_outcomes_do():
  suite = with_gold(scripted.make_suite(["1 2", "3 3", "5 4", "0 9"]), lambda q, text: len(text))
  texts = {"a": ["version 1"] * 4, "b": ["version 0"] * 3 + ["version 0 "], "c": ["version 0"] * 4}
  rows = main.agreements(suite, texts, [("a", "b"), ("c", "b")], ("a", "b"))
  assert [row["judges"] for row in rows[::2]] == [
    ["gold", "R_P"], ["gold", "R_PIT"], ["R_P", "R_PIT"],
  ]  # fmt: skip
  assert [row["of"] for row in rows[:2]] == ["a over b", "all comparisons"]
  gold, reward = np.array([[0, 0, 0, -1]]), np.array([[1, 0, -1, 1]])
  alone = vars(agreement.compare(gold, reward))
  assert rows[0] == {"judges": ["gold", "R_P"], "of": "a over b", **alone}
  both = agreement.compare(np.tile(gold, (2, 1)), np.vstack([reward, 0 * reward]))
  assert rows[1]["kappa"] == both.kappa and rows[1]["n"] == 8


def test_length_is_taken_out_of_every_comparison():
  suite = scripted.make_suite(["1 2", "3 3", "5 4", "0 9"])
  texts = {"a": ["version 1 and more"] * 3 + ["version 1"], "b": ["version 0"] * 4}
  rows = length.compare(suite, "a", "b", texts)
  assert [row["judge"] for row in rows] == ["R_P", "R_PIT"]
  outcomes, a, b = np.array([1, 0, -1, 1]), np.array([4, 4, 4, 2]), np.full(4, 2)
  for row in rows:
    assert (row["delta"], row["n"], row["tokens"]) == (25.0, 4, 1.5)
    assert row["controlled"] == vars(lengths.controlled(outcomes, a, b))
    assert (row["matched"]["n"], row["matched"]["delta"]) == (1, 100.0)
  longer = {"a": ["version 1 and more"] * 4, "b": ["version 0"] * 4}
  assert length.compare(suite, "a", "b", longer)[0]["matched"] is None


def test_score_and_length_are_correlated_within_a_system():
  suite = scripted.make_suite(["1 2", "3 3", "5 4", "0 9"])
  words = ["version 1", "version 1 x", "version 1 x x", "version 1 x x x"]
  (row,) = length.correlate(suite, {"a": words})
  assert (row["system"], row["judge"]) == ("a", "R_P")
  assert row["correlation"] == pytest.approx(1)  # 2, 3, 4, 9: each longer one scores higher


def test_the_gap_model_is_asked_where_answers_beat_the_data():
  # Versions 0, 1, 2 stand for y_0, y_1, y_w; gold sees the first question otherwise than R_PIT.
  questions = ["5 6 4", "5 3 1", "7 8 9", "1 5 4", "5 5 1"]
  gold = {"5 6 4": (6, 5, 4), "5 3 1": (5, 3, 1), "7 8 9": (7, 8, 9), "1 5 4": (1, 5, 4)}
  suite = with_gold(
    scripted.make_suite(questions),
    lambda q, text: gold.get(q, (5, 5, 1))[scripted.version(text)],
  )
  texts = [[f"version {k}"] * 5 for k in range(3)]
  found = gap.accuracy(suite, *texts, gain=2.0)
  # y_1 against y_0: gold says −, −, +, + and a tie; the gap model says +, −, +, +.
  assert (found[gap.IMPROVED]["n"], found[gap.IMPROVED]["accuracy"]) == (4, 0.75)
  # r(a, b) − r(b, a) is twice the difference: 2, 4, 2, 8, divided by the gain.
  assert found[gap.IMPROVED]["margin"] == pytest.approx(np.mean([1, 2, 1, 4]))
  # Both above y_w: the first two. Against y_w there is no tie, and both put the third one lower.
  assert (found[gap.BEYOND]["n"], found[gap.BEYOND]["accuracy"]) == (2, 0.5)
  assert (found[gap.PREFERRED]["n"], found[gap.PREFERRED]["accuracy"]) == (5, 1.0)
  assert sum(group["n"] for group in found[gap.IMPROVED]["groups"]) == 4


def test_kinds_without_a_pair_are_left_out():
  suite = scripted.make_suite(["5 5 5"])
  assert gap.accuracy(suite, *[[f"version {k}"] for k in range(3)], gain=1.0) == {}


def test_what_rounds_cost():
  suite = scripted.make_suite(QUESTIONS)
  made = suite.rounds(["version 0"] * 4, 3, 200)  # kept: 3, 1, 0, 0
  rows = {(row["system"], row["budget"]): row for row in cost.of_rounds(suite, made)}
  assert len(rows) == 8 and {row["judge"] for row in rows.values()} == {"R_P"}
  first, length_of_one = 2, 4  # "version 0", and "version 1 at 1.0"
  for k in range(4):
    free, ruled = rows["pit", k + 1], rows["pit_stop", k + 1]
    assert (free["samples"], free["tokens"]) == (k + 1, first + k * length_of_one)
    made_by = [min(k, versions) for versions in (3, 2, 1, 1)]  # but the first row's, not all kept
    assert ruled["samples"] == 1 + np.mean(made_by)
    assert ruled["tokens"] == first + length_of_one * np.mean(made_by)
    assert (free["reads"], ruled["reads"]) == (0, 2 * (ruled["samples"] - 1)), "in both orders"
    worth = [float(question.split()[k]) for question in QUESTIONS]
    assert free["score"] == np.mean(worth)
    gain = None if k == 0 else 100 * (np.mean(worth) - 5) / (k * length_of_one)
    assert free["gain"] == (gain if gain is None else pytest.approx(gain))


def test_the_best_of_n_and_the_tournament_find_the_best_sample():
  questions = ["1 2 3", "3 2 1", "2 9 4"]
  suite = scripted.make_suite(questions)
  samples = [[f"version {k}"] * 3 for k in range(3)]
  chosen = cost.choose(suite, samples)
  best = [["version 0"] * 3, ["version 1", "version 0", "version 1"]]
  best.append(["version 2", "version 0", "version 1"])
  assert chosen == {"best_of_n": best, "gap_tournament": best}


def test_what_choosing_costs_and_who_may_judge_it():
  suite = scripted.make_suite(["1 2 3", "3 2 1"])
  samples = [["version 0"] * 2, ["version 1 x"] * 2, ["version 2"] * 2]
  rows = cost.of_choices(suite, samples, cost.choose(suite, samples))
  # R_P chose best_of_n: only R_PIT is left, which compares and does not score.
  assert {(row["system"], row["judge"]) for row in rows} == {
    ("best_of_n", "R_PIT"), ("gap_tournament", "R_P"),
  }  # fmt: skip
  by_name = {(row["system"], row["budget"]): row for row in rows}
  assert [by_name["best_of_n", n]["reads"] for n in (1, 2, 3)] == [0, 2, 3]
  assert [by_name["gap_tournament", n]["reads"] for n in (1, 2, 3)] == [0, 2, 6]
  assert [by_name["best_of_n", n]["tokens"] for n in (1, 2, 3)] == [2, 5, 7]
  assert by_name["best_of_n", 3]["kl_bound"] == pytest.approx(math.log(3) - 2 / 3)
  assert by_name["best_of_n", 3]["delta"] == 50.0 and by_name["best_of_n", 3]["score"] is None
  assert by_name["gap_tournament", 3]["score"] == 3.0
  assert by_name["gap_tournament", 3]["gain"] == 100 * (3 - 2) / (7 - 2)


def test_no_selector_judges_its_choice():
  suite = with_gold(scripted.make_suite(["1 2", "3 4"]), lambda q, text: 0)
  names = ("original", "pit", "pit_rounds", "best_of_2", *cost.SELECTORS)
  texts = {name: ["version 0"] * 2 for name in names}
  rows = cost._compare(suite, texts)
  judged = {(row["judge"], name) for row in rows for name in (row["a"], row["b"])}
  chosen = {("R_P", "best_of_n"), ("R_PIT", "gap_tournament"), ("R_PIT", "pit_rounds")}
  chosen |= {("R_P", "best_of_2")}
  assert not chosen & judged
  assert {("gold", "best_of_n"), ("R_PIT", "best_of_n"), ("R_P", "gap_tournament")} <= judged
  pairs = {(row["a"], row["b"]) for row in rows}
  assert {("pit", "best_of_2"), ("best_of_2", "original")} <= pairs, "as many samples as one round"
  assert ("pit_rounds", "best_of_2") not in pairs
  further = [row["judge"] for row in rows if (row["a"], row["b"]) == ("pit_rounds", "pit")]
  assert further == ["gold", "R_P"], "all rounds against the first one"


def results_of(workdir):
  return json.loads((workdir / "report" / "results.json").read_text())


def test_a_repeated_experiment_finds_what_the_run_found(finished_run, unrendered, tmp_path):
  workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
  whole = results_of(workdir)
  experiments = {row["experiment"] for row in whole["comparisons"]}
  assert experiments == {"main", "ablation", "temperature", "cost"}
  path = workdir / "report" / "results.json"
  spoilt = {**whole, "cost": [], "length": {"comparisons": [], "correlations": []}}
  again = ("ablation", "cost", "length", "frontier")
  spoilt |= {"ablation": [], "frontier": {"judge": None, "chains": []}}
  spoilt["comparisons"] = [row for row in whole["comparisons"] if row["experiment"] not in again]
  path.write_text(json.dumps(spoilt))
  for name in again:
    finished.evaluate(workdir, name)
  assert results_of(workdir) == whole


def test_a_finished_run_is_evaluated_anew_under_other_values(
  finished_run, unrendered, tmp_path, capsys
):
  """Nothing is trained; no experiment of the old report stays beside those of the new one."""
  workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
  before, trained = results_of(workdir), tiny_run.files(workdir / "checkpoints")
  changes = ["--config.evaluation.prompts=6", "--config.evaluation.rounds=1"]
  config = workdirs.saved(workdir)
  configurations.change(config, changes)
  with pytest.raises(ValueError, match="other values of `evaluation`; leave --experiment out"):
    finished.evaluate(workdir, "length", config)
  finished.evaluate(workdir, None, config)
  after = results_of(workdir)
  assert {row["n"] for row in after["comparisons"] if row["experiment"] == "main"} == {6}
  assert [row["k"] for row in after["rounds"]] == [0, 1]
  assert {row["experiment"] for row in after["comparisons"]} == {
    "main",
    "ablation",
    "temperature",
    "cost",
  }
  assert {row["n"] for row in after["length"]["comparisons"]} == {6}
  assert after["gap_order"] == before["gap_order"], "of all validation pairs, as before"
  assert after["config"]["evaluation"]["prompts"] == 6
  assert tiny_run.files(workdir / "checkpoints") == trained
  finished.evaluate(workdir, "length")
  assert results_of(workdir)["length"] == after["length"]


def test_seeds_on_the_same_prompts_can_be_pooled_as_runs_write_them(
  finished_run, unrendered, tmp_path
):
  """Every comparison of a report tells prompts apart, those of rounds and of the cost too."""
  whole = results_of(finished_run.workdir)
  pooled = seeds.pool({0: whole, 1: whole}, POOLED)
  alone = [row for row in pooled["comparisons"] if row["seed"] == 0]
  for row, one in zip(pooled["comparisons"], alone, strict=False):
    assert row["repeated"]["prompts"] == one["n"] == row["n"] / 2 == len(one["outcomes"])
    assert (row["delta"], row["p"]) == (pytest.approx(one["delta"]), pytest.approx(one["p"]))
  sections = ("rounds", "temperature", "cost")
  assert any("repeated_stop" in row for row in pooled["rounds"])
  for row in (row for section in sections for row in pooled[section] if "n" in row):
    assert row["repeated"]["prompts"] == row["n"] / 2
  (chain, *_), (one, *_) = (found["frontier"]["chains"] for found in (pooled, whole))
  assert chain["moments"]["kl"]["n"] == one["moments"]["kl"]["n"]
  assert pages.write(pooled, tmp_path, METHOD).exists()


def test_only_values_of_the_evaluation_can_be_changed(finished_run):
  config = workdirs.saved(finished_run.workdir)
  with pytest.raises(ValueError, match=r"near it are evaluation\.prompts"):
    configurations.change(config, ["--config.evaluation.promts=6"])
  with pytest.raises(ValueError, match="more.txt: give values as --config"):
    configurations.change(config, ["more.txt"])
  configurations.change(config, ["--config.rl.steps=7"])
  with pytest.raises(ValueError, match=r"rl\.steps: 3 there, 7 now"):
    finished.evaluate(finished_run.workdir, None, config)


def test_only_experiments_of_finished_runs_are_repeated(finished_run, tmp_path):
  with pytest.raises(ValueError, match="no experiment 'speed'; it has main, ablation, rounds"):
    finished.evaluate(finished_run.workdir, "speed")
  with pytest.raises(ValueError, match="holds no run: there is no"):
    finished.evaluate(tmp_path, "main")
  shutil.copy(finished_run.workdir / "config.json", tmp_path)
  with pytest.raises(ValueError, match="holds no finished run"):
    finished.evaluate(tmp_path, "main")
  with pytest.raises(ValueError, match="base has no experiment 'main'; it has none"):
    findings.check(base.RECIPE, tmp_path, "main")


def test_results_are_current_under_the_values_that_decide_a_figure():
  config = tiny_run.config(evaluation__margin=-np.inf).unlock()
  written = {"config": {"evaluation": json.loads(config.evaluation.to_json()) | {"margin": None}}}
  assert finished.is_current(config, written)
  config.evaluation.language_judge.budget_tokens = 7
  assert finished.is_current(config, written), "what it may cost decides nothing"
  config.evaluation.language_judge.tie = 0.3
  assert not finished.is_current(config, written)


@pytest.mark.parametrize("name", finished.ADDING)
def test_results_are_current_with_the_systems_that_are_asked_for(name):
  """A run to which a system is added is measured anew, and so is one that is to have none."""
  config = tiny_run.config().unlock()
  written = {"config": json.loads(config.to_json())}
  assert finished.is_current(config, written)
  config[name] = not config[name]
  assert not finished.is_current(config, written)
  del written["config"][name]  # of a run that was there before the key
  config[name] = False
  assert finished.is_current(config, written)
