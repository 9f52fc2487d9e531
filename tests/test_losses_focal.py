"""The focal ranking loss: Bradley and Terry's, counted the less the surer the model is."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from pit_jax.losses import preference
from pit_jax.models import pure
from pit_jax.stages import objectives


def slowly(chosen: float, rejected: float, gamma: float) -> float:
  """The paper's formula, pair by pair, in double precision."""
  p = 1 / (1 + math.exp(rejected - chosen))
  return (1 - 2 * max(0.0, p - 0.5)) ** gamma * -math.log(p)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_it_is_the_formula(gamma):
  draw = np.random.default_rng(0)
  chosen, rejected = draw.normal(0, 3, size=(2, 50)).astype(np.float32)
  kept = preference.Regularisation(focal=gamma)
  loss, metrics = preference.bradley_terry_loss(jnp.array(chosen), jnp.array(rejected), kept=kept)
  slow = [slowly(float(c), float(r), gamma) for c, r in zip(chosen, rejected, strict=True)]
  np.testing.assert_allclose(loss, np.mean(slow), rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], loss)


def test_with_gamma_0_it_is_that_of_bradley_and_terry():
  draw = np.random.default_rng(1)
  pair = jnp.array(draw.normal(size=(2, 20)), jnp.float32)
  plain = preference.bradley_terry_loss(*pair)
  focal = preference.bradley_terry_loss(*pair, kept=preference.Regularisation(focal=0.0))
  assert float(plain[0]) == float(focal[0])
  np.testing.assert_array_equal(preference.ease(pair[0], 0.0), np.ones(20))


def test_what_is_wrong_or_undecided_counts_whole_and_what_is_sure_counts_little():
  ahead = jnp.array([-30.0, -1.0, 0.0, 1.0, 5.0, 30.0])
  expected = [1, 1, 1, *((2 / (1 + math.exp(z))) ** 2 for z in (1.0, 5.0, 30.0))]
  np.testing.assert_allclose(preference.ease(ahead, 2.0), expected, rtol=1e-5)


def test_gradients_are_those_of_small_steps_and_finite_where_all_is_decided():
  kept = preference.Regularisation(focal=2.0)

  def loss(chosen):
    return preference.bradley_terry_loss(chosen, jnp.zeros(4), kept=kept)[0]

  at = [-2.0, 0.5, 1.5, 4.0]
  step = 1e-5
  for place, gradient in enumerate(jax.grad(loss)(jnp.array(at))):
    above, below = (slowly(at[place] + side * step, 0.0, 2.0) for side in (1, -1))
    np.testing.assert_allclose(gradient, (above - below) / (2 * step) / 4, rtol=1e-3)
  for gamma in (0.5, 2.0):
    kept = preference.Regularisation(focal=gamma)
    assert np.isfinite(jax.grad(loss)(jnp.array([-1e4, 1e4, 200.0, 0.0]))).all()


def test_margins_and_labels_in_doubt_are_told_to_it_too():
  chosen, rejected = jnp.array([1.0]), jnp.array([0.0])
  kept = preference.Regularisation(label_smoothing=0.1, focal=2.0)
  labels = preference.Labels(margins=0.5)
  loss, _ = preference.bradley_terry_loss(chosen, rejected, labels, kept)
  expected = 0.9 * slowly(0.5, 0.0, 2.0) + 0.1 * slowly(-1.5, 0.0, 2.0)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_section_says_gamma_and_one_without_has_none():
  job = ml_collections.ConfigDict({"members": 1, "label_smoothing": 0.0, "centring": 0.0})
  scalar = mock.Mock(spec=pure.PureModel)
  objective = objectives.preference_pairs
  plain = objectives.learning(scalar, objective, job)[1]
  assert plain is objective(preference.Regularisation())
  job.focal = 2.0
  assert objectives.learning(scalar, objective, job)[1] is objective(
    preference.Regularisation(focal=2.0)
  )
