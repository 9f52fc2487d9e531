"""Seeds that judged the same prompts: a prompt is one draw, with what became of it under all."""

import copy
import dataclasses

import numpy as np
import pytest
import report_example
import scipy.stats
import test_seeds

from pit_jax.evaluate import seeds
from pit_jax.feedback import judges
from pit_jax.report import tabular, verdict
from pit_jax.statistics import metrics, repeated, significance

METHOD, POOLED = report_example.METHOD, report_example.POOLED

LETTERS = np.array(["l", "t", "w"])


def letters(signs):
  return "".join(LETTERS[np.asarray(signs, int) + 1])


def judged(generator, prompts, shared):
  """Returns outcomes of three seeds, Int[3 B], which have so much of each prompt in common."""
  common, own = generator.normal(size=prompts), generator.normal(size=(3, prompts))
  return np.sign((0.4 + shared * common + own).round()).astype(int)


def of_seed(signs, rows_hash="r"):
  """Returns a small results dict of one comparison with these outcomes."""
  compared = metrics.compare(signs, 0 * signs)
  row = {"a": "pit", "b": "original", "judge": "gold", "temperature": 1.0}
  row |= dataclasses.asdict(dataclasses.replace(compared, outcomes=letters(signs)))
  results = test_seeds.of_seed(np.random.default_rng(0), 20)[0]
  kept = {key: results[key] for key in ("headline", "seconds", "systems", "reward_models")}
  rounds = [{"k": 1, **row, **{f"{name}_stop": value for name, value in row.items()}}]
  known = {"comparisons": [row], "rounds": rounds, "data": {"rows_hash": rows_hash}}
  return copy.deepcopy(kept | known)


def test_a_judge_says_what_became_of_every_prompt():
  said = judges.Verdicts(np.array([2.0, np.nan, -2.0, 0.0]), failures={1: "timed out"})
  judge = judges.Judge("language_model", lambda *_: said, None, tie=0.5)
  assert judge.compare(["q"] * 4, ["a"] * 4, ["b"] * 4).outcomes == "wflt"


def test_the_same_seed_three_times_tells_no_more_than_once():
  signs = judged(np.random.default_rng(0), 90, 1.0)[0]
  one = seeds.pool({0: of_seed(signs)})["comparisons"][0]
  pooled = seeds.pool({seed: of_seed(signs) for seed in range(3)}, POOLED)
  three = pooled["comparisons"][0]
  assert (three["n"], three["repeated"]["prompts"]) == (270, 90)
  assert three["repeated"]["inflation"] == pytest.approx(3)
  for key in ("win", "lose", "tie", "delta", "p", "p_holm", "detectable", "standard_error"):
    assert three[key] == pytest.approx(one[key]), key
  assert three["ci95"] == pytest.approx(one["ci95"], abs=2.0)
  apart = {seed: of_seed(signs, f"rows of {seed}") for seed in range(3)}
  assert np.diff(seeds.pool(apart)["comparisons"][0]["ci95"]) < 0.7 * np.diff(three["ci95"])
  needed = [row["prompts"] for row in significance.power(one)["needed"]]
  assert [row["prompts"] for row in pooled["power"]["needed"]] == pytest.approx(needed, abs=1)
  assert pooled["rounds"][0]["ci95"] == pooled["rounds"][0]["ci95_stop"] == three["ci95"]


def test_intervals_errors_and_tests_are_over_prompts():
  generator = np.random.default_rng(1)
  signs = judged(generator, 60, 0.7)
  row = seeds.pool({seed: of_seed(part) for seed, part in enumerate(signs)})["comparisons"][0]
  slow = []
  for _ in range(4000):
    drawn = generator.integers(0, 60, 60)
    slow.append(100 * np.mean([signs[seed, prompt] for prompt in drawn for seed in range(3)]))
  np.testing.assert_allclose(row["ci95"], np.quantile(slow, (0.025, 0.975)), atol=1.5)
  assert row["delta"] == pytest.approx(100 * signs.mean())
  preferences = ((1 + signs) / 2).mean(axis=0)
  assert row["standard_error"] == pytest.approx(100 * preferences.std(ddof=1) / 60**0.5)
  summed = signs.sum(axis=0)
  won, lost = (summed > 0).sum(), (summed < 0).sum()
  assert row["p"] == pytest.approx(scipy.stats.binomtest(int(won), int(won + lost)).pvalue)
  variance = np.var(signs.mean(axis=0)) / 60
  assert row["repeated"]["inflation"] == pytest.approx(variance / (np.var(signs) / 180))


def test_seeds_that_have_nothing_in_common_are_as_good_as_further_prompts():
  signs = judged(np.random.default_rng(2), 500, 0.0)
  same = {seed: of_seed(part) for seed, part in enumerate(signs)}
  own = {seed: of_seed(part, f"rows of {seed}") for seed, part in enumerate(signs)}
  one, other = (seeds.pool(results)["comparisons"][0] for results in (same, own))
  np.testing.assert_allclose(one["ci95"], other["ci95"], atol=0.8)
  assert one["repeated"]["inflation"] == pytest.approx(1, abs=0.15)
  parts = [results["comparisons"][0] for results in own.values()]
  assert "repeated" not in other and other["ci95"] == metrics.pool(parts).ci95


def test_prompts_without_a_verdict_count_as_nothing():
  counts = repeated.tally(["wwft", "wlff", "wfft"])
  assert counts.tolist() == [[3, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 2]]
  found = repeated.compare(counts, failed=4)
  assert (found.n, found.failed, found.win, found.tie) == (7, 4, 400 / 7, 200 / 7)
  known = repeated.describe(counts)
  assert (known["prompts"], known["won"], known["lost"]) == (3, 1, 0)
  assert repeated.compare(repeated.tally(["ff", "ff"]), failed=4).n == 0
  alike = repeated.describe(repeated.tally(["ww", "ww", "ww"]))
  assert alike["inflation"] == 3
  with pytest.raises(ValueError, match="judged 2, 3 of the same prompts"):
    repeated.tally(["ww", "www"])


def test_the_pooled_report_says_whose_prompts_they_were():
  signs = judged(np.random.default_rng(3), 40, 0.5)
  same = seeds.pool({seed: of_seed(part) for seed, part in enumerate(signs)})
  own = seeds.pool({seed: of_seed(part, str(seed)) for seed, part in enumerate(signs)})
  assert "the same prompts under all seeds" in same["notes"][0]
  assert "each has its own" in own["notes"][0] and "the same" not in own["notes"][0]
  same["gate"] = own["gate"] = {"passed": True, "reason": ""}
  assert "of 120 trials on 40 held-out prompts, the same for all seeds under" in verdict.headline(
    same, METHOD
  )
  assert "of 120 held-out prompts under" in verdict.headline(own, METHOD)
  for results, prompts in ((same, "40"), (own, "120")):
    table = tabular.build(results, METHOD)["comparisons"]
    assert [row[table.columns.index("prompts")] for row in table.rows] == [prompts]
    assert f"The {prompts} prompts here" in tabular.build(results, METHOD)["power"].note


def test_results_that_do_not_tell_prompts_apart_are_refused():
  signs = judged(np.random.default_rng(4), 20, 0.5)
  old = {seed: of_seed(part) for seed, part in enumerate(signs)}
  for results in old.values():
    del results["comparisons"][0]["outcomes"]
  with pytest.raises(ValueError, match="older version; make them anew with .*pit evaluate"):
    seeds.pool(old)
