"""Several seeds as one experiment."""

import dataclasses
import json

import numpy as np
import pytest
import report_example

from pit_jax.evaluate import seeds
from pit_jax.recipes.pit import claims
from pit_jax.report import claims as shared
from pit_jax.report import pages, tabular
from pit_jax.statistics import metrics, significance

METHOD, POOLED = report_example.METHOD, report_example.POOLED


def of_seed(generator, n):
  """Returns a small results dict, and the outcomes it was counted from."""
  differences = {pair: generator.normal(0.3, 1.0, n).round() for pair in ("pit", "policy_sft")}
  comparisons = [
    {
      "a": name,
      "b": "original",
      "judge": "gold",
      "temperature": 1.0,
      **dataclasses.asdict(metrics.compare(difference, np.zeros(n))),
    }
    for name, difference in differences.items()
  ]
  score = float(generator.normal())
  results = {
    "recipe": "pit",
    "headline": ["pit", "original"],
    "seconds": {"sft": 1.5, "reward": 2.0},
    "systems": {"pit": {"score": score, "tokens": 20.0, "checks": {"answer": score / 3}}},
    "comparisons": comparisons,
    "reward_models": {
      "R_P": {"accuracy": score / 2, "sign_agreement": None},
      "R_PIT": {"sign_agreement": {"fraction": float((differences["pit"] > 0).mean()), "n": n}},
    },
    "rounds": [{"k": k, "score": score + k, **_round(comparisons)} for k in range(3)],
    "temperature": [
      {"t": t, "system": system, "score": score * t, **(comparisons[0] if system == "pit" else {})}
      for t in (0.5, 1.0)
      for system in ("original", "pit")
    ],
    "cost": [_spent(comparisons[0], n, score * n) for n in (1, 2)],
    "ablation": [_rewarded(comparisons[0], score, n)],
    "notes": ["a note"],
  }
  return results, differences


def _spent(compared, n, score):
  used = {"tokens": 20.0 * n, "samples": float(n), "reads": 0.0}
  row = {"system": "pit", "budget": n, "judge": "gold", "score": score, **used}
  return compared | row | {"gain": score / n if n > 1 else None}


def _rewarded(compared, score, n):
  ruled = {f"{name}_stop": value for name, value in compared.items()}
  signs = {"sign_agreement": {"fraction": 0.25 if n < 50 else 1.0, "n": n}}
  facts = {"accuracy": score, "order": 0.5, "zero_point": -0.5, "spread": 0.4}
  return {"system": "pit", **facts, **ruled, **signs}


def _round(comparisons):
  free, ruled = comparisons  # any two do
  return free | {f"{name}_stop": value for name, value in ruled.items()}


def test_pooling_seeds_is_counting_all_their_prompts():
  generator = np.random.default_rng(0)
  made = {seed: of_seed(generator, n) for seed, n in ((0, 40), (1, 64), (5, 30))}
  pooled = seeds.pool({seed: results for seed, (results, _) in made.items()}, POOLED)
  for index, name in enumerate(("pit", "policy_sft")):
    together = np.concatenate([differences[name] for _, differences in made.values()])
    row = pooled["comparisons"][index]
    assert (row["a"], row["b"], row["judge"], row["seed"]) == (name, "original", "gold", "all")
    assert row["n"] == together.size == 134
    assert row["win"] == pytest.approx(100 * (together > 0).mean())
    assert row["lose"] == pytest.approx(100 * (together < 0).mean())
    assert row["tie"] == pytest.approx(100 * (together == 0).mean())
    assert row["delta"] == pytest.approx(row["win"] - row["lose"])
    width = np.diff(row["ci95"])[0]
    assert width == pytest.approx(2 * 1.96 * 100 * np.sign(together).std() / 134**0.5, rel=0.15)
  signs = np.concatenate([differences["pit"] > 0 for _, differences in made.values()])
  agreement = pooled["reward_models"]["R_PIT"]["sign_agreement"]
  assert agreement == {"fraction": pytest.approx(signs.mean()), "n": 134}
  share = (0.25 * 70 + 64) / 134
  assert pooled["ablation"][0]["sign_agreement"] == {"fraction": pytest.approx(share), "n": 134}
  alone = [row for row in pooled["comparisons"] if row["seed"] != "all"]
  assert [{k: v for k, v in row.items() if k != "seed"} for row in alone] == [
    row for results, _ in made.values() for row in results["comparisons"]
  ]
  assert [row["seed"] for row in alone] == [0, 0, 1, 1, 5, 5]


