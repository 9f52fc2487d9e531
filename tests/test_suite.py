"""The experiments, the judges and the pooling of seeds, on systems whose answers are known."""

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
import report_example
import tiny_run
from scripted import Scripted, make_suite

from pit_jax.evaluate import subject as subjects
from pit_jax.feedback import judges
from pit_jax.recipes.pit import rounds, subject, temperature
from pit_jax.report import tabular
from pit_jax.tasks import classes, synthetic

METHOD = report_example.METHOD


def test_each_stream_is_a_draw_of_its_own_and_always_the_same():
  experiments = make_suite(["1 2"] * 3)
  policy = {"version": 0, "noisy": True}
  draws = [experiments.answers(policy, stream)[0] for stream in (1, 2, 3)]
  assert len(set(draws)) == 3
  assert [experiments.answers(policy, stream)[0] for stream in (1, 2, 3)] == draws
  assert "at 1.0" in experiments.answers({"version": 0}, 1)[0]
  assert "at 0.0" in experiments.answers({"version": 0}, 1, 0.0)[0]
  assert experiments.improved({"step": 1}, ["version 0"] * 3, 1, 0.5) == ["version 1 at 0.5"] * 3


def test_systems_are_compared_under_every_judge():
  experiments = make_suite(["1 2", "3 3", "5 4", "0 9"])
  texts = {"a": ["version 1"] * 4, "b": ["version 0"] * 4}
  rows = experiments.compare("a", "b", texts)
  assert [row["judge"] for row in rows] == ["R_P", "R_PIT"]
  for row in rows:
    assert (row["a"], row["b"], row["n"], row["temperature"]) == ("a", "b", 4, 1.0)
    assert (row["win"], row["lose"], row["tie"], row["delta"]) == (50.0, 25.0, 25.0, 25.0)
    assert row["ci95"][0] <= 25 <= row["ci95"][1]
  assert experiments.compare("a", "b", texts, 0.2)[0]["temperature"] == 0.2


def test_a_system_is_described_by_every_judge_that_scores():
  experiments = make_suite(["1 2", "3 6"])
  described = experiments.describe(["version 1", "version 0 version 0 version 0"])
  assert described["score"] == described["score_R_P"] == (2 + 3) / 2
  assert "score_R_PIT" not in described, "the gap model only compares"
  assert described["tokens"] == (2 + 6) / 2
  assert described["repetition"] == (0 + 2 / 4) / 2  # of four triples two stood before


def test_a_system_is_described_by_the_checks_of_its_task():
  experiments = make_suite(["1 2", "3 6"])
  texts = ["version 1", "version 0"]
  assert "checks" not in experiments.describe(texts), "no judge of a task"
  shares = {"answer": 0.5, "malformed": 0.0}

  def checks(questions, answers):
    assert (list(questions), list(answers)) == (["1 2", "3 6"], texts)
    return shares

  knowing = dataclasses.replace(experiments.judges[-1], checks=checks)
  judged = dataclasses.replace(experiments, judges=[experiments.judges[0], knowing])
  assert judged.describe(texts)["checks"] == shares
  assert judges.gold().checks is classes.shares


# Version by version; the stop rule ends a row before its first version without gain.
SCRIPTS = {
  "5 6 7 8": (5, 6, 7, 8),
  "5 6 4 9": (5, 6, 6, 6),
  "5 4 9 9": (5, 5, 5, 5),
  "5 5 6 7": (5, 5, 5, 5),
}


def test_rounds_are_counted_with_and_without_the_stop_rule():
  questions = list(SCRIPTS)
  experiments = make_suite(questions)
  made = experiments.rounds(experiments.answers({"version": 0}, 1), 3, 200)
  table = rounds.table(experiments, made)
  free = np.array([[float(value) for value in question.split()] for question in questions])
  ruled = np.array(list(SCRIPTS.values()), float)
  stopped = [0, 2 / 4, 3 / 4, 3 / 4]  # rows 3 and 4 in the first round, row 2 in the second
  for k, row in enumerate(table):
    assert row["k"] == k
    for suffix, values in (("", free), ("_stop", ruled)):
      better = int((values[:, k] > values[:, 0]).sum()) - int((values[:, k] < values[:, 0]).sum())
      assert row[f"score{suffix}"] == values[:, k].mean()
      assert row[f"delta{suffix}"] == 100 * better / 4
      low, high = row[f"ci95{suffix}"]
      assert low <= row[f"delta{suffix}"] <= high
    assert row["stopped"] == stopped[k]
  np.testing.assert_allclose(made.gaps, np.diff(free, axis=1).T)
  assert made.kept.tolist() == [3, 1, 0, 0]


