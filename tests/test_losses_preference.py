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


def test_dpo_by_hand():
  # β h = log 3 and −log 3: odds of 3 to 1 for and against.
  chosen = jnp.array([0.5, -0.5 * math.log(3)])
  rejected = jnp.array([0.5 - 2 * math.log(3), 1.5 * math.log(3)])
  loss, metrics = preference.dpo_loss(chosen, rejected, beta=0.5)
  np.testing.assert_allclose(loss, (math.log(4 / 3) + math.log(4)) / 2, rtol=1e-6)
  assert metrics["loss"] == loss and metrics["accuracy"] == 0.5
  np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-6)


def test_ipo_by_hand():
  loss, _ = preference.dpo_loss(
    jnp.array([3.0, 0.0]), jnp.array([1.0, 1.0]), pair_loss=preference.ipo, beta=0.25
  )
  np.testing.assert_allclose(loss, ((2 - 2) ** 2 + (-1 - 2) ** 2) / 2)


@pytest.mark.parametrize("pair_loss", preference.PAIR_LOSSES.values())
def test_smoothing_is_the_mean_loss_where_so_many_labels_are_turned_round(pair_loss):
  chosen, rejected = jnp.array([1.0, -2.0]), jnp.array([0.25, 1.0])
  given = {"pair_loss": pair_loss, "beta": 0.3}
  straight, _ = preference.dpo_loss(chosen, rejected, **given)
  turned, _ = preference.dpo_loss(rejected, chosen, **given)
  loss, _ = preference.dpo_loss(chosen, rejected, label_smoothing=0.2, **given)
  np.testing.assert_allclose(loss, 0.8 * straight + 0.2 * turned, rtol=1e-6)


def test_conservative_dpo_is_least_where_the_policy_says_how_often_labels_are_right():
  """σ(β h) = 1 − ε: labels of which a fifth is wrong are no reason to be surer."""
  slope = jax.grad(lambda h: preference.dpo_loss(h, jnp.zeros(1), beta=0.5, label_smoothing=0.2)[0])
  np.testing.assert_allclose(slope(jnp.array([math.log(4) / 0.5])), [0.0], atol=1e-7)


def test_dpo_counts_pairs_by_their_weights():
  chosen, rejected, weights = jnp.array([[1.0, -2.0], [0.0, 1.0], [3.0, 1.0]])
  loss, metrics = preference.dpo_loss(chosen, rejected, beta=0.5, weights=weights)
  each = -jax.nn.log_sigmoid(0.5 * (chosen - rejected))
  np.testing.assert_allclose(loss, (3 * each[0] + each[1]) / 4, rtol=1e-6)
  np.testing.assert_allclose(metrics["accuracy"], 0.75)


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
