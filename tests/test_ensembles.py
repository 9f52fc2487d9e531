"""Ensembles of heads: what they learn, what RL is given of them, and what length explains."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import tiny
import tiny_models
import tiny_run

from pit_jax.configs import common
from pit_jax.data import encode, rows
from pit_jax.exchange import export
from pit_jax.losses import preference
from pit_jax.models import pure
from pit_jax.recipes import running
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.rollout import scoring
from pit_jax.stages import objectives, pair_columns, reward, rl

PAIRS = [
  rows.Preference("what is the first word ?", "first " * (1 + i % 5), "last " * (1 + i % 3))
  for i in range(12)
]
MEMBERS = 3


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


def section(**values):
  job = common.reward("tiny")
  job.update(values)
  return job


def added(asking, seed=0, kind=encode.preferences, **values):
  return pair_columns.added(kind(PAIRS, asking.settings), PAIRS, section(**values), seed)


def parameters(asking, heads):
  """Returns parameters of one trunk, with a head or with those of an ensemble."""
  params = jax.tree.map(jnp.asarray, tiny.parameters(asking.scalar, seed=1))
  return {**params, "head": jnp.array(heads)}


@pytest.fixture(scope="module")
def heads(asking):
  width = asking.scalar.config.width
  return np.random.default_rng(5).normal(size=(MEMBERS, width)).astype(np.float32)


def test_one_member_is_no_ensemble(asking):
  model, loss = objectives.learning(asking.scalar, objectives.preference_pairs, section())
  assert model is asking.scalar
  assert loss is objectives.preference_pairs(preference.UNREGULARISED)
  assert not added(asking)[0].columns


@pytest.mark.parametrize("kind", ["preferences", "gap_preferences"])
def test_a_member_learns_as_if_it_were_alone_with_its_sample(asking, heads, kind):
  """Members that share a trunk: the ensemble's gradient of each head is its own model's."""
  objective = {"preferences": objectives.preference_pairs, "gap_preferences": objectives.gap_order}
  ensemble = pure.ensemble(asking.scalar.config, MEMBERS)
  table, _ = added(asking, kind=getattr(encode, kind), members=MEMBERS)
  batch = jax.tree.map(jnp.asarray, table[:])
  frozen = {"term_weights": jnp.ones(5)}

  def gradient(model, head, batch):
    loss = objective[kind]()(model)
    params = parameters(asking, head)
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, frozen, batch, None)

  (found, metrics), together = gradient(ensemble, heads, batch)
  draws = np.stack([np.asarray(batch.columns[f"draw_{i}"]) for i in range(MEMBERS)])
  total = draws.sum()
  assert metrics["weight"] == total
  losses = 0.0
  for i, head in enumerate(heads):
    own = batch.replace(columns={"weight": draws[i]})
    (loss, _), alone = gradient(asking.scalar, head, own)
    share = draws[i].sum() / total
    losses += share * loss
    np.testing.assert_allclose(together["head"][i], share * alone["head"], rtol=2e-4, atol=1e-6)
  np.testing.assert_allclose(found, losses, rtol=1e-5)


def test_samples_are_bootstraps_that_differ_and_repeat(asking):
  table, _ = added(asking, members=MEMBERS)
  again, _ = added(asking, members=MEMBERS)
  other, _ = added(asking, seed=1, members=MEMBERS)
  names = [f"draw_{i}" for i in range(MEMBERS)]
  assert [*table.columns] == names == pair_columns.names(section(members=MEMBERS))
  for name in names:
    np.testing.assert_array_equal(table.columns[name], again.columns[name])
    assert set(np.unique(table.columns[name])) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
  assert any((table.columns[name] != other.columns[name]).any() for name in names)
  assert (table.columns["draw_0"] != table.columns["draw_1"]).any()


def test_each_score_is_that_of_its_head_alone(asking, heads):
  ensemble = pure.ensemble(asking.scalar.config, MEMBERS)
  batch = encode.preferences(PAIRS, asking.settings)[:]
  texts = jax.tree.map(jnp.asarray, (batch.prompts, batch.chosen, batch.rejected))
  found = scoring.sequence_scores(ensemble, parameters(asking, heads), *texts)
  for side in range(2):
    assert found[side].shape == (len(PAIRS), MEMBERS)
    for i, head in enumerate(heads):
      alone = scoring.sequence_scores(asking.scalar, parameters(asking, head), *texts)[side]
      np.testing.assert_allclose(found[side][:, i], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pessimism", [0.0, 1.5])
def test_rl_is_given_the_mean_less_the_deviation_and_logs_that(asking, heads, pessimism):
  mean = parameters(asking, heads.mean(axis=0))
  facts = {"shift": 0.25}
  model = reward.RewardModel(mean, facts, members=heads, pessimism=pessimism)
  context = tiny_run.pretended(asking)
  batch = encode.preferences(PAIRS, asking.settings)[:]
  texts = jax.tree.map(jnp.asarray, (batch.prompts, batch.chosen))
  total, known = rl._rewarded(
    {"reward": (2.0, reward.scored(context, model))}, np.arange(len(PAIRS)), *texts
  )
  ensemble = pure.ensemble(asking.scalar.config, MEMBERS)
  (scores,) = scoring.sequence_scores(ensemble, parameters(asking, heads), *texts)
  expected = np.mean(scores, axis=1) - pessimism * np.std(scores, axis=1) + 0.25
  np.testing.assert_allclose(known["reward"], expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(known["reward_disagreement"], np.std(scores, axis=1), rtol=1e-4)
  np.testing.assert_allclose(total.sum(axis=1), 2 * expected, rtol=1e-4, atol=1e-5)


def test_the_mean_model_scores_the_mean_of_its_members(asking, heads):
  ensemble = pure.ensemble(asking.scalar.config, MEMBERS)
  params = parameters(asking, heads)
  batch = encode.preferences(PAIRS, asking.settings)[:]
  texts = jax.tree.map(jnp.asarray, (batch.prompts, batch.chosen))
  (each,) = scoring.sequence_scores(ensemble, params, *texts)
  (found,) = scoring.sequence_scores(asking.scalar, reward.mean(params), *texts)
  np.testing.assert_allclose(found, each.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_what_length_explains_is_the_maximum_of_its_likelihood(asking):
  draw = np.random.default_rng(2)
  ahead = draw.integers(-20, 20, 200).astype(float)
  chances, weights = draw.uniform(0.2, 1, 200), draw.uniform(0, 2, 200)
  deviation = np.sqrt(np.mean(ahead**2))

  def loss(worth):
    right, wrong = (np.logaddexp(0, -sign * worth * ahead) for sign in (1, -1))
    fit = (weights * (chances * right + (1 - chances) * wrong)).sum()
    return fit + (worth * deviation) ** 2 / 2

  expected = scipy.optimize.minimize_scalar(loss, bounds=(-2, 2), method="bounded").x
  found = pair_columns.length_coefficient(ahead, chances, weights)
  assert found == pytest.approx(expected, abs=1e-4)
  assert pair_columns.length_coefficient(np.zeros(3), np.ones(3), np.ones(3)) == 0
  longer = pair_columns.length_coefficient(np.array([3.0, 5.0]), np.ones(2), np.ones(2))
  assert 0 < longer < 1, "pairs of which the longer one always wins have a finite one, too"


def test_length_is_taken_as_known_of_every_pair(asking):
  table, facts = added(asking, length_debiased=True)
  chosen, rejected = (side.mask.sum(axis=1) for side in (table[:].chosen, table[:].rejected))
  ahead = 1.0 * chosen - rejected
  expected = facts["length_coefficient"] * ahead
  np.testing.assert_allclose(table.columns["offset"], expected, rtol=1e-5)
  assert facts["length_coefficient"] * ahead.sum() > 0, "of the side that is longer more often"


def test_a_model_that_knows_length_learns_no_liking_for_it():
  """Labels by length alone: with the offset nothing is left to learn, without it a slope."""
  draw = np.random.default_rng(4)
  ahead = draw.normal(size=4_000) * 10
  is_longer_better = draw.uniform(size=4_000) < 1 / (1 + np.exp(-0.2 * ahead))
  won = np.where(is_longer_better, ahead, -ahead)
  worth = pair_columns.length_coefficient(won, np.ones(4_000), np.ones(4_000))

  def learnt(offsets):
    def loss(slope):
      labels = preference.Labels(offsets=jnp.array(offsets))
      return preference.bradley_terry_loss(slope * won, 0 * jnp.array(won), labels)[0]

    fit = scipy.optimize.minimize_scalar(lambda x: float(loss(jnp.float32(x))), bounds=(-1, 1))
    return fit.x

  assert learnt(0 * won) == pytest.approx(0.2, abs=0.02)
  assert learnt(worth * won) == pytest.approx(0.0, abs=0.002)


OPTIONS = {
  "reward__members": 2,
  "reward__pessimism": 0.5,
  "reward__length_debiased": True,
  "reward__label_smoothing": 0.1,
  "reward__centring": 0.01,
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A finished run of RLHF whose reward is an ensemble that takes labels with doubt: read it."""
  folder = tmp_path_factory.mktemp("run") / "run"
  with tiny_run.unrendered():
    running.run(tiny_run.config("rlhf", **OPTIONS), folder)
  return folder


