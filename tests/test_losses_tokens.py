"""Per-token quantities against loops in double precision, enumeration and closed forms."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.losses import tokens

MASKS = strategies.lists(strategies.booleans(), min_size=12, max_size=12)
ROW_LENGTHS = strategies.lists(strategies.integers(0, 5), min_size=3, max_size=3)


SFT = jax.jit(jax.value_and_grad(tokens.sft_loss, has_aux=True))


def normal(seed, *shape, scale=1.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def slow_law(logits):
  weights = [math.exp(float(x) - float(max(logits))) for x in logits]
  return [weight / sum(weights) for weight in weights]


def test_token_logprobs_equal_a_loop():
  logits = normal(0, 2, 3, 5, scale=3.0)
  ids = np.array([[0, 4, 2], [3, 3, 1]], np.int32)
  expected = np.zeros((2, 3))
  for b in range(2):
    for t in range(3):
      expected[b, t] = math.log(slow_law(logits[b, t])[ids[b, t]])
  actual = tokens.token_logprobs(jnp.array(logits), jnp.array(ids))
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_token_logprobs_of_all_tokens_sum_to_one():
  logits = jnp.tile(jnp.array(normal(1, 1, 7, scale=10.0)), (7, 1))
  logprobs = tokens.token_logprobs(logits, jnp.arange(7, dtype=jnp.int32))
  np.testing.assert_allclose(jnp.exp(logprobs).sum(), 1.0, rtol=1e-5)


def test_token_logprobs_survive_huge_logits():
  logits = jnp.array([[1e4, -1e4, 1e4]])
  actual = [tokens.token_logprobs(logits, jnp.array([v], jnp.int32))[0] for v in range(3)]
  np.testing.assert_allclose(actual, [-math.log(2), -2e4 - math.log(2), -math.log(2)], rtol=1e-6)


def test_bfloat16_logits_are_read_in_float32():
  logits = jnp.array(normal(2, 4, 50)).astype(jnp.bfloat16)
  ids = jnp.array([3, 0, 49, 7], jnp.int32)
  expected = [math.log(slow_law(np.asarray(row, np.float64))[i]) for row, i in zip(logits, ids)]
  actual = tokens.token_logprobs(logits, ids)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  laws = [slow_law(np.asarray(row, np.float64)) for row in logits]
  expected = [-sum(p * math.log(p) for p in law) for law in laws]
  np.testing.assert_allclose(tokens.entropy(logits), expected, rtol=1e-5)


def test_entropy_of_known_laws():
  uniform, certain, coin = [0.0] * 4, [200.0, 0.0, 0.0, 0.0], [3.0, 3.0, -200.0, -200.0]
  actual = tokens.entropy(jnp.array([uniform, certain, coin]))
  np.testing.assert_allclose(actual, [math.log(4), 0.0, math.log(2)], atol=1e-6)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(mask=MASKS)
def test_masked_mean_equals_the_mean_of_what_the_mask_keeps(mask):
  values, mask = normal(3, 3, 4), np.array(mask).reshape(3, 4)
  expected = values[mask].mean() if mask.any() else 0.0
  poisoned = jnp.array(np.where(mask, values, np.nan))
  mean, gradient = jax.value_and_grad(tokens.masked_mean)(poisoned, jnp.array(mask))
  np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, mask / max(mask.sum(), 1), rtol=1e-6)


def test_masked_mean_sums_bfloat16_in_float32():
  values = jnp.array([1.0, 1.0078125, 9.0], jnp.bfloat16)  # neighbours: no bfloat16 lies between
  mean = tokens.masked_mean(values, jnp.array([True, True, False]))
  assert mean.dtype == jnp.float32
  assert mean == 1.00390625


POLICY, REFERENCE = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])


def exact_kl(policy, reference):
  return sum(p * math.log(p / q) for p, q in zip(policy, reference))


def test_k1_and_k3_are_unbiased_by_enumeration():
  k1, _, k3 = tokens.kl_estimates(jnp.log(jnp.array(POLICY)), jnp.log(jnp.array(REFERENCE)))
  exact = exact_kl(POLICY, REFERENCE)
  np.testing.assert_allclose((POLICY * k1).sum(), exact, rtol=1e-5)
  np.testing.assert_allclose((POLICY * k3).sum(), exact, rtol=1e-5)
  assert np.any(k1 < 0)
  assert np.all(k3 >= 0)


def test_near_the_reference_k2_and_k3_vary_less_than_k1():
  near = POLICY * 0.9 + REFERENCE * 0.1
  estimates = tokens.kl_estimates(jnp.log(jnp.array(POLICY)), jnp.log(jnp.array(near)))
  means = [(POLICY * k).sum() for k in estimates]
  k1, k2, k3 = ((POLICY * (k - mean) ** 2).sum() for k, mean in zip(estimates, means))
  assert k2 < k1 / 10
  assert k3 < k1 / 10


def test_k2_is_near_for_near_laws_and_has_the_gradient_of_the_kl():
  near = POLICY * 0.99 + REFERENCE * 0.01
  _, k2, _ = tokens.kl_estimates(jnp.log(jnp.array(POLICY)), jnp.log(jnp.array(near)))
  np.testing.assert_allclose((POLICY * k2).sum(), exact_kl(POLICY, near), rtol=0.05)

  logits = jnp.log(jnp.array(POLICY, jnp.float32))
  reference = jnp.log(jnp.array(REFERENCE, jnp.float32))

  def expected_k2(logits):  # the samples are drawn from POLICY: no gradient through the sampling
    return (POLICY * tokens.kl_estimates(jax.nn.log_softmax(logits), reference)[1]).sum()

  expected = np.zeros(4)
  for v in range(4):  # central differences of the exact KL in double precision
    up, down = np.log(POLICY), np.log(POLICY)
    up[v], down[v] = up[v] + 1e-5, down[v] - 1e-5
    difference = exact_kl(slow_law(up), REFERENCE) - exact_kl(slow_law(down), REFERENCE)
    expected[v] = difference / 2e-5
  np.testing.assert_allclose(jax.grad(expected_k2)(logits), expected, rtol=1e-4, atol=1e-5)


def test_kl_estimates_of_equal_laws_are_zero():
  same = jnp.array(normal(4, 2, 3))
  for estimate in tokens.kl_estimates(same, same):
    assert np.all(np.asarray(estimate) == 0)


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(lengths=ROW_LENGTHS)
def test_sft_loss_is_the_mean_over_ragged_rows(lengths):
  logprobs = -np.abs(normal(5, 3, 5))
  mask = np.arange(5) < np.array(lengths)[:, None]
  real = [logprobs[b, t] for b in range(3) for t in range(lengths[b])]
  expected = -sum(real) / len(real) if real else 0.0
  (loss, metrics), gradient = SFT(jnp.array(logprobs), jnp.array(mask))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, -1.0 * mask / max(len(real), 1), rtol=1e-6)
  assert metrics == {"loss": loss}


def test_shapes_that_would_broadcast_are_refused():
  with pytest.raises(jaxtyping.TypeCheckError, match="mask"):
    tokens.masked_mean(jnp.zeros((3, 1)), jnp.ones((3, 4), bool))
