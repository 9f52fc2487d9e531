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
    *map(jnp.array, (chosen, rejected)), preference.Labels(*map(jnp.array, (margins, weights)))
  )
  *repeated, margins = (jnp.array(np.repeat(x, repeats)) for x in (chosen, rejected, margins))
  wanted, expected = preference.bradley_terry_loss(*repeated, preference.Labels(margins))
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


def test_weights_of_1_change_nothing_to_the_bit():
  chosen, rejected = jnp.array(np.random.default_rng(3).normal(size=(2, 7)), jnp.float32)

  def plain(chosen):
    return -jax.nn.log_sigmoid(chosen - rejected).mean()

  labels = preference.Labels(weights=jnp.ones(7))

  def weighted(chosen):
    return preference.bradley_terry_loss(chosen, rejected, labels)[0]

  wanted, found = (jax.value_and_grad(loss)(chosen) for loss in (plain, weighted))
  np.testing.assert_array_equal(found[0], wanted[0])
  np.testing.assert_array_equal(found[1], wanted[1])


def test_a_batch_in_which_no_pair_counts_has_loss_and_gradient_0():
  uncounted = preference.Labels(weights=jnp.zeros(2))
  loss, gradient = jax.value_and_grad(
    lambda chosen: preference.bradley_terry_loss(chosen, jnp.zeros(2), uncounted)[0]
  )(jnp.array([1.0, -1.0]))
  assert loss == 0
  np.testing.assert_array_equal(gradient, [0.0, 0.0])


LOSSES = preference.PAIR_LOSSES
PAIRED = [name for name, loss in LOSSES.items() if loss.is_paired]


def taken(name, chosen, rejected, beta=0.3, kl=0.0, corrections=1.0, weights=1.0, **options):
  """Returns a loss by its name, and its metrics, of two lists of scores."""
  chosen, rejected = (jnp.asarray(scores, jnp.float32) for scores in (chosen, rejected))
  more = {"kl": kl, "corrections": corrections, "weights": weights}
  options = preference.Options(beta, **options)
  return preference.dpo_loss(chosen, rejected, loss=LOSSES[name], options=options, **more)


def test_dpo_by_hand():
  # β h = log 3 and −log 3: odds of 3 to 1 for and against.
  chosen = [0.5, -0.5 * math.log(3)]
  rejected = [0.5 - 2 * math.log(3), 1.5 * math.log(3)]
  loss, metrics = taken("sigmoid", chosen, rejected, beta=0.5)
  np.testing.assert_allclose(loss, (math.log(4 / 3) + math.log(4)) / 2, rtol=1e-6)
  assert metrics["loss"] == loss and metrics["accuracy"] == 0.5
  np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-6)


def test_ipo_and_hinge_by_hand():
  loss, _ = taken("ipo", [3.0, 0.0], [1.0, 1.0], beta=0.25)
  np.testing.assert_allclose(loss, ((2 - 2) ** 2 + (-1 - 2) ** 2) / 2)
  loss, _ = taken("hinge", [3.0, 0.0, 9.0], [1.0, 1.0, 1.0], beta=0.25)
  np.testing.assert_allclose(loss, (0.5 + 1.25 + 0.0) / 3)


def test_robust_by_hand():
  """The loss of noise in the code of Sharma et al. 2024, which has 1/β and no 1/(1 − 2ε)."""
  h, beta, epsilon = 0.7, 0.2, 0.1
  right, wrong = (math.log1p(math.exp(-sign * beta * h)) for sign in (1, -1))
  loss, _ = taken("robust", [h], [0.0], beta=beta, label_smoothing=epsilon)
  np.testing.assert_allclose(loss, ((1 - epsilon) * right + epsilon * wrong) / beta, rtol=1e-6)


def test_simpo_by_hand():
  scores = [preference.per_token(jnp.array([-6.0]), jnp.array([count])) for count in (4, 2)]
  loss, metrics = taken("simpo", *scores, beta=2.0, gamma=0.5)
  np.testing.assert_allclose(loss, math.log1p(math.exp(-(2.0 * (-1.5 + 3.0) - 0.5))), rtol=1e-6)
  np.testing.assert_allclose(metrics["margin"], 3.0)  # without γ, which is what is asked of it


