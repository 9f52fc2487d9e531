"""Agreement of judges, accuracy by margin, and choosing among samples, against slow references."""

import itertools
import math

import jaxtyping
import numpy as np
import pytest
import scipy.stats

from pit_jax.statistics import agreement, candidates, margins, metrics, resampling


def slow_kappa(first, second):
  pairs = list(zip(first, second))
  observed = sum(a == b for a, b in pairs) / len(pairs)
  chance = sum(
    sum(a == k for a in first) / len(pairs) * sum(b == k for b in second) / len(pairs)
    for k in (-1, 0, 1)
  )
  return (observed - chance) / (1 - chance)


def outcomes(comparisons, prompts, seed=0):
  generator = np.random.default_rng(seed)
  first = generator.integers(-1, 2, (comparisons, prompts))
  noise = generator.integers(-1, 2, (comparisons, prompts))
  return first, np.where(generator.random(first.shape) < 0.6, first, noise)


def test_kappa_is_cohens_and_its_interval_resamples_prompts():
  first, second = outcomes(3, 50)
  found = agreement.compare(first, second, resamples=40, seed=5)
  assert found.kappa == pytest.approx(slow_kappa(first.ravel(), second.ravel()))
  assert found.n == 150
  assert found.agreement == pytest.approx(100 * (first == second).mean())
  clear = (first != 0) & (second != 0)
  assert found.decided == pytest.approx(100 * (first == second)[clear].mean())
  slow = []
  for draw in resampling.draws(50, 40, 5):
    columns = np.repeat(np.arange(50), draw)
    slow.append(slow_kappa(first[:, columns].ravel(), second[:, columns].ravel()))
  np.testing.assert_allclose(found.ci95, np.quantile(slow, [0.025, 0.975]))


def test_what_was_not_judged_is_no_part_of_kappa():
  first, second = (said.astype(float) for said in outcomes(3, 40))
  first[0, :7], second[2, 3:20], second[1] = np.nan, np.nan, np.nan
  is_known = np.isfinite(first) & np.isfinite(second)
  found = agreement.compare(first, second, resamples=20)
  assert found.n == is_known.sum() == 33 + 23
  assert found.kappa == pytest.approx(slow_kappa(first[is_known], second[is_known]))
  with pytest.raises(ValueError, match="at least one that both judged"):
    agreement.compare(first[1:2], second[1:2])


def test_resamples_in_which_nothing_was_judged_have_no_kappa():
  first, second = outcomes(2, 6)
  first = np.where(np.arange(6) < 2, first.astype(float), np.nan)
  first[:, 0], first[:, 1] = (1, -1), (0, 1)
  draws = resampling.draws(6, 50, 0)
  assert (draws[:, :2].sum(axis=1) == 0).any()
  slow = []
  for draw in draws:
    columns = np.repeat([0, 1], draw[:2])
    if len(columns):
      with np.errstate(invalid="ignore", divide="ignore"):
        slow.append(slow_kappa(first[:, columns].ravel(), second[:, columns].ravel()))
  found = agreement.compare(first, second, resamples=50)
  np.testing.assert_allclose(found.ci95, np.nanquantile(slow, [0.025, 0.975]))


def test_kappa_of_a_table_by_hand():
  first = np.repeat([1, 1, -1, -1], [45, 15, 25, 15])[None]
  second = np.repeat([1, -1, 1, -1], [45, 15, 25, 15])[None]
  chance = 0.6 * 0.7 + 0.4 * 0.3
  assert agreement.compare(first, second).kappa == pytest.approx((0.6 - chance) / (1 - chance))


def test_ends_of_the_scale():
  first, _ = outcomes(1, 90)
  assert agreement.compare(first, first).kappa == pytest.approx(1)
  clear = np.where(first == 0, 1, first)
  assert agreement.compare(clear, -clear).agreement == 0
  generator = np.random.default_rng(1)
  low, high = agreement.compare(*generator.integers(-1, 2, (2, 1, 4000))).ci95
  assert low < 0 < high
  constant = agreement.compare(np.ones((1, 9)), np.ones((1, 9)))
  assert (constant.kappa, constant.ci95, constant.agreement) == (None, None, 100.0)
  assert agreement.compare(np.zeros((1, 9)), np.ones((1, 9))).decided is None


