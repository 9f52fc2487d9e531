"""Packed demonstrations: which row holds what, and that nothing learns of its neighbours."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax import types
from pit_jax.data import batches, packing, tables
from pit_jax.models import attention
from pit_jax.stages import objectives

KEY = jax.random.key(0)
LENGTHS = [(3, 2), (1, 4), (5, 1), (2, 2), (4, 6), (1, 1), (2, 3)]


def table(lengths, seed=0):
  """Demonstrations of random tokens."""
  draw = np.random.default_rng(seed)
  columns = [[draw.integers(2, tiny.VOCABULARY, n).tolist() for n in c] for c in zip(*lengths)]
  kept, cut = np.ones(len(lengths), bool), np.zeros(len(lengths), bool)
  return tables.in_memory(types.Demonstrations, [tables.piece(columns, kept, cut)], tiny.PAD)


def many(count, seed=0):
  return table(np.random.default_rng(seed).integers(1, 9, (count, 2)).tolist(), seed)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
  monkeypatch.setattr(packing, "WINDOW", 16)


def test_the_first_row_with_room_is_taken():
  assert packing.first_fit(np.array([5, 4, 3, 2, 6, 1, 1]), 8) == [[0, 2], [1, 3, 5, 6], [4]]
  assert packing.first_fit(np.array([8, 8]), 8) == [[0], [1]]


def test_a_packed_row_is_its_demonstrations_one_after_the_other():
  made = table(LENGTHS[:4])
  order = packing.Batches(made, 2, seed=0, length=12)
  rows, batch = order.rows_of(0), order[0]
  assert sorted(itertools.chain(*rows)) == [0, 1, 2, 3]
  for b, numbers in enumerate(rows):
    tokens, ends, is_response = [], [], []
    for number in numbers:
      one = made[[number]]
      parts = [part.tokens[part.mask].tolist() for part in (one.prompts, one.responses)]
      tokens += parts[0] + parts[1]
      ends += [len(tokens)] * len(parts[0] + parts[1])
      is_response += [False] * len(parts[0]) + [True] * len(parts[1])
    rest = 12 - len(tokens)
    assert batch.mask[b].tolist() == [True] * len(tokens) + [False] * rest
    assert batch.tokens[b].tolist() == tokens + [tiny.PAD] * rest
    assert batch.ends[b].tolist() == ends + [0] * rest
    assert batch.is_response[b].tolist() == is_response + [False] * rest


@pytest.mark.parametrize(("count", "batch_size", "length"), [(50, 3, 24), (50, 40, 16), (5, 2, 64)])
def test_every_epoch_packs_every_demonstration_once(count, batch_size, length):
  made = many(count)
  order = packing.Batches(made, batch_size, 0, length)
  steps = order.steps(3)
  rows = [row for step in range(steps) for row in order.rows_of(step)]
  shown = list(itertools.chain(*rows))
  for epoch in range(3):
    assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))
  assert max(made.contents.lengths[row].sum() for row in rows) <= length
  assert len(shown) - 3 * count < sum(map(len, rows[-batch_size:])), "a step fewer is too few"
  assert order.steps(0) == 0 and order.steps(0.5) <= order.steps(1) <= order.steps(1.5)


def test_a_step_does_not_depend_on_the_steps_before_it():
  whole = packing.Batches(many(50), 3, 5, 24)
  expected = [whole.rows_of(step) for step in range(30)]
  for step in (29, 2, 17):
    fresh = packing.Batches(many(50), 3, 5, 24)
    assert fresh.rows_of(step) == expected[step]
  assert packing.Batches(many(50), 3, 6, 24).rows_of(0) != expected[0]
  with pytest.raises(ValueError, match="step -1 is before the first"):
    whole[-1]


def test_what_cannot_be_packed_is_refused():
  with pytest.raises(ValueError, match="has 10 tokens and a packed row 9; .* at least 10"):
    packing.Batches(table(LENGTHS), 2, 0, 9)
  with pytest.raises(ValueError, match="batch size 0"):
    packing.Batches(table(LENGTHS), 0, 0, 12)


def test_rows_have_ends_of_their_own():
  mask = jnp.array([[True, True, True, True], [True, True, True, False]])
  ends = jnp.array([[2, 2, 4, 4], [4, 2, 3, 0]])
  expected = [
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]],
  ]
  np.testing.assert_array_equal(attention.causal(mask, ends), expected)


WINDOWS = {"wide": {}, "mixed": {"windowed": (True, False), "window": 3}}


@pytest.mark.parametrize("shape", WINDOWS.values(), ids=WINDOWS)
def test_the_loss_of_packed_demonstrations_is_that_of_separate_ones(shape):
  model = tiny.language(**shape)
  params, made = tiny.parameters(model, seed=0), table(LENGTHS)
  packed = packing.Batches(made, 3, 0, 16)
  assert sorted(itertools.chain(*packed.rows_of(0))) == list(range(len(LENGTHS)))
  assert max(map(len, packed.rows_of(0))) > 1
  loss = jax.jit(jax.value_and_grad(objectives.imitation(model), has_aux=True))
  records = (batches.Batches(made, len(LENGTHS), 0)[0], packed[0])
  (separate, together) = (loss(params, {}, jax.tree.map(jnp.array, r), KEY) for r in records)
  np.testing.assert_allclose(together[0][0], separate[0][0], rtol=1e-5)
  assert together[0][1]["weight"] == separate[0][1]["weight"] == sum(r for _, r in LENGTHS)

  def compare(one, other):
    np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())

  jax.tree.map(compare, together[1], separate[1])
