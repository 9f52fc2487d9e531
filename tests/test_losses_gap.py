"""The five ordering terms against a loop, finite differences and a table of orders."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.losses import gap, preference

ORDER = ("wl", "ww", "ll", "lw")  # of gap_loss's arguments
UNIT = jnp.ones(5)


def slow_loss(gaps, weights):
  """Equation 2 in double precision; gaps is [4 B] in the order of ORDER."""
  total, pairs = 0.0, np.asarray(gaps, np.float64).T
  for wl, ww, ll, lw in pairs:
    for weight, (greater, smaller) in zip(
      weights, [(wl, ww), (wl, ll), (wl, lw), (ww, lw), (ll, lw)]
    ):
      total += float(weight) * math.log1p(math.exp(-(greater - smaller)))
  return total / len(pairs)


def random_gaps(seed=0, batch=6):
  return np.random.default_rng(seed).normal(scale=1.5, size=(4, batch)).astype(np.float32)


@jax.jit
def fast_loss(gaps, weights):
  return gap.gap_loss(*gaps, weights)[0]


@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (0.5, 2, 0, 1, 3), (0, 0, 1, 0, 0)])
def test_loss_equals_the_loop(weights):
  gaps = random_gaps()
  actual = fast_loss(jnp.array(gaps), jnp.array(weights, jnp.float32))
  np.testing.assert_allclose(actual, slow_loss(gaps, weights), rtol=1e-5)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (0.5, 2, 0, 1, 3)])
def test_gradient_equals_finite_differences(weights):
  gaps, step = random_gaps(1), 1e-6
  expected = np.zeros(gaps.shape)
  for index in np.ndindex(*gaps.shape):
    up, down = gaps.astype(np.float64), gaps.astype(np.float64)
    up[index], down[index] = up[index] + step, down[index] - step
    expected[index] = (slow_loss(up, weights) - slow_loss(down, weights)) / (2 * step)
  actual = jax.grad(fast_loss)(jnp.array(gaps), jnp.array(weights, jnp.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("index", range(5))
def test_a_term_alone_pushes_its_two_rewards_apart_and_touches_no_other(index):
  greater, smaller = gap.TERMS[index].split("_")
  gaps = random_gaps(2)
  gradient = jax.grad(fast_loss)(jnp.array(gaps), jnp.zeros(5).at[index].set(1.0))
  margin = gaps[ORDER.index(greater)] - gaps[ORDER.index(smaller)]
  push = 1 / (1 + np.exp(margin)) / margin.size
  expected = np.zeros_like(gaps)
  expected[ORDER.index(greater)], expected[ORDER.index(smaller)] = -push, push
  np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("index", range(5))
def test_a_weight_of_zero_removes_its_term_and_nothing_else(index):
  gaps = random_gaps(3)
  whole = fast_loss(jnp.array(gaps), UNIT)
  without = fast_loss(jnp.array(gaps), UNIT.at[index].set(0.0))
  alone = slow_loss(gaps, np.eye(5)[index])
  np.testing.assert_allclose(whole - without, alone, rtol=1e-4)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
  weights=strategies.lists(strategies.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=5, max_size=5),
  shift=strategies.floats(-20, 20),
)
def test_only_differences_count_and_identical_pairs_are_alike(weights, shift):
  wl, ww, ll, lw = jnp.array(random_gaps(4))
  weights = jnp.array(weights)
  loss = fast_loss((wl, ww, ll, lw), weights)
  shifted = fast_loss((wl + shift, ww + shift, ll + shift, lw + shift), weights)
  np.testing.assert_allclose(shifted, loss, rtol=1e-4, atol=1e-5)
  swapped = fast_loss((wl, ll, ww, lw), weights[jnp.array([1, 0, 2, 4, 3])])
  np.testing.assert_allclose(swapped, loss, rtol=1e-5, atol=1e-6)


def test_an_untrained_model_starts_at_five_log_two():
  zeros = jnp.zeros(3)
  loss, metrics = gap.gap_loss(zeros, zeros, zeros, zeros, UNIT)
  np.testing.assert_allclose(loss, 5 * math.log(2), rtol=1e-6)
  assert metrics["accuracy"] == 0  # a tie is no win
  assert metrics["order"] == 1  # but it breaks no order


def test_metrics_on_a_table():
  #                wl    ww   ll   lw
  rows = np.array([[2.0, 0.5, 0.0, -2.0],  # ordered
                   [2.0, 0.0, 0.5, -2.0],  # ordered: ww and ll may stand either way
                   [1.0, 1.5, 0.0, -1.0],  # ww above wl
                   [1.0, 0.0, 1.5, -1.0],  # ll above wl
                   [1.0, -2.0, 0.0, -1.0],  # lw above ww
                   [1.0, 0.0, -2.0, -1.0],  # lw above ll
                   [-1.0, 0.0, 0.0, 1.0],  # backwards
                   [1.0, 1.0, 1.0, 1.0]], np.float32)  # all equal  # fmt: skip
  loss, metrics = gap.gap_loss(*jnp.array(rows.T), UNIT)
  np.testing.assert_allclose(metrics["order"], 3 / 8)
  np.testing.assert_allclose(metrics["accuracy"], 6 / 8)
  np.testing.assert_allclose(metrics["loss"], loss)
  for name, column in zip(ORDER, rows.T):
    np.testing.assert_allclose(metrics[f"gap_{name}"], column.mean(), rtol=1e-6)
  assert set(metrics) == {"loss", "accuracy", "order", *(f"gap_{name}" for name in ORDER)}


def test_far_apart_rewards_have_finite_loss_and_gradient():
  gaps = jnp.array([[-1e4], [0.0], [0.0], [1e4]])
  loss, gradient = jax.value_and_grad(fast_loss)(gaps, UNIT)
  np.testing.assert_allclose(loss, 1e4 + 1e4 + 2e4 + 1e4 + 1e4)
  np.testing.assert_allclose(gradient, [[-3.0], [0.0], [0.0], [3.0]], atol=1e-6)


def test_margins_are_taken_off_each_term_as_often_as_it_spans_the_pair():
  """Where r^ab = q_a − q_b, each term's gap is q_w − q_l once, and wl − lw is it twice."""
  draw = np.random.default_rng(6)
  quality, margins = draw.normal(size=(2, 5)), np.array([0.0, 0.5, 1.0, 2.0, 0.25])
  ahead = quality[0] - quality[1]
  weights = np.array([1.0, 0.5, 2.0, 0.0, 3.0])
  wl, lw, same = (jnp.array(x, jnp.float32) for x in (ahead, -ahead, 0 * ahead))
  labels = preference.Labels(jnp.array(margins, jnp.float32))
  loss, _ = gap.gap_loss(wl, same, same, lw, jnp.array(weights, jnp.float32), labels)
  once, twice = (np.log1p(np.exp(-times * (ahead - margins))) for times in (1, 2))
  wanted = (weights[[0, 1, 3, 4]].sum() * once + weights[2] * twice).mean()
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_a_pair_of_weight_2_counts_like_two_pairs():
  gaps = np.random.default_rng(8).normal(size=(4, 3)).astype(np.float32)
  labels = preference.Labels(weights=jnp.array([2.0, 1.0, 0.0]))
  loss, metrics = gap.gap_loss(*jnp.array(gaps), UNIT, labels)
  wanted, expected = gap.gap_loss(*jnp.array(gaps[:, [0, 0, 1]]), UNIT)
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6)
