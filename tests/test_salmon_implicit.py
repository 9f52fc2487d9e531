"""A reward model without a head: how much likelier a letter is under principles than without."""

import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from salmon_run import POLICIES, config

from pit_jax.models import pure
from pit_jax.recipes import running, salmon
from pit_jax.recipes.salmon import banks, conditioned, implicit, measures
from pit_jax.run import checks
from pit_jax.stages import dpo, rl

IMPLICIT = {"salmon__form": "implicit", "dpo__steps": 3, "dpo__batch_size": 8}
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


def ratio(context, model, question, shown, answer):
  """Slowly: one response at a time, its log-probabilities token by token, without the end."""
  inference = context.models.inference

  def nats(params, prompt):
    settings = context.rows.settings
    chat = settings.formats["policy"].conversations([prompt])
    (prompt_ids,) = settings.encode(chat).ids
    (encoded,) = settings.encode_responses([answer])
    ids = [*prompt_ids, *encoded.ids[0]]
    tokens = jnp.array([ids], jnp.int32)
    logits = inference.language.apply(params, tokens, jnp.ones((1, len(ids)), bool))[0]
    logprobs = np.asarray(jax.nn.log_softmax(logits))
    places = range(len(prompt_ids), len(ids) - 1)
    return sum(logprobs[place - 1, ids[place]] for place in places)

  under = question if not shown else context_bank(context).show(question, shown)
  return nats(model.params, under) - nats(model.reference, question)


def context_bank(context):
  return banks.read(context.config)


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


def test_a_reward_model_without_a_head_stays_in_the_run(given):
  _, _, study = given
  assert [*salmon.exported(study)["models"]] == ["policy"]


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
