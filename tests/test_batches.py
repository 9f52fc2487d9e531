"""Padding, and the order in which training and evaluation see rows."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax import types
from pit_jax.data import batches, padding, tables

PATIENT = hypothesis.settings(deadline=None, max_examples=60)
IDS = strategies.lists(strategies.lists(strategies.integers(0, 9), max_size=6), max_size=5)


def test_buckets_are_the_documented_lengths():
  allowed = [*range(8, 129, 8), *range(144, 257, 16), *range(288, 513, 32)]
  for length in range(1, 513):
    assert padding.bucket(length) == min(size for size in allowed if size >= length)
  with pytest.raises(ValueError, match="give at least 1"):
    padding.bucket(0)


@PATIENT
@hypothesis.given(IDS, strategies.integers(6, 9))
def test_padding_is_what_a_loop_would_write(ids, length):
  prompts = padding.pad_prompts(ids, length, 7)
  responses = padding.pad_responses(ids, length, 7)
  assert prompts.tokens.shape == responses.mask.shape == (len(ids), length)
  assert (prompts.tokens.dtype, prompts.mask.dtype) == (np.int32, bool)
  for i, row in enumerate(ids):
    gap = length - len(row)
    assert prompts.tokens[i].tolist() == [7] * gap + row
    assert prompts.mask[i].tolist() == [False] * gap + [True] * len(row)
    assert responses.tokens[i].tolist() == row + [7] * gap
    assert responses.mask[i].tolist() == [True] * len(row) + [False] * gap


def test_a_row_longer_than_the_padding_is_refused():
  for pad in (padding.pad_prompts, padding.pad_responses):
    with pytest.raises(ValueError, match="row 1 has 3 tokens and the padded length is 2"):
      pad([[1], [1, 2, 3]], 2, 0)


def test_levels_are_quarters_of_the_widest():
  for widest, quarter in ((288, 72), (128, 32), (64, 16), (40, 16), (8, 8)):
    allowed = sorted({min(quarter * n, widest) for n in (1, 2, 3, 4)})
    for length in range(widest + 1):
      assert padding.level(length, widest) == min(size for size in allowed if size >= length)


def _table(lengths, make=types.Prompts):
  """A table whose row i can be told from any other: all its tokens are i."""
  lengths = np.array(lengths).reshape(len(lengths), -1)
  columns = [[[i] * n for i, n in enumerate(column)] for column in lengths.T]
  kept, cut = np.ones(len(lengths), bool), np.zeros(len(lengths), bool)
  return tables.in_memory(make, [tables.piece(columns, kept, cut)], pad_id=0)


def _pairs(count, seed=0):
  """Demonstrations of all lengths."""
  draw = np.random.default_rng(seed)
  return _table(draw.integers(1, [80, 40], (count, 2)), types.Demonstrations)


def _rows(batch):
  """The row that each row of a batch of demonstrations is, by its last prompt token."""
  return batch.prompts.tokens[:, -1].tolist()


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
  monkeypatch.setattr(batches, "WINDOW", 4)


def _sequence(count, batch_size, seed, steps, by_length=False):
  """The rows that the first steps show, in order."""
  shuffled = batches.Batches(_pairs(count), batch_size, seed, by_length)
  return [row for step in range(steps) for row in _rows(shuffled[step])]


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize(
  ("count", "batch_size"), [(20, 6), (20, 20), (7, 10), (1, 3), (61, 4), (40, 2)]
)
def test_every_epoch_shows_every_row_once(count, batch_size, by_length):
  epochs = 3
  steps = batches.Batches(_pairs(count), batch_size, 0, by_length).steps(epochs)
  shown = _sequence(count, batch_size, 0, steps, by_length)
  for epoch in range(epochs):
    assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize("by_length", [False, True])
def test_epochs_and_seeds_have_orders_of_their_own(by_length):
  orders = []
  for seed in (0, 1, 2, -1, 2**40):
    shown = _sequence(40, 5, seed, 24, by_length)
    orders += [tuple(shown[:40]), tuple(shown[40:80]), tuple(shown[80:])]
  assert len(set(orders)) == len(orders)
  assert tuple(range(40)) not in orders


def test_the_batches_of_a_window_are_shuffled_by_the_seed():
  """Their places among the window's lengths tell how: under one order all seeds would agree."""
  lengths = np.arange(1, 41)
  orders = set()
  for seed in range(6):
    shuffled = batches.Batches(_table(lengths), 10, seed, by_length=True)
    longest = [lengths[shuffled.rows_of(step)].max() for step in range(4)]
    orders.add(tuple(np.argsort(longest).tolist()))
  assert len(orders) > 2


