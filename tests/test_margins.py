"""What rows say of their labels, from the row to the batch that a reward model learns from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_models

from pit_jax.configs import common
from pit_jax.data import batches, encode, rows
from pit_jax.losses import gap, preference
from pit_jax.stages import objectives, pair_columns
from pit_jax.training import step as training_step

SCALE = 0.5
GIVEN = (None, 3.0, 1.0, None, 2.0, 0.5)
PAIRS = [
  rows.Preference(
    "what is the first word ?",
    "first " * (i + 1),
    "last " * (i + 1),
    margin=margin,
    label_probability=margin and margin / 4,
    pair_weight=margin and 2 * margin,
  )
  for i, margin in enumerate(GIVEN)
]
# Equal once they are cut, so that later rows move up.
PAIRS.insert(1, rows.Preference("what ?", "first " * 40, "first " * 41, margin=9.0))
FIELDS = {"margin_scale": SCALE, "soft_labels": True, "pair_weights": True}
# What the losses are told, by column.
TOLD = {
  "margin": [SCALE * (m or 0.0) for m in GIVEN],
  "label_probability": [1.0 if m is None else m / 4 for m in GIVEN],
  "weight": [1.0 if m is None else 2 * m for m in GIVEN],
}


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


def section(**values):
  """Returns a section of a reward model."""
  job = common.reward("tiny")
  job.update(values)
  return job


def encoded(asking, kind, **values):
  """Returns the pairs as a section wants them."""
  table = kind(PAIRS, asking.settings)
  return pair_columns.added(table, PAIRS, section(**values), seed=0)[0]


@pytest.mark.parametrize("kind", [encode.preferences, encode.gap_preferences])
@pytest.mark.parametrize(("key", "column"), [*zip(FIELDS, TOLD, strict=True)])
def test_every_pair_keeps_its_number_in_every_order(asking, kind, key, column):
  train = encoded(asking, kind, **{key: FIELDS[key]})
  assert len(train) == len(GIVEN) and [*train.columns] == [column]
  shuffled = batches.Batches(train, 4, seed=3)
  seen = {}
  for step in range(6):
    batch = shuffled[step]
    lengths = batch.chosen.mask.sum(axis=1).tolist()
    seen.update(zip(lengths, batch.columns[column].tolist(), strict=True))
  assert [seen[length] for length in sorted(seen)] == TOLD[column]


def test_nothing_counts_that_is_not_asked_for(asking):
  assert encoded(asking, encode.preferences)[:].columns == {}


def test_the_objectives_give_their_losses_what_rows_say(asking):
  params = jax.tree.map(jnp.asarray, tiny.parameters(asking.scalar, seed=1))
  kept = preference.Regularisation(label_smoothing=0.1, centring=0.2)
  names = {"margin": "margins", "label_probability": "probabilities", "weight": "weights"}
  labels = preference.Labels(**{names[name]: jnp.array(told) for name, told in TOLD.items()})
  pairs = jax.tree.map(jnp.asarray, encoded(asking, encode.preferences, **FIELDS)[:])
  found, metrics = objectives.preference_pairs(kept)(asking.scalar)(params, {}, pairs, None)
  scores = objectives.pair_scores(asking.scalar, {**params, "bias": jnp.zeros(())}, pairs)
  expected = preference.bradley_terry_loss(*scores, labels, kept)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert abs(found - preference.bradley_terry_loss(*scores)[0]) > 0.1
  assert metrics["weight"] == sum(TOLD["weight"])
  pairs = jax.tree.map(jnp.asarray, encoded(asking, encode.gap_preferences, **FIELDS)[:])
  weights = {"term_weights": jnp.ones(5)}
  found, _ = objectives.gap_order(kept)(asking.scalar)(params, weights, pairs, None)
  gaps = objectives.four_gaps(asking.scalar, {**params, "bias": jnp.zeros(())}, pairs)
  expected = gap.gap_loss(*gaps, jnp.ones(5), labels, kept)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_bias_cannot_centre_scores_since_no_model_keeps_it(asking):
  params = jax.tree.map(jnp.asarray, tiny.parameters(asking.scalar, seed=1))
  kept = preference.Regularisation(centring=0.2)
  pairs = jax.tree.map(jnp.asarray, encoded(asking, encode.preferences)[:])
  loss = objectives.preference_pairs(kept)(asking.scalar)
  gradient = jax.grad(lambda params: loss(params, {}, pairs, None)[0])(params)
  assert gradient["bias"] == 0 and np.abs(gradient["head"]).max() > 0.01


@pytest.mark.parametrize(("key", "value"), FIELDS.items())
def test_what_is_to_count_has_to_be_there(asking, key, value):
  fields = {"margin": None, "label_probability": None, "pair_weight": None}
  bare = [dataclasses.replace(row, **fields) for row in PAIRS]
  table = encode.preferences(bare, asking.settings)
  with pytest.raises(ValueError, match=f"{key}={value} and none of 7 rows"):
    pair_columns.added(table, bare, section(**{key: value}), seed=0)


def test_a_column_has_a_number_for_every_row(asking):
  train = encoded(asking, encode.preferences)
  with pytest.raises(ValueError, match="column 'weight' has 1 numbers for"):
    train.with_columns(weight=np.ones(1))


@pytest.mark.parametrize("members", [1, 3])
def test_parts_of_a_batch_are_averaged_by_the_weights_of_their_pairs(asking, members):
  """Pairs that weigh nothing in one part leave its gradient out of the step."""
  job = section(members=members)
  model, loss = objectives.learning(asking.scalar, objectives.preference_pairs, job)
  params = jax.tree.map(jnp.asarray, tiny.parameters(model, seed=1))
  train = encoded(asking, encode.preferences, members=members)
  weights = np.arange(len(train)) % 2 * (1.0 + np.arange(len(train)))
  pairs = jax.tree.map(jnp.asarray, train.with_columns(weight=weights)[:])
  rows = len(train) // 2 * 2
  pairs = jax.tree.map(lambda x: x[:rows], pairs)
  found = []
  for accumulation in (1, 2):
    optimizer = optax.sgd(1.0)
    step = training_step.make_train_step(loss(model), optimizer, accumulation=accumulation)
    state = training_step.init_state(params, optimizer)
    found.append(step(state, {}, pairs, jax.random.key(0), jnp.float32(0.1)))
  (whole, expected), (parts, metrics) = found
  np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
    parts.params,
    whole.params,
  )
