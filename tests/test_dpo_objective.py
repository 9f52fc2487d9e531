"""The objective of preference optimisation against single responses without padding."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.losses import preference
from pit_jax.stages import objectives
from pit_jax.types import Preferences

KEY = jax.random.key(0)


def pairs_of(rows=3):
  return Preferences(
    tiny.prompts(1, [3, 1, 2][:rows], 3),
    tiny.responses(2, [4, 2, 3][:rows], 4),
    tiny.responses(3, [1, 4, 2][:rows], 4),
  )


@pytest.fixture(scope="module")
def language():
  model = tiny.language(layers=1)
  return model, *(jax.tree.map(jnp.array, tiny.parameters(model, seed=seed)) for seed in (1, 2))


def referenced(model, params, batch):
  logprobs = objectives.pair_logprobs(model, params, batch)
  names = ("reference_chosen", "reference_rejected")
  return batch.replace(columns=dict(zip(names, logprobs, strict=True)))


def objective(model, name, beta=0.3, **options):
  loss = preference.PAIR_LOSSES[name]
  return objectives.policy_pairs(loss, preference.Options(beta, **options))(model)


@pytest.mark.parametrize(
  "name, least",
  [
    ("sigmoid", math.log(2)),
    ("robust", math.log(2) / 0.3),
    ("ipo", (1 / 0.6) ** 2),
    ("hinge", 1.0),
    ("kto", 0.5),
  ],
)
def test_a_policy_that_is_its_reference_prefers_nothing(language, name, least):
  model, params, _ = language
  batch = referenced(model, params, pairs_of())
  loss, metrics = objective(model, name)(params, {"reference": params}, batch, KEY)
  np.testing.assert_allclose(loss, least, rtol=1e-5)
  np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-5)


def single_logprob(model, batch, weights, row, responses, other=None):
  """Returns log π of a row's response, without padding, and its tokens; after that prompt or one
  that is named."""
  tokens = [
    int(token)
    for part, index in ((batch.prompts, row if other is None else other), (responses, row))
    for token, real in zip(part.tokens[index], part.mask[index], strict=True)
    if real
  ]
  count = int(responses.mask[row].sum())
  logits = model.apply(weights, jnp.array([tokens]), jnp.ones((1, len(tokens)), bool))[0]
  logprobs = jax.nn.log_softmax(logits[:-1])[jnp.arange(len(tokens) - 1), jnp.array(tokens[1:])]
  return float(logprobs[-count:].sum()), count


def test_the_objective_is_that_of_single_responses(language):
  """One row at a time, without padding: sums of log-probabilities, and α times their mean."""
  model, params, reference = language
  batch = referenced(model, reference, pairs_of())
  batch = batch.replace(columns=batch.columns | {"weight": jnp.array([2.0, 1.0, 1.0])})
  loss_fn = objective(model, "sigmoid", label_smoothing=0.1, sft_coefficient=0.5)
  loss, metrics = loss_fn(params, {}, batch, KEY)
  logprob = functools.partial(single_logprob, model, batch)

  total = 0.0
  for row, weight in enumerate((2.0, 1.0, 1.0)):
    (chosen, count), (rejected, _) = (
      logprob(params, row, side) for side in (batch.chosen, batch.rejected)
    )
    h = chosen - logprob(reference, row, batch.chosen)[0]
    h -= rejected - logprob(reference, row, batch.rejected)[0]
    right, wrong = (math.log1p(math.exp(-sign * 0.3 * h)) for sign in (1, -1))
    total += weight * (0.9 * right + 0.1 * wrong - 0.5 * chosen / count)
  np.testing.assert_allclose(loss, total / 4, rtol=1e-4)
  assert metrics["weight"] == 4


def test_kto_judges_each_response_by_the_kl_on_responses_to_other_prompts(language):
  """Row by row: z is the mean log-ratio of both responses after the prompt that follows theirs."""
  model, params, reference = language
  batch = referenced(model, reference, pairs_of())
  weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
  loss_fn = objective(model, "kto", **weights)
  loss, metrics = loss_fn(params, {"reference": reference}, batch, KEY)
  sides = (batch.chosen, batch.rejected)

  def ratio(row, responses, other):
    both = (
      single_logprob(model, batch, tree, row, responses, other)[0] for tree in (params, reference)
    )
    return next(both) - next(both)

  z = max(0.0, np.mean([ratio(row, side, (row + 1) % 3) for row in range(3) for side in sides]))
  np.testing.assert_allclose(metrics["kl"], z, rtol=1e-4)
  assert z > 0  # or the bound hides it
  total = 0.0
  for row in range(3):
    chosen, rejected = (ratio(row, side, row) for side in sides)
    total += 1.5 / (1 + math.exp(0.3 * (chosen - z))) + 0.5 / (1 + math.exp(0.3 * (z - rejected)))
  np.testing.assert_allclose(loss, total / 6, rtol=1e-4)


def test_losses_without_a_reference_ask_for_none(language):
  """By hand from single responses; no column stands beside the pairs."""
  model, params, _ = language
  batch = pairs_of()
  loss, metrics = objective(model, "simpo", beta=2.0, gamma=0.7)(params, {}, batch, KEY)
  rows = [
    [single_logprob(model, batch, params, row, side) for side in (batch.chosen, batch.rejected)]
    for row in range(3)
  ]
  means = np.array([[total / count for total, count in row] for row in rows])
  wanted = np.log1p(np.exp(0.7 - 2.0 * (means[:, 0] - means[:, 1]))).mean()
  np.testing.assert_allclose(loss, wanted, rtol=1e-4)

  loss, _ = objective(model, "orpo", beta=0.4, sft_coefficient=1.0)(params, {}, batch, KEY)
  odds = np.exp(means) / (1 - np.exp(means))
  wanted = (0.4 * np.log1p(odds[:, 1] / odds[:, 0]) - means[:, 0]).mean()
  np.testing.assert_allclose(loss, wanted, rtol=1e-4)

  loss, _ = objective(model, "sigmoid", reference_free=True)(params, {}, batch, KEY)
  totals = np.array([[total for total, _ in row] for row in rows])
  wanted = np.log1p(np.exp(-0.3 * (totals[:, 0] - totals[:, 1]))).mean()
  np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_the_imitation_may_be_summed_and_pairs_corrected(language):
  model, params, reference = language
  batch = referenced(model, reference, pairs_of())
  plain, metrics = objective(model, "sigmoid")(params, {}, batch, KEY)
  options = {"sft_coefficient": 0.2, "sft_reduction": "sum"}
  loss, _ = objective(model, "sigmoid", **options)(params, {}, batch, KEY)
  np.testing.assert_allclose(loss, plain - 0.2 * metrics["chosen_logprob"], rtol=1e-5)

  loss, _ = objective(model, "sigmoid", importance_correction=True)(params, {}, batch, KEY)
  total = 0.0
  for row in range(3):
    chosen, rejected = (
      single_logprob(model, batch, params, row, side)[0]
      - single_logprob(model, batch, reference, row, side)[0]
      for side in (batch.chosen, batch.rejected)
    )
    total += math.exp(rejected) * math.log1p(math.exp(-0.3 * (chosen - rejected)))
  np.testing.assert_allclose(loss, total / 3, rtol=1e-4)


def test_the_gradient_pushes_the_two_responses_apart(language):
  """Rafailov et al. 2023, section 4: β σ(−β h) times the difference of the two gradients."""
  model, params, reference = language
  batch = referenced(model, reference, pairs_of(rows=1))
  found = jax.grad(lambda p: objective(model, "sigmoid")(p, {}, batch, KEY)[0])(params)

  def ahead(p):
    chosen, rejected = objectives.pair_logprobs(model, p, batch)
    return (chosen - rejected)[0]

  h = ahead(params) - ahead(reference)
  wanted = jax.tree.map(lambda g: -0.3 * jax.nn.sigmoid(-0.3 * h) * g, jax.grad(ahead)(params))
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6), found, wanted
  )