def test_pooling_averages_what_is_no_count():
  generator = np.random.default_rng(1)
  results = {seed: of_seed(generator, 20)[0] for seed in (0, 1)}
  pooled = seeds.pool(results, POOLED)
  score = np.mean([run["systems"]["pit"]["score"] for run in results.values()])
  described = {"score": pytest.approx(score), "tokens": 20.0}
  checks = {"answer": pytest.approx(score / 3)}
  assert pooled["systems"] == {"pit": described | {"checks": checks}}
  del results[0]["systems"]["pit"]["checks"]
  assert seeds.pool(results, POOLED)["systems"] == {"pit": described}
  assert pooled["reward_models"]["R_P"]["accuracy"] == pytest.approx(score / 2)
  assert [row["k"] for row in pooled["rounds"]] == [0, 1, 2]
  assert [row["score"] for row in pooled["rounds"]] == pytest.approx([score, score + 1, score + 2])
  assert [(row["t"], row["system"]) for row in pooled["temperature"]] == [
    (t, system) for t in (0.5, 1.0) for system in ("original", "pit")
  ]
  for index, suffix in enumerate(("", "_stop")):
    together = pooled["comparisons"][index]
    for row in pooled["rounds"]:
      for name in ("n", "win", "lose", "tie", "delta", "ci95"):
        assert row[name + suffix] == together[name]
  assert pooled["temperature"][1]["ci95"] == pooled["comparisons"][0]["ci95"]
  assert "ci95" not in pooled["temperature"][0]
  together = {key: pooled["comparisons"][0][key] for key in ("n", "win", "delta", "ci95")}
  for n, row in enumerate(pooled["cost"], start=1):
    assert (row["system"], row["budget"], row["judge"]) == ("pit", n, "gold")
    assert row["score"] == pytest.approx(score * n)
    assert {key: row[key] for key in together} == together
  assert "gain" not in pooled["cost"][0] and pooled["cost"][1]["gain"] == pytest.approx(score)
  (row,) = pooled["ablation"]
  assert (row["system"], row["accuracy"]) == ("pit", pytest.approx(score))
  assert {name: row[f"{name}_stop"] for name in together} == together
  assert pooled["seconds"] == {"seed 0": 3.5, "seed 1": 3.5}
  assert "a note" in pooled["notes"] and "seeds 0, 1" in pooled["notes"][0]


def test_what_all_seeds_show_is_tested_over_all_their_prompts():
  generator = np.random.default_rng(3)
  pooled = seeds.pool({seed: of_seed(generator, 40)[0] for seed in (0, 1)}, POOLED)
  whole = [row for row in pooled["comparisons"] if row["seed"] == "all"]
  counted = [(round(row["win"] * 0.8), round(row["lose"] * 0.8)) for row in whole]
  p = [significance.sign_test(*counts) for counts in counted]
  assert [row["p"] for row in whole] == pytest.approx(p)
  assert [row["p_holm"] for row in whole] == pytest.approx(significance.holm(np.array(p)))
  assert pooled["power"] == significance.power(whole[0])


def luck_of(counts):
  """Returns the results of seeds of so many wins, losses and ties, each of prompts of its own."""
  pairs = [{"a": "pit", "b": other} for other in ("original", "rlhf_longer")]
  results = {}
  for seed, (wins, losses, ties) in enumerate(counts):
    signs = np.repeat([1.0, -1.0, 0.0], [wins, losses, ties])
    known = {"judge": "gold", "temperature": 1.0} | vars(metrics.compare(signs, 0 * signs))
    empty = {"headline": ["pit", "original"], "seconds": {}, "systems": {}, "reward_models": {}}
    results[seed] = empty | {"comparisons": [pair | known for pair in pairs]}
  return results


