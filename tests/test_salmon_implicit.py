"""A reward model without a head: how much likelier a letter is under principles than without."""

import dataclasses
import json
from unittest import mock

import jax
import numpy as np
import pytest
import tiny_run
from salmon_run import IMPLICIT, POLICIES, config, ratio

import pit_jax
from pit_jax.models import pure
from pit_jax.recipes import running, salmon
from pit_jax.recipes.salmon import conditioned, implicit, measures
from pit_jax.run import checks
from pit_jax.stages import dpo, rl

ANSWERS = ["Hi Kim, it is Oak.", "Well, Elm gets it. I am too busy.", "so"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("implicit") / "run"
  with tiny_run.unrendered():
    running.run(config(**IMPLICIT), workdir)
  return workdir


@pytest.fixture(scope="module")
def given(run):
  """The context, what each stage of the run was given, and what the recipe returns: read back."""
  context = tiny_run.build(config(**IMPLICIT), run)
  with tiny_run.watching(dpo, rl) as seen:
    study = salmon.RECIPE.train(context)
  return context, seen, study


def test_every_reward_model_learns_by_dpo_from_the_policy_that_is_sampled(run, given):
  _, stages, study = given
  for name in ("reward", "reward_shuffled", "reward_plain"):
    _, how, _ = stages[name]
    assert how["start"] is how["reference"] is study.sampled.params
    assert isinstance(study.rewards[name], implicit.Implicit)
  rows = {name: stages[name][0][0].rows for name in study.rewards}
  assert all("Principles: " in row.prompt for row in rows["reward"])
  assert not any("Principles: " in row.prompt for row in rows["reward_plain"])
  told = json.loads((run / "report" / "results.json").read_text())
  assert [*told["stages"]] == ["sft", "reward", "reward_shuffled", "reward_plain", *POLICIES]
  assert {row["model"] for row in told["conflicts"]} == {*study.rewards, "unlabelled"}


@pytest.mark.parametrize("listed", ["closing", "not:closing,tone"])
def test_a_score_is_by_how_much_likelier_a_letter_is_under_principles(given, listed):
  context, _, study = given
  bank = study.labelled.bank
  questions = context.rows.fold("rl").prompts[:3]
  shown = bank.chosen(listed)
  model = study.rewards["reward"]
  slowly = [ratio(context, model, x, shown, y) for x, y in zip(questions, ANSWERS, strict=True)]
  inference = context.models.inference
  scores = conditioned.rated(inference, model, bank, questions, ANSWERS, [shown] * 3)
  np.testing.assert_allclose(scores, slowly, rtol=1e-3, atol=1e-3)

  rewarding = conditioned.Conditioned(context, model, bank, shown, {"gain": 2.0, "shift": 0.25})
  score = rewarding.signal(questions)
  rows = np.array([2, 0, 1])
  sampled = inference.responses([ANSWERS[row] for row in rows])
  told = np.asarray(score(rows, None, sampled))
  np.testing.assert_allclose(told, 2.0 * scores[rows] + 0.25, rtol=1e-3, atol=1e-3)


def test_reward_models_are_asked_by_the_likelihoods(given):
  context, _, study = given
  found = measures.measure_rewards(measures.of_run(context, study))
  told = {row["model"]: row["both"] for row in found["conflicts"]}
  assert told["reward_plain"] in (0.0, None)
  untrained = implicit.Implicit(study.sampled.params, {}, study.sampled.params)
  asked = dataclasses.replace(study, rewards={"reward": untrained})
  again = measures.measure_rewards(measures.of_run(context, asked))
  assert again["conflicts"][0]["both"] == told["unlabelled"]


def test_the_value_model_begins_on_the_trunk_of_the_policy(given):
  context, _, study = given
  facts = {"gain": 2.0, "shift": 0.25}
  of = (context, study.rewards["reward"], study.labelled.bank, (), facts)
  value = conditioned.Conditioned(*of).value
  jax.tree.map(np.testing.assert_array_equal, value["trunk"], study.sampled.params["trunk"])
  scalar = context.models.scalar
  fresh = pure.complete(scalar, context.key("value head"), {"trunk": value["trunk"]})
  np.testing.assert_array_equal(value["head"], fresh["head"])


def test_both_models_of_the_reward_are_exported(run, given):
  _, _, study = given
  models = salmon.exported(study)["models"]
  assert [*models] == ["policy", "implicit_reward", "reference"]
  assert models["reference"] is study.sampled.params
  found = pit_jax.load(run, mesh=(1, 1, 1), batch_size=4)
  assert found.models == ("policy", "implicit_reward", "reference")
  with pytest.raises(ValueError, match="no improver"):
    found.improve(["Who is it?"])


def test_scores_of_a_finished_run_are_the_likelihoods(run, given):
  context, _, study = given
  found = pit_jax.load(run, mesh=(1, 1, 1), batch_size=4)
  questions = [*context.rows.fold("rl").prompts[:3]]
  others = [*reversed(ANSWERS)]
  for named in (["tone", "not:closing"], []):
    shown = study.labelled.bank.chosen(",".join(named)) if named else ()
    columns = zip(questions, ANSWERS, strict=True)
    slowly = [ratio(context, study.rewards["reward"], x, shown, y) for x, y in columns]
    scores = found.score(questions, ANSWERS, principles=named)
    np.testing.assert_allclose(scores, slowly, rtol=1e-3, atol=1e-3)
    gaps = found.gap(questions, ANSWERS, others, principles=named)
    less = found.score(questions, others, principles=named)
    np.testing.assert_allclose(gaps, scores - less, atol=1e-4)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"salmon__form": "both"}, "salmon.form='both'; use"),
    ({"salmon__response": "{response}\n{principles}"}, "use {response}, or salmon.form="),
    ({"data__source": "jsonl:/nowhere.jsonl"}, "reward_plain is to judge answers"),
  ],
)
def test_what_it_does_not_go_with_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**IMPLICIT | changes), salmon.RECIPE)
  assert said in str(error.value)


def test_a_run_killed_between_reward_models_ends_like_one_left_alone(given, tmp_path):
  whole = dpo.run

  def killed(context, name, *columns, **how):
    if name == "reward_shuffled":
      raise KeyboardInterrupt
    return whole(context, name, *columns, **how)

  with mock.patch.object(dpo, "run", killed), pytest.raises(KeyboardInterrupt):
    salmon.RECIPE.train(tiny_run.build(config(**IMPLICIT), tmp_path))
  kept = tmp_path / "rows" / "reward_reference.jsonl"
  before = kept.stat().st_mtime_ns
  again = salmon.RECIPE.train(tiny_run.build(config(**IMPLICIT), tmp_path))
  assert kept.stat().st_mtime_ns == before
  for name, policy in given[2].policies.items():
    jax.tree.map(np.testing.assert_array_equal, again.policies[name].params, policy.params)
