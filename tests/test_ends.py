"""Rewards of one text do not depend on which of several stop ids ended it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_ppo_bandit
import tiny
import tiny_models
import tiny_run

from pit_jax.data import encode, text
from pit_jax.recipes.pit import gap_rewards
from pit_jax.rollout import rewards as rollout_rewards
from pit_jax.rollout import scoring
from pit_jax.stages import ppo, reward, rl
from pit_jax.training import step as training_step
from pit_jax.types import Responses

QUESTIONS = ["what is the first word ?", "what is the word ?", "not this word ?", "is it this ?"]
REFERENCES = ["it is the last word .", "not this .", "the .", "it is ."]
ANSWERS = ["it is the .", "", "the first word is the last word , not this", "it is"]
SHIFT = 0.75  # what RL adds to every score
WHOLE = np.array([True, True, False, True])  # the third does not end within the response length


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  """Tiny models whose responses end at any of three tokens."""
  made = tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))
  learnt = made.settings.tokenizer
  stops = [learnt.encode(word)[0] for word in ("#", "@")]
  settings = dataclasses.replace(made.settings, tokenizer=text.Tokenizer(learnt._fast, stops))
  return dataclasses.replace(made, settings=settings)


@pytest.fixture(scope="module")
def sampled(asking):
  """The answers as each stop id may have ended them, the trained end first."""
  stop_ids = asking.settings.tokenizer.stop_ids
  responses = asking.responses(ANSWERS)
  tokens, is_end = responses.tokens, responses.tokens == stop_ids[0]
  np.testing.assert_array_equal((is_end & responses.mask).any(axis=1), WHOLE)
  assert len(stop_ids) == 3
  made = [np.where(is_end & responses.mask, stop, tokens) for stop in stop_ids]
  return [Responses(tokens=ids.astype(np.int32), mask=responses.mask) for ids in made]


def test_the_trained_end_is_read_in_the_place_of_another():
  """Ends are 1, 7 and 9. A 7 before the last token is a word; a cut response has no end."""
  tokens = np.array([[4, 5, 7, 0], [9, 0, 0, 0], [7, 4, 1, 0], [7, 9, 7, 5], [9, 9, 9, 9], [7] * 4])
  mask = tiny.right([3, 1, 3, 4, 4, 0], 4)
  read = scoring.with_trained_end(Responses(tokens=tokens, mask=mask), (1, 7, 9))
  expected = [[4, 5, 1, 0], [1, 0, 0, 0], [7, 4, 1, 0], [7, 9, 7, 5], [9, 9, 9, 1], [7] * 4]
  np.testing.assert_array_equal(read.tokens, expected)
  np.testing.assert_array_equal(read.mask, mask)


def rewards_of(asking, kind):
  """Returns responses → what RL maximises or calibration reads, by one of the ways there are."""
  params = tiny_models.models_of(asking)
  context = tiny_run.pretended(asking)
  rows = np.arange(len(QUESTIONS))
  if kind == "policy":
    prompts = encode.prompts(
      asking.settings.formats["policy"].conversations(QUESTIONS), asking.settings
    )[:]
    model = reward.RewardModel(params["reward"], {"shift": SHIFT})
    signal = reward.signal(context, model, QUESTIONS)
  else:
    prompts = encode.prompts(
      asking.settings.formats["improver"].conversations(QUESTIONS, REFERENCES), asking.settings
    )[:]
    model = reward.RewardModel(params["gap_reward"], {"zero_point": 0.0, "shift": SHIFT})
    signal = gap_rewards.of_model(context, model).signal(QUESTIONS, REFERENCES)
  if kind == "difference":
    model = reward.RewardModel(params["reward"], {"shift": SHIFT})
    signal = gap_rewards._signal(context, model, 2.0, -1.0, QUESTIONS, REFERENCES)
  if kind == "calibration":
    return lambda y: asking.score_samples(params["gap_reward"], prompts, y)
  return lambda y: np.asarray(signal(rows, prompts, jax.tree.map(jnp.asarray, y)))


@pytest.mark.parametrize("kind", ["policy", "improver", "difference", "calibration"])
def test_the_same_texts_have_the_same_rewards_to_the_bit(asking, sampled, kind):
  ways = [rewards_of(asking, kind)(responses) for responses in sampled]
  for others in ways[1:]:
    np.testing.assert_array_equal(ways[0], others)
  # The first way holds the ids of training; and the end is a token that does make a difference.
  params, name = tiny_models.models_of(asking), "gap_reward" if kind != "policy" else "reward"
  if kind in ("policy", "improver"):
    given = (QUESTIONS, ANSWERS) if kind == "policy" else (QUESTIONS, ANSWERS, REFERENCES)
    in_words = {"policy": asking.rate, "improver": asking.gaps}[kind](params[name], *given)
    np.testing.assert_allclose(ways[0], in_words + SHIFT, rtol=1e-5, atol=1e-6)
    prompts = encode.prompts(
      asking.settings.formats["policy"].conversations(QUESTIONS), asking.settings
    )[:]
    as_they_are = [asking.score(params[name], prompts, responses) for responses in sampled]
    assert np.abs(as_they_are[0] - as_they_are[1])[WHOLE].min() > 1e-3
    np.testing.assert_array_equal(as_they_are[0][~WHOLE], as_they_are[1][~WHOLE])


def test_calibration_is_on_texts_that_end_as_in_training(asking, sampled, monkeypatch):
  params = tiny_models.models_of(asking)
  context = tiny_run.pretended(asking)
  prompts = encode.prompts(
    asking.settings.formats["policy"].conversations(QUESTIONS), asking.settings
  )[:]
  found = []
  for responses in sampled:
    monkeypatch.setattr(type(asking), "respond", lambda *_, responses=responses: responses)
    given = (params["reward"], params["policy"], jax.random.key(0), 1.0)
    found.append(reward._sampled(context, [], lambda _: {"chosen": (prompts, None)}, *given))
  np.testing.assert_array_equal(found[0], found[1])
  np.testing.assert_array_equal(found[0], found[2])


def test_an_iteration_takes_every_stop_id_for_the_end(asking, sampled):
  """Rewards, penalties and values are those of the text; a cut response alone pays the penalty."""
  params = jax.tree.map(jnp.asarray, tiny_models.models_of(asking))
  settings = dataclasses.replace(
    test_ppo_bandit.SETTINGS, epochs=1, minibatches=1, missing_eos_penalty=8.0
  )
  stop_ids, optimizer = asking.settings.tokenizer.stop_ids, test_ppo_bandit.ADAM
  models = (asking.language, asking.scalar, optimizer)
  iterate = jax.jit(ppo.make_iteration(*models, settings, stop_ids))
  values = jax.jit(functools.partial(scoring.token_values, asking.scalar, params["reward"]))
  context = tiny_run.pretended(asking)
  prompts = encode.prompts(
    asking.settings.formats["policy"].conversations(QUESTIONS), asking.settings
  )[:]
  reward_fn = rl.model_reward(context, params["reward"])
  frozen = {"base": {}, "reference": params["policy"]}
  rates = dict.fromkeys(ppo.KINDS, jnp.float32(0.1))
  found = []
  for responses in sampled:
    train = training_step.init_state(
      {"policy": params["policy"], "value": params["reward"]}, optimizer
    )
    state = ppo.State(train=train, kl_coefficient=jnp.float32(0.0))
    scores = reward_fn(np.arange(4), prompts, responses)
    rewards = rollout_rewards.at_end(scores, jnp.asarray(responses.mask))
    given = (prompts, responses, jnp.zeros(responses.mask.shape), rewards)
    _, metrics = iterate(state, frozen, *given, jax.random.key(0), rates, jnp.float32(100))
    names = ("objective/score", "objective/score_std", "objective/rlhf_reward", "val/eos_rate")
    found.append((*(float(metrics[name]) for name in names), values(prompts, responses).tolist()))
  assert found[0] == found[1] == found[2]
  score, _, maximised, ends, _ = found[0]
  assert ends == WHOLE.mean()
  assert maximised == pytest.approx(score - 8.0 * (1 - WHOLE.mean()), abs=1e-5)