def test_shapes_must_agree():
  # Under the type hook the annotation catches it first, with its own error.
  with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="second|shapes"):
    agreement.compare(np.ones((1, 2)), np.ones((1, 3)))


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (37, 100), (1, 2), (72, 72)])
def test_wilson_is_scipys(successes, trials):
  expected = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, "wilson")
  low, high = margins.wilson(successes / trials, trials)
  np.testing.assert_allclose((low, high), expected, atol=1e-12)
  assert low <= successes / trials <= high  # exactly: an error bar has no negative length


def test_accuracy_by_margin_against_a_loop():
  generator = np.random.default_rng(0)
  margin = generator.normal(0, 2, 103)
  margin[7] = 0.0
  labels = generator.random(103) < 1 / (1 + np.exp(-margin))
  whole, groups = margins.describe(margin, labels), margins.by_size(margin, labels, groups=4)
  right = [0.5 if m == 0 else float((m > 0) == label) for m, label in zip(margin, labels)]
  assert whole["accuracy"] == pytest.approx(np.mean(right))
  assert whole["ece"] == metrics.expected_calibration_error(margin, labels)
  assert sum(group["n"] for group in groups) == 103
  assert max(g["n"] for g in groups) - min(g["n"] for g in groups) <= 1
  for group in groups:
    inside = [i for i in range(103) if group["low"] <= abs(margin[i]) <= group["high"]]
    assert len(inside) == group["n"]
    assert group["accuracy"] == pytest.approx(np.mean([right[i] for i in inside]))
    sure = np.mean([1 / (1 + math.exp(-abs(margin[i]))) for i in inside])
    assert group["confidence"] == pytest.approx(sure)
  for one, other in itertools.pairwise(groups):
    assert one["high"] <= other["low"]


def test_few_pairs_make_few_groups():
  groups = margins.by_size(np.array([1.0, -2.0]), np.array([1, 1]))
  assert [(group["n"], group["accuracy"]) for group in groups] == [(1, 1.0), (1, 0.0)]
  with pytest.raises(ValueError, match="at least one"):
    margins.describe(np.array([]), np.array([]))


def test_best_and_tournament_against_loops():
  generator = np.random.default_rng(0)
  scores, gaps = generator.normal(size=(4, 30)), generator.normal(size=(4, 4, 30))
  for b in range(30):
    assert candidates.best(scores)[b] == max(range(4), key=lambda i: scores[i, b])
    sums = [sum(gaps[i, j, b] for j in range(4) if j != i) for i in range(4)]
    assert candidates.tournament(gaps)[b] == sums.index(max(sums))


def test_a_tournament_of_differences_is_won_by_the_best():
  scores = np.random.default_rng(1).normal(size=(5, 20))
  gaps = scores[:, None] - scores[None]
  np.testing.assert_array_equal(candidates.tournament(gaps), candidates.best(scores))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_bound_is_the_kl_of_best_of_n_over_a_continuum(count):
  # The best of n has density n u^(n−1) where the samples' ranks u are uniform.
  u = (np.arange(400_000) + 0.5) / 400_000
  density = count * u ** (count - 1)
  expected = (density * np.log(density)).mean()
  assert candidates.kl_bound(count) == pytest.approx(expected, abs=1e-4)


def test_few_answers_cost_less_than_the_bound():
  # Three answers, ranked 0 < 1 < 2: the exact law of the best of n, by its distribution function.
  prior = np.array([0.5, 0.3, 0.2])
  for n in (2, 5):
    law = np.diff(np.cumsum(prior) ** n, prepend=0.0)
    assert (law * np.log(law / prior)).sum() < candidates.kl_bound(n)


def test_nothing_to_choose_from():
  with pytest.raises(ValueError, match="best of 0"):
    candidates.kl_bound(0)