def test_every_window_of_an_epoch_is_shuffled_in_its_own_way():
  """A hash of the seed alone would put the batches of all windows in one order."""
  lengths = np.arange(1, 321)
  shuffled = batches.Batches(_table(lengths), 10, 3, by_length=True)
  mean = np.array([lengths[shuffled.rows_of(step)].mean() for step in range(32)])
  orders = {tuple(np.argsort(window).tolist()) for window in mean.reshape(8, 4)}
  assert len(orders) > 2


@pytest.mark.parametrize("by_length", [False, True])
def test_a_step_does_not_depend_on_the_steps_before_it(by_length):
  whole = _sequence(11, 2, 5, 12, by_length)
  for step in (7, 2, 11, 5):
    fresh = batches.Batches(_pairs(11), 2, 5, by_length)
    assert _rows(fresh[step]) == whole[2 * step : 2 * step + 2]
  with pytest.raises(ValueError, match="step -1 is before the first"):
    fresh[-1]


def test_by_length_a_window_holds_the_rows_it_would_in_any_order_sorted():
  table, size = _pairs(50), 4  # 12 steps and a half
  plain, sorted_ = (batches.Batches(table, size, 3, by_length) for by_length in (False, True))
  assert _rows(plain[12]) == _rows(sorted_[12]), "half of the next epoch"
  quarter = padding.level(1, table.widths[0])
  for start in (0, 4, 8, 13, 17, 21):
    window = range(start, start + 4)
    rows = [_rows(sorted_[step]) for step in window]
    assert sorted(itertools.chain(*rows)) == sorted(
      itertools.chain(*(_rows(plain[step]) for step in window))
    )
    prompts, responses = (
      np.array([table.contents.lengths[row, c] for row in rows]) for c in (0, 1)
    )
    levels = -(-prompts // quarter)
    order = np.argsort(levels.min(axis=1) + 0.01 * levels.max(axis=1))
    assert np.all(np.diff(np.sort(levels, axis=1)[order].ravel()) >= 0)
    for level in range(1, 5):  # of prompts of one level the batches part the responses
      alone = [r for r, has in zip(responses, (levels == level).all(axis=1)) if has]
      alone.sort(key=lambda r: r.min())
      assert all(one.max() <= other.min() for one, other in itertools.pairwise(alone))


def test_neighbours_on_both_sides_of_a_level_have_responses_of_like_length():
  """Up the first level of prompts, down the second, up the third."""
  prompts = np.array([8, 8, 8, 16, 16, 16, 24, 24, 24])
  responses = np.array([5, 1, 9, 1, 9, 5, 9, 5, 1])
  order = batches.order_by_length(prompts, responses, 32)
  assert prompts[order].tolist() == [8, 8, 8, 16, 16, 16, 24, 24, 24]
  assert responses[order].tolist() == [1, 5, 9, 9, 5, 1, 1, 5, 9]


def test_by_length_a_batch_is_padded_to_the_quarters_that_hold_it():
  table = _pairs(300)
  shuffled = batches.Batches(table, 5, 0, by_length=True)
  shapes = set()
  for step in range(60):
    batch, rows = shuffled[step], shuffled.rows_of(step)
    longest = table.contents.lengths[rows].max(axis=0).tolist()
    shape = batch.prompts.tokens.shape[1], batch.responses.tokens.shape[1]
    assert shape == tuple(map(padding.level, longest, table.widths))
    shapes.add(shape)
  assert 4 < len(shapes) <= 16
  whole = batches.Batches(table, 5, 0)[7]
  assert (whole.prompts.tokens.shape[1], whole.responses.tokens.shape[1]) == table.widths


def test_a_table_reads_the_rows_it_is_asked_for():
  table = _table([[3, 2], [1, 4], [2, 9]], types.Demonstrations)
  batch = table[[2, 0]]
  assert batch.prompts.tokens.tolist() == [[0] * 6 + [2, 2], [0] * 8]
  assert batch.prompts.mask.sum(axis=1).tolist() == [2, 3]
  assert batch.responses.tokens.tolist() == [[2] * 9 + [0] * 7, [0] * 16]
  assert table[:1].responses.tokens.shape == (1, 8)
  assert len(table) == 3 and table.widths == (8, 16) and table.longest_row == 11


def test_steps_are_the_fewest_that_show_everything():
  shuffled = batches.Batches(_pairs(10), 4, 0)
  assert [shuffled.steps(epochs) for epochs in (0, 0.1, 0.4, 0.5, 1, 2)] == [0, 1, 1, 2, 3, 5]
  for epochs in (0.3, 0.7, 1.2, 3.0):
    steps = shuffled.steps(epochs)
    assert 4 * steps >= round(10 * epochs, 6) > 4 * (steps - 1)


def test_few_rows_fill_the_fewest_quarters_of_a_batch():
  """Against a search among all multiples of the devices."""
  for parts in (1, 2, 4):
    for size in range(parts, 41, parts):
      # A quarter, rounded up to what divides over the devices.
      quarter = next(
        some for some in range(parts, size + 1, parts) if padding.LEVELS * some >= size
      )
      allowed = {min(quarter * count, size) for count in range(1, padding.LEVELS + 1)}
      for rows in range(size + 1):
        expected = min(some for some in allowed if some >= rows)
        assert padding.rows_of_batch(rows, size, parts) == expected


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 5)])
def test_in_order_shows_every_row_once_in_one_shape(count, batch_size):
  record = _pairs(count)[:]
  shown = list(batches.in_order(record, batch_size))
  assert len(shown) == math.ceil(count / batch_size)
  assert {batch.prompts.tokens.shape for batch, _ in shown} == {
    (batch_size, record.prompts.tokens.shape[1])
  }
  assert [row for batch, rows in shown for row in _rows(batch)[: len(rows)]] == list(range(count))
  assert [row for _, rows in shown for row in rows] == list(range(count))
  last, rows = shown[-1]
  assert set(_rows(last)[len(rows) :]) <= {count - 1}