def test_seeds_that_agree_by_chance_are_no_surer_than_their_prompts():
  """Two seeds with Δ = 60% exactly: over prompts √((0.8 − 0.6²) / 19) each, and t of 1 degree."""
  results = luck_of([(14, 2, 4)] * 2)
  found = seeds.pool(results, POOLED)["comparisons"][0]["over_seeds"]
  error = 100 * np.sqrt(0.44 / 19) / np.sqrt(2)
  assert (found["delta"], found["standard_error"]) == (pytest.approx(60), pytest.approx(error))
  assert found["p"] == pytest.approx(1 - 2 / np.pi * np.arctan(60 / error))
  half = error * np.tan(0.475 * np.pi)
  assert found["ci95"] == (pytest.approx(60 - half), pytest.approx(60 + half))
  pooled = seeds.pool(results, POOLED) | {"gate": {"passed": True, "reason": ""}}
  assert [claim.outcome for claim in claims.judged(pooled)] == [shared.HERE]


def test_seeds_that_differ_by_more_than_their_prompts_decide_themselves():
  results = luck_of([(60, 20, 20), (20, 60, 20), (40, 40, 20)])
  found = seeds.pool(results, POOLED)["comparisons"][0]["over_seeds"]
  assert found["standard_error"] == pytest.approx(40 / np.sqrt(3))
  unequal = [results[0]["comparisons"][0], luck_of([(6, 2, 0)])[0]["comparisons"][0]]
  variances = (0.8 - 0.4**2) / 99, (1 - 0.5**2) / 7
  assert significance.own_error(unequal) == pytest.approx(50 * np.sqrt(sum(variances)))
  (one,) = luck_of([(1, 0, 0)]).values()
  assert significance.own_error([unequal[0], one["comparisons"][0]]) == pytest.approx(
    50 * np.sqrt(variances[0])
  )


def test_seeds_with_other_comparisons_are_not_pooled():
  generator = np.random.default_rng(2)
  results = {seed: of_seed(generator, 20)[0] for seed in (0, 1)}
  results[1]["comparisons"].reverse()
  with pytest.raises(ValueError, match="policy_sft"):
    seeds.pool(results, POOLED)


def test_who_chose_the_temperatures_is_said_of_all_seeds_too():
  generator = np.random.default_rng(4)
  results = {seed: of_seed(generator, 20)[0] for seed in (0, 1)}
  for run in results.values():
    run["comparisons"][0] |= {"judge": "R_P", "temperature": "best", "chosen_by": "R_P"}
  pooled = seeds.pool(results, POOLED)
  assert [row.get("chosen_by") for row in pooled["comparisons"][:2]] == ["R_P", None]
  assert "its own row flatters them" in tabular.build(pooled, METHOD)["comparisons"].note
  results[1]["comparisons"][0]["chosen_by"] = "gold"
  with pytest.raises(ValueError, match="seeds compared other systems"):
    seeds.pool(results, POOLED)


def test_pooled_seeds_make_a_report(tmp_path):
  results = json.loads(json.dumps(pages._plain(report_example.example())))
  pooled = seeds.pool({0: results, 1: results}, POOLED)
  page = pages.write(pooled, tmp_path, METHOD)
  assert page.exists()
  one, all_of_them = results["comparisons"][0], pooled["comparisons"][0]
  assert all_of_them["n"] == 2 * one["n"]
  assert all_of_them["delta"] == pytest.approx(one["delta"])


def test_each_seed_alone_is_folded_away():
  generator = np.random.default_rng(5)
  pooled = seeds.pool({seed: of_seed(generator, 20)[0] for seed in (0, 1)}, POOLED)
  tables = tabular.build(pooled, METHOD)
  assert set(tables["comparisons"].rows) & set(tables["seeds"].rows) == set()
  assert len(tables["seeds"].rows) == 2 * len(pooled["comparisons"]) // 3
  assert tables["seeds"].is_folded and not tables["comparisons"].is_folded
  assert "Each seed alone" not in pages.tables(pooled, METHOD)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_name_is_cut_off_in_a_terminal(width):
  one = pages.check(report_example.example())
  pooled = seeds.pool({0: one, 1: one, 2: one}, POOLED)
  said = pages.tables(pooled, METHOD, width=width)
  words = set(said.split())
  assert "over" in words and max(map(len, said.splitlines())) <= width
  for row in pooled["comparisons"]:
    assert {row["a"], row["b"]} <= words
  assert "gold." in words, "the judge of all that is not folded"
