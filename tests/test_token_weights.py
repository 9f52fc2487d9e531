"""Weights of tokens in preference optimisation, against slow Python, and in objective and stage."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import test_dpo_objective as plain
import tiny_run

from pit_jax.losses import preference
from pit_jax.recipes import dpo as recipe
from pit_jax.run import checks
from pit_jax.stages import dpo

language = plain.language


def slow(schedule, tokens):
  """The weights of a response of so many tokens, one after the other."""
  made = []
  for place in range(tokens):
    if schedule == "cos":
      made.append((1 + math.cos(math.pi * place / tokens)) / 2)
    elif schedule == "linear":
      made.append((tokens - place) / tokens)
    else:
      made.append(1.0)
  return made


@pytest.mark.parametrize("schedule", preference.SCHEDULES)
def test_weights_are_those_of_each_response_by_itself(schedule):
  lengths = [5, 1, 0, 7]
  mask = jnp.arange(7) < jnp.array(lengths)[:, None]
  weights = np.asarray(preference.token_weights(mask, schedule))
  for row, length in zip(weights, lengths, strict=True):
    np.testing.assert_allclose(row[:length], slow(schedule, length), atol=1e-6)
    assert not row[length:].any()


@pytest.mark.parametrize("schedule", ["cos", "linear"])
def test_weights_fall_from_1_and_count_half_a_response(schedule):
  mask = jnp.ones((1, 9), bool)
  weights = np.asarray(preference.token_weights(mask, schedule))[0]
  assert weights[0] == 1.0 and (np.diff(weights) < 0).all() and 0 < weights[-1] < 0.2
  np.testing.assert_allclose(weights.sum(), 5.0, rtol=1e-6)  # (n + 1) / 2


def token_logprobs(model, batch, weights, row, responses):
  """The log-probability of each token of a row's response, without padding."""
  parts = [
    [int(token) for token, real in zip(part.tokens[row], part.mask[row], strict=True) if real]
    for part in (batch.prompts, responses)
  ]
  tokens = parts[0] + parts[1]
  logits = model.apply(weights, jnp.array([tokens]), jnp.ones((1, len(tokens)), bool))[0]
  logits = np.asarray(logits, np.float64)
  places = range(len(parts[0]) - 1, len(tokens) - 1)
  return [logits[t, tokens[t + 1]] - np.log(np.exp(logits[t]).sum()) for t in places]


@pytest.mark.parametrize("schedule", ["cos", "linear"])
def test_the_loss_weighs_tokens_and_imitation_does_not(language, schedule):
  """One row at a time, token by token: policy less reference, each times its weight."""
  model, params, reference = language
  batch = plain.pairs_of()
  sides = {"chosen": batch.chosen, "rejected": batch.rejected}
  by_row = [
    {
      (name, side): token_logprobs(model, batch, tree, row, responses)
      for name, tree in (("policy", params), ("reference", reference))
      for side, responses in sides.items()
    }
    for row in range(3)
  ]
  summed = [
    {key: np.dot(one, slow(schedule, len(one))) for key, one in known.items()} for known in by_row
  ]
  columns = {
    f"reference_{side}": jnp.array([row["reference", side] for row in summed], jnp.float32)
    for side in sides
  }
  asked = plain.objective(model, "sigmoid", sft_coefficient=0.5, token_weights=schedule)
  loss, metrics = asked(params, {}, batch.replace(columns=columns), plain.KEY)

  total = 0.0
  for known, row in zip(by_row, summed, strict=True):
    h = row["policy", "chosen"] - row["reference", "chosen"]
    h -= row["policy", "rejected"] - row["reference", "rejected"]
    total += math.log1p(math.exp(-0.3 * h)) - 0.5 * np.mean(known["policy", "chosen"])
  np.testing.assert_allclose(loss, total / 3, rtol=1e-4)
  whole = np.mean([np.sum(known["policy", "rejected"]) for known in by_row])
  np.testing.assert_allclose(metrics["rejected_logprob"], whole, rtol=1e-4)  # logged whole


def test_a_mean_over_tokens_is_a_weighted_one(language):
  model, params, _ = language
  batch = plain.pairs_of()
  how = {"beta": 2.0, "gamma": 0.7, "token_weights": "linear"}
  loss, _ = plain.objective(model, "simpo", **how)(params, {}, batch, plain.KEY)
  total = 0.0
  for row in range(3):
    means = []
    for side in (batch.chosen, batch.rejected):
      logprobs = token_logprobs(model, batch, params, row, side)
      means.append(np.average(logprobs, weights=slow("linear", len(logprobs))))
    total += math.log1p(math.exp(0.7 - 2.0 * (means[0] - means[1])))
  np.testing.assert_allclose(loss, total / 3, rtol=1e-4)


def test_weights_of_1_change_nothing_to_the_bit(language):
  model, params, reference = language
  batch = plain.referenced(model, reference, plain.pairs_of())
  one, _ = plain.objective(model, "sigmoid")(params, {}, batch, plain.KEY)
  other, _ = plain.objective(model, "sigmoid", token_weights="all")(params, {}, batch, plain.KEY)
  assert one == other


def test_lengths_have_the_weights_of_their_masks():
  lengths = np.array([3, 0, 5])
  found = dpo._weights(lengths, "cos")
  for row, length in zip(found, lengths.tolist(), strict=True):
    np.testing.assert_allclose(row[:length], slow("cos", length), atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"dpo__token_weights": "cosine"}, "dpo.token_weights='cosine'; use one of all, cos, linea"),
    ({"dpo__token_weights": "cos", "dpo__loss": "kto"}, "dpo.token_weights=cos: the loss does not"),
    ({"dpo__token_weights": "cos", "dpo__importance_correction": True},
     "the correction is of whole responses; use False, or 'all'"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(tiny_run.config("dpo", **changes), recipe.RECIPE)
  assert said in str(error.value)
