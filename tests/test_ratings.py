"""Elo and Bradley–Terry against slow loops, scipy's optimiser, and known strengths."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from pit_jax.statistics import ratings

LOGIT = ratings.SCALE / np.log(10)  # points per nat


def simulated(strengths, prompts, seed):
  """Outcomes of all pairs of systems whose strengths, in points, are known."""
  generator, names = np.random.default_rng(seed), [f"s{i}" for i in range(len(strengths))]
  outcomes = {}
  for i, j in itertools.combinations(range(len(names)), 2):
    share = scipy.special.expit((strengths[i] - strengths[j]) / LOGIT)
    wins = generator.random(prompts) < share
    outcomes[names[i], names[j]] = np.where(wins, 1, -1)
  return outcomes


def slow_elo(games, systems):
  rating = dict.fromkeys(systems, 1000.0)
  for a, b, result in games:
    expected = 1 / (1 + 10 ** ((rating[b] - rating[a]) / 400))
    change = 4 * ((result + 1) / 2 - expected)
    rating[a], rating[b] = rating[a] + change, rating[b] - change
  return [rating[name] for name in systems]


def test_elo_is_that_of_playing_game_by_game():
  generator = np.random.default_rng(0)
  outcomes = {pair: generator.integers(-1, 2, 40) for pair in itertools.combinations("abcd", 2)}
  games = ratings._games(outcomes)
  index = generator.integers(0, 40, 60)
  found = ratings._elos(games, index, 3, np.random.default_rng(7))
  shuffles = np.random.default_rng(7)
  orders = [shuffles.permutation(6 * 60) for _ in range(3)]
  played = [(a, b, values[i]) for (a, b), values in outcomes.items() for i in index]
  expected = [slow_elo([played[k] for k in order], "abcd") for order in orders]
  np.testing.assert_allclose(found, expected)


def test_bradley_terry_is_the_maximum_of_the_likelihood():
  generator = np.random.default_rng(1)
  outcomes = {pair: generator.integers(-1, 2, 50) for pair in itertools.combinations("abcd", 2)}

  def loss(free):
    strength, total = dict(zip("abcd", [0.0, *free])), 0.0
    for (a, b), values in outcomes.items():
      won = scipy.special.log_expit(strength[a] - strength[b])
      lost = scipy.special.log_expit(strength[b] - strength[a])
      for value in [*values, 0]:  # and one tie
        total -= (1 + value) / 2 * won + (1 - value) / 2 * lost
    return total

  best = np.array([0.0, *scipy.optimize.minimize(loss, np.zeros(3), tol=1e-10).x]) * LOGIT
  rated = {row.system: row.bradley_terry for row in ratings.rate(outcomes, orders=2, resamples=2)}
  np.testing.assert_allclose([rated[name] for name in "abcd"], 1000 + best - best.mean(), atol=0.01)


def test_known_strengths_lie_in_their_intervals():
  strengths = np.array([150.0, 60.0, 20.0, -30.0, -200.0])
  covered, trials = np.zeros(2), 12
  for seed in range(trials):
    outcomes = simulated(strengths, prompts=300, seed=seed)
    for row in ratings.rate(outcomes, orders=6, resamples=40, seed=seed):
      truth = 1000 + strengths[int(row.system[1])]
      intervals = (row.elo_ci95, row.bradley_terry_ci95)
      covered += [low <= truth <= high for low, high in intervals]
  assert (covered / (trials * 5) > 0.85).all()  # of 60; 40 resamples make intervals a bit short


def test_ratings_come_best_first_and_share_a_mean():
  rated = ratings.rate(simulated([100.0, -100.0, 0.0], 200, seed=3), resamples=10)
  assert [row.system for row in rated] == ["s0", "s2", "s1"]
  for key in ("elo", "bradley_terry"):
    assert np.mean([getattr(row, key) for row in rated]) == pytest.approx(1000)
  assert all(row.elo_ci95[0] < row.elo < row.elo_ci95[1] for row in rated)
  assert all(row.elo_spread > 0 for row in rated)


def test_whoever_always_wins_has_a_rating():
  always = np.ones(30)
  rated = ratings.rate({("a", "b"): always, ("a", "c"): always, ("b", "c"): 0 * always})
  assert rated[0].system == "a"
  values = [value for row in rated for value in (row.bradley_terry, *row.bradley_terry_ci95)]
  assert np.isfinite(values).all()


def test_the_same_seed_gives_the_same_ratings():
  outcomes = simulated([50.0, 0.0], 40, seed=0)
  assert ratings.rate(outcomes, seed=4) == ratings.rate(outcomes, seed=4)
  assert ratings.rate(outcomes, seed=4) != ratings.rate(outcomes, seed=5)


def test_pairs_with_other_prompts_are_refused():
  with pytest.raises(ValueError, match=r"2 pairs with \[3, 4\] prompts"):
    ratings.rate({("a", "b"): np.ones(3), ("a", "c"): np.ones(4)})
