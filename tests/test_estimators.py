"""RL without a value model: it learns, a restart changes nothing, no part of a value is left."""

import dataclasses
import itertools
import json
import math
import shutil
import sys
import types

import numpy as np
import pytest
import test_ppo_bandit as bandit
import test_rl
import tiny_run

from pit_jax.recipes.rlhf import policy_chain
from pit_jax.stages import ppo
from pit_jax.training import step as training_step

SAMPLES, STEPS, BATCH = 4, 8, 32
BRIEF = "lent_estimators:brief"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """A run of recipe rlhf that has got everything but its RL."""
  workdir = tmp_path_factory.mktemp("start") / "run"
  config = tiny_run.config("rlhf", frontier__checkpoints=0)
  context = tiny_run.build(config, workdir)
  sft = tiny_run.imitate(context).params
  policy_chain.train_reward(context, start=sft, sampler=sft)
  return context


@pytest.fixture
def brief(monkeypatch):
  """Lends a module whose function likes short responses; returns what it was asked."""
  asked = []

  def function(prompts, responses, references):
    asked.append((prompts, references))
    return [-len(response) / 10 for response in responses]

  module = types.ModuleType(BRIEF.split(":")[0])
  module.brief = function
  monkeypatch.setitem(sys.modules, module.__name__, module)
  return asked


def trained(start, workdir, estimator, **changes):
  """Trains the policy of a copy of the run, and returns what it logged."""
  shutil.copytree(start.workdir, workdir, dirs_exist_ok=True)
  given = {
    "rl__estimator": estimator,
    "rl__samples": SAMPLES,
    "rl__batch_size": BATCH,
    "rl__steps": STEPS,
    "rl__learning_rate": 0.03,
    "rl__missing_eos_penalty": 0.0,
    "rl__target_kl": 0.0,
    "rl__value_warmup": 99,  # of no meaning
    "rl__rewards": ((BRIEF, 1.0),),
    "save_every_rl": 3,
    "checkpoints__keep": 9,
  }
  context = tiny_run.with_values(start, workdir, **given | changes)
  policy_chain.train_policy(context)
  return [json.loads(line) for line in (workdir / "metrics" / "rl_policy.jsonl").open()]


TERMS = {
  "rloo": {"rl__kl_coefficient": 0.001},
  "grpo": {"rl__kl_coefficient": 9.0, "rl__loss_kl_coefficient": 0.001},
}


@pytest.mark.parametrize("estimator", TERMS)
def test_the_policy_learns_without_a_value_model_and_a_restart_changes_no_bit(
  start, brief, tmp_path, estimator
):
  rows = trained(start, tmp_path, estimator, **TERMS[estimator])
  scores = [row["objective/score"] for row in rows]
  assert np.mean(scores[-2:]) > np.mean(scores[:2]) + 1.0, "ten letters shorter"
  for step, row in enumerate(rows, start=1):
    assert row[f"objective/rewards/{BRIEF}"] == pytest.approx(row["objective/score"], rel=1e-5)
    assert not [name for name in row if name.startswith("value/")]
    assert row["policy/updates"] == 4, "none was spent on warming up"
    assert row["episode"] == step * BATCH
    assert row["epoch"] * len(start.rows.folds["rl"]) == pytest.approx(step * BATCH / SAMPLES)
    used = TERMS[estimator]["rl__kl_coefficient"] if estimator == "rloo" else 0.0
    assert row["objective/kl_coef"] == pytest.approx(used), "the KL of grpo is in the loss alone"
  tried, *seen = brief  # on two rows, before anything is trained
  assert len(tried[0]) == 2 and len(seen) >= STEPS
  for prompts, references in seen:
    assert len(prompts) == BATCH and references is None
    assert all(len({*prompts[i : i + SAMPLES]}) == 1 for i in range(0, BATCH, SAMPLES))
  whole = test_rl.arrays(tmp_path, "rl_policy", STEPS)
  assert {name for name in whole if "['policy']" in name}
  assert not {name for name in whole if "['value']['" in name}, "but for matrices of attention"
  shutil.rmtree(tmp_path / "checkpoints" / "rl_policy" / str(STEPS))
  shutil.rmtree(tmp_path / "checkpoints" / "rl_policy" / "6")
  trained(start, tmp_path, estimator, **TERMS[estimator])
  assert test_rl.arrays(tmp_path, "rl_policy", STEPS) == whole


