"""Which pairs a reward model keeps, and when rounds end: against loops over single pairs."""

import math
import random
import re

import numpy as np
import pytest

from pit_jax.data import preferences
from pit_jax.recipes.ser import draws, selector

THRESHOLDS = {"upper": 0.55, "lower": 0.45, "difference": 0.3}


def sigmoid(score):
  return 1 / (1 + math.exp(-score))


def slow(first, second, status, upper, lower, difference):
  """One pair, as the method words it."""

  def beats(better, worse):
    sure = sigmoid(better) > upper and sigmoid(worse) < lower
    apart = sigmoid(better) - sigmoid(worse) > difference
    return {"one": sure, "two": apart, "union": sure or apart}[status]

  if beats(first, second):
    return 1
  return -1 if beats(second, first) else 0


def scores(seed, count=300, spread=1.5):
  chance = random.Random(seed)
  return [np.array([chance.gauss(0, spread) for _ in range(count)]) for _ in range(2)]


@pytest.mark.parametrize("status", selector.STATUSES)
@pytest.mark.parametrize(
  "upper, lower, difference", [(0.55, 0.45, 0.3), (0.9, 0.2, 0.05), (0.5, 0.5, 0.6)]
)
def test_each_pair_is_kept_as_a_loop_over_pairs_keeps_it(status, upper, lower, difference):
  for seed in range(5):
    first, second = scores(seed)
    how = {"status": status, "upper": upper, "lower": lower, "difference": difference}
    expected = [
      slow(a, b, *how.values()) for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert selector.preferred(first, second, **how).tolist() == expected
    assert {*expected} == {-1, 0, 1}


@pytest.mark.parametrize("status", selector.STATUSES)
def test_the_mirrored_pair_has_the_mirrored_label(status):
  first, second = scores(7)
  kept = selector.preferred(first, second, status=status, **THRESHOLDS)
  mirrored = selector.preferred(second, first, status=status, **THRESHOLDS)
  assert (kept == -mirrored).all() and kept.any()


def test_the_union_keeps_what_either_status_keeps():
  first, second = scores(8, spread=0.6)
  one, two, union = (
    selector.preferred(first, second, status=status, **THRESHOLDS) for status in selector.STATUSES
  )
  assert (np.abs(union) == np.maximum(np.abs(one), np.abs(two))).all()
  assert (one != two).any(), "neither status is the other"


def test_where_zero_lies_is_the_pools_mean_and_no_shift_of_all_scores_counts():
  first, second = scores(9)
  centred = selector.centred(first, second)
  np.testing.assert_allclose(np.concatenate(centred).mean(), 0, atol=1e-12)
  for shift in (-40.0, 3.0):
    moved = selector.centred(first + shift, second + shift)
    np.testing.assert_allclose(moved, centred, atol=1e-9)
  far = selector.preferred(first + 40, second + 40, status="union", **THRESHOLDS)
  assert not far.any(), "without centring σ is 1 of both, and nothing is kept"
  assert selector.preferred(*centred, status="union", **THRESHOLDS).any()


def test_a_gap_is_kept_as_two_answers_that_lie_so_far_apart_around_the_mean():
  gaps = scores(10, spread=3.0)[0]
  for difference in (0.1, 0.3, 0.7):
    kept = selector.preferred_by_gap(gaps, difference)
    expected = [slow(g / 2, -g / 2, "two", 1, 0, difference) for g in gaps.tolist()]
    assert kept.tolist() == expected
    assert (kept == -selector.preferred_by_gap(-gaps, difference)).all()


def test_an_empty_pool_keeps_nothing():
  empty = np.zeros(0)
  assert not len(selector.preferred(*selector.centred(empty, empty), status="union", **THRESHOLDS))


@pytest.mark.parametrize(
  ("kept", "pool", "few"), [(29, 1000, True), (30, 1000, False), (0, 5, True), (5, 5, False)]
)
def test_less_than_a_share_of_the_pool_is_few(kept, pool, few):
  assert selector.are_few(kept, pool, 0.03) is few


@pytest.mark.parametrize(
  ("accuracy", "best", "pairs", "fell"),
  # One standard error of 100 pairs at .8 is .04.
  [(0.77, 0.8, 100, False), (0.75, 0.8, 100, True), (0.77, 0.8, 400, True), (0.9, 0.8, 100, False)],
)
def test_an_accuracy_falls_by_more_than_a_standard_error(accuracy, best, pairs, fell):
  assert selector.has_fallen(accuracy, best, pairs) == fell


def test_the_best_round_is_the_earliest_of_equal_ones():
  assert selector.best_round([0.7, 0.8, 0.8, 0.75]) == 1
  assert selector.best_round([0.8, 0.8, 0.8]) == 0


def rows(count, each=1):
  return [
    preferences.Preference(f"q{number // each}", f"a{number}", f"b{number}")
    for number in range(count)
  ]


def drawn(given, share=0.15, validation=0.3, seed=0):
  return draws.draw(given, 1, share=share, validation=validation, seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_the_seed_its_validation_part_and_the_pool_are_all_rows_once(seed):
  made = drawn(rows(1000), seed=seed)
  parts = (made.training, made.validation, made.pool)
  assert sorted(place for part in parts for place in part) == [*range(1000)]
  assert [len(part) for part in parts] == [105, 45, 850]
  assert made == drawn(rows(1000), seed=seed) != drawn(rows(1000), seed=seed + 1)


def test_which_rows_keep_labels_depends_on_no_label():
  given = rows(200)
  turned = [preferences.Preference(row.prompt, row.rejected, row.chosen) for row in given]
  assert drawn(given) == drawn(turned)


def test_labels_that_validate_are_of_prompts_whose_labels_are_not_trained_on():
  given = rows(600, each=6)
  for seed in range(5):
    made = drawn(given, share=0.5, seed=seed)
    sides = [{given[place].prompt for place in part} for part in (made.training, made.validation)]
    assert not sides[0] & sides[1]
    assert 90 <= len(made.validation) <= 95, "a prompt's labels stay together"


@pytest.mark.parametrize(
  ("count", "share", "validation"), [(20, 0.05, 0.3), (40, 0.1, 0.2), (40, 0.1, 0.9)]
)
def test_too_few_labels_are_a_sentence(count, share, validation):
  said = f"ser.share={share:g} of {count} rows leaves {round(share * count)} labels, of which"
  with pytest.raises(ValueError, match=re.escape(said)):
    drawn(rows(count), share, validation)