def test_in_order_by_length_shows_every_row_once_with_less_padding():
  table = _pairs(50)
  record = table[:]
  seen, padded = [], 0
  for batch, rows in batches.in_order((record.prompts, record.responses), 8, by_length=True):
    seen += rows.tolist()
    for part, column in zip(batch, (0, 1)):
      assert part.tokens.shape == part.mask.shape
      lengths = part.mask.sum(axis=1)[: len(rows)]
      np.testing.assert_array_equal(lengths, table.contents.lengths[rows, column])
      assert part.tokens[part.mask].tolist() == [
        row for row, n in zip([*rows, *[rows[-1]] * 8], part.mask.sum(axis=1)) for _ in range(n)
      ]
      padded += part.mask.size
  assert sorted(seen) == list(range(50))
  assert padded < 0.8 * 56 * sum(table.widths)


def test_records_that_cannot_be_batched_are_refused():
  with pytest.raises(ValueError, match="without rows"):
    list(batches.in_order(types.Prompts(np.ones((0, 3)), np.ones((0, 3))), 4))
  for make in (
    lambda size: batches.Batches(_pairs(4), size, 0),
    lambda size: [*batches.in_order(_pairs(4)[:], size)],
  ):
    with pytest.raises(ValueError, match="batch size 0"):
      make(0)
  with pytest.raises(ValueError, match=r"have \[4, 5\] rows"):
    list(batches.in_order([_pairs(4)[:], _pairs(5)[:]], 2))
