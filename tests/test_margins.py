"""A row's margin, from the row to the batch that a reward model learns from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_models
import tiny_run

from pit_jax.data import batches, encode, preferences, rows
from pit_jax.losses import gap, preference
from pit_jax.stages import objectives, reward
from pit_jax.training import step as training_step

SCALE = 0.5
GIVEN = (None, 3.0, 1.0, None, 2.0, 0.5)
PAIRS = [
  rows.Preference("what is the first word ?", "first " * (i + 1), "last " * (i + 1), margin=margin)
  for i, margin in enumerate(GIVEN)
]
# Equal once they are cut, so that later rows move up.
PAIRS.insert(1, rows.Preference("what ?", "first " * 40, "first " * 41, margin=9.0))
FOLD = preferences.Fold(tuple(PAIRS), tuple(PAIRS))


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("kind", [encode.preferences, encode.gap_preferences])
def test_every_pair_keeps_its_margin_in_every_order(asking, kind):
  train, validation = reward._encoded(tiny_run.pretended(asking), kind, FOLD, SCALE)
  assert len(train) == len(GIVEN) and not validation.columns
  shuffled = batches.Batches(train, 4, seed=3)
  seen = {}
  for step in range(6):
    batch = shuffled[step]
    lengths = batch.chosen.mask.sum(axis=1).tolist()
    seen.update(zip(lengths, batch.columns["margin"].tolist(), strict=True))
  assert [seen[length] for length in sorted(seen)] == [SCALE * (m or 0.0) for m in GIVEN]
  assert reward._encoded(tiny_run.pretended(asking), kind, FOLD, 0.0)[0][:].columns == {}


def test_the_objectives_give_their_losses_the_margins(asking):
  params = jax.tree.map(jnp.asarray, tiny.parameters(asking.scalar, seed=1))
  context = tiny_run.pretended(asking)
  pairs = reward._encoded(context, encode.preferences, FOLD, SCALE)[0][:]
  pairs = jax.tree.map(jnp.asarray, pairs)
  found, _ = objectives.preference_pairs(asking.scalar)(params, {}, pairs, None)
  scores = objectives.pair_scores(asking.scalar, params, pairs)
  margins = jnp.array([SCALE * (m or 0.0) for m in GIVEN])
  np.testing.assert_allclose(found, preference.bradley_terry_loss(*scores, margins)[0], rtol=1e-6)
  assert abs(found - preference.bradley_terry_loss(*scores)[0]) > 0.1
  pairs = reward._encoded(context, encode.gap_preferences, FOLD, SCALE)[0][:]
  pairs = jax.tree.map(jnp.asarray, pairs)
  weights = {"term_weights": jnp.ones(5)}
  found, _ = objectives.gap_order(asking.scalar)(params, weights, pairs, None)
  gaps = objectives.four_gaps(asking.scalar, params, pairs)
  np.testing.assert_allclose(found, gap.gap_loss(*gaps, jnp.ones(5), margins)[0], rtol=1e-6)


def test_margins_that_are_to_count_have_to_be_there(asking):
  rows_without = tuple(dataclasses.replace(row, margin=None) for row in PAIRS)
  without = preferences.Fold(rows_without, rows_without)
  with pytest.raises(ValueError, match=r"margin_scale=0\.5 and none of 7 rows"):
    reward._encoded(tiny_run.pretended(asking), encode.preferences, without, SCALE)


def test_a_column_has_a_number_for_every_row(asking):
  train, _ = reward._encoded(tiny_run.pretended(asking), encode.preferences, FOLD, 0.0)
  with pytest.raises(ValueError, match="column 'weight' has 1 numbers for"):
    train.with_columns(weight=np.ones(1))


def test_parts_of_a_batch_are_averaged_by_the_weights_of_their_pairs(asking):
  """Pairs that weigh nothing in one part leave its gradient out of the step."""
  params = jax.tree.map(jnp.asarray, tiny.parameters(asking.scalar, seed=1))
  train, _ = reward._encoded(tiny_run.pretended(asking), encode.preferences, FOLD, 0.0)
  weights = np.arange(len(train)) % 2 * (1.0 + np.arange(len(train)))
  pairs = jax.tree.map(jnp.asarray, train.with_columns(weight=weights)[:])
  rows = len(train) // 2 * 2
  pairs = jax.tree.map(lambda x: x[:rows], pairs)
  found = []
  for accumulation in (1, 2):
    optimizer = optax.sgd(1.0)
    step = training_step.make_train_step(
      objectives.preference_pairs(asking.scalar), optimizer, accumulation=accumulation
    )
    state = training_step.init_state(params, optimizer)
    found.append(step(state, {}, pairs, jax.random.key(0), jnp.float32(0.1)))
  (whole, expected), (parts, metrics) = found
  np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
    parts.params,
    whole.params,
  )
