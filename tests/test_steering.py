"""Figures of what principles do to reward models and policies, worked out by hand."""

import numpy as np
import pytest

from pit_jax.statistics import steering

TRUTH = np.array([[1, -1, 0], [-1, 1, 1], [1, 1, -1], [0, 0, 0]])
MARGINS = np.array([[0.5, -0.1, 9.0], [-2.0, -1.0, 1.0], [-0.3, 0.2, 0.4], [1.0, 1.0, 1.0]])


def test_a_principle_is_right_on_the_pairs_that_differ_by_it():
  told = steering.right(MARGINS, TRUTH)
  assert [row["n"] for row in told] == [3, 3, 2]
  np.testing.assert_allclose([row["accuracy"] for row in told], [2 / 3, 2 / 3, 1 / 2])
  assert steering.right(MARGINS, np.zeros((4, 3), int))[0] == {"n": 0, "accuracy": None}


def test_a_conflict_is_followed_both_ways_or_not():
  """Slowly: every pair of answers, every pair of principles that contradict on it."""
  first = second = both = n = 0
  for margins, truth in zip(MARGINS, TRUTH, strict=True):
    for i in range(3):
      for j in range(i + 1, 3):
        if truth[i] * truth[j] == -1:
          one, other = np.sign(margins[i]) == truth[i], np.sign(margins[j]) == truth[j]
          n, first, second, both = n + 1, first + one, second + other, both + (one and other)
  told = steering.conflicts(MARGINS, TRUTH)
  assert told["n"] == n == 5
  expected = (first / n, second / n, both / n)
  np.testing.assert_allclose([told[name] for name in ("first", "second", "both")], expected)


def test_who_reads_no_principle_never_follows_both():
  rng = np.random.default_rng(0)
  truth = rng.integers(-1, 2, (50, 4))
  margins = np.repeat(rng.normal(size=(50, 1)), 4, axis=1)
  told = steering.conflicts(margins, truth)
  assert told["both"] == 0.0 and told["first"] + told["second"] == pytest.approx(1.0)
  assert steering.conflicts(margins, np.zeros((50, 4), int))["both"] is None


def test_what_a_principle_adds_is_a_mean_over_policies_with_an_interval_over_prompts():
  held = np.array([[1, 1, 1, 0], [1, 0, 1, 1]], bool)
  against = np.array([[0, 0, 1, 0]], bool)
  told = steering.difference(held, against)
  by_prompt = np.array([1.0, 0.5, 0.0, 0.5])
  assert told["with"] == 0.75 and told["without"] == 0.25 and told["difference"] == 0.5
  error = 1.96 * by_prompt.std(ddof=1) / 2
  np.testing.assert_allclose(told["ci95"], [0.5 - error, 0.5 + error], rtol=1e-3)
  nobody = steering.difference(held, np.zeros((0, 4), bool))
  assert nobody["without"] is None and nobody["difference"] is None