def test_orpo_by_hand():
  """Probabilities of ¾ and ⅓ a token are odds of 3 and ½, whose ratio is 6."""
  tokens = jnp.array([3])
  chosen, rejected = (
    preference.log_odds(tokens * jnp.log(jnp.array([p])), tokens) for p in (0.75, 1 / 3)
  )
  loss, _ = taken("orpo", chosen, rejected, beta=0.2)
  np.testing.assert_allclose(loss, -0.2 * math.log(6 / 7), rtol=1e-5)


def test_kto_by_hand():
  """z = 1: β u is log 3 for the desirable one, −log 3 for the other: values of ¾ and ¼."""
  step = math.log(3) / 0.5
  weights = {"desirable_weight": 2.0, "undesirable_weight": 1.0}
  loss, metrics = taken("kto", [1.0 + step], [1.0 + step], beta=0.5, kl=1.0, **weights)
  np.testing.assert_allclose(loss, (2 * 0.25 + 0.75) / 2, rtol=1e-6)
  assert metrics["kl"] == 1.0


def test_kto_does_not_care_which_responses_are_of_one_prompt():
  chosen, rejected = [1.0, -2.0, 0.5], [0.25, 1.0, -1.0]
  loss, _ = taken("kto", chosen, rejected, kl=0.2)
  moved, _ = taken("kto", chosen, [1.0, -1.0, 0.25], kl=0.2)
  np.testing.assert_allclose(moved, loss, rtol=1e-6)


def test_neither_the_kl_nor_a_correction_has_a_gradient():
  slopes = jax.grad(lambda kl: taken("kto", [1.0], [0.0], kl=kl)[0])(0.5)
  assert slopes == 0
  slopes = jax.grad(lambda c: taken("sigmoid", [1.0], [0.0], corrections=c)[0])(jnp.ones(1))
  assert slopes == 0


