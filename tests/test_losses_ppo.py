"""PPO's clipped losses against loops over real tokens only, and their behaviour at the clips."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ragged
import tiny
from hypothesis import strategies

from pit_jax.losses import ppo, tokens

POLICY = jax.jit(jax.value_and_grad(ppo.policy_loss, has_aux=True))
VALUE = jax.jit(jax.value_and_grad(ppo.value_loss, has_aux=True))


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


@ragged.QUICK
@hypothesis.given(
  lengths=ragged.ROW_LENGTHS.filter(any), clip=strategies.sampled_from([0.05, 0.2, 0.5])
)
def test_policy_loss_equals_the_loop_and_ignores_padding(lengths, clip):
  mask, old = ragged.mask_of(lengths), ragged.normal(8, ragged.ROWS, ragged.LENGTH)
  logprobs, advantages = (
    old + ragged.normal(9, ragged.ROWS, ragged.LENGTH, scale=0.4),
    ragged.normal(10, ragged.ROWS, ragged.LENGTH),
  )
  expected = slow_policy(logprobs, old, advantages, lengths, clip)
  (loss, metrics), gradient = POLICY(
    ragged.poison(logprobs, mask),
    ragged.poison(old, mask),
    ragged.poison(advantages, mask),
    jnp.array(mask),
    clip,
  )
  assert set(metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0.0)


def test_policy_loss_before_any_update_is_the_policy_gradient():
  lengths = [6, 2, 4]
  mask, old, advantages = (
    ragged.mask_of(lengths),
    ragged.normal(11, ragged.ROWS, ragged.LENGTH),
    ragged.normal(12, ragged.ROWS, ragged.LENGTH),
  )
  (loss, metrics), gradient = POLICY(
    jnp.array(old), jnp.array(old), jnp.array(advantages), jnp.array(mask), 0.2
  )
  np.testing.assert_allclose(loss, -advantages[mask].mean(), rtol=1e-5)
  np.testing.assert_allclose(gradient, -advantages * mask / 12, rtol=1e-5)
  assert metrics["ratio_mean"] == 1 and metrics["ratio_var"] == 0
  assert metrics["approx_kl"] == 0 and metrics["clip_fraction"] == 0


def test_a_minibatch_of_dropped_responses_moves_nothing_and_alarms_nobody():
  old = ragged.normal(11, ragged.ROWS, ragged.LENGTH)
  nothing = np.zeros(old.shape, bool)
  (loss, metrics), gradient = POLICY(
    *(ragged.poison(old, nothing) for _ in range(3)), jnp.array(nothing), 0.2
  )
  assert loss == 0 and not np.asarray(gradient).any()
  assert metrics["ratio_mean"] == 1 and metrics["ratio_var"] == 0  # 0 would look like a fault


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
  return {"loss": np.mean(losses), "clip_fraction": np.mean(clips)}, explained


@ragged.QUICK
@hypothesis.given(
  lengths=ragged.ROW_LENGTHS.filter(any), clip=strategies.sampled_from([0.05, 0.2, 1.0])
)
def test_value_loss_equals_the_loop_and_ignores_padding(lengths, clip):
  mask, old = ragged.mask_of(lengths), ragged.normal(13, ragged.ROWS, ragged.LENGTH)
  values, returns = (
    old + ragged.normal(14, ragged.ROWS, ragged.LENGTH, scale=0.4),
    ragged.normal(15, ragged.ROWS, ragged.LENGTH),
  )
  expected, explained = slow_value(values, old, returns, lengths, clip)
  (loss, metrics), gradient = VALUE(
    ragged.poison(values, mask),
    ragged.poison(old, mask),
    ragged.poison(returns, mask),
    jnp.array(mask),
    clip,
  )
  assert set(metrics) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
  np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0.0)
  poisoned = (ragged.poison(column, mask) for column in (values, returns))
  found = ppo.explained_variance(*poisoned, jnp.array(mask))
  np.testing.assert_allclose(found, explained, rtol=1e-3, atol=1e-4)


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
  found = ppo.explained_variance(values, returns, jnp.ones((1, 3), bool))
  np.testing.assert_allclose(found, expected, atol=1e-6)


# The KL in the loss


LOGITS, OLD_LOGITS, REFERENCE_LOGITS = (
  np.random.default_rng(seed).normal(size=5).astype(np.float32) for seed in (20, 21, 22)
)


def kl_gradient(logits, reference):
  """∇ KL(softmax(logits) ‖ softmax(reference)) by the logits, in closed form: π (d − E_π[d])."""
  policy = tiny.softmax(logits)
  distance = np.log(policy) - np.log(tiny.softmax(reference))
  return policy * (distance - (policy * distance).sum())


def expected_gradient(loss, sampled):
  """The gradient of E[loss(log π, log π_old, log π_ref)] of one token that π_old sampled."""

  def of_token(logits, token):
    now, old, reference = (
      jax.nn.log_softmax(jnp.asarray(x))[token].reshape(1, 1)
      for x in (logits, sampled, REFERENCE_LOGITS)
    )
    return loss(now, old, reference, jnp.ones((1, 1), bool))

  gradients = [jax.grad(of_token)(LOGITS, token) for token in range(len(LOGITS))]
  return tiny.softmax(sampled) @ np.array(gradients, np.float64)


@pytest.mark.parametrize("sampled", [LOGITS, OLD_LOGITS], ids=["on policy", "off policy"])
def test_the_kl_loss_has_the_gradient_of_the_kl(sampled):
  wanted = kl_gradient(LOGITS, REFERENCE_LOGITS)
  assert np.abs(wanted).max() > 0.1
  found = expected_gradient(ppo.kl_loss, sampled)
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_k3_as_a_loss_has_the_gradient_of_the_other_kl():
  def k3(now, old, reference, mask):
    return tokens.masked_mean(tokens.kl_estimates(now, reference)[2], mask)

  found = expected_gradient(k3, LOGITS)
  other = tiny.softmax(LOGITS) - tiny.softmax(REFERENCE_LOGITS)  # of KL(π_ref ‖ π)
  np.testing.assert_allclose(found, other, atol=1e-6)
  assert np.abs(found - kl_gradient(LOGITS, REFERENCE_LOGITS)).max() > 0.1


def test_the_kl_loss_ignores_padding_and_is_a_mean_over_real_tokens():
  mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
  now, old, reference = (ragged.normal(seed, 2, 4) for seed in (30, 31, 32))
  terms = np.exp(now - old) * (now - reference) ** 2 / 2
  rows = (ragged.poison(x, mask) for x in (now, old, reference))
  loss, gradient = jax.value_and_grad(ppo.kl_loss)(*rows, jnp.array(mask))
  np.testing.assert_allclose(loss, terms[mask].mean(), rtol=1e-5)
  wanted = np.exp(now - old) * (now - reference) / mask.sum()  # the ratio is a weight
  np.testing.assert_allclose(gradient, np.where(mask, wanted, 0), rtol=1e-5, atol=1e-7)
