"""Choosing by majority, and how well scores order right and wrong candidates, by brute force."""

import math

import numpy as np

from pit_jax.statistics import reranking


def test_a_majority_is_chosen_by_its_first_candidate():
  answers = [["b", "a", "a"], ["a", "b", "c"], ["c", "b", "b", "c"], [None, None, "a"], ["z"]]
  np.testing.assert_array_equal(reranking.majority(answers), [1, 0, 0, 0, 0])


def test_order_is_that_of_all_pairs_of_a_prompt():
  rng = np.random.default_rng(0)
  scores = rng.integers(0, 4, (60, 5)).astype(float)
  is_right = rng.random((60, 5)) < 0.4
  shares = []
  for row, right in zip(scores, is_right, strict=True):
    wins = [
      1.0 if row[i] > row[j] else 0.5 if row[i] == row[j] else 0.0
      for i in range(5) for j in range(5) if right[i] and not right[j]
    ]  # fmt: skip
    if wins:
      shares.append(sum(wins) / len(wins))
  found, bounds = reranking.ordered(scores, is_right)
  np.testing.assert_allclose(found, np.mean(shares))
  assert len(shares) < 60 and bounds[0] < found < bounds[1]
  error = np.std(shares, ddof=1) / math.sqrt(len(shares))
  np.testing.assert_allclose(bounds[1] - bounds[0], 2 * 1.96 * error, rtol=0.15)


def test_without_a_right_and_a_wrong_one_nothing_is_known():
  share, bounds = reranking.ordered(np.zeros((2, 2)), np.array([[True, True], [False, False]]))
  assert math.isnan(share) and bounds is None
