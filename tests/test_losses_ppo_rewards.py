"""PPO's rewards, whitening and KL control against loops over real tokens only."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ragged
from hypothesis import strategies

from pit_jax.losses import ppo
from pit_jax.rollout import rewards as rollout_rewards

SHAPED = jax.jit(ppo.shaped_rewards)
WHITEN = jax.jit(ppo.whiten, static_argnums=2)


# Rewards


def test_score_lands_on_the_last_real_token():
  mask = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
  nothing = jnp.zeros((4, 4))
  scores = rollout_rewards.at_end(jnp.array([0.73, -0.5, 2.0, 9.0]), mask)
  rewards = ppo.shaped_rewards(scores, nothing, nothing, mask, 0.1)
  expected = [[0, 0, 0.73, 0], [-0.5, 0, 0, 0], [0, 0, 0, 2.0], [0, 0, 0, 0]]
  np.testing.assert_allclose(rewards, np.array(expected, np.float32))


@ragged.QUICK
@hypothesis.given(lengths=ragged.ROW_LENGTHS, coefficient=strategies.sampled_from([0.0, 0.05, 2.0]))
def test_shaped_rewards_equal_the_loop(lengths, coefficient):
  mask, scores = ragged.mask_of(lengths), ragged.normal(0, ragged.ROWS)
  logprobs, reference = (
    ragged.normal(1, ragged.ROWS, ragged.LENGTH),
    ragged.normal(2, ragged.ROWS, ragged.LENGTH),
  )
  expected = np.zeros((ragged.ROWS, ragged.LENGTH))
  for b in range(ragged.ROWS):
    for t in range(lengths[b]):
      expected[b, t] = -coefficient * (logprobs[b, t] - reference[b, t])
    if lengths[b]:
      expected[b, lengths[b] - 1] += scores[b]
  actual = SHAPED(
    rollout_rewards.at_end(jnp.array(scores), jnp.array(mask)),
    ragged.poison(logprobs, mask),
    ragged.poison(reference, mask),
    jnp.array(mask),
    coefficient,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_missing_eos_costs_the_penalty():
  rewards, has_eos = (
    jnp.array([[9.0, 1.0], [1.0, 0.0], [5.0, -2.0]]),
    jnp.array([True, False, False]),
  )
  mask = jnp.array([[1, 1], [1, 0], [1, 1]], bool)
  expected = [[9.0, 1.0], [-0.5, 0.0], [5.0, -3.5]]
  np.testing.assert_allclose(ppo.penalise_missing_eos(rewards, mask, has_eos, 1.5), expected)
  np.testing.assert_allclose(ppo.penalise_missing_eos(rewards, mask, has_eos, 0.0), rewards)


# Whitening


@pytest.mark.parametrize("shift_mean", [True, False])
@ragged.QUICK
@hypothesis.given(mask=strategies.lists(strategies.booleans(), min_size=18, max_size=18))
def test_whiten_masked_equals_sliced(shift_mean, mask):
  mask = np.array(mask).reshape(ragged.ROWS, ragged.LENGTH)
  hypothesis.assume(mask.sum() >= 2)
  values = 3.0 + ragged.normal(7, ragged.ROWS, ragged.LENGTH, scale=2.0)
  real = values[mask].astype(np.float64)
  expected = (real - real.mean()) / real.std() + (0.0 if shift_mean else real.mean())
  actual = np.asarray(WHITEN(ragged.poison(values, mask), jnp.array(mask), shift_mean))
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


@pytest.mark.parametrize("kl", [np.nan, np.inf, -np.inf])
def test_a_kl_that_is_not_finite_moves_no_coefficient(kl):
  assert ppo.update_kl_coefficient(0.1, kl, target=6.0, horizon=1000.0, episodes=64) == np.float32(
    0.1
  )
