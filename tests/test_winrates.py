"""Win rates, tests and power against scipy, published figures, and simulation."""

import collections
import gzip
import json

import numpy as np
import pytest
import scipy.stats

from pit_jax.statistics import significance, winrates

# Of AlpacaEval's leaderboard (annotator alpaca_eval_gpt4): counts, then the two figures.
PUBLISHED = {
  "gpt4": (761, 32, 12, 95.27950311, 0.71628144),
  "claude": (707, 89, 9, 88.38509317, 1.11448754),
  "claude-2": (734, 69, 1, 91.35572139, 0.989732378),
  "llama-2-7b-chat-hf": (574, 230, 1, 71.36645963, 1.593038655),
  "gpt35_turbo_instruct": (642, 134, 25, 81.71036205, 1.330613333),
  "alpaca-7b": (205, 584, 16, 26.45962733, 1.53571147),
  "text_davinci_001": (112, 672, 20, 15.17412935, 1.235107892),
}


@pytest.mark.parametrize(("wins", "losses", "draws", "rate", "error"), PUBLISHED.values())
def test_published_counts_give_the_published_figures(wins, losses, draws, rate, error):
  annotations = np.repeat([2.0, 1.0, 1.5], [wins, losses, draws])
  found = winrates.win_rate(annotations)
  assert found.win_rate == pytest.approx(rate, abs=1e-7)
  assert found.standard_error == pytest.approx(error, abs=1e-7)
  assert (found.n_wins, found.n_wins_base, found.n_draws) == (wins, losses, draws)
  assert winrates.win_rate(np.where(annotations == 1.5, 0, annotations)) == found
  n = found.n_total
  assert winrates.from_percentages(n, 100 * wins / n, 100 * losses / n) == found


def test_real_annotations_against_scipy(shared_data):
  preferences = collections.defaultdict(list)
  with gzip.open(shared_data / "alpacaeval_gpt4_preferences.jsonl.gz", "rt") as rows:
    for row in map(json.loads, rows):
      preferences[row["generator_2"]].append(row["preference"])
  rates = {}
  for system, values in preferences.items():
    found, rates[system] = winrates.win_rate(np.array(values)), np.mean(values) - 1
    assert found.win_rate == pytest.approx(100 * sum(v - 1 for v in values) / len(values))
    assert found.standard_error == pytest.approx(100 * scipy.stats.sem(values))
  # The file is a part of the published annotations: every system is near its published figure.
  for system, (*_, rate, error) in PUBLISHED.items():
    assert abs(100 * rates[system] - rate) < 4 * error, system


def test_continuous_preferences_are_probabilities():
  values = np.random.default_rng(0).uniform(1, 2, 50)
  found = winrates.win_rate(values)
  assert found.win_rate == pytest.approx(100 * (values - 1).mean())
  assert found.standard_error == pytest.approx(100 * scipy.stats.sem(values))
  assert (found.n_wins, found.n_draws) == ((values > 1.5).sum(), 0)


def test_outcomes_become_preferences():
  assert winrates.preferences(np.array([1, 0, -1])).tolist() == [2.0, 1.5, 1.0]


@pytest.mark.parametrize(
  ("values", "message"),
  [([1.0], "at least 2"), ([1.0, 3.0], r"3.0 is not in \[1, 2\]"), ([1.0, np.nan], "nan is not")],
)
def test_what_is_no_preference_is_named(values, message):
  with pytest.raises(ValueError, match=message):
    winrates.win_rate(np.array(values))


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (9, 1), (30, 20), (400, 500)])
def test_sign_test_is_the_binomials_two_tails(wins, losses):
  n = wins + losses
  tail = sum(scipy.stats.binom.pmf(k, n, 0.5) for k in range(max(wins, losses), n + 1))
  expected = min(1.0, 2 * tail)
  assert significance.sign_test(wins, losses) == pytest.approx(expected)
  assert significance.sign_test(losses, wins) == significance.sign_test(wins, losses)


