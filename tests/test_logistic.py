"""Logistic regression of many weightings, against a general minimiser of the written-out loss."""

import numpy as np
import pytest
import scipy.optimize

from pit_jax.statistics import logistic


def slow_fit(features, targets, weights, precisions):
  """Returns the minimum of the loss, one observation after the other, from its values alone."""

  def loss(free):
    total = 0.5 * (precisions * free**2).sum()
    for x, y, w in zip(features, targets, weights):
      z = float(x @ free)
      total += w * (y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z))
    return total

  return scipy.optimize.minimize(loss, np.zeros(features.shape[1]), tol=1e-10).x


@pytest.fixture(scope="module")
def rows():
  generator = np.random.default_rng(1)
  features = generator.normal((0.3, 0, 1), size=(80, 3))
  targets = generator.choice([0.0, 0.5, 1.0], 80)
  return features, targets, generator.integers(0, 4, (5, 80)).astype(float)


def test_every_weighting_has_the_penalised_maximum(rows):
  features, targets, weights = rows
  precisions = np.array([0.1, 1.0, 0.0])
  found = logistic.fit(features, targets, weights, precisions)
  slow = [slow_fit(features, targets, row, precisions) for row in weights]
  np.testing.assert_allclose(found, slow, atol=1e-4)


def test_a_weight_is_so_many_copies_and_half_a_target_is_half_of_either(rows):
  features, targets, weights = rows
  prior = np.full(3, 0.2)
  whole = logistic.fit(features, targets, weights, prior)
  for row, expected in zip(weights.astype(int), whole):
    copies = np.repeat(np.arange(80), row)
    both = np.concatenate([copies, copies])
    certain = np.concatenate([np.ceil(targets[copies]), np.floor(targets[copies])])
    halves = np.full((1, len(both)), 0.5)
    np.testing.assert_allclose(logistic.fit(features[both], certain, halves, prior)[0], expected)


def test_what_separates_all_has_a_finite_fit_where_the_slope_is_0():
  x = np.full((50, 1), 3.0)
  (found,) = logistic.fit(x, np.ones(50), np.ones((1, 50)), np.array([0.01]))
  slope = 50 * 3 / (1 + np.exp(3 * found[0])) - 0.01 * found[0]
  assert found[0] > 1 and slope == pytest.approx(0, abs=1e-9)


def test_no_weighting_has_no_fit(rows):
  features, targets, weights = rows
  assert logistic.fit(features, targets, weights[:0], np.ones(3)).shape == (0, 3)