def logged(workdir, stage):
  return [json.loads(line) for line in (workdir / "metrics" / f"{stage}.jsonl").open()]


def test_a_run_logs_how_far_the_members_disagree(workdir):
  rewards = [row for row in logged(workdir, "rl_policy") if "objective/rewards/reward" in row]
  assert rewards and all(row["objective/rewards/reward_disagreement"] > 0 for row in rewards)
  facts = json.loads((workdir / "calibration" / "reward.json").read_text())
  assert facts["disagreement"] > 0 and np.isfinite(facts["length_coefficient"])


def test_an_ensemble_that_is_read_back_is_the_one_that_was_trained(workdir):
  """Of a second start: its heads, their unit, and the model that is exported."""
  found = []
  for _ in range(2):
    config = tiny_run.config("rlhf", **OPTIONS)
    context = tiny_run.build(config, workdir)
    start = tiny_run.imitate(context).params
    found.append(policy_chain.train_reward(context, start=start, sampler=start))
  first, second = found
  assert first.members.shape == (2, first.params["head"].shape[0]) and first.pessimism == 0.5
  np.testing.assert_array_equal(first.members, second.members)
  np.testing.assert_allclose(first.params["head"], first.members.mean(axis=0), rtol=1e-6)
  exported = export.load_one(workdir, "reward", mesh=context.mesh).params
  np.testing.assert_array_equal(exported["head"], first.params["head"])


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"reward__pessimism": 0.5}, r"reward\.pessimism=0\.5 with reward\.members=1"),
    ({"reward__model": "m", "reward__members": 2}, r"reward\.members=2 with reward\.model='m'"),
    ({"reward__label_smoothing": 0.5}, r"reward\.label_smoothing=0\.5; use 0 or more and less"),
    ({"gap_reward__members": 0}, r"gap_reward\.members=0; use 1 or more"),
  ],
)
def test_what_cannot_be_is_refused_before_training(tmp_path, changes, said):
  with pytest.raises(ValueError, match=said):
    tiny_run.build(tiny_run.config("pit", **changes), tmp_path)
