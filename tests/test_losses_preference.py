"""The Bradley–Terry loss on values a person can check."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from pit_jax.losses import preference


def test_hand_values():
  # Odds of 3 to 1 for, even, and 3 to 1 against: losses −log ¾, −log ½ and −log ¼.
  chosen = jnp.array([math.log(3), 2.0, 5.0])
  rejected = jnp.array([0.0, 2.0, 5.0 + math.log(3)])
  loss, metrics = preference.bradley_terry_loss(chosen, rejected)
  np.testing.assert_allclose(loss, math.log(4 / 3 * 2 * 4) / 3, rtol=1e-6)
  np.testing.assert_allclose(metrics["loss"], loss)
  np.testing.assert_allclose(metrics["accuracy"], 1 / 3, rtol=1e-6)  # the tie counts as wrong
  np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-6)
  assert set(metrics) == {"loss", "accuracy", "margin"}


def test_gradient_is_the_probability_of_the_mistake():
  chosen, rejected = jnp.array([1.0, -2.0, 0.5, 0.0]), jnp.array([0.0, 1.0, 0.5, -3.0])
  gradients = jax.grad(lambda c, r: preference.bradley_terry_loss(c, r)[0], argnums=(0, 1))
  on_chosen, on_rejected = gradients(chosen, rejected)
  mistake = [1 / (1 + math.exp(float(c) - float(r))) for c, r in zip(chosen, rejected)]
  np.testing.assert_allclose(on_chosen, -np.array(mistake) / 4, rtol=1e-5)
  np.testing.assert_allclose(on_rejected, np.array(mistake) / 4, rtol=1e-5)


def test_only_the_difference_counts():
  chosen, rejected = jnp.array([1.0, -2.0]), jnp.array([0.25, 1.0])
  loss, _ = preference.bradley_terry_loss(chosen, rejected)
  shifted, _ = preference.bradley_terry_loss(chosen + 8.0, rejected + 8.0)
  np.testing.assert_allclose(shifted, loss, rtol=1e-6)


def test_a_hopeless_pair_has_a_finite_loss_and_gradient():
  chosen, rejected = jnp.array([-1e4]), jnp.array([1e4])
  loss, gradient = jax.value_and_grad(lambda c: preference.bradley_terry_loss(c, rejected)[0])(
    chosen
  )
  np.testing.assert_allclose(loss, 2e4)
  np.testing.assert_allclose(gradient, [-1.0])


def test_a_column_of_rewards_is_refused_instead_of_broadcast():
  with pytest.raises(jaxtyping.TypeCheckError, match="chosen"):
    preference.bradley_terry_loss(jnp.zeros((4, 1)), jnp.zeros((4,)))


def test_a_pair_of_weight_3_counts_like_three_pairs():
  draw = np.random.default_rng(2)
  chosen, rejected, margins = draw.normal(size=(3, 5)).astype(np.float32)
  weights = np.array([3.0, 0.0, 1.0, 2.0, 1.0], np.float32)
  repeats = weights.astype(int)
  loss, metrics = preference.bradley_terry_loss(
    *map(jnp.array, (chosen, rejected, margins, weights))
  )
  repeated = (jnp.array(np.repeat(x, repeats)) for x in (chosen, rejected, margins))
  wanted, expected = preference.bradley_terry_loss(*repeated)
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


def test_weights_of_1_change_nothing_to_the_bit():
  chosen, rejected = jnp.array(np.random.default_rng(3).normal(size=(2, 7)), jnp.float32)

  def plain(chosen):
    return -jax.nn.log_sigmoid(chosen - rejected).mean()

  def weighted(chosen):
    return preference.bradley_terry_loss(chosen, rejected, weights=jnp.ones(7))[0]

  wanted, found = (jax.value_and_grad(loss)(chosen) for loss in (plain, weighted))
  np.testing.assert_array_equal(found[0], wanted[0])
  np.testing.assert_array_equal(found[1], wanted[1])


def test_a_batch_in_which_no_pair_counts_has_loss_and_gradient_0():
  loss, gradient = jax.value_and_grad(
    lambda chosen: preference.bradley_terry_loss(chosen, jnp.zeros(2), weights=jnp.zeros(2))[0]
  )(jnp.array([1.0, -1.0]))
  assert loss == 0
  np.testing.assert_array_equal(gradient, [0.0, 0.0])


@pytest.mark.parity
def test_margins_are_what_trl_subtracts():
  """TRL's RewardTrainer: −logsigmoid(rewards_chosen − rewards_rejected − margin).mean()."""
  torch = pytest.importorskip("torch")
  chosen, rejected, margins = np.random.default_rng(5).normal(size=(3, 7)).astype(np.float32)
  margins[:2] = 0.0  # rows without one
  theirs = [torch.tensor(x, requires_grad=True) for x in (chosen, rejected)]
  wanted = -torch.nn.functional.logsigmoid(theirs[0] - theirs[1] - torch.tensor(margins)).mean()
  wanted.backward()

  def ours(chosen, rejected):
    return preference.bradley_terry_loss(chosen, rejected, jnp.array(margins))

  (loss, metrics), gradient = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(
    jnp.array(chosen), jnp.array(rejected)
  )
  np.testing.assert_allclose(loss, wanted.item(), rtol=1e-6)
  for one, other in zip(gradient, theirs, strict=True):
    np.testing.assert_allclose(one, other.grad.numpy(), atol=1e-7)
  np.testing.assert_allclose(metrics["margin"], (chosen - rejected).mean(), atol=1e-6)
  assert metrics["accuracy"] == pytest.approx((chosen > rejected).mean())