def test_a_margin_stops_earlier():
  questions = ["5 5.5 7", "5 7 7.5"]
  drafts = ["version 0"] * 2
  kept = {
    margin: make_suite(questions, margin).rounds(drafts, 2, 200).kept.tolist()
    for margin in (0.0, 1.0, 2.0)
  }
  assert kept == {0.0: [2, 2], 1.0: [0, 1], 2.0: [0, 0]}


def test_original_and_pit_are_compared_at_the_same_temperatures():
  experiments = make_suite(["1 2", "3 6"])
  rows, texts = temperature.curve(experiments, {"version": 0}, (0.2, 1.0), 300, {})
  assert [(row["t"], row["system"]) for row in rows] == [
    (0.2, "original"),
    (0.2, "pit"),
    (1.0, "original"),
    (1.0, "pit"),
  ]
  for key in ("score", "score_R_P"):
    assert [row[key] for row in rows] == [2.0, 4.0, 2.0, 4.0]
  assert [row.get("delta") for row in rows] == [None, 100.0, None, 100.0]
  for t, made in texts.items():
    assert all(f"at {t}" in text for words in made.values() for text in words)


def test_what_was_sampled_at_a_temperature_is_not_sampled_again():
  few = make_suite(["1 2", "3 6", "5 1"]).first(2)
  sampled = {1.0: {name: [f"version {k} mine"] * 3 for name, k in (("original", 0), ("pit", 1))}}
  rows, texts = temperature.curve(few, {"version": 0}, (0.2, 1.0), 300, sampled)
  assert texts[1.0] == {"original": ["version 0 mine"] * 2, "pit": ["version 1 mine"] * 2}
  assert [row["score"] for row in rows] == [2.0, 4.0, 2.0, 4.0]
  assert {row["n"] for row in rows if "n" in row} == {2}


def table_of(rows):
  """Returns the report's table of some comparisons."""
  results = {"recipe": "pit", "seconds": {}, "systems": {}, "comparisons": rows}
  return tabular.build(results, METHOD)["comparisons"]


VERSION_AT = {0.2: {"original": 0, "pit": 2}, 1.0: {"original": 1, "pit": 3}}


class AtTemperature(Scripted):
  """Answers with another version at each temperature."""

  def answer(self, policy, questions, key, temperature):
    return [f"version {VERSION_AT[temperature]['original']}"] * len(questions)

  def revise(self, improver, questions, drafts, key, temperature):
    return [f"version {VERSION_AT[temperature]['pit']}"] * len(questions)


def test_best_temperatures_are_those_that_r_p_likes_best_of_each_system():
  suite = make_suite(["4 1 2 8", "4 1 2 3"])
  suite = dataclasses.replace(
    suite,
    improver=dataclasses.replace(suite.improver, inference=AtTemperature()),
    judges=[dataclasses.replace(suite.judges[0], name="gold", score=None), *suite.judges],
  )
  assert temperature.choose(suite, {}, (0.2, 1.0), 800) == {"original": 0.2, "pit": 1.0}


def test_best_is_compared_with_best():
  # R_P would like original best at 1 here, but was not asked on these prompts.
  experiments = make_suite(["4 5 2 8", "4 5 2 8", "4 5 2 3"])
  texts = {
    t: {system: [f"version {k}"] * 3 for system, k in systems.items()}
    for t, systems in VERSION_AT.items()
  }
  best = {"original": 0.2, "pit": 1.0}
  rows = temperature.best_against_best(experiments, best, texts)
  assert {row["judge"] for row in rows} == {"R_P", "R_PIT"}
  for row in rows:
    assert (row["a"], row["b"], row["temperature"]) == ("pit", "original", "best")
    assert (row["temperature_pit"], row["temperature_original"]) == (1.0, 0.2)
    assert (row["win"], row["lose"]) == (200 / 3, 100 / 3)  # 8 > 4, 8 > 4, 3 < 4
    assert (row["chosen_by"], row["chosen_on"]) == ("R_P", "reward_validation")
  note = "its own row flatters them"
  assert note in table_of(rows).note
  third = dataclasses.replace(experiments.judges[0], name="R_judge")
  judged = dataclasses.replace(experiments, judges=(third, *experiments.judges))
  rows = temperature.best_against_best(judged, best, texts)
  assert {row["judge"] for row in rows} == {"R_judge", "R_PIT"}, "R_P is no judge of its choice"
  assert note not in table_of(rows).note


def test_temperatures_are_chosen_on_prompts_that_are_neither_compared_nor_trained_on(finished_run):
  context, models = finished_run.context, finished_run.models
  asked = set(subject.of_run(context, models).validating.questions)
  folds = {name: {row.prompt for row in part} for name, part in context.rows.folds.items()}
  assert asked <= folds.pop("reward_validation")
  assert len(asked) == context.config.evaluation.temperature_prompts
  assert not asked & set.union(*folds.values())


