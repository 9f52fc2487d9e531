"""F1 of flaws that are named, against sums by hand and scikit-like counting."""

import numpy as np
import pytest

from pit_jax.statistics import detection

CLASSES = ("a", "b", "c")


def slowly(named, failed):
  hits = said = there = 0
  for one, other in zip(named, failed, strict=True):
    for x, y in zip(one, other, strict=True):
      hits, said, there = hits + (x and y), said + x, there + y
  return hits / said, hits / there, 2 * hits / (said + there)


def test_all_and_each_class_by_hand():
  draw = np.random.default_rng(0)
  named, failed = draw.random((2, 300, 3)) < 0.4
  told = detection.describe(named, failed, CLASSES)
  expected = slowly(named.tolist(), failed.tolist())
  assert (told["precision"], told["recall"], told["f1"]) == pytest.approx(expected)
  for place, name in enumerate(CLASSES):
    column = slowly(named[:, [place]].tolist(), failed[:, [place]].tolist())
    assert told["parts"][name] == pytest.approx(column[2])
  low, high = told["f1_ci95"]
  assert low < told["f1"] < high and 0.03 < high - low < 0.12


def test_the_interval_covers_what_other_letters_give():
  draw = np.random.default_rng(1)
  truth = detection.describe(*(draw.random((2, 100_000, 3)) < 0.4), CLASSES)["f1"]
  told = [detection.describe(*(draw.random((2, 100, 3)) < 0.4), CLASSES)["f1_ci95"]
          for _ in range(60)]  # fmt: skip
  covered = np.mean([low <= truth <= high for low, high in told])
  assert covered > 0.85


def test_where_nothing_is_named_and_nothing_failed_there_is_no_figure():
  none = np.zeros((4, 3), bool)
  told = detection.describe(none, none, CLASSES)
  assert told["f1"] is told["precision"] is told["recall"] is told["f1_ci95"] is None
  assert told["parts"] == dict.fromkeys(CLASSES)
  empty = detection.describe(none[:0], none[:0], CLASSES)
  assert empty["f1"] is None
  one = none.copy()
  one[0, 0] = True
  assert detection.describe(one, none, CLASSES)["f1"] == 0
  assert detection.describe(one, none, CLASSES)["recall"] is None


def test_each_letter_by_hand():
  named = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
  failed = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]], bool)
  np.testing.assert_allclose(detection.each(named, failed), [2 / 3, 1, 0, 0])