def test_holm_steps_down_as_its_definition_does():
  generator = np.random.default_rng(0)
  for size in (1, 2, 7):
    p = generator.uniform(0, 0.2, size)
    corrected = significance.holm(p)
    for level in generator.uniform(0, 0.5, 40):
      rejected = set()
      for step, place in enumerate(np.argsort(p)):  # reject until the first that fails
        if p[place] > level / (size - step):
          break
        rejected.add(int(place))
      assert set(np.flatnonzero(corrected <= level)) == rejected


def test_holm_keeps_false_alarms_rare():
  generator, alarms = np.random.default_rng(0), 0
  for _ in range(500):
    wins = generator.binomial(100, 0.5, 10)
    p = np.array([significance.sign_test(int(w), 100 - int(w)) for w in wins])
    alarms += (significance.holm(p) <= 0.05).any()
  assert alarms / 500 < 0.07  # without correction about 0.3


@pytest.mark.parametrize(("delta", "decided"), [(10, 40), (5, 20), (20, 100)])
def test_as_many_prompts_as_needed_find_the_difference_in_80_percent(delta, decided):
  n = significance.prompts_needed(delta, decided)
  shares = np.array([(decided + delta) / 200, (decided - delta) / 200, 1 - decided / 100])
  wins, losses, _ = np.random.default_rng(0).multinomial(n, shares, 4000).T
  z = np.abs(wins - losses) / np.sqrt(wins + losses)
  assert (z > scipy.stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize(
  ("delta", "decided", "needed"),
  [
    (20, 60, 116),  # ((1.959964 √0.6 + 0.841621 √0.56) / 0.2)² = 115.35
    (50, 50, 14),  # ((1.959964 √0.5 + 0.841621 √0.25) / 0.5)² = 13.06
    (-5, 100, 3138),  # ((1.959964 + 0.841621 √0.9975) / 0.05)² = 3137.19
  ],
)
def test_the_prompts_needed_are_those_of_the_formula(delta, decided, needed):
  assert significance.prompts_needed(delta, decided) == needed


@pytest.mark.parametrize("n", [20, 128, 768, 100_000])
def test_the_detectable_difference_is_the_smallest(n):
  delta = significance.detectable(n, 60)
  assert significance.prompts_needed(delta, 60) <= n
  assert delta <= 0.1 or significance.prompts_needed(delta - 0.1, 60) > n


def test_too_few_prompts_detect_nothing():
  assert significance.detectable(4, 50) is None
  assert significance.detectable(100, 0) is None
  with pytest.raises(ValueError, match="Δ 30 with 20% of prompts decided"):
    significance.prompts_needed(30, 20)


def rows(*counts, judge="gold", n=100):
  return [
    {"a": f"a {win}", "b": "b", "judge": judge, "n": n, "win": float(win), "lose": float(lose)}
    for win, lose in counts
  ]


def test_comparisons_of_one_judge_are_corrected_together():
  made = significance.annotate([*rows((60, 40), (55, 45), (80, 20)), *rows((60, 40), judge="R_P")])
  p = [row["p"] for row in made]
  assert p[0] == p[3] == pytest.approx(scipy.stats.binomtest(60, 100).pvalue)
  np.testing.assert_allclose(
    [row["p_holm"] for row in made[:3]], significance.holm(np.array(p[:3]))
  )
  assert made[3]["p_holm"] == p[3]
  turned = {**rows((40, 60))[0], "a": "b", "b": "a 60"}
  again = significance.annotate([*rows((60, 40), (55, 45), (80, 20)), turned])
  assert [row["p_holm"] for row in again] == [
    *[row["p_holm"] for row in made[:3]],
    made[0]["p_holm"],
  ]
  assert made[0]["win_rate"] == 60.0
  assert made[0]["standard_error"] == pytest.approx(100 * scipy.stats.sem([1] * 60 + [0] * 40))


def test_power_is_of_the_comparison():
  found = significance.power(rows((30, 10))[0])
  assert (found["decided"], found["n"]) == (40.0, 100)
  needed = {row["delta"]: row["prompts"] for row in found["needed"]}
  assert needed == {d: significance.prompts_needed(d, 40) for d in (2, 5, 10, 20)}
  assert [row["delta"] for row in significance.power(rows((5, 2))[0])["needed"]] == [2, 5]
