"""The pairs a finished run makes for the next round: whose prompts, which pairs, who reads them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import scripted
import tiny_run

from pit_jax.commands import evaluate
from pit_jax.data import conversations, preferences
from pit_jax.data import rows as data_rows
from pit_jax.recipes import finished
from pit_jax.recipes.pit import next_round


class Circular(scripted.Scripted):
  """Of a question that begins with 9 each version beats the one before, and the draft the last."""

  def gaps(self, gap_reward, questions, answers, references):
    found = super().gaps(gap_reward, questions, answers, references)
    is_circular = np.array([question.startswith("9") for question in questions])
    pairs = zip(answers, references, strict=True)
    steps = np.array([scripted.version(a) - scripted.version(b) for a, b in pairs])
    circle = np.where(np.abs(steps) == 1, steps, -np.sign(steps))
    return np.where(is_circular, scripted.ZERO_POINT + circle, found)


def make(*names, minimum_margin=0.0, **folds):
  """Makes the pairs of some folds; their prompts are scripts as in scripted.py."""
  suite = scripted.make_suite(["0 0"])
  models = dataclasses.replace(suite.improver, inference=Circular())
  rows = {
    name: tuple(data_rows.Preference(x, "c", "r") for x in folds.get(name, ()))
    for name in preferences.part_names(preferences.THREE, ("rl",))
  }
  return next_round.make(
    dataclasses.replace(suite, improver=models),
    rows,
    names,
    rounds=3,
    minimum_margin=minimum_margin,
  )


def test_the_kept_version_is_preferred_to_the_draft():
  asked = ["5 6 7 8", "5 6 4 9", "5 4 9 9", "5 5.5 1 1", "9 9 9 9"]
  made = make("sft", "rl", rl=asked, sft=["1 2 2 2"], minimum_margin=0.75)
  assert [(row["prompt"], row["fold"], row["rounds"], row["margin"]) for row in made.rows] == [
    ("1 2 2 2", "sft", 1, 1.0),
    ("5 6 7 8", "rl", 3, 3.0),
    ("5 6 4 9", "rl", 1, 1.0),
  ]
  assert [row["chosen"][:9] for row in made.rows] == ["version 1", "version 3", "version 1"]
  assert {row["rejected"][:9] for row in made.rows} == {"version 0"}
  assert made.left_out == {
    "the draft was kept": 1,
    "less than the minimum margin": 1,
    "no better than the draft in both orders": 1,
  }


def test_prompts_that_measure_give_no_pair():
  others = ("held_out", "sft_validation", "reward_validation", "judge", "reward")
  measuring = {name: ["1 2 3 4"] for name in others}
  folds = {**measuring, "sft": ["2 3 3 3", "2 3 3 3"], "rl": ["3 4 4 4"]}
  made = make(*next_round.DEFAULT, **folds)
  assert [row["prompt"] for row in made.rows] == ["2 3 3 3", "3 4 4 4"], "each prompt once"
  assert [row["fold"] for row in make("reward", **folds).rows] == ["reward"]
  for names in (("held_out",), ("rl", "judge"), ()):
    with pytest.raises(ValueError, match="use some of sft, reward, rl"):
      next_round.check(names, 0.0)
  with pytest.raises(ValueError, match="a regression is no preference"):
    next_round.check(("rl",), -0.1)


def test_without_a_pair_nothing_is_written(tmp_path):
  made = make("rl", rl=["5 4 4 4"])
  with pytest.raises(ValueError, match="no pair was made \\(the draft was kept: 1\\)"):
    next_round.write(made, tmp_path / "next.jsonl")
  assert not list(tmp_path.iterdir())


def test_rows_of_data_come_back_as_they_were(tmp_path):
  turns = (conversations.Turn("system", "be brief"), conversations.Turn("user", "why?"))
  data = [
    data_rows.Preference("x", "a", "b"),
    data_rows.Preference(turns, "a", "b", "c", 1.5, 2, ("one", "other"), (7.5, 3.0), 0.75, 2.0),
  ]
  new = {"prompt": "n", "chosen": "a", "rejected": "b", "margin": 0.5, "fold": "rl", "rounds": 2}
  next_round.write(next_round.Pairs([new], {}), tmp_path / "next.jsonl", data)
  read = preferences.load(f"jsonl:{tmp_path / 'next.jsonl'}")
  assert read.rows == (data_rows.Preference("n", "a", "b", margin=0.5), *data)


@pytest.mark.slow
def test_the_next_round_holds_out_the_same_prompts(finished_run, tmp_path, capsys):
  workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
  output = tmp_path / "next.jsonl"
  options = ["--export_folds=sft,reward,rl", "--with_data"]
  evaluate.main([f"--workdir={workdir}", f"--export_preferences={output}", *options])
  assert f"then {len(finished_run.context.rows.data.rows)} rows" in capsys.readouterr().out
  lines = [json.loads(line) for line in output.read_text().splitlines()]
  new = [line for line in lines if "fold" in line]
  assert new and {line["chosen_generator"] for line in new} == {"pit"}
  config, old = finished_run.context.config.data, finished_run.context.rows.folds
  loaded = preferences.load(f"jsonl:{output}")
  assert len(loaded.rows) == len(lines) and not loaded.skipped
  folds = preferences.divide(loaded.rows, config.held_out, config.validation, config.judge)
  for part in ("held_out", "sft_validation", "reward_validation"):
    assert folds[part] == old[part], "what measures has no new row"
  for line in new:
    assert line["prompt"] in {row.prompt for row in old[line["fold"]]}
    assert line["prompt"] in {row.prompt for row in folds[line["fold"]]}
    assert line["margin"] > 0


def test_pairs_are_not_made_under_values_of_an_evaluation_that_did_not_end(tmp_path):
  config = tiny_run.config()
  rows = [{"experiment": "main"}]
  known = {"config": json.loads(config.to_json()), "comparisons": rows}
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "results.json").write_text(json.dumps(known))
  config.evaluation.rounds, config.evaluation.prompts = 7, 5  # begun, and killed
  config.evaluation.language_judge.retries = 9  # on which no figure depends
  (tmp_path / "config.json").write_text(config.to_json())
  with pytest.raises(
    ValueError, match="other values.*finish that evaluation .*report's own prompts, rounds as"
  ):
    finished.export_preferences(tmp_path, tmp_path / "next.jsonl")
  with pytest.raises(ValueError, match="leave --experiment out.* own prompts, rounds as"):
    finished.evaluate(tmp_path, "length")


@pytest.mark.slow
def test_only_finished_runs_of_pit_give_pairs(finished_run, tmp_path):
  with pytest.raises(ValueError, match="holds no run"):
    finished.export_preferences(tmp_path, tmp_path / "next.jsonl")
  content = json.loads((finished_run.workdir / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps(content | {"recipe": "rlhf"}))
  with pytest.raises(ValueError, match="of recipe rlhf; only pit improves answers"):
    finished.export_preferences(tmp_path, tmp_path / "next.jsonl")
