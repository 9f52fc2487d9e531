"""Metrics against slow references, closed forms and simulation."""

import dataclasses
import math

import hypothesis
import jaxtyping
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.statistics import metrics

finite = strategies.floats(-5, 5, allow_nan=False)


def scores_with(wins: int, losses: int, ties: int) -> tuple[np.ndarray, np.ndarray]:
  """Scores whose comparison has exactly these counts, in a shuffled order."""
  difference = np.repeat([1.0, -1.0, 0.0], [wins, losses, ties])
  baseline = np.random.default_rng(3).normal(size=difference.size)
  np.random.default_rng(4).shuffle(difference)
  return baseline + difference, baseline


def test_compare_counts_by_hand():
  result = metrics.compare(np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.0, 4.0, 2.0]))
  assert (result.n, result.win, result.lose, result.tie, result.delta) == (4, 50, 25, 25, 25)


def test_compare_takes_whole_numbers_and_a_wide_tie():
  a, b = np.array([1, 2, 9]), np.array([2, 1, 1])
  result = metrics.compare(a, b, tie=1.0)
  assert (result.win, result.lose) == (pytest.approx(100 / 3), 0)


@hypothesis.given(strategies.lists(strategies.tuples(finite, finite), min_size=1, max_size=30))
@hypothesis.settings(deadline=None, max_examples=30)
def test_compare_is_antisymmetric_and_adds_up(pairs):
  a, b = np.array(pairs).T
  forward, backward = metrics.compare(a, b, resamples=50), metrics.compare(b, a, resamples=50)
  assert forward.delta == pytest.approx(-backward.delta)
  assert forward.win + forward.lose + forward.tie == pytest.approx(100)
  assert forward.delta == pytest.approx(forward.win - forward.lose)
  assert -100 <= forward.ci95[0] <= forward.ci95[1] <= 100


def test_interval_is_that_of_resampling_prompts_one_by_one():
  a, b = scores_with(60, 30, 30)
  generator, deltas = np.random.default_rng(0), []
  for _ in range(3000):
    rows = generator.integers(0, a.size, a.size)
    outcomes = [np.sign(a[row] - b[row]) for row in rows]
    deltas.append(100 * sum(outcomes) / a.size)
  slow = np.quantile(deltas, [0.025, 0.975])
  np.testing.assert_allclose(metrics.compare(a, b, resamples=20_000).ci95, slow, atol=1.0)


def test_interval_is_near_the_normal_approximation():
  a, b = scores_with(500, 300, 200)
  half = 1.96 * 100 * math.sqrt((0.5 + 0.3 - 0.2**2) / 1000)
  result = metrics.compare(a, b, resamples=20_000)
  np.testing.assert_allclose(result.ci95, (20 - half, 20 + half), atol=0.25)


def test_interval_covers_the_truth_19_times_in_20():
  generator, covered = np.random.default_rng(1), 0
  for trial in range(400):
    difference = generator.choice([1.0, -1.0, 0.0], p=[0.5, 0.3, 0.2], size=150)
    low, high = metrics.compare(difference, np.zeros(150), resamples=400, seed=trial).ci95
    covered += low <= 20 <= high
  assert 0.91 < covered / 400 < 0.98


def test_same_seed_same_interval():
  a, b = scores_with(20, 11, 9)
  assert metrics.compare(a, b, seed=5) == metrics.compare(a, b, seed=5)
  assert metrics.compare(a, b, seed=5).ci95 != metrics.compare(a, b, seed=6, resamples=30).ci95


def test_pool_is_the_comparison_of_all_prompts():
  first, second = scores_with(20, 10, 5), scores_with(3, 40, 7)
  together = metrics.compare(*(np.concatenate(both) for both in zip(first, second, strict=True)))
  apart = [metrics.compare(*first), metrics.compare(*second)]
  assert metrics.pool(apart) == together
  records = [dataclasses.asdict(comparison) for comparison in apart]
  assert metrics.pool(records) == together


def test_pool_refuses_percentages_that_are_no_counts():
  with pytest.raises(ValueError, match="three decimals"):
    metrics.pool([{"n": 1000, "win": 33.33, "lose": 10.0}, {"n": 1000, "win": 33.35, "lose": 10.0}])
  with pytest.raises(ValueError, match="nothing to pool"):
    metrics.pool([])


@pytest.mark.parametrize(
  ("a", "b", "message"),
  [
    ([], [], "scores_a is empty"),
    ([1.0, math.nan], [1.0, 2.0], "1 of 2 values of scores_a are not finite"),
  ],
)
def test_compare_names_what_is_wrong(a, b, message):
  with pytest.raises(ValueError, match=message):
    metrics.compare(np.array(a, dtype=float), np.array(b, dtype=float))


