"""Labels that may be wrong, offsets and centring, in both losses of reward models."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.losses import gap, preference

TERMS = ((0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 3, 1), (2, 3, 1))  # greater, smaller, distance
WEIGHTS = (1.0, 0.5, 2.0, 0.25, 3.0)


def cost(ahead):
  return math.log1p(math.exp(-ahead))


def drawn(rows, seed=0):
  """Returns rewards, Float[rows 6], and what is known of the labels."""
  draw = np.random.default_rng(seed)
  rewards = draw.normal(size=(rows, 6)).astype(np.float32)
  labels = preference.Labels(
    margins=jnp.array(draw.uniform(0, 2, rows), jnp.float32),
    weights=jnp.array(draw.uniform(0, 3, rows), jnp.float32),
    probabilities=jnp.array(draw.uniform(0, 1, rows), jnp.float32),
    offsets=jnp.array(draw.normal(size=rows), jnp.float32),
  )
  return rewards, labels


def slow_pairs(rewards, labels, smoothing, centring):
  """Returns the Bradley–Terry loss pair by pair, each as a mixture of its two labels."""
  total = 0.0
  for i, (r, other) in enumerate(rewards):
    right = labels.probabilities[i] * (1 - smoothing) + (1 - labels.probabilities[i]) * smoothing
    known = r - other + labels.offsets[i]
    one = right * cost(known - labels.margins[i])
    one += (1 - right) * cost(-known - labels.margins[i])
    total += labels.weights[i] * (one + centring * (r + other) ** 2)
  return total / labels.weights.sum()


def slow_gaps(gaps, labels, smoothing, centring):
  """Returns the gap loss pair by pair; a wrong label is the pair with its responses exchanged."""
  total = 0.0
  for i, (wl, ww, ll, lw) in enumerate(gaps):
    right = labels.probabilities[i] * (1 - smoothing) + (1 - labels.probabilities[i]) * smoothing
    # Exchanged, l is the better one: its gap over w stands where that of w over l stood.
    for chance, four, sign in ((right, (wl, ww, ll, lw), 1), (1 - right, (lw, ll, ww, wl), -1)):
      for weight, (a, b, distance) in zip(WEIGHTS, TERMS, strict=True):
        known = four[a] - four[b] + sign * distance * labels.offsets[i]
        total += labels.weights[i] * chance * weight * cost(known - distance * labels.margins[i])
    total += labels.weights[i] * centring * (ww**2 + ll**2)
  return total / labels.weights.sum()


@pytest.mark.parametrize(
  ("smoothing", "centring"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.2, 0.1)]
)
def test_both_losses_are_those_of_slow_python(smoothing, centring):
  rewards, labels = drawn(7)
  kept = preference.Regularisation(smoothing, centring)
  found, metrics = preference.bradley_terry_loss(*jnp.array(rewards[:, :2].T), labels, kept)
  expected = slow_pairs(rewards[:, :2].astype(float), labels, smoothing, centring)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert metrics["accuracy"] == pytest.approx(
    np.average(rewards[:, 0] > rewards[:, 1], weights=labels.weights), rel=1e-5
  ), "of the rewards alone, without the offset"
  found, _ = gap.gap_loss(*jnp.array(rewards[:, 2:].T), jnp.array(WEIGHTS), labels, kept)
  expected = slow_gaps(rewards[:, 2:].astype(float), labels, smoothing, centring)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_certain_labels_cost_what_they_cost_to_the_bit():
  rewards, _ = drawn(5, seed=1)
  certain = preference.Labels(probabilities=jnp.ones(5))
  for loss, given in (
    (preference.bradley_terry_loss, (*jnp.array(rewards[:, :2].T),)),
    (gap.gap_loss, (*jnp.array(rewards[:, 2:].T), jnp.array(WEIGHTS))),
  ):
    assert loss(*given, certain)[0] == loss(*given)[0]


def test_a_label_of_one_half_says_that_the_two_are_alike():
  even = preference.Labels(probabilities=jnp.full(1, 0.5))

  def loss(ahead):
    return preference.bradley_terry_loss(ahead[None], jnp.zeros(1), even)[0]

  assert jax.grad(loss)(jnp.float32(0.0)) == 0 and jax.grad(loss)(jnp.float32(2.0)) > 0


def test_a_soft_label_is_a_pair_and_its_mirror_by_their_chances():
  """A pair of p = ¾ is three pairs as labelled and one the other way round."""
  chosen, rejected = jnp.array([0.7]), jnp.array([-0.4])
  soft = preference.Labels(probabilities=jnp.array([0.75]))
  hard = (jnp.array([0.7, 0.7, 0.7, -0.4]), jnp.array([-0.4, -0.4, -0.4, 0.7]))
  found = preference.bradley_terry_loss(chosen, rejected, soft)[0]
  np.testing.assert_allclose(found, preference.bradley_terry_loss(*hard)[0], rtol=1e-6)


def test_smoothing_doubts_a_soft_label_less_the_softer_it_is():
  kept = preference.Regularisation(label_smoothing=0.1)
  doubts = [preference.doubt(preference.Labels(probabilities=p), kept) for p in (1.0, 0.5, 0.0)]
  assert doubts == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.parity
def test_centring_is_that_of_trl():
  """TRL's RewardTrainer adds coefficient · mean((rewards_chosen + rewards_rejected)²)."""
  torch = pytest.importorskip("torch")
  rewards, _ = drawn(6, seed=3)
  theirs = torch.tensor(rewards[:, :2])
  wanted = -torch.nn.functional.logsigmoid(theirs[:, 0] - theirs[:, 1]).mean()
  wanted += 0.01 * torch.mean((theirs[:, 0] + theirs[:, 1]) ** 2)
  kept = preference.Regularisation(centring=0.01)
  found, _ = preference.bradley_terry_loss(*jnp.array(rewards[:, :2].T), kept=kept)
  np.testing.assert_allclose(found, wanted.item(), rtol=1e-6)
