"""Recipe `ser`: whose labels a model is trained on, and what its report says of them."""

import dataclasses
import json
import math
import random
from unittest import mock

import numpy as np
import pytest
import ser_run
import tiny_run

from pit_jax.data import preferences
from pit_jax.evaluate import seeds
from pit_jax.recipes import running, ser
from pit_jax.recipes.ser import measured, page
from pit_jax.stages import reward
from pit_jax.tasks import synthetic


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run of all rounds, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("ser") / "run"
  with ser_run.told({"ser_2": 0.95}), tiny_run.unrendered():
    running.run(ser_run.config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What every stage of reward models was given, and the study, read back."""
  seen = {}
  whole = reward.run

  def watch(context, name, fold, **how):
    seen[name] = (fold, how, whole(context, name, fold, **how))
    return seen[name][2]

  context = tiny_run.build(ser_run.config(), run)
  with ser_run.told({"ser_2": 0.95}), mock.patch.object(reward, "run", watch):
    study = ser.RECIPE.train(context)
  return context, seen, study


def test_every_arm_of_every_draw_is_trained_and_compared(results):
  arms = ("seed", *ser_run.ROUNDS, "seed_longer", "ser_oracle", "ser_random")
  trained = [f"draw_{number}_{arm}" for number in (1, 2) for arm in arms]
  assert [*results["stages"]] == ["sft", *trained, "all_labels"]
  found = results["ser"]
  assert {row["arm"] for row in found["arms"]} == {*ser_run.ARMS}
  pairs = {(row["a"], row["b"]) for row in found["differences"]}
  assert {
    ("ser", "seed"), ("ser", "seed_longer"), ("ser_2", "ser_random"), ("ser_oracle", "ser_2"),
    ("all_labels", "ser"),
  } <= pairs  # fmt: skip
  assert all(len(row["draws"]) == 2 for row in found["arms"] + found["differences"])
  assert [row["best"] for row in found["ends"]] == [2, 2]


def test_models_of_an_arm_take_the_same_steps_and_the_control_those_of_all_rounds(results):
  steps = {name: stage["steps"] for name, stage in results["stages"].items()}
  several = {"draw_1_seed_longer", "draw_2_seed_longer", "all_labels"}
  assert {steps[name] for name in several} == {3 * tiny_run.STEPS}, "the seed's, and two rounds'"
  assert {steps[name] for name in {*steps} - several} == {tiny_run.STEPS}


def slow_sigmoid(score):
  return 1 / (1 + math.exp(-score))


def test_a_round_keeps_and_labels_what_the_model_before_it_is_sure_of(run, given):
  """By hand: single answers are scored, each by itself, and looked at pair by pair."""
  context, seen, study = given
  rows = context.rows.fold("reward").rows
  evolved = study.draws[0]
  before = evolved.models["seed"]
  pool = evolved.rounds[0].pool.tolist()
  assert {*pool} <= {*evolved.draw.pool}
  ask = context.models.inference.rate
  texts = [[getattr(rows[place], side) for place in pool] for side in ("chosen", "rejected")]
  prompts = [rows[place].prompt for place in pool]
  sides = [ask(before.params, prompts, text) / before.facts["gain"] for text in texts]
  mean = np.concatenate(sides).mean()

  expected = {}
  for place, *pair in zip(pool, *(side - mean for side in sides), strict=True):
    good = [slow_sigmoid(score) for score in pair]
    for better, worse, row in ((0, 1, rows[place]), (1, 0, ser_run.mirrored(rows[place]))):
      sure = good[better] > ser_run.SURE["ser__upper"] and good[worse] < ser_run.SURE["ser__lower"]
      if sure or good[better] - good[worse] > ser_run.SURE["ser__difference"]:
        expected[place] = (row.prompt, row.chosen, row.rejected)

  labelled = ser_run.made(run, "draw_1_ser_1_labels")
  texts = {row["row"]: (row["prompt"], row["chosen"], row["rejected"]) for row in labelled}
  assert texts == expected and expected
  assert {row["labelled_by"] for row in labelled} == {"draw_1_seed"}
  assert {row["labelled_by"] for row in ser_run.made(run, "draw_1_ser_2_labels")} == {
    "draw_1_ser_1"
  }
  assert any(texts[place][1] == rows[place].rejected for place in texts), "some against their label"


@pytest.mark.parametrize("number", [1, 2])
def test_a_round_trains_on_the_seed_and_all_that_rounds_kept(run, given, number):
  context, seen, study = given
  rows = context.rows.fold("reward").rows
  draw = study.draws[number - 1].draw
  seed = [rows[place] for place in draw.training]
  kept = [ser_run.made(run, f"draw_{number}_{arm}_labels") for arm in ser_run.ROUNDS]
  own = [[(row["prompt"], row["chosen"], row["rejected"]) for row in part] for part in kept]
  first, second = (seen[f"draw_{number}_{arm}"][0] for arm in ser_run.ROUNDS)
  assert ser_run.sides(first.rows) == ser_run.sides(seed) + own[0]
  assert ser_run.sides(second.rows) == ser_run.sides(seed) + own[0] + own[1]

  # What is not kept goes back to the pool, and what is kept does not come again.
  pools = [
    {row["row"] for row in ser_run.made(run, f"draw_{number}_{arm}_scores")}
    for arm in ser_run.ROUNDS
  ]
  assert pools[1] == pools[0] - {row["row"] for row in kept[0]}

  validation = [rows[place] for place in draw.validation]
  for name, (fold, how, _) in seen.items():
    if name.startswith(f"draw_{number}"):
      assert ser_run.sides(fold.validation) == ser_run.sides(validation)
      assert not {row.prompt for row in fold.rows} & {row.prompt for row in validation}
      assert how["start"] is study.sft.params


def test_controls_are_of_the_same_pairs_with_other_labels(run, given):
  context, seen, study = given
  rows = context.rows.fold("reward").rows
  draw = study.draws[0].draw
  kept = [row["row"] for arm in ser_run.ROUNDS for row in ser_run.made(run, f"draw_1_{arm}_labels")]
  count = len(draw.training)
  oracle = seen["draw_1_ser_oracle"][0].rows
  assert ser_run.sides(oracle[count:]) == ser_run.sides(rows[place] for place in kept), (
    "with the labels they lost"
  )
  tossed = seen["draw_1_ser_random"][0].rows[count:]
  turned = [one.chosen != rows[place].chosen for one, place in zip(tossed, kept, strict=True)]
  assert [{one.chosen, one.rejected} for one in tossed] == [
    {rows[place].chosen, rows[place].rejected} for place in kept
  ]
  assert abs(np.mean(turned) - 0.5) < 3 * 0.5 / np.sqrt(len(turned))
  assert ser_run.sides(seen["draw_1_seed_longer"][0].rows) == ser_run.sides(
    seen["draw_1_seed"][0].rows
  )
  whole = {place for place in range(len(rows)) if place not in draw.validation}
  assert ser_run.sides(seen["all_labels"][0].rows) == ser_run.sides(
    rows[place] for place in sorted(whole)
  )


def test_held_out_pairs_are_right_where_the_gold_score_says_so(run, results, given):
  """By hand: every pair by itself."""
  context, _, study = given
  evaluated = {row.prompt for row in context.rows.folds["held_out"][:16]}
  settings = context.rows.settings
  rows = []
  for row in context.rows.folds["held_out"]:
    cut = [one.ids for one in settings.encode_responses([row.chosen], [row.rejected])]
    if row.prompt in evaluated and cut[0] != cut[1]:  # what is cut to the same is no pair
      rows.append(row)
  gold = [
    synthetic.gold(row.prompt, row.chosen) - synthetic.gold(row.prompt, row.rejected)
    for row in rows
  ]
  right = {}
  for arm in ("seed", "ser_2"):
    params = study.draws[1].models[arm].params
    ask = context.models.inference.rate
    both = [
      ask(params, [row.prompt], [text])[0] for row in rows for text in (row.chosen, row.rejected)
    ]
    margins = np.subtract(both[::2], both[1::2])
    right[arm] = np.array([m * g > 0 for m, g in zip(margins, gold, strict=True) if g], float)
  told_of = {row["arm"]: row["draws"][1] for row in results["ser"]["arms"]}
  assert results["ser"]["pairs"] == len(right["seed"]) and results["ser"]["judge"] == "gold"
  for arm, met in right.items():
    np.testing.assert_allclose(told_of[arm], met.mean(), atol=0.05)
  (row,) = [x for x in results["ser"]["differences"] if (x["a"], x["b"]) == ("ser_2", "seed")]
  np.testing.assert_allclose(row["draws"][1], 100 * (told_of["ser_2"] - told_of["seed"]))
  np.testing.assert_allclose(row["delta"], np.mean(row["draws"]))


def test_rounds_are_told_with_what_their_labels_were_worth(run, results, given):
  context, _, study = given
  rows = context.rows.fold("reward").rows
  labelled = ser_run.made(run, "draw_2_ser_1_labels")
  lost = [row["chosen"] == rows[row["row"]].chosen for row in labelled]
  decided = []
  for row in labelled:
    sides = [synthetic.gold(row["prompt"], row[side]) for side in ("chosen", "rejected")]
    if sides[0] != sides[1]:
      decided.append(sides[0] > sides[1])
  (found,) = [x for x in results["ser"]["rounds"] if (x["draw"], x["round"]) == (2, 1)]
  pool = len(ser_run.made(run, "draw_2_ser_1_scores"))
  assert (found["pool"], found["kept"]) == (pool, len(labelled))
  np.testing.assert_allclose(found["share"], len(labelled) / pool)
  np.testing.assert_allclose(found["agreed_labels"], np.mean(lost))
  np.testing.assert_allclose(found["agreed_gold"], np.mean(decided))
  np.testing.assert_allclose(
    found["margin_kept"], np.mean([row["difference"] for row in labelled]), rtol=1e-6
  )
  assert found["margin_kept"] > found["margin"] > 0


def test_pairs_that_differ_in_one_check_alone_are_told_by_that_check():
  question = synthetic.ask(synthetic.question(random.Random(5)))
  q = synthetic.parse_question(question)
  letter = synthetic.Letter(
    "Hi {asker},", "it is {street}.", q.answer(), tuple(q.chain()), "", "Thanks for asking.", ""
  )
  rude = dataclasses.replace(letter, grumble="I am too busy.")
  worse = dataclasses.replace(rude, greeting="Well,")
  texts = [one.text(q.asker) for one in (letter, rude, worse)]
  rows = [
    preferences.Preference(question, texts[1], texts[0]),  # labelled against the gold score
    preferences.Preference(question, texts[0], texts[2]),
    preferences.Preference(question, texts[0], texts[0] + " "),
  ]
  told_of = measured.truth(rows, [0, 1, 2], True)
  assert told_of.places == [0, 1] and told_of.signs.tolist() == [-1, 1], "equal ones are left out"
  assert told_of.alone == ["tone", ""]
  assert measured.truth(rows, [1, 2], False).signs.tolist() == [1, 1]


def test_intervals_are_of_draws_and_wider_with_the_choice_of_pairs():
  """Student's t of 7 degrees of freedom is 2.36462."""
  deltas = [1.0, 2.0, 0.5, 3.0, -1.0, 1.5, 2.5, 0.0]
  found = measured.interval(deltas, 0.7)
  error = np.std(deltas, ddof=1) / np.sqrt(8)
  np.testing.assert_allclose(
    found["ci95"], np.mean(deltas) + np.array([-1, 1]) * 2.36462 * error, rtol=1e-4
  )
  both = 2.36462 * np.hypot(error, 0.7)
  np.testing.assert_allclose(
    found["ci95_both"], [np.mean(deltas) - both, np.mean(deltas) + both], rtol=1e-4
  )
  assert found["positive"] == 6
  assert measured.interval([1.0], 0.7) == {"delta": 1.0, "positive": 1}


def test_seeds_are_pooled_draw_by_draw(results):
  found = results["ser"]
  pooled = ser.RECIPE.pooled["ser"]({3: found, 4: found}, ["a", "b"])
  assert pooled["draws"] == 4 and pooled["pairs"] == 2 * found["pairs"]
  for one, both in zip(found["differences"], pooled["differences"], strict=True):
    assert both["draws"] == 2 * one["draws"]
    np.testing.assert_allclose(both["delta"], one["delta"])
    np.testing.assert_allclose(both["pairs_error"], one["pairs_error"] / np.sqrt(2))
  assert [row["seed"] for row in pooled["ends"]] == [3, 3, 4, 4]
  whole = seeds.pool({3: results, 4: results}, ser.RECIPE.pooled)
  assert whole["ser"]["draws"] == 4 and page.said(whole)[0]
  assert page.sentence({"recipe": "ser", "ser": pooled}).startswith("A reward model that labels")


def test_the_page_has_every_arm_and_round_and_the_best_of_n(run, results):
  text = (run / "report" / "report.html").read_text()
  for said in ("A reward model that labels pairs for itself", "Own labels by check", "Each draw"):
    assert said in text
  assert [row[0] for row in page.arms(results).rows] == [
    row["arm"] for row in results["ser"]["arms"]
  ]
  assert len(page.rounds(results).rows) == 3
  claims, remark = page.said(results)
  assert len(claims) == 4 and "draws of the labels" in remark
  best = {"best_of_seed", "best_of_ser", "best_of_all"}
  assert best | {"policy_sft", "policy_resampled"} == {*results["systems"]}
  first = results["comparisons"][0]
  assert (first["a"], first["b"]) == ("best_of_ser", "best_of_seed")


def row(a, b, delta, ci95, p):
  return {
    "a": a, "b": b, "delta": delta, "ci95": ci95, "ci95_both": ci95, "p": p, "positive": 6,
    "draws": [delta] * 8,
  }  # fmt: skip


@pytest.mark.parametrize(
  ("delta", "p", "outcome"),
  [(1.5, 0.001, "for these models"), (1.5, 0.2, "not shown"), (-2.0, 0.001, "the opposite")],
)
def test_claims_go_by_draws_and_pairs(delta, p, outcome):
  rows = [row("ser", "seed", delta, (delta - 1, delta + 1), p)]
  others = (("ser", "seed_longer"), ("all_labels", "ser"), ("ser_2", "ser_random"))
  rows += [row(*pair, 0.0, (-1.0, 1.0), 0.9) for pair in others]
  arms = [{"arm": arm} for arm in ser_run.ARMS]
  claims, _ = page.said({"ser": {"draws": 8, "arms": arms, "differences": rows}})
  assert outcome in claims[0].outcome and all(one.outcome == "not shown" for one in claims[1:])
