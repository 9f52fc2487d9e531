"""PPO on problems with a known answer: the maximum of E[r] − β KL is π_ref · exp(r / β) / Z.

The policy is a table of logits, so it can say everything, and the value model is a table too.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import pure
from pit_jax.rollout import decode
from pit_jax.rollout import rewards as rollout_rewards
from pit_jax.stages import ppo
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Prompts

EOS, ACTIONS, BETA, ROWS = 0, 4, 0.5, 1024
HORIZON = 4096.0  # episodes
LENGTH = 2  # as far as a table by the token before can say everything
SETTINGS = ppo.Settings(
  epochs=2,
  minibatches=2,
  clip=0.2,
  value_clip=10.0,
  value_coefficient=0.5,
  entropy_coefficient=0.0,
  loss_kl_coefficient=0.0,
  discount=1.0,
  trace=0.95,
  target_kl=0.0,
  missing_eos_penalty=0.0,
  whiten_rewards=False,
  kl_target=0.0,
  temperature=1.0,
)


# A model that is a table: [step of the response, token before] → logits or a value


def table_model():
  """Returns a table's logits (entries of them) or its values (None) as a model does."""

  def look_up(params, tokens, mask, last=None):
    table = params["table"]  # the prompt is one token long: step 0 is the one after it
    step = jnp.clip(jnp.cumsum(mask, axis=1) - 1, 0, table.shape[0] - 1)
    rows = table[step, tokens]
    return rows if last is None else rows[:, -last:]

  def extend(params, tokens, mask, cache, slot):
    seen = jax.lax.dynamic_update_slice(cache.visible, mask, (0, slot))
    step = jnp.clip(seen.sum(axis=1) - 1, 0, params["table"].shape[0] - 1)
    return params["table"][step, tokens[:, -1]], cache.replace(visible=seen)

  def apply(params, *arguments, method="__call__", **keywords):
    methods = {"__call__": look_up, "hidden": look_up, "extend": extend}
    methods["logits"] = lambda params, hidden: hidden
    return methods[method](params, *arguments, **keywords)

  config = tiny.config(layers=1, vocabulary=ACTIONS)
  axes = {"table": (None, None, None)}
  return pure.PureModel(init=lambda key: {}, apply=apply, axes=axes, config=config)


POLICY, VALUE = table_model(), table_model()
ADAM = optimizers.policy_and_value(clip_norm=10.0, epsilon=1e-5, value_scale=3.0)


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference(length):
  return {"table": jnp.array(normal(0, length, ACTIONS, ACTIONS))}


def start(length=LENGTH, beta=BETA, seed=None):
  """Returns the first state; the policy is the reference, or another one with a seed."""
  table = reference(length)["table"]
  table = table if seed is None else jnp.array(normal(seed, *table.shape))
  params = {
    "policy": {"table": jnp.copy(table)},
    "value": {"table": jnp.zeros((length, ACTIONS))},
  }
  train = training_step.init_state(params, ADAM)
  return ppo.State(train=train, kl_coefficient=jnp.float32(beta))


# The responses of at most `length` tokens, in order, and their rewards


def everything(length):
  """Returns every response that ends itself or reaches the length."""
  endless = [a for a in range(ACTIONS) if a != EOS]
  ended = [(*body, EOS) for n in range(length) for body in itertools.product(endless, repeat=n)]
  return ended + list(itertools.product(endless, repeat=length))


def reward_table(length):
  """The reward of every response by its tokens, padded with EOS: [ACTIONS] * length."""
  return jnp.array(normal(4, *[ACTIONS] * length))


def law(table, length, temperature=1.0):
  """The probability of every response, by multiplying along its tokens. The prompt is token 1."""
  steps = tiny.softmax(np.asarray(table) / temperature)
  probabilities = []
  for response in everything(length):
    before, probability = 1, 1.0
    for t, token in enumerate(response):
      probability *= steps[t, before, token]
      before = token
    probabilities.append(probability)
  return np.array(probabilities)


def best_law(length, beta, temperature=1.0):
  rewards = np.asarray(reward_table(length), np.float64)
  padded = [(*r, *[EOS] * (length - len(r))) for r in everything(length)]
  weights = law(reference(length)["table"], length, temperature)
  weights = weights * np.exp(np.array([rewards[r] for r in padded]) / beta)
  return weights / weights.sum()


def total_variation(p, q):
  return 0.5 * np.abs(p - q).sum()


# One iteration, sampling and scoring included


@functools.cache
def compiled(settings, length, learning):
  iterate = ppo.make_iteration(POLICY, VALUE, ADAM, settings, EOS, learning)
  sample = functools.partial(decode.sample, POLICY, length=length, eos_id=EOS, pad_id=EOS)
  asked = Prompts(tokens=jnp.ones((ROWS, 1), jnp.int32), mask=jnp.ones((ROWS, 1), bool))

  @jax.jit
  def iteration(state, key, rates, reward_scale):
    noise = jax.random.split(key)
    temperature = jnp.float32(settings.temperature)
    sampled = sample(state.train.params["policy"], asked, noise[0], temperature)
    responses, logprobs = sampled.responses, sampled.logprobs
    scores = reward_scale * reward_table(length)[tuple(responses.tokens.T)]
    frozen = {"base": {}, "reference": reference(length)}
    rewards = rollout_rewards.at_end(scores, responses.mask)
    rollout = (asked, responses, logprobs, rewards)
    return iterate(state, frozen, *rollout, noise[1], rates, jnp.float32(HORIZON))

  return iteration


def once(
  settings, state, *, length=LENGTH, seed=0, rate=0.05, learning=ppo.KINDS, reward_scale=1.0
):
  rates = dict.fromkeys(ppo.KINDS, jnp.float32(rate))
  program = compiled(settings, length, learning)
  return program(state, jax.random.key(seed), rates, jnp.float32(reward_scale))


