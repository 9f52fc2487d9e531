"""What stages return: parameters, and the facts of the step that was kept."""

import json

import jax
import numpy as np
import pytest
import test_stages
import tiny_run

from pit_jax.data import encode
from pit_jax.report import training_tables
from pit_jax.stages import objectives, supervised, trained
from pit_jax.training import interruption, writers

LOSSES = {1: 0.5, 2: 0.25, 3: 0.75}  # that an evaluation says of the steps


def models_of(run):
  models = run.models
  policy = models.policy
  return {
    "sft_policy": policy.sft,
    "reward": policy.reward,
    "rl_policy": policy.rl,
    "sft_improver": models.improver_sft,
    "gap_reward": models.gap_reward,
    "pit_policy": models.improver,
    "rlhf_longer": models.ablations["rlhf_longer"],
    "pit_first_only_data": models.ablations["pit_first_only"],
  }


def logged(workdir, stage, step):
  """Returns what a stage logged of a step, its seconds and speeds apart."""
  rows = (workdir / "metrics" / f"{stage}.jsonl").read_text().splitlines()
  (row,) = [row for row in map(json.loads, rows) if row["step"] == step]
  return {metric: value for metric, value in row.items() if not metric.startswith("perf/")}


def test_every_stage_returns_parameters_and_what_was_logged_of_them(finished_run):
  for stage, model in models_of(finished_run).items():
    assert isinstance(model, trained.Trained), stage
    assert json.loads(json.dumps(model.facts)) == model.facts, stage
    steps = tiny_run.last_step(finished_run.workdir, stage)
    assert (model.facts["steps"], model.facts["step"]) == (steps, steps)
    if not stage.endswith("reward"):
      expected = logged(finished_run.workdir, stage, steps) | {"steps": steps}
      assert model.facts == expected, stage

  policy = finished_run.models.policy
  assert {"objective/score", "objective/kl", "objective/kl_coef"} <= policy.rl.facts.keys()
  assert "validation/loss" in policy.sft.facts


def test_reward_models_say_of_their_calibration_what_training_said(finished_run):
  for stage, shown in (("reward", "accuracy"), ("gap_reward", "order")):
    model = models_of(finished_run)[stage]
    row = logged(finished_run.workdir, stage, model.facts["step"])
    assert model.facts[shown] == pytest.approx(row[f"reward_model/{shown}"], abs=1e-6)


def test_what_ended_keeps_no_optimizer_state(finished_run):
  for stage, model in models_of(finished_run).items():
    assert type(model) is trained.Trained or stage.endswith("reward"), stage


def chosen(context, **values):
  """Returns three steps of imitation of which the second is the best, and what was evaluated."""
  evaluated = {}

  def evaluate(params):
    step = len(evaluated) + 1
    evaluated[step] = params
    return {"validation/loss": LOSSES[step]}

  context = tiny_run.with_values(
    context, context.workdir, sft__select="best", sft__evaluate_every=1, **values
  )
  form = context.rows.settings.formats["policy"]
  table = encode.demonstrations(context.rows.folds["sft"], form, context.rows.settings)
  how = {"evaluate": evaluate, "score": ("validation/loss", "lowest")}
  start = (objectives.imitation, context.initial_policy())
  language = context.models.language
  sft = context.config.sft
  return supervised.run(context, "sft_policy", language, *start, table, sft, **how)


@pytest.fixture
def fresh(finished_run, tmp_path):
  return tiny_run.with_values(finished_run.context, tmp_path / "run")


def test_facts_are_of_the_step_that_was_kept_and_the_same_when_it_is_read_back(fresh, monkeypatch):
  result = chosen(fresh)
  assert (result.facts["steps"], result.facts["step"]) == (3, 2)
  assert result.facts["validation/loss"] == LOSSES[2]
  assert result.facts == logged(fresh.workdir, "sft_policy", 2) | {"steps": 3}

  last = tiny_run.imitate(tiny_run.with_values(fresh, fresh.workdir / "other"))
  different = [not np.array_equal(a, b) for a, b in zip(*map(leaves, (result, last)), strict=True)]
  assert any(different), "the last step is another one"

  test_stages.forbid_steps(monkeypatch)
  again = chosen(fresh)
  test_stages.assert_same(again.params, result.params)
  assert again.facts == result.facts


def leaves(model):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(model.params)]


def test_a_stage_that_was_interrupted_has_the_facts_of_one_left_alone(fresh, finished_run):
  with interruption.stopping(2), pytest.raises(interruption.Interrupted):
    tiny_run.imitate(fresh)
  assert tiny_run.imitate(fresh).facts == finished_run.models.policy.sft.facts


def test_the_report_shows_what_stages_ended_in(finished_run):
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  stages = results["stages"]
  row = writers.read(finished_run.workdir / "metrics" / "sft_policy.jsonl")[-1]
  expected = {"validation loss": row["validation/loss"], "loss": row["loss"]}
  assert stages["sft_policy"]["facts"] == expected
  assert stages["rl_policy"]["facts"].keys() == {"score", "KL", "tokens"}
  assert all(stage["facts"] and stage["step"] == stage["steps"] for stage in stages.values())

  table = training_tables.stages(results)
  cells = {row[0]: row[1] for row in table.rows}
  assert table.columns[:2] == ("stage", "ended in") and "kept" not in table.columns
  assert cells["sft_policy"].startswith(f"validation loss {row['validation/loss']:.4g}, loss ")


def test_the_table_says_which_step_was_kept_where_that_is_not_the_last():
  stage = {"kind": "sft", "steps": 300, "step": 120, "facts": {"validation loss": 0.25}}
  last = stage | {"step": 300}
  results = {"stages": {"one": stage, "other": last}, "seconds": {"one": 2.0, "other": 3.0}}
  table = training_tables.stages(results)
  kept = table.columns.index("kept")
  assert [row[kept] for row in table.rows] == ["120", "·", "·"]
  assert table.rows[0][1] == "validation loss 0.25"