def test_the_gap_judge_does_not_care_who_comes_first():
  class Biased(Scripted):
    """Prefers whatever it is shown as the answer, by a different amount each time."""

    def gaps(self, gap_reward, questions, answers, references):
      return np.array(
        [3.0 + np.sin(len(a) * 7.0 - len(b)) for a, b in zip(answers, references, strict=True)]
      )

  judge = judges.gap_model(functools.partial(Biased().gaps, {}))
  questions = [f"q{i}" for i in range(9)]
  a, b = ["x" * i for i in range(9)], ["x" * (i * i % 7) for i in range(9)]
  forth, back = (judge.verdicts(questions, *pair).difference for pair in ((a, b), (b, a)))
  assert np.abs(forth).max() > 0.1
  np.testing.assert_array_equal(forth, -back)
  np.testing.assert_array_equal(judge.verdicts(questions, a, a).difference, 0)
  one, other = judge.compare(questions, a, b), judge.compare(questions, b, a)
  assert (one.win, one.lose, one.tie) == (other.lose, other.win, other.tie)


def test_a_reward_model_judges_small_differences_a_tie_and_gold_does_not():
  scores = {"a": 1.0, "b": 1.0 + judges.MODEL_TIE / 2, "c": 1.0 + 2 * judges.MODEL_TIE}

  class Close(Scripted):
    def rate(self, reward, questions, answers):
      return np.array([scores[answer] for answer in answers])

  judge = judges.reward_model(functools.partial(Close().rate, {}))
  compared = judge.compare(["q"] * 3, ["a", "b", "c"], ["a", "a", "a"])
  assert (compared.win, compared.lose, compared.tie) == pytest.approx((100 / 3, 0, 200 / 3))
  assert judges.gold().tie < min(synthetic.WEIGHTS.values())


def test_a_model_is_asked_about_each_row_once():
  class Counting(Scripted):
    asked = []

    def rate(self, reward, questions, answers):
      self.asked += zip(questions, answers)
      return np.array([float(answer) for answer in answers])

  judge = judges.reward_model(functools.partial(Counting().rate, {}))
  assert judge.score(["q", "q", "p"], ["1", "1", "2"]).tolist() == [1.0, 1.0, 2.0]
  assert judge.score(["p", "q"], ["2", "3"]).tolist() == [2.0, 3.0]
  assert judge.score(["p"], ["2"]).tolist() == [2.0]
  assert Counting.asked == [("q", "1"), ("p", "2"), ("q", "3")]


def test_the_gold_judge_reads_letters():
  rows = synthetic.preferences(60, seed=0)
  prompts, letters = [row["prompt"] for row in rows], [row["chosen"] for row in rows]
  judge = judges.gold()
  scores = judge.score(prompts, letters)
  assert scores.tolist() == [synthetic.gold(*pair) for pair in zip(prompts, letters)]
  assert 0 < scores.max() <= sum(synthetic.WEIGHTS.values())
  compared = judge.compare(prompts, letters, ["nonsense"] * 60)
  assert compared.win == pytest.approx(100 * (scores > 0).mean())
  assert compared.lose == 0


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
  """A run whose data ask every third question twice."""
  folder = tmp_path_factory.mktemp("repeated")
  made = synthetic.preferences(240, seed=0)
  made += [row | {"chosen": "Another."} for row in made[::3]]
  (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
  config = tiny_run.config(data__source=f"jsonl:{folder / 'rows.jsonl'}", data__rows=None)
  return tiny_run.build(config, folder / "run")


def test_evaluation_asks_each_held_out_prompt_once_and_no_trained_one(repeated):
  folds = repeated.rows.folds
  asked = [row.prompt for row in subjects.held_out(repeated)]
  assert len(asked) == len(set(asked)) == repeated.config.evaluation.prompts
  assert len(folds["held_out"]) > len({row.prompt for row in folds["held_out"]})
  parts = {name: {row.prompt for row in part} for name, part in folds.items()}
  assert parts.pop("judge") == parts.pop("set_aside") == set()  # none was asked for
  for (name, one), (other_name, other) in itertools.combinations(parts.items(), 2):
    assert one and other and not one & other, (name, other_name)
  assert set(asked) <= parts["held_out"]


def test_a_run_reports_on_its_held_out_prompts_only(finished_run):
  held_out = {row.prompt for row in finished_run.context.rows.folds["held_out"]}
  path = finished_run.workdir / "report" / "results.json"
  results = json.loads(path.read_text())
  assert {row["prompt"] for row in results["samples"]} <= held_out
  evaluation = finished_run.context.config.evaluation
  for row in results["comparisons"]:
    few = row["experiment"] in ("temperature", "cost")
    most = evaluation.temperature_prompts if few else evaluation.prompts
    assert row["n"] == min(len(held_out), most)
