"""Length-controlled comparisons against scipy's optimiser, closed forms, simulation, real data."""

import collections
import gzip
import json

import numpy as np
import pytest
import report_example
import scipy.optimize
import scipy.special
import scipy.stats

from pit_jax.report import pages, tabular
from pit_jax.statistics import lengths, metrics, resampling

METHOD = report_example.METHOD


def example(n=200, seed=0, theta=0.3, gamma=1.5, ties=0.1):
  """Outcomes with ties whose log-odds grow with the length difference."""
  generator = np.random.default_rng(seed)
  a, b = generator.integers(5, 60, (2, n))
  d = (a - b) / (a - b).std()
  share = scipy.special.expit(theta + gamma * np.tanh(d))
  outcomes = np.where(generator.random(n) < share, 1, -1)
  return np.where(generator.random(n) < ties, 0, outcomes), a, b


def slow_fit(preferred, feature):
  def loss(free):
    total = free[1] ** 2 / (2 * lengths.DEVIATION**2)
    for p, x in zip(preferred, feature):
      z = free[0] + free[1] * x
      total -= p * scipy.special.log_expit(z) + (1 - p) * scipy.special.log_expit(-z)
    return total

  return scipy.optimize.minimize(loss, np.zeros(2), tol=1e-10).x


def test_the_fit_is_the_best_one():
  outcomes, a, b = example()
  theta, gamma = slow_fit((1 + outcomes) / 2, np.tanh((a - b) / (a - b).std()))
  found = lengths.controlled(outcomes, a, b)
  assert found.coefficient == pytest.approx(gamma, abs=1e-4)
  assert found.delta == pytest.approx(100 * (2 * scipy.special.expit(theta) - 1), abs=1e-3)


def test_intervals_are_of_fits_to_resampled_prompts():
  outcomes, a, b = example(n=60)
  found = lengths.controlled(outcomes, a, b, resamples=25, seed=3)
  preferred, feature = (1 + outcomes) / 2, np.tanh((a - b) / (a - b).std())
  fits = []
  for draw in resampling.draws(60, 25, 3):
    rows = [row for row, count in enumerate(draw) for _ in range(count)]
    fits.append(slow_fit(preferred[rows], feature[rows]))
  deltas = [100 * (2 * scipy.special.expit(theta) - 1) for theta, _ in fits]
  np.testing.assert_allclose(found.ci95, np.quantile(deltas, [0.025, 0.975]), atol=0.02)
  gammas = [gamma for _, gamma in fits]
  np.testing.assert_allclose(found.coefficient_ci95, np.quantile(gammas, [0.025, 0.975]), atol=0.01)


def test_what_length_alone_wins_is_taken_out():
  outcomes, a, b = example(n=1500, theta=0.0, gamma=2.0, ties=0.0)
  longer = a > b
  plain = metrics.compare(outcomes[longer], np.zeros(longer.sum()))
  assert plain.delta > 40
  found = lengths.controlled(outcomes, a, b)
  assert found.ci95[0] < 0 < found.ci95[1]
  assert found.coefficient_ci95[0] < 2.0 < found.coefficient_ci95[1]


def test_equal_lengths_change_nothing():
  outcomes, a, _ = example()
  found = lengths.controlled(outcomes, a, a)
  assert found.delta == pytest.approx(100 * outcomes.mean())
  assert found.coefficient == 0.0


def test_swapping_the_systems_turns_the_signs():
  outcomes, a, b = example()
  one, other = lengths.controlled(outcomes, a, b), lengths.controlled(-outcomes, b, a)
  assert (one.delta, one.coefficient) == pytest.approx((-other.delta, other.coefficient), abs=1e-6)


@pytest.mark.parametrize(("outcome", "winner"), [(1, "first"), (-1, "second")])
def test_where_one_side_always_wins_nothing_is_estimated(outcome, winner):
  _, a, b = example(n=30)
  found = lengths.controlled(np.full(30, outcome), a, b)
  assert (found.delta, found.ci95, found.coefficient, found.coefficient_ci95) == (None,) * 4
  assert found.reason == f"the {winner} wins every prompt"
  one_loss = np.r_[-outcome, np.full(29, outcome)]
  assert lengths.controlled(one_loss, a, b).ci95 is not None
  assert lengths.controlled(np.zeros(30), a, b).delta == 0, "ties alone are no one-sided comparison"


def test_the_table_says_why_a_comparison_is_not_controlled():
  results = report_example.example()
  row = results["length"]["comparisons"][0]
  a, b = np.arange(1, 21), np.arange(20, 0, -1)
  row["controlled"] = vars(lengths.controlled(np.ones(20), a, b))
  table = tabular.build(pages.check(results), METHOD)["length"]
  shown = dict(zip(table.columns, table.rows[0], strict=True))
  assert (shown["Δ controlled %"], shown["controlled 95%"]) == ("·", "·")
  assert shown["not controlled"] == "the first wins every prompt"


def test_length_that_separates_wins_from_losses_has_a_finite_fit():
  _, a, b = example(n=80)
  found = lengths.controlled(np.sign(a - b), a, b)
  assert np.isfinite([found.delta, found.coefficient, *found.ci95]).all()
  assert found.coefficient > 5


def test_real_annotators_like_length(shared_data):
  rows = collections.defaultdict(list)
  with gzip.open(shared_data / "alpacaeval_gpt4_preferences.jsonl.gz", "rt") as lines:
    for row in map(json.loads, lines):
      rows[row["generator_2"]].append(
        (2 * row["preference"] - 3, len(row["output_2"]), len(row["output_1"]))
      )
  for system in ("llama-2-7b-chat-hf", "alpaca-7b", "claude"):
    outcomes, one, other = np.array(rows[system]).T
    found = lengths.controlled(outcomes, one, other, resamples=50)
    assert found.coefficient > 0, system
    assert found.delta < 100 * outcomes.mean(), system  # all three write more than the other


def test_matched_pairs_by_hand():
  a, b = np.array([10, 10, 10, 0, 100, 1]), np.array([10, 11, 12, 0, 90, 0])
  assert lengths.is_matched(a, b).tolist() == [True, True, False, True, True, False]


def test_correlation_and_its_interval_are_spearmans():
  outcomes, a, b = example(n=80)
  scores = (a / 20 + np.random.default_rng(1).normal(size=80)).round(1)
  found, interval = lengths.correlation(scores, a, resamples=60, seed=2)
  assert found == pytest.approx(scipy.stats.spearmanr(scores, a).statistic)
  slow = []
  for draw in resampling.draws(80, 60, 2):
    rows = np.repeat(np.arange(80), draw)
    slow.append(scipy.stats.spearmanr(scores[rows], a[rows]).statistic)
  np.testing.assert_allclose(interval, np.quantile(slow, [0.025, 0.975]))
  assert lengths.correlation(scores, np.full(80, 7)) is None


def test_columns_of_other_lengths_are_refused():
  with pytest.raises(ValueError, match="2 outcomes with 3 and 3 lengths"):
    lengths._difference(np.zeros(2), np.zeros(3), np.zeros(3))
