"""The doctor's estimates: closed forms, planted truths, and slow references."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from pit_jax.tools.doctor import estimates


def apart(values):
  return np.arange(len(values))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 10), (50, 100), (400, 401), (7, 7)])
def test_a_share_of_independent_values_has_wilsons_interval(hits, n):
  values = np.arange(n) < hits
  found = estimates.share(values, apart(values))
  reference = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
  assert (found.value, found.n) == (hits / n, n)
  assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-6)


def test_copies_of_a_value_do_not_narrow_its_interval():
  values = np.random.default_rng(0).random(60) < 0.3
  once = estimates.share(values, apart(values))
  often = estimates.share(np.repeat(values, 20), np.repeat(apart(values), 20))
  assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
  agreeing = estimates.share(np.ones(100), np.repeat(np.arange(5), 20))
  few = estimates.share(np.ones(5), np.arange(5))
  assert (agreeing.low, agreeing.high) == (few.low, few.high)


def test_a_clustered_interval_holds_the_truth_as_often_as_it_says():
  rng, held, times = np.random.default_rng(1), 0, 400
  for _ in range(times):
    chances = rng.beta(2, 3, 80)  # of the groups; their mean is 0.4
    groups = np.repeat(np.arange(80), 6)
    found = estimates.share(rng.random(480) < chances[groups], groups)
    held += found.low <= 0.4 <= found.high
  assert scipy.stats.binomtest(held, times, 0.95).pvalue > 0.001


def test_the_flip_rate_of_pairs_judged_twice_is_the_closed_form():
  agreeing, split = 164, 36
  found = estimates.flip_rate(
    np.array([2] * 100 + [0] * 64 + [1] * 36), np.array([0] * 100 + [2] * 64 + [1] * 36)
  )
  share = agreeing / (agreeing + split)
  assert found.value == pytest.approx((1 - np.sqrt(2 * share - 1)) / 2, abs=1e-4)
  assert (found.n, found.low < found.value < found.high) == (200, True)
  assert max(found.value - found.low, found.high - found.value) < 0.04  # as the doctor says of 200


def test_the_flip_rate_is_the_maximum_of_the_likelihood_and_ignores_single_judgements():
  rng = np.random.default_rng(2)
  first = rng.integers(0, 5, 40)
  second = rng.integers(0, 3, 40)
  found = estimates.flip_rate(first, second)

  def negative(rate):
    pairs = [(a, b) for a, b in zip(first, second) if a + b > 1]
    each = [0.5 * ((1 - rate) ** a * rate**b + rate**a * (1 - rate) ** b) for a, b in pairs]
    return -np.log(each).sum()

  best = scipy.optimize.minimize_scalar(negative, bounds=(1e-9, 0.5), method="bounded")
  assert found.value == pytest.approx(best.x, abs=2e-4)
  assert found.n == (first + second > 1).sum()
  for bound in (found.low, found.high):
    if 0 < bound < 0.5:
      assert 2 * (negative(bound) - best.fun) == pytest.approx(3.84, abs=0.05)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 0.4])
def test_a_planted_flip_rate_is_within_its_interval(rate):
  rng = np.random.default_rng(3)
  judged = rng.integers(2, 5, 3000)
  truth = rng.random(3000) < 0.5
  flipped = rng.binomial(judged, rate)
  first = np.where(truth, judged - flipped, flipped)
  found = estimates.flip_rate(first, judged - first)
  assert found.low - 1e-9 <= rate <= found.high
  assert found.high - found.low < 0.06


def test_without_repeats_there_is_no_flip_rate():
  with pytest.raises(ValueError, match="no pair was judged more than once"):
    estimates.flip_rate(np.ones(3, int), np.zeros(3, int))


def test_the_fit_is_the_penalised_maximum():
  design = np.random.default_rng(4).normal(size=(300, 3)) + 0.3

  def loss(weights):
    ridge = 0.5 * estimates.RIDGE * (weights**2).sum()
    return np.logaddexp(0, -design @ weights).sum() + ridge

  best = scipy.optimize.minimize(loss, np.zeros(3), tol=1e-10)
  assert estimates.fit(design) == pytest.approx(best.x, abs=1e-5)


def test_what_is_fitted_stays_finite_where_every_pair_is_right():
  weights = estimates.fit(np.full((50, 1), 3.0))
  assert np.isfinite(weights).all() and weights[0] > 0


def test_prediction_finds_a_planted_slope_and_the_accuracy_it_allows():
  rng = np.random.default_rng(5)
  difference = rng.normal(0, 50, 6000)
  is_chosen = rng.random(6000) < 1 / (1 + np.exp(-0.02 * difference))
  features = np.where(is_chosen, difference, -difference)[:, None]
  found = estimates.predict(features, apart(difference))
  assert found.weights[0] == pytest.approx(0.02, abs=0.002)
  chances = 1 / (1 + np.exp(-0.02 * np.abs(difference)))
  assert found.accuracy.value == pytest.approx(chances.mean(), abs=0.02)
  entropy = -(chances * np.log(chances) + (1 - chances) * np.log(1 - chances)).mean()
  assert found.loss == pytest.approx(entropy, abs=0.02)


def test_prediction_without_anything_to_learn_is_chance():
  rng = np.random.default_rng(6)
  found = estimates.predict(rng.normal(size=(4000, 2)), np.arange(4000))
  assert found.accuracy.low < 0.5 < found.accuracy.high
  assert found.loss == pytest.approx(np.log(2), abs=0.002)


def test_prediction_tries_no_group_that_it_learnt_from():
  """Each group has a direction of its own: known groups would be predicted, new ones cannot."""
  rng = np.random.default_rng(7)
  directions = np.eye(10)[np.repeat(np.arange(10), 50)]
  features = directions * rng.choice([1.0, 3.0], size=(500, 1))
  found = estimates.predict(features, np.repeat(np.arange(10), 50))
  assert found.accuracy.value == 0.5


def test_prediction_needs_groups_and_differences():
  assert estimates.predict(np.ones((20, 1)), np.repeat(np.arange(4), 5)) is None
  assert estimates.predict(np.zeros((20, 1)), np.arange(20)) is None


def balanced(bias, skills, times, seed=8):
  """Judges every two writers in both orders."""
  rng = np.random.default_rng(seed)
  writers = np.array(list(itertools.permutations(range(len(skills)), 2)) * times)
  chances = 1 / (1 + np.exp(-(bias + skills[writers[:, 0]] - skills[writers[:, 1]])))
  return rng.random(len(writers)) < chances, writers


@pytest.mark.parametrize("bias", [0.0, 0.5, -1.0])
def test_a_planted_position_bias_is_told_from_who_wrote(bias):
  won, writers = balanced(bias, np.array([0.0, 1.0, -0.5, 2.0]), 300)
  found = estimates.first_place(won, writers, np.arange(len(won)))
  assert found.low <= bias <= found.high
  assert found.high - found.low < 0.4


def test_the_position_of_a_writer_who_is_always_first_tells_nothing():
  won, writers = balanced(0.5, np.array([0.0, 1.0, -0.5]), 20)
  fixed = writers[:, 0] == 0
  assert estimates.first_place(won[fixed], writers[fixed], np.arange(fixed.sum())) is None