def test_own_rewards_and_functions_are_summed(start, brief, tmp_path):
  rewards = (("reward", 0.5), (BRIEF, 0.25))
  changes = {"rl__rewards": rewards, "rl__steps": 2, "rl__samples": 1, "rl__value_warmup": 1}
  for row in trained(start, tmp_path, "gae", **changes):
    parts = [row[f"objective/rewards/{name}"] for name in ("reward", BRIEF)]
    assert row["objective/score"] == pytest.approx(0.5 * parts[0] + 0.25 * parts[1], rel=1e-4)


# Where it goes


def learnt(**changes):
  """Returns the policy's distribution on the bandit once it has learnt, without a value model."""
  settings = dataclasses.replace(bandit.SETTINGS, **changes)
  state = bandit.start(1)
  policy = {"policy": state.train.params["policy"]}
  train = training_step.init_state(policy, bandit.ADAM)
  assert {*train.params} == {*train.opt_state} == {"policy"}
  state = ppo.State(train=train, kl_coefficient=state.kl_coefficient)
  state, _ = bandit.learn(settings, state, length=1, learning=("policy",))
  return bandit.policy_law(state, 1)


def at_rest(scaled, samples, beta):
  """Returns where GRPO's policy rests, π ∝ π_ref exp(E[A_1 | y_1] / β), over all groups there are.

  The other responses of a group matter by how often each action is among them.
  """
  actions = range(bandit.ACTIONS)
  groups = [*itertools.combinations_with_replacement(actions, samples - 1)]
  counts = np.array([[group.count(action) for action in actions] for group in groups])
  orders = [math.factorial(samples - 1) / math.prod(map(math.factorial, row)) for row in counts]

  first = bandit.law(bandit.reference(1)["table"], 1)
  rewards = [float(bandit.reward_table(1)[response]) for response in bandit.everything(1)]
  advantages = np.zeros((bandit.ACTIONS, len(groups)))
  for own, (place, others) in itertools.product(actions, enumerate(groups)):
    scores = [rewards[action] for action in (own, *others)]
    deviation = np.std(scores, ddof=1) + 1e-4 if scaled else 1.0
    advantages[own, place] = (scores[0] - np.mean(scores)) / deviation

  policy = first
  for _ in range(500):
    expected = advantages @ (orders * (policy**counts).prod(axis=1))
    wanted = first * np.exp(expected / beta)
    wanted /= wanted.sum()
    moved = bandit.total_variation(policy, wanted)
    policy = 0.8 * policy + 0.2 * wanted  # by the whole way it would swing to and fro
  assert moved < 1e-9
  return policy


def test_rloo_reaches_the_best_policy_under_its_penalty():
  last = learnt(estimator="rloo", samples=8)
  assert bandit.total_variation(last, bandit.best_law(1, bandit.BETA)) < 0.01


def test_grpo_unscaled_reaches_the_best_policy_under_its_loss():
  """The more samples, the nearer: a response is in the mean that it is compared with."""
  grpo = {"estimator": "grpo", "samples": 64, "loss_kl_coefficient": bandit.BETA}
  last = learnt(scale_rewards=False, **grpo)
  assert bandit.total_variation(last, bandit.best_law(1, bandit.BETA)) < 0.02


@pytest.mark.parametrize("scaled, samples, beta", [(True, 8, 1.0), (False, 4, 0.5)])
def test_grpo_rests_where_its_own_advantages_and_kl_balance(scaled, samples, beta):
  expected = at_rest(scaled, samples, beta)
  assert bandit.total_variation(expected, bandit.best_law(1, beta)) > 0.05, "that is another one"
  if not scaled:
    best = bandit.best_law(1, beta * samples / (samples - 1))
    np.testing.assert_allclose(expected, best, atol=1e-8)

  grpo = {"estimator": "grpo", "samples": samples, "loss_kl_coefficient": beta}
  last = learnt(scale_rewards=scaled, **grpo)
  assert bandit.total_variation(last, expected) < 0.02
