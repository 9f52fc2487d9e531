"""Reward models alone: their folds, what is measured of them, and a run to its report."""

import json

import numpy as np
import pytest
import tiny_run

from pit_jax import parallel
from pit_jax.configs import reward_alpaca
from pit_jax.data import preferences
from pit_jax.exchange import export
from pit_jax.recipes import finished, running
from pit_jax.statistics import labelled, resampling

WRITERS = ("a", "b", "c", "d")


def judged(count=400):
  """Rows in which the reference answers every prompt with one of four writers against it."""
  return [
    preferences.Preference(f"question {i}", f"x{i}{w}", f"y{i}{w}", writers=(w, "reference"))
    for i in range(count // 4)
    for w in WRITERS
  ]


def test_held_out_writers_train_nothing_and_known_ones_are_held_out_by_prompt():
  rows, held = judged(), ("b", "d")
  plain = preferences.divide(rows, 0.3, 0.1, folds={"reward": 1.0})
  folds = preferences.divide(rows, 0.3, 0.1, folds={"reward": 1.0}, held_out_writers=held)
  assert folds["held_out"] == plain["held_out"], (
    "which prompts are held out does not depend on writers"
  )
  trained = [*folds["reward"], *folds["reward_validation"]]
  assert {row.writers[0] for row in trained} == {"a", "c"}
  assert {row.writers[0] for row in folds["set_aside"]} == set(held)
  assert {row.writers[0] for row in folds["held_out"]} == set(WRITERS)
  used = {row.prompt for row in (*trained, *folds["set_aside"])}
  assert not used & {row.prompt for row in folds["held_out"]}
  assert len(trained) + len(folds["set_aside"]) + len(folds["held_out"]) == len(rows)
  assert folds.keys() == {"reward", "reward_validation", "judge", "held_out", "set_aside"}


def test_folds_and_writers_that_are_not_there_are_named():
  with pytest.raises(ValueError, match="has e, who wrote no response .* a, b, c, d, reference"):
    preferences.divide(judged(), 0.3, 0.1, held_out_writers=("a", "e"))
  nobody = [preferences.Preference("x", "a", "b")]
  with pytest.raises(ValueError, match="their writers are not said"):
    preferences.divide(nobody, 0.3, 0.1, held_out_writers=("a",))
  with pytest.raises(ValueError, match=r"'dpo': 0.0.; give at least one, each with a size above 0"):
    preferences.divide(judged(), 0.3, 0.1, folds={"reward": 1.0, "dpo": 0.0})
  with pytest.raises(ValueError, match="leave reward, reward_validation empty"):
    preferences.divide(judged(), 0.3, 0.1, folds={"reward": 1.0}, held_out_writers=("reference",))


def pairs(count=120, seed=0):
  generator = np.random.default_rng(seed)
  prompts = generator.integers(0, 30, count)
  chosen, rejected = generator.integers(10, 60, (2, count)).astype(float)
  rejected[:20] = chosen[:20] + generator.integers(-1, 2, 20)
  return generator.integers(0, 3, count) / 2, chosen, rejected, prompts


def test_accuracies_are_those_of_loops():
  met, chosen, rejected, prompts = pairs()
  found = labelled.describe(met, chosen, rejected, prompts)
  rows = list(zip(met, chosen, rejected, strict=True))
  longer = [1.0 if c > r else 0.5 if c == r else 0.0 for _, c, r in rows]
  sides = [[m for m, c, r in rows if c > r], [m for m, c, r in rows if c < r]]
  like = [m for m, c, r in rows if abs(c - r) <= 0.1 * max(c, r)]
  assert found["accuracy"] == pytest.approx(np.mean(met))
  assert found["above_length"] == pytest.approx(np.mean(met) - np.mean(longer))
  assert found["balanced"] == pytest.approx(np.mean([np.mean(side) for side in sides]))
  assert found["matched"] == pytest.approx(np.mean(like)) and found["matched_n"] == len(like) >= 20
  assert (found["n"], found["prompts"]) == (120, len(set(prompts)))


def test_intervals_draw_the_pairs_of_a_prompt_together():
  met, chosen, rejected, prompts = pairs()
  parts = [chosen > rejected, chosen < rejected]
  _, interval = labelled.average(met, prompts, parts, resamples=60, seed=3)
  numbers, slow = sorted(set(prompts)), []
  for draw in resampling.draws(len(numbers), 60, 3):
    index = [
      i
      for number, times in zip(numbers, draw, strict=True)
      for _ in range(times)
      for i in np.flatnonzero(prompts == number)
    ]
    slow.append(np.mean([met[index][part[index]].mean() for part in parts]))
  np.testing.assert_allclose(interval, np.quantile(slow, [0.025, 0.975]))
  # Twenty copies of each prompt's pair are no more than the pair.
  once, many = np.arange(30), np.repeat(np.arange(30), 20)
  values = np.random.default_rng(1).integers(0, 2, 30).astype(float)
  everywhere = [np.ones(30, bool)], [np.ones(600, bool)]
  alone = labelled.average(values, once, everywhere[0])
  copied = labelled.average(np.repeat(values, 20), many, everywhere[1])
  assert copied[0] == pytest.approx(alone[0])
  np.testing.assert_allclose(copied[1], alone[1])


def test_a_rule_that_knows_lengths_alone_is_at_chance_where_they_do_not_help():
  generator = np.random.default_rng(2)
  chosen = generator.integers(5, 400, 500).astype(float)
  rejected = generator.integers(5, 200, 500).astype(float)
  found = labelled.describe(labelled.right(chosen - rejected), chosen, rejected, np.arange(500))
  assert found["accuracy"] > 0.6
  assert (found["balanced"], found["above_length"]) == (0.5, 0.0)
  one_sided = labelled.describe(
    np.ones(2), np.array([9.0, 9.0]), np.array([1.0, 1.0]), np.arange(2)
  )
  assert one_sided["balanced"] is one_sided["matched"] is one_sided["matched_ci95"] is None
  with pytest.raises(ValueError, match="0 pairs with 0 and 0 lengths and 0 prompts"):
    labelled.describe(np.ones(0), np.ones(0), np.ones(0), np.arange(0))


def test_no_rule_beside_length_gives_away_the_held_out_judgements(shared_data):
  """What configs/reward_alpaca.py says of its division of GPT-4's judgements."""
  config = reward_alpaca.get_config().data
  source = f"jsonl:{shared_data / 'alpacaeval_gpt4_preferences.jsonl.gz'}"
  loaded = preferences.load(source, on_bad_row="skip")
  held = config.held_out_writers
  division = {"folds": preferences.sizes_of(config), "held_out_writers": held}
  folds = preferences.divide(loaded.rows, config.held_out, config.validation, **division)
  trained = {name for row in folds["reward"] for name in row.writers}
  reference = "text_davinci_003"
  assert not trained & set(held) and reference in trained
  new = [row for row in folds["held_out"] if preferences.is_by(row, held)]
  assert {name for row in new for name in row.writers} == {*held, reference}
  chosen, rejected = (
    np.array([len(getattr(row, name)) for row in new], float) for name in ("chosen", "rejected")
  )
  number = {prompt: i for i, prompt in enumerate(dict.fromkeys(row.prompt for row in new))}
  columns = chosen, rejected, np.array([number[row.prompt] for row in new])
  longer = labelled.describe(labelled.right(chosen - rejected), *columns)
  assert longer["accuracy_ci95"][0] > 0.75 and longer["matched_ci95"][0] < 0.5
  other = labelled.describe(np.array([float(row.writers[0] != reference) for row in new]), *columns)
  assert other["above_length_ci95"][1] < 0, "who wrote it says less than length"
  assert other["balanced_ci95"][0] < 0.5 < other["balanced_ci95"][1]


@pytest.mark.slow  # trains from random weights on a thousand judgements
def test_reward_models_of_some_writers_know_the_preferences_among_others(shared_data, tmp_path):
  """GPT-4's judgements of seven systems are learnt; those of four others, on new prompts, asked."""
  config = reward_alpaca.get_config("scratch").copy_and_resolve_references().unlock()
  config.data.source = f"jsonl:{shared_data / 'alpacaeval_gpt4_preferences.jsonl.gz'}"
  running.run(config.lock(), tmp_path)
  results = results_of(tmp_path)
  said = {(row["pairs"], row["model"]): row for row in results["labels"]["accuracy"]}
  for model in ("R_P", "R_PIT"):
    new = said["new writers", model]
    assert new["prompts"] == config.evaluation.prompts and new["n"] >= 150
    assert new["accuracy_ci95"][0] > 0.5, (model, new)
  four = results["gap_order"]
  assert four["wl"] > max(four["ww"], four["ll"]) and min(four["ww"], four["ll"]) > four["lw"], four
  reliability = next(row for row in results["labels"]["reliability"] if row["model"] == "R_P")
  borne_out = [
    low <= group["confidence"] <= high
    for group in reliability["groups"]
    for low, high in [group["ci95"]]
  ]
  assert reliability["pairs"] == "new writers" and sum(borne_out) >= 4, reliability


@pytest.fixture(scope="module")
def rewards_run(tmp_path_factory):
  """A run of recipe reward whose rows name their writers, one of whom is held out."""
  folder = tmp_path_factory.mktemp("rewards")
  rows = [
    {
      "instruction": f"Say {i}.",
      "output_1": f"{'one ' * (1 + i % 5)}{i}",
      "output_2": f"{'two ' * (1 + i % 3)}{i}",
      "generator_1": "reference",
      "generator_2": writer,
      "preference": 1 + (i + place) % 2,
    }
    for i in range(60)
    for place, writer in enumerate(WRITERS)
  ]
  source = folder / "rows.jsonl"
  source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  changes = {"data__source": f"jsonl:{source}", "data__held_out_writers": ("b", "d")}
  running.run(tiny_run.config("reward", data__rows=None, **changes), folder / "run")
  return folder / "run"


def results_of(workdir):
  return json.loads((workdir / "report" / "results.json").read_text())


def test_reward_models_run_alone_to_a_report(rewards_run):
  results = results_of(rewards_run)
  assert set(results["stages"]) == {"reward", "gap_reward"}
  assert results["comparisons"] == [] and results["systems"] == {}
  rows = results["labels"]["accuracy"]
  kinds = ["new writers", "known writers"]
  models = ["the longer one", "R_P", "R_PIT"]
  assert [(row["pairs"], row["model"]) for row in rows] == [(k, m) for k in kinds for m in models]
  assert (
    rows[0]["balanced"] == 0.5
    and rows[0]["n"] + rows[3]["n"] == (results["data"]["folds"]["held_out"])
  )
  assert results["data"]["folds"].keys() == {"reward", "reward_validation", "held_out", "set_aside"}
  for row in results["labels"]["reliability"]:
    assert sum(group["n"] for group in row["groups"]) == next(
      other["n"] for other in rows if other["pairs"] == row["pairs"]
    )
  page = (rewards_run / "report" / "report.html").read_text()
  assert "Held-out labels" in page and "Reliability" in page and "the longer one" in page


def test_what_is_reported_is_what_the_exported_models_say(rewards_run):
  """The order of eq. 1 and both accuracies, from the exported files and the rows alone."""
  mesh = parallel.make_mesh((1, 1, 1))
  results = results_of(rewards_run)
  config = results["config"]["data"]
  loaded = preferences.load(config["source"])
  folds = preferences.divide(
    loaded.rows,
    config["held_out"],
    config["validation"],
    folds={"reward": 1.0},
    held_out_writers=("b", "d"),
  )
  prompts = list(dict.fromkeys(row.prompt for row in folds["held_out"]))
  prompts = prompts[: results["config"]["evaluation"]["prompts"]]
  rows = [
    row for row in folds["held_out"] if row.prompt in prompts and {"b", "d"} & set(row.writers)
  ]
  x, better, worse = (
    [getattr(row, name) for row in rows] for name in ("prompt", "chosen", "rejected")
  )
  model = export.load_one(rewards_run, "reward", mesh=mesh, batch_size=8)
  margin = model.asking.rate(model.params, x, better) - model.asking.rate(model.params, x, worse)
  orders = ((better, worse), (better, better), (worse, worse), (worse, better))
  gap = export.load_one(rewards_run, "gap_reward", mesh=mesh, batch_size=8)
  wl, ww, ll, lw = (gap.asking.gaps(gap.params, x, *pair) for pair in orders)
  expected = {"R_P": (margin > 0).mean(), "R_PIT": (wl > lw).mean()}
  found = {row["model"]: row for row in results["labels"]["accuracy"][:3]}
  for name, share in expected.items():
    assert found[name]["n"] == len(rows)
    assert found[name]["accuracy"] == pytest.approx(share, abs=1.5 / len(rows)), name
  order = results["labels"]["order"][0]
  holds = [a >= max(b, c) and min(b, c) >= d for a, b, c, d in zip(wl, ww, ll, lw, strict=True)]
  assert order["ordered"] == pytest.approx(np.mean(holds), abs=2.5 / len(rows))


def test_the_experiment_repeats_and_there_is_nothing_to_improve_with(rewards_run, capsys):
  before = results_of(rewards_run)
  finished.evaluate(rewards_run, "labels")
  after = results_of(rewards_run)
  assert after["labels"] == before["labels"] and after["gap_order"] == before["gap_order"]
  assert "Held-out labels" in capsys.readouterr().out
  with pytest.raises(ValueError, match="holds no improver, because its recipe trains none"):
    export.load(rewards_run, mesh=parallel.make_mesh((1, 1, 1)), batch_size=8)
  with pytest.raises(ValueError, match="recipe reward has no experiment 'main'; it has labels"):
    finished.evaluate(rewards_run, "main")