def test_a_correction_multiplies_the_loss_of_its_pair():
  loss, _ = taken("sigmoid", [1.0, 2.0], [0.0, 0.0], corrections=jnp.array([3.0, 0.5]))
  each = [math.log1p(math.exp(-0.3 * h)) for h in (1.0, 2.0)]
  np.testing.assert_allclose(loss, (3 * each[0] + 0.5 * each[1]) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", PAIRED)
def test_smoothing_is_the_mean_loss_where_so_many_labels_are_turned_round(name):
  chosen, rejected = [1.0, -2.0], [0.25, 1.0]
  gamma = 0.4 if name == "simpo" else 0.0
  straight, _ = taken(name, chosen, rejected, gamma=gamma)
  turned, _ = taken(name, rejected, chosen, gamma=gamma)
  loss, _ = taken(name, chosen, rejected, label_smoothing=0.2, gamma=gamma)
  np.testing.assert_allclose(loss, 0.8 * straight + 0.2 * turned, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("logratio", [0.0, -1e-9, -700.0, 700.0, -1e4])
def test_losses_and_gradients_are_finite_wherever_a_response_stands(name, logratio):
  """Certain and hopeless responses, one of them without a token."""
  loss = LOSSES[name]
  logratio = logratio if loss.has_reference else min(logratio, 0.0)
  tokens = jnp.array([5, 0])

  def of(logratios):
    scores = (loss.score(logratios[side], tokens) for side in range(2))
    return taken(name, *scores, kl=0.1, gamma=0.5 if name == "simpo" else 0.0)[0]

  for logratios in ([[logratio] * 2, [-1.0] * 2], [[-1.0] * 2, [logratio] * 2]):
    value, gradient = jax.value_and_grad(of)(jnp.array(logratios))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_where_the_chosen_response_gains_and_the_other_loses(name):
  """Near its start, h = 0; ORPO's and SimPO's responses are of a probability of ½ a token."""
  loss, tokens = LOSSES[name], jnp.array([4])
  start = jnp.full((1,), 4 * math.log(0.5) if not loss.has_reference else 0.0)

  def of(chosen, rejected):
    scores = (loss.score(logratio, tokens) for logratio in (chosen, rejected))
    return taken(name, *scores)[0]

  on_chosen, on_rejected = jax.grad(of, argnums=(0, 1))(start, start)
  assert on_chosen < 0 < on_rejected


def test_conservative_dpo_is_least_where_the_policy_says_how_often_labels_are_right():
  """σ(β h) = 1 − ε: labels of which a fifth is wrong are no reason to be surer."""
  slope = jax.grad(lambda h: taken("sigmoid", h, [0.0], beta=0.5, label_smoothing=0.2)[0])
  np.testing.assert_allclose(slope(jnp.array([math.log(4) / 0.5])), [0.0], atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_pairs_count_by_their_weights(name):
  chosen, rejected, weights = [1.0, -2.0], [0.0, 1.0], [3.0, 1.0]
  loss, metrics = taken(name, chosen, rejected, kl=0.2, weights=jnp.array(weights))
  repeated, _ = taken(name, [1.0, 1.0, 1.0, -2.0], [0.0, 0.0, 0.0, 1.0], kl=0.2)
  np.testing.assert_allclose(loss, repeated, rtol=1e-6)
  np.testing.assert_allclose(metrics["accuracy"], 0.75)


class Table:
  """Five responses that can be counted: what a loss makes of a policy that is a table of logits."""

  rewards = np.array([0.0, 1.0, 0.3, -0.7, 2.0])
  reference = np.log([0.1, 0.2, 0.4, 0.25, 0.05])
  # Every ordered pair of two responses, and how often the first one is preferred.
  first, second = (place.ravel() for place in np.meshgrid(*2 * [np.arange(5)], indexing="ij"))
  preferred = 1 / (1 + np.exp(rewards[second] - rewards[first]))

  @classmethod
  def optimum(cls, name, beta, steps=4_000, rate=0.5, **options):
    """Returns the distribution at which plain gradient descent on the expected loss arrives."""
    first, second, weights, reference = map(
      jnp.asarray, (cls.first, cls.second, cls.preferred, cls.reference)
    )

    def expected(logits):
      ratios = jax.nn.log_softmax(logits) - reference
      return taken(name, ratios[first], ratios[second], beta=beta, weights=weights, **options)[0]

    def step(logits, _):
      return logits - rate / beta**2 * jax.grad(expected)(logits), None

    logits, _ = jax.lax.scan(step, jnp.asarray(cls.reference, jnp.float32), None, length=steps)
    return jax.nn.softmax(logits)


@pytest.mark.parametrize("name, beta", [("sigmoid", 0.5), ("sigmoid", 2.0), ("robust", 0.5)])
def test_dpo_arrives_at_the_optimum_of_the_rewards_that_labelled(name, beta):
  """π*(y) ∝ π_ref(y) exp(r(y)/β) (Rafailov et al. 2023, eq. 4), and no reward model was fit."""
  rate = 4.0 if name == "sigmoid" else 4.0 * beta
  wanted = np.exp(Table.reference + Table.rewards / beta)
  found = Table.optimum(name, beta, rate=rate)
  np.testing.assert_allclose(found, wanted / wanted.sum(), atol=1e-4)


def test_ipo_arrives_where_log_ratios_are_preference_rates():
  """h(y, y') = (p(y ≻ μ) − p(y' ≻ μ)) / τ under uniform pairs (Azar et al. 2023, section 5)."""
  beta = 0.5
  rates = Table.preferred.reshape(5, 5).mean(axis=1)  # over all others and the response itself
  wanted = np.exp(Table.reference + rates / beta)
  found = Table.optimum("ipo", beta, rate=0.05)
  np.testing.assert_allclose(found, wanted / wanted.sum(), atol=1e-4)


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
    labels = preference.Labels(jnp.array(margins))
    return preference.bradley_terry_loss(chosen, rejected, labels)

  (loss, metrics), gradient = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(
    jnp.array(chosen), jnp.array(rejected)
  )
  np.testing.assert_allclose(loss, wanted.item(), rtol=1e-6)
  for one, other in zip(gradient, theirs, strict=True):
    np.testing.assert_allclose(one, other.grad.numpy(), atol=1e-7)
  np.testing.assert_allclose(metrics["margin"], (chosen - rejected).mean(), atol=1e-6)
  assert metrics["accuracy"] == pytest.approx((chosen > rejected).mean())
