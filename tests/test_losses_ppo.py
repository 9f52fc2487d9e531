"""PPO's pieces against loops over real tokens only, and their behaviour at the clips."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.losses import ppo

ROWS, LENGTH = 3, 6
ROW_LENGTHS = strategies.lists(strategies.integers(0, LENGTH), min_size=ROWS, max_size=ROWS)
QUICK = hypothesis.settings(deadline=None, max_examples=25)

SHAPED, GAE = jax.jit(ppo.shaped_rewards), jax.jit(ppo.gae)
WHITEN = jax.jit(ppo.whiten, static_argnums=2)
POLICY = jax.jit(jax.value_and_grad(ppo.policy_loss, has_aux=True))
VALUE = jax.jit(jax.value_and_grad(ppo.value_loss, has_aux=True))


def normal(seed, *shape, scale=1.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def mask_of(lengths):
  return np.arange(LENGTH) < np.array(lengths)[:, None]


def poison(values, mask, filler=np.nan):
  """What stands on padding must not matter, so it is made to hurt."""
  return jnp.array(np.where(mask, values, filler).astype(np.float32))


# Rewards


def test_score_lands_on_the_last_real_token():
  mask = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
  nothing = jnp.zeros((4, 4))
  rewards = ppo.shaped_rewards(jnp.array([0.73, -0.5, 2.0, 9.0]), nothing, nothing, mask, 0.1)
  expected = [[0, 0, 0.73, 0], [-0.5, 0, 0, 0], [0, 0, 0, 2.0], [0, 0, 0, 0]]
  np.testing.assert_allclose(rewards, np.array(expected, np.float32))


@QUICK
@hypothesis.given(lengths=ROW_LENGTHS, coefficient=strategies.sampled_from([0.0, 0.05, 2.0]))
def test_shaped_rewards_equal_the_loop(lengths, coefficient):
  mask, scores = mask_of(lengths), normal(0, ROWS)
  logprobs, reference = normal(1, ROWS, LENGTH), normal(2, ROWS, LENGTH)
  expected = np.zeros((ROWS, LENGTH))
  for b in range(ROWS):
    for t in range(lengths[b]):
      expected[b, t] = -coefficient * (logprobs[b, t] - reference[b, t])
    if lengths[b]:
      expected[b, lengths[b] - 1] += scores[b]
  actual = SHAPED(
    jnp.array(scores), poison(logprobs, mask), poison(reference, mask), jnp.array(mask), coefficient
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_missing_eos_costs_the_penalty():
  scores, has_eos = jnp.array([1.0, 1.0, -2.0]), jnp.array([True, False, False])
  np.testing.assert_allclose(ppo.penalise_missing_eos(scores, has_eos, 1.5), [1.0, -0.5, -3.5])
  np.testing.assert_allclose(ppo.penalise_missing_eos(scores, has_eos, 0.0), scores)


# Advantages


def slow_gae(rewards, values, discount, trace):
  """One row of real tokens, backwards, in double precision."""
  advantages = np.zeros(len(rewards))
  next_value = next_advantage = 0.0
  for t in reversed(range(len(rewards))):
    error = float(rewards[t]) + discount * next_value - float(values[t])
    advantages[t] = error + discount * trace * next_advantage
    next_value, next_advantage = float(values[t]), advantages[t]
  return advantages, advantages + np.asarray(values, np.float64)


@QUICK
@hypothesis.given(
  lengths=ROW_LENGTHS,
  factors=strategies.sampled_from([(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0), (0.0, 0.5)]),
)
def test_gae_equals_the_loop_under_right_padding(lengths, factors):
  rewards, values, mask = normal(3, ROWS, LENGTH), normal(4, ROWS, LENGTH), mask_of(lengths)
  expected_advantages, expected_returns = np.zeros((2, ROWS, LENGTH))
  for b, n in enumerate(lengths):
    expected_advantages[b, :n], expected_returns[b, :n] = slow_gae(
      rewards[b, :n], values[b, :n], *factors
    )
  advantages, returns = GAE(poison(rewards, mask), poison(values, mask), jnp.array(mask), *factors)
  np.testing.assert_allclose(advantages, expected_advantages, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(returns, expected_returns, rtol=1e-4, atol=1e-5)


def test_gae_padded_equals_sliced():
  rewards, values, mask = normal(5, 2, LENGTH), normal(6, 2, LENGTH), mask_of([4, 4])
  padded = ppo.gae(jnp.array(rewards), jnp.array(values), jnp.array(mask), 0.9, 0.8)
  sliced = ppo.gae(
    jnp.array(rewards[:, :4]), jnp.array(values[:, :4]), jnp.ones((2, 4), bool), 0.9, 0.8
  )
  for long, short in zip(padded, sliced):
    np.testing.assert_array_equal(long[:, :4], short)
    np.testing.assert_array_equal(long[:, 4:], np.zeros((2, 2)))


def test_full_trace_returns_are_the_rewards_to_go():
  rewards, mask = jnp.array([[1.0, 2.0, 4.0, 8.0]]), jnp.array([[True, True, True, False]])
  advantages, returns = ppo.gae(rewards, jnp.array([[5.0, 6.0, 7.0, 8.0]]), mask, 1.0, 1.0)
  np.testing.assert_allclose(returns, [[7.0, 6.0, 4.0, 0.0]])
  np.testing.assert_allclose(advantages, [[2.0, 0.0, -3.0, 0.0]])


# Whitening


@pytest.mark.parametrize("shift_mean", [True, False])
@QUICK
@hypothesis.given(mask=strategies.lists(strategies.booleans(), min_size=18, max_size=18))
def test_whiten_masked_equals_sliced(shift_mean, mask):
  mask = np.array(mask).reshape(ROWS, LENGTH)
  hypothesis.assume(mask.sum() >= 2)
  values = 3.0 + normal(7, ROWS, LENGTH, scale=2.0)
  real = values[mask].astype(np.float64)
  expected = (real - real.mean()) / real.std() + (0.0 if shift_mean else real.mean())
  actual = np.asarray(WHITEN(poison(values, mask), jnp.array(mask), shift_mean))
  np.testing.assert_allclose(actual[mask], expected, rtol=1e-3, atol=1e-3)
  np.testing.assert_array_equal(actual[~mask], 0.0)


def test_whiten_is_global_and_its_variance_is_biased():
  values, mask = jnp.array([[0.0, 9.0], [4.0, 9.0]]), jnp.array([[True, False], [True, False]])
  np.testing.assert_allclose(
    ppo.whiten(values, mask, shift_mean=True), [[-1.0, 0.0], [1.0, 0.0]], rtol=1e-6
  )
  np.testing.assert_allclose(
    ppo.whiten(values, mask, shift_mean=False), [[1.0, 0.0], [3.0, 0.0]], rtol=1e-6
  )


def test_whiten_of_equal_or_missing_values_is_finite():
  values = jnp.full((2, 3), 4.0)
  np.testing.assert_array_equal(ppo.whiten(values, jnp.ones((2, 3), bool), True), np.zeros((2, 3)))
  np.testing.assert_array_equal(ppo.whiten(values, jnp.zeros((2, 3), bool), True), np.zeros((2, 3)))


# The policy's loss


def slow_policy(logprobs, old, advantages, lengths, clip):
  losses, kls, clips, ratios = [], [], [], []
  for b, n in enumerate(lengths):
    for t in range(n):
      ratio = math.exp(float(logprobs[b, t]) - float(old[b, t]))
      free = ratio * float(advantages[b, t])
      bound = min(max(ratio, 1 - clip), 1 + clip) * float(advantages[b, t])
      losses.append(-min(free, bound))
      kls.append(ratio - 1 - math.log(ratio))
      clips.append(bound < free)
      ratios.append(ratio)
  mean = np.mean(ratios)
  return {
    "loss": np.mean(losses),
    "approx_kl": np.mean(kls),
    "clip_fraction": np.mean(clips),
    "ratio_mean": mean,
    "ratio_var": sum((ratio - mean) ** 2 for ratio in ratios) / len(ratios),
  }


@QUICK
@hypothesis.given(lengths=ROW_LENGTHS.filter(any), clip=strategies.sampled_from([0.05, 0.2, 0.5]))
def test_policy_loss_equals_the_loop_and_ignores_padding(lengths, clip):
  mask, old = mask_of(lengths), normal(8, ROWS, LENGTH)
  logprobs, advantages = old + normal(9, ROWS, LENGTH, scale=0.4), normal(10, ROWS, LENGTH)
  expected = slow_policy(logprobs, old, advantages, lengths, clip)
  (loss, metrics), gradient = POLICY(
    poison(logprobs, mask), poison(old, mask), poison(advantages, mask), jnp.array(mask), clip
  )
  assert set(metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0.0)


def test_policy_loss_before_any_update_is_the_policy_gradient():
  lengths = [6, 2, 4]
  mask, old, advantages = mask_of(lengths), normal(11, ROWS, LENGTH), normal(12, ROWS, LENGTH)
  (loss, metrics), gradient = POLICY(
    jnp.array(old), jnp.array(old), jnp.array(advantages), jnp.array(mask), 0.2
  )
  np.testing.assert_allclose(loss, -advantages[mask].mean(), rtol=1e-5)
  np.testing.assert_allclose(gradient, -advantages * mask / 12, rtol=1e-5)
  assert metrics["ratio_mean"] == 1 and metrics["ratio_var"] == 0
  assert metrics["approx_kl"] == 0 and metrics["clip_fraction"] == 0


def test_policy_gradient_is_zero_where_clipped_and_only_there():
  ratio = np.array([[1.5, 0.5, 1.5, 0.5, 1.1, 0.9]])
  advantages = np.array([[2.0, -2.0, -2.0, 2.0, 2.0, -2.0]])
  #                       clipped both ways, then on the way back, then inside
  expected = -ratio * advantages / 6 * np.array([[0, 0, 1, 1, 1, 1]])
  (_, metrics), gradient = POLICY(
    jnp.log(jnp.array(ratio)),
    jnp.zeros((1, 6)),
    jnp.array(advantages),
    jnp.ones((1, 6), bool),
    0.2,
  )
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["clip_fraction"], 2 / 6, rtol=1e-6)


def test_an_overflow_on_padding_reaches_neither_loss_nor_gradient():
  mask = jnp.array([[True, False]])
  loss, gradient = jax.value_and_grad(lambda x: ppo.policy_loss(x, x * 0, x * 0 + 1, mask, 0.2)[0])(
    jnp.array([[0.0, 1e4]])
  )
  np.testing.assert_allclose(loss, -1.0)
  np.testing.assert_allclose(gradient, [[-1.0, 0.0]])


# The value model's loss


def slow_value(values, old, returns, lengths, clip):
  losses, clips, errors, targets = [], [], [], []
  for b, n in enumerate(lengths):
    for t in range(n):
      value, before, target = (float(x[b, t]) for x in (values, old, returns))
      bound = min(max(value, before - clip), before + clip)
      losses.append(0.5 * max((value - target) ** 2, (bound - target) ** 2))
      clips.append((bound - target) ** 2 > (value - target) ** 2)
      errors.append(target - value)
      targets.append(target)
  explained = 1 - np.var(errors) / np.var(targets) if len(targets) > 1 else 0.0
  return {
    "loss": np.mean(losses),
    "clip_fraction": np.mean(clips),
    "explained_variance": explained,
  }


@QUICK
@hypothesis.given(lengths=ROW_LENGTHS.filter(any), clip=strategies.sampled_from([0.05, 0.2, 1.0]))
def test_value_loss_equals_the_loop_and_ignores_padding(lengths, clip):
  mask, old = mask_of(lengths), normal(13, ROWS, LENGTH)
  values, returns = old + normal(14, ROWS, LENGTH, scale=0.4), normal(15, ROWS, LENGTH)
  expected = slow_value(values, old, returns, lengths, clip)
  (loss, metrics), gradient = VALUE(
    poison(values, mask), poison(old, mask), poison(returns, mask), jnp.array(mask), clip
  )
  assert set(metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
  np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0.0)


def test_value_gradient_is_zero_where_clipped_and_only_there():
  # The old value is 0, so |value| > 0.2 is outside the clip.
  values = np.array([[0.5, -0.5, 0.5, -0.5, 0.1]])
  returns = np.array([[2.0, -2.0, -2.0, 2.0, 2.0]])
  #                   moved towards the return, past the clip; moved away from it; inside
  expected = (values - returns) / 5 * np.array([[0, 0, 1, 1, 1]])
  (_, metrics), gradient = VALUE(
    jnp.array(values), jnp.zeros((1, 5)), jnp.array(returns), jnp.ones((1, 5), bool), 0.2
  )
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["clip_fraction"], 2 / 5, rtol=1e-6)


@pytest.mark.parametrize(
  "values, returns, expected",
  [
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0),  # right everywhere
    ([5.0, 5.0, 5.0], [1.0, 2.0, 3.0], 0.0),  # a constant explains nothing
    ([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], -3.0),  # worse than a constant
    ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], 0.0),  # nothing to explain
  ],
)
def test_explained_variance_on_known_values(values, returns, expected):
  values, returns = jnp.array([values]), jnp.array([returns])
  _, metrics = ppo.value_loss(values, values, returns, jnp.ones((1, 3), bool), 0.2)
  np.testing.assert_allclose(metrics["explained_variance"], expected, atol=1e-6)


# The KL controller


@pytest.mark.parametrize(
  "kl, expected",
  [
    (6.0, 0.1),  # on target: stays
    (6.6, 0.1 * (1 + 0.1 * 64 / 1000)),  # ten percent above: grows in proportion
    (5.4, 0.1 * (1 - 0.1 * 64 / 1000)),
    (60.0, 0.1 * (1 + 0.2 * 64 / 1000)),  # far above or below: the error is clipped
    (0.0, 0.1 * (1 - 0.2 * 64 / 1000)),
    (-3.0, 0.1 * (1 - 0.2 * 64 / 1000)),  # a negative estimate is clipped too
  ],
)
def test_kl_controller_on_a_table(kl, expected):
  actual = ppo.update_kl_coefficient(0.1, kl, target=6.0, horizon=1000.0, episodes=64)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  traced = jax.jit(ppo.update_kl_coefficient)(jnp.float32(0.1), jnp.float32(kl), 6.0, 1000.0, 64.0)
  np.testing.assert_allclose(traced, expected, rtol=1e-6)