def test_compare_refuses_to_broadcast():
  # Under the type hook the annotation catches it first, with its own error.
  with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="scores_b"):
    metrics.compare(np.array([1.0, 2.0]), np.array([1.0]))


def slow_calibration_error(margins, labels, bins):
  groups = {}
  for margin, label in zip(margins, labels, strict=True):
    probability = 1 / (1 + math.exp(-margin))
    confidence, correct = max(probability, 1 - probability), float((margin > 0) == label)
    for b in range(bins):
      low, high = 0.5 + b / (2 * bins), 0.5 + (b + 1) / (2 * bins)
      if low <= confidence < high:
        groups.setdefault(b, []).append((confidence, correct))
  error = 0.0
  for group in groups.values():
    confidence = sum(c for c, _ in group) / len(group)
    accuracy = sum(c for _, c in group) / len(group)
    error += len(group) / len(margins) * abs(accuracy - confidence)
  return error


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_calibration_error_against_the_definition(bins):
  generator = np.random.default_rng(0)
  margins = generator.normal(0, 3, 200)
  # Nearly honest labels: bins err to both sides, so that merging two of them would show.
  labels = generator.random(200) < 1 / (1 + np.exp(-margins))
  slow = slow_calibration_error(margins, labels, bins)
  assert metrics.expected_calibration_error(margins, labels, bins) == pytest.approx(slow)
  swapped = metrics.expected_calibration_error(-margins, ~labels, bins)
  assert swapped == pytest.approx(slow)


def test_calibration_error_is_small_for_an_honest_model_and_known_for_a_bold_one():
  generator = np.random.default_rng(0)
  margins = generator.normal(0, 2, 20_000)
  honest = generator.random(20_000) < 1 / (1 + np.exp(-margins))
  assert metrics.expected_calibration_error(margins, honest) < 0.02
  certain_but_right_half_of_the_time = np.tile([True, False], 500)
  error = metrics.expected_calibration_error(
    np.full(1000, 50.0), certain_but_right_half_of_the_time
  )
  assert error == pytest.approx(0.5)


def test_sign_agreement_by_hand():
  #                 agree  disagree  agree  tied in gold  no gain
  gains = np.array([1.0, 1.0, -1.5, 1.5, 0.0])
  gold = np.array([2.0, -1.0, -0.1, 0.0, 4.0])
  result = metrics.sign_agreement(gains, gold)
  assert result == {"fraction": (1 + 0 + 1 + 0.5) / 4, "n": 4}
  assert metrics.sign_agreement(gains, np.zeros(5)) == {"fraction": None, "n": 0}


@pytest.mark.parametrize(
  ("means", "holds"),
  [
    ((2.0, 0.1, -0.1, -2.0), True),
    ((2.0, -0.1, 0.1, -2.0), True),
    ((2.0, 0.9, -0.2, -2.0), False),  # ww and ll too far apart: 1.1 of 4.0
    ((0.1, 0.2, 0.2, -2.0), False),  # wl below ww
    ((2.0, -0.3, -0.3, -0.2), False),  # lw above both
    ((-2.0, 0.0, 0.0, 2.0), False),  # turned around
    ((0.0, 0.0, 0.0, 0.0), False),  # a constant model orders nothing
  ],
)
def test_gap_order_on_means(means, holds):
  noise = np.array([-0.5, 0.5, 0.0])
  result = metrics.gap_order(*(mean + noise for mean in means))
  assert result["holds"] is holds
  np.testing.assert_allclose([result[name] for name in metrics.GAPS], means, atol=1e-12)


def test_gap_order_accuracy_is_per_pair():
  wl, lw = np.array([1.0, 1.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0, 1.0])
  assert metrics.gap_order(wl, lw, lw, lw)["accuracy"] == 0.5


def test_repetition_against_a_list_of_what_was_seen():
  generator = np.random.default_rng(0)
  responses = [generator.integers(0, 3, length).tolist() for length in (1, 2, 5, 30)]
  for order in (1, 2, 3):
    fractions = []
    for response in responses:
      seen, repeats = [], 0
      for start in range(len(response) - order + 1):
        piece = response[start : start + order]
        repeats += piece in seen
        seen.append(piece)
      fractions.append(repeats / len(seen) if seen else 0.0)
    assert metrics.repetition(responses, order) == pytest.approx(np.mean(fractions))


def test_repetition_of_words_and_of_nothing():
  assert metrics.repetition([["go", "on"] * 4], order=2) == pytest.approx(1 - 2 / 7)
  with pytest.raises(ValueError, match="at least one"):
    metrics.repetition([])