def learn(settings, state, *, iterations=150, peak=0.1, **keywords):
  """Runs PPO at a rate that falls to 0; returns the last state and every metric's history."""
  history = []
  for index in range(iterations):
    rate = peak * (1 - index / iterations)
    state, metrics = once(settings, state, seed=index, rate=rate, **keywords)
    history.append(metrics)
  history = jax.device_get(history)
  return state, {name: np.array([metrics[name] for metrics in history]) for name in history[0]}


def policy_law(state, length=LENGTH, temperature=1.0):
  return law(state.train.params["policy"]["table"], length, temperature)


# Where it goes


@pytest.mark.parametrize("length, temperature", [(1, 1.3), (2, 1.0)])
def test_ppo_reaches_the_best_law(length, temperature):
  settings = dataclasses.replace(SETTINGS, temperature=temperature)
  state, history = learn(settings, start(length), length=length)
  best = best_law(length, BETA, temperature)
  first = law(reference(length)["table"], length, temperature)
  last = policy_law(state, length, temperature)
  assert total_variation(first, best) > 0.3  # there is a way to go
  assert total_variation(last, best) < 0.005
  # The KL that was reported is that of the law.
  kl = (last * np.log(last / first)).sum()
  np.testing.assert_allclose(history["objective/kl"][-20:].mean(), kl, atol=0.05)
  np.testing.assert_allclose(history["val/ratio_first"], 1.0, atol=1e-6)
  assert history["val/sampler_difference"].max() < 1e-5
  assert not history["val/skipped"].any()


@pytest.mark.parametrize(
  "term, wanted",
  [
    ("loss_kl_coefficient", law(reference(1)["table"], 1)),  # the KL leads to the reference
    ("entropy_coefficient", np.full(ACTIONS, 1 / ACTIONS)),  # the bonus to the uniform law
  ],
)
def test_a_term_of_the_loss_leads_where_it_should_by_itself(term, wanted):
  settings = dataclasses.replace(SETTINGS, **{term: 1.0})
  state = start(1, beta=0.0, seed=5)
  assert total_variation(policy_law(state, 1), wanted) > 0.2
  state, _ = learn(settings, state, length=1, iterations=60, reward_scale=0.0)
  assert total_variation(policy_law(state, 1), wanted) < 0.005


def test_a_missing_end_costs_its_penalty():
  """With a large penalty the policy learns to end, whatever the rewards say."""
  settings = dataclasses.replace(SETTINGS, missing_eos_penalty=6.0)
  _, history = learn(settings, start(), iterations=60)
  assert history["val/eos_rate"][0] < 0.9
  assert history["val/eos_rate"][-1] > 0.99


# What holds it back

ADAPTIVE = dataclasses.replace(SETTINGS, kl_target=0.2)
BOUNDED = dataclasses.replace(SETTINGS, epochs=4, target_kl=1e-3)


def changes(before, after):
  """Returns how far policy and value have moved."""
  trees = before.train.params, after.train.params
  return {
    name: float(np.abs(trees[0][name]["table"] - trees[1][name]["table"]).max())
    for name in ("policy", "value")
  }


def counts(state):
  """Returns how many updates Adam has seen of each kind."""
  return {
    kind: int(leaf)
    for kind, own in state.train.opt_state.items()
    for path, leaf in jax.tree_util.tree_leaves_with_path(own)
    if jax.tree_util.keystr(path).endswith("count")
  }


def test_a_target_kl_stops_the_updates_of_an_iteration():
  before = start()
  after, metrics = once(BOUNDED, before)
  # The first minibatch always learns; the one that sees too large a distance is the last.
  assert 2 <= metrics["policy/updates"] < 8
  assert after.train.step == 8
  assert counts(after) == dict.fromkeys(ppo.KINDS, metrics["policy/updates"]), "Adam saw no more"
  assert metrics["value/updates"] == metrics["policy/updates"]
  _, metrics = once(BOUNDED, before, rate=1e-5)
  assert metrics["policy/updates"] == 8


@pytest.mark.parametrize("seed, direction", [(6, 1), (None, -1)])  # None: at the reference
def test_beta_moves_towards_the_wanted_kl(seed, direction):
  before = start(seed=seed)
  after, metrics = once(ADAPTIVE, before)
  assert np.sign(metrics["objective/kl"] - 0.2) == direction
  expected = BETA * (1 + direction * 0.2 * ROWS / HORIZON)
  np.testing.assert_allclose(after.kl_coefficient, expected, rtol=1e-5)
  assert metrics["objective/kl_coef"] == np.float32(BETA)  # the one that was used
  fixed, _ = once(SETTINGS, before)
  assert fixed.kl_coefficient == np.float32(BETA)


def test_the_adaptive_beta_holds_the_kl_at_its_target():
  _, history = learn(ADAPTIVE, start(), peak=0.05)
  np.testing.assert_allclose(history["objective/kl"][-30:].mean(), 0.2, rtol=0.25)


def test_a_score_that_is_not_finite_skips_every_update_and_is_counted():
  before = start()
  after, metrics = once(SETTINGS, before, reward_scale=np.nan)
  assert metrics["val/skipped"] == 4
  assert changes(before, after) == {"policy": 0, "value": 0}
  assert np.isfinite(after.kl_coefficient)


def test_minibatches_that_do_not_divide_are_refused():
  settings = dataclasses.replace(SETTINGS, minibatches=3)
  with pytest.raises(ValueError, match=r"batch of 1024 .*minibatches=3.*multiple of 3"):
    once(settings, start())
