"""Recipe `ser`: whose labels a model is trained on, in which round, and when the rounds end."""

import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
from unittest import mock

import jax
import numpy as np
import pytest
import test_resume
import tiny_run

from pit_jax import types
from pit_jax.data import preferences, tables
from pit_jax.recipes import running, ser
from pit_jax.recipes.ser import draws, measured, page, rounds
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.run import models as run_models
from pit_jax.run import rows as run_rows
from pit_jax.stages import reward
from pit_jax.tasks import synthetic

# What a network of no size says is near to nothing: thresholds that some pairs pass even so.
SURE = {"ser__upper": 0.505, "ser__lower": 0.495, "ser__difference": 0.01}
SMALL = {
  "data__rows": 260, "evaluation__prompts": 16, "ser__draws": 2, "ser__rounds": 2,
  "ser__share": 0.3, "ser__samples": 2, "ser__least_new": 0.02, **SURE,
}  # fmt: skip
ROUNDS = ("ser_1", "ser_2")
ARMS = ("seed", *ROUNDS, "ser", "seed_longer", "ser_oracle", "ser_random", "all_labels")
LABELS = 0.9  # what validating labels say of the model of every round, but where a test says else


def config(**changes):
  return tiny_run.config("ser", **SMALL | changes)


def told(accuracies=None):
  """Has models be right on these shares of the validating labels, by arm, whatever they learnt."""
  whole = rounds.fit

  def fit(context, given, draw, name, *rest):
    model = whole(context, given, draw, name, *rest)
    accuracy = (accuracies or {}).get(name.split("_", 2)[-1], LABELS)
    return dataclasses.replace(model, facts=model.facts | {"accuracy": accuracy})

  return mock.patch.object(rounds, "fit", fit)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run of all rounds, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("ser") / "run"
  with told({"ser_2": 0.95}), tiny_run.unrendered():
    running.run(config(), workdir)
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

  context = tiny_run.build(config(), run)
  with told({"ser_2": 0.95}), mock.patch.object(reward, "run", watch):
    study = ser.RECIPE.train(context)
  return context, seen, study


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def test_every_arm_of_every_draw_is_trained_and_compared(results):
  arms = ("seed", *ROUNDS, "seed_longer", "ser_oracle", "ser_random")
  trained = [f"draw_{number}_{arm}" for number in (1, 2) for arm in arms]
  assert [*results["stages"]] == ["sft", *trained, "all_labels"]
  found = results["ser"]
  assert {row["arm"] for row in found["arms"]} == {*ARMS}
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
    for better, worse, row in ((0, 1, rows[place]), (1, 0, mirrored(rows[place]))):
      sure = good[better] > SURE["ser__upper"] and good[worse] < SURE["ser__lower"]
      if sure or good[better] - good[worse] > SURE["ser__difference"]:
        expected[place] = (row.prompt, row.chosen, row.rejected)

  labelled = made(run, "draw_1_ser_1_labels")
  texts = {row["row"]: (row["prompt"], row["chosen"], row["rejected"]) for row in labelled}
  assert texts == expected and expected
  assert {row["labelled_by"] for row in labelled} == {"draw_1_seed"}
  assert {row["labelled_by"] for row in made(run, "draw_1_ser_2_labels")} == {"draw_1_ser_1"}
  assert any(texts[place][1] == rows[place].rejected for place in texts), "some against their label"


def mirrored(row):
  return dataclasses.replace(row, chosen=row.rejected, rejected=row.chosen)


def sides(rows):
  return [(row.prompt, row.chosen, row.rejected) for row in rows]


@pytest.mark.parametrize("number", [1, 2])
def test_a_round_trains_on_the_seed_and_all_that_rounds_kept(run, given, number):
  context, seen, study = given
  rows = context.rows.fold("reward").rows
  draw = study.draws[number - 1].draw
  seed = [rows[place] for place in draw.training]
  kept = [made(run, f"draw_{number}_{arm}_labels") for arm in ROUNDS]
  own = [[(row["prompt"], row["chosen"], row["rejected"]) for row in part] for part in kept]
  first, second = (seen[f"draw_{number}_{arm}"][0] for arm in ROUNDS)
  assert sides(first.rows) == sides(seed) + own[0]
  assert sides(second.rows) == sides(seed) + own[0] + own[1]

  # What is not kept goes back to the pool, and what is kept does not come again.
  pools = [{row["row"] for row in made(run, f"draw_{number}_{arm}_scores")} for arm in ROUNDS]
  assert pools[1] == pools[0] - {row["row"] for row in kept[0]}

  validation = [rows[place] for place in draw.validation]
  for name, (fold, how, _) in seen.items():
    if name.startswith(f"draw_{number}"):
      assert sides(fold.validation) == sides(validation)
      assert not {row.prompt for row in fold.rows} & {row.prompt for row in validation}
      assert how["start"] is study.sft.params


def test_controls_are_of_the_same_pairs_with_other_labels(run, given):
  context, seen, study = given
  rows = context.rows.fold("reward").rows
  draw = study.draws[0].draw
  kept = [row["row"] for arm in ROUNDS for row in made(run, f"draw_1_{arm}_labels")]
  count = len(draw.training)
  oracle = seen["draw_1_ser_oracle"][0].rows
  assert sides(oracle[count:]) == sides(rows[place] for place in kept), "with the labels they lost"
  tossed = seen["draw_1_ser_random"][0].rows[count:]
  turned = [one.chosen != rows[place].chosen for one, place in zip(tossed, kept, strict=True)]
  assert [{one.chosen, one.rejected} for one in tossed] == [
    {rows[place].chosen, rows[place].rejected} for place in kept
  ]
  assert abs(np.mean(turned) - 0.5) < 3 * 0.5 / np.sqrt(len(turned))
  assert sides(seen["draw_1_seed_longer"][0].rows) == sides(seen["draw_1_seed"][0].rows)
  whole = {place for place in range(len(rows)) if place not in draw.validation}
  assert sides(seen["all_labels"][0].rows) == sides(rows[place] for place in sorted(whole))


def score(text):
  """Returns what the pretended models of `evolved` say of a text, between −2 and 2."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest()) / 2**14 - 2


def evolved(tmp_path, rows, accuracies=(), scored=score, **changes):
  """Evolves a draw of rows with models that score texts as they are told; nothing is trained.

  Returns what `rounds.evolve` does, and the rows that each model would be trained on.
  """
  values = {"ser__share": 0.3, "ser__rounds": 4, "ser__least_new": 0.03} | changes
  settings = config(**{"ser__upper": 0.55, "ser__lower": 0.45, "ser__difference": 0.3, **values})
  parts = (jax.sharding.Mesh, run_rows.Rows, run_models.Models)
  mocked = [mock.Mock(spec=part) for part in parts]  # which nothing asks
  context = contexts.Context(settings, tmp_path, ser.RECIPE, *mocked)
  trained = {}

  def fit(context, given, draw, name, rows, times=1):
    trained[name] = (rows, times)
    number = [*trained].index(name)
    facts = {"accuracy": accuracies[number] if number < len(accuracies) else LABELS}
    return reward.RewardModel({}, facts)

  def ask(context, model, pairs, places):
    both = [(pairs.rows[place].chosen, pairs.rows[place].rejected) for place in places]
    return tuple(np.array([scored(pair[side]) for pair in both], float) for side in (0, 1))

  contents = tables.Contents(np.zeros((len(rows), 3), int), np.arange(len(rows)), {})
  table = tables.Table(types.Preferences, mock.Mock(), contents, 0)
  shared = rounds.Given(rounds.Pairs(rows, table), {}, None)
  draw = draws.draw(rows, 1, share=0.3, validation=0.3, seed=3)
  with mock.patch.object(rounds, "fit", fit), mock.patch.object(rounds, "scores", ask):
    return rounds.evolve(context, shared, draw), trained, draw


def words(count=400):
  return [preferences.Preference(f"q{i}", f"a{i}", f"b{i}") for i in range(count)]


def test_what_a_lost_label_said_changes_nothing(tmp_path):
  rows = words()
  _, trained, draw = evolved(tmp_path / "one", rows)
  other = [mirrored(row) if place in draw.pool else row for place, row in enumerate(rows)]
  _, again, _ = evolved(tmp_path / "other", other)
  for name in ("draw_1_seed", "draw_1_ser_1", "draw_1_seed_longer"):
    assert sides(trained[name][0]) == sides(again[name][0])
  assert len(trained["draw_1_ser_1"][0]) > len(trained["draw_1_seed"][0]) > 0
  assert sides(trained["draw_1_ser_oracle"][0]) != sides(again["draw_1_ser_oracle"][0])


@pytest.mark.parametrize(
  ("accuracies", "changes", "last", "best", "ended"),
  [
    # The models score texts alike in every round: what is left moves by its own mean alone.
    ((0.8, 0.8), {}, 1, 0, "round 2 keeps 3 of 158 pairs"),
    ((0.8, 0.85), {}, 1, 1, "round 2 keeps 3 of 158 pairs"),
    ((0.8, 0.6), {}, 1, 0, "round 1 is right on 60.0% of 36 labels, 80.0% were"),
    ((0.8, 0.78), {}, 1, 0, "round 2 keeps 3 of 158 pairs"),  # one standard error is .067
    ((0.8, 0.9), {"ser__rounds": 1}, 1, 1, "there were all rounds, 1"),
    ((0.8,), {"ser__least_new": 0.9}, 0, 0, "round 1 keeps"),
  ],
)
def test_rounds_end_by_the_rule_and_the_best_one_is_kept(
  tmp_path, accuracies, changes, last, best, ended, capsys
):
  found, trained, _ = evolved(tmp_path, words(), accuracies, **changes)
  assert (found.last, found.best) == (last, best)
  assert found.ended.startswith(ended) and f"draw 1: {ended}" in capsys.readouterr().out
  made = [f"draw_1_ser_{number}" for number in range(1, 5)]
  assert [name for name in made if name in trained] == made[:last]
  assert found.models["ser"] is found.models[rounds.arm(best)]
  if last:
    assert trained["draw_1_seed_longer"][1] == 1 + last
  else:  # nothing was kept: the controls have nothing that differs from the seed
    assert [*trained] == ["draw_1_seed"]
    assert found.models["ser_random"] is found.models["seed_longer"] is found.models["seed"]


def test_a_round_that_keeps_everything_is_the_last(tmp_path):
  found, trained, draw = evolved(tmp_path, words(), scored=lambda text: 3.0 if "a" in text else -3)
  assert found.ended == "round 1 keeps everything that was left"
  assert len(trained["draw_1_ser_1"][0]) == len(draw.training) + len(draw.pool)


def test_a_round_that_keeps_nothing_says_so(tmp_path, capsys):
  found, _, draw = evolved(tmp_path, words(), scored=lambda text: 1.0)
  assert found.ended == f"round 1 keeps none of {len(draw.pool)} pairs"
  assert found.ended in capsys.readouterr().out and found.last == 0


def test_a_pair_that_is_kept_loses_all_that_its_label_said():
  row = preferences.Preference(
    "q", "a", "b", margin=2.0, position=1, writers=("x", "y"), scores=(3.0, 1.0)
  )
  assert rounds.turned(row, -1) == preferences.Preference("q", "b", "a", writers=("y", "x"))
  assert rounds.turned(row, 1) == preferences.Preference("q", "a", "b", writers=("x", "y"))


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
  labelled = made(run, "draw_2_ser_1_labels")
  lost = [row["chosen"] == rows[row["row"]].chosen for row in labelled]
  decided = []
  for row in labelled:
    sides = [synthetic.gold(row["prompt"], row[side]) for side in ("chosen", "rejected")]
    if sides[0] != sides[1]:
      decided.append(sides[0] > sides[1])
  (found,) = [x for x in results["ser"]["rounds"] if (x["draw"], x["round"]) == (2, 1)]
  pool = len(made(run, "draw_2_ser_1_scores"))
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
  arms = [{"arm": arm} for arm in ARMS]
  claims, _ = page.said({"ser": {"draws": 8, "arms": arms, "differences": rows}})
  assert outcome in claims[0].outcome and all(one.outcome == "not shown" for one in claims[1:])


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"ser__lower": 0.6, "ser__upper": 0.55}, "ser.lower=0.6 with ser.upper=0.55"),
    ({"ser__difference": 1.0}, "ser.difference=1.0; use more than 0 and less than 1"),
    ({"ser__difference": 0.0}, "ser.difference=0.0; use more than 0 and less than 1"),
    ({"ser__upper": 1.0}, "ser.upper=1.0; use"),
    ({"ser__share": 0.0}, "ser.share=0.0; use"),
    ({"ser__share": 1.0}, "ser.share=1.0; use"),
    ({"ser__validation": 1.0}, "ser.validation=1.0; use"),
    ({"ser__rounds": 0}, "ser.rounds=0; use"),
    ({"ser__status": "both"}, "ser.status='both'; use one of one, two, union"),
    ({"ser__model": "gap", "ser__status": "one"}, "there is one threshold, ser.difference"),
    ({"ser__model": "gap", "ser__policy": "ppo"}, "which rewards no policy"),
    ({"reward__steps": 0}, "reward.steps=0: every model of an arm takes as many steps"),
    ({"reward__model": "somewhere"}, "reward.model='somewhere': this recipe trains its models"),
    ({"data__source": "example"}, "nobody but the models that choose scores the answers"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), ser.RECIPE)
  assert said in str(error.value)


def test_too_few_labels_are_told_before_anything_is_trained(tmp_path):
  context = tiny_run.build(config(ser__share=0.02), tmp_path)
  with pytest.raises(ValueError, match=r"ser.share=0.02 of \d+ rows leaves \d labels"):
    ser.RECIPE.train(context)
  assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_gap_model_evolves_by_one_threshold(tmp_path, unrendered):
  changes = {"ser__model": "gap", "ser__draws": 1, "ser__rounds": 1, "ser__samples": 3}
  with told():
    running.run(config(**changes), tmp_path)
  found = json.loads((tmp_path / "report" / "results.json").read_text())
  assert {stage["kind"] for name, stage in found["stages"].items() if name != "sft"} == {"gap"}
  scores = {
    row["row"]: row["chosen"] - row["rejected"] for row in made(tmp_path, "draw_1_ser_1_scores")
  }
  sure = {row: gap for row, gap in scores.items() if abs(math.tanh(gap / 4)) > 0.01}
  labelled = made(tmp_path, "draw_1_ser_1_labels")
  assert {row["row"] for row in labelled} == {*sure} and sure
  context = tiny_run.build(config(**changes), tmp_path)
  rows = context.rows.fold("reward").rows
  for one in labelled:
    assert (one["chosen"] == rows[one["row"]].chosen) == (sure[one["row"]] > 0)
  assert (tmp_path / "models" / "gap_reward").is_dir()
  assert {"best_of_seed", "best_of_ser"} <= {*found["systems"]}


@pytest.mark.slow
def test_rl_maximises_the_model_of_the_seed_and_the_evolved_one(tmp_path, unrendered):
  with told():
    running.run(config(ser__policy="ppo", ser__draws=1, ser__rounds=1), tmp_path)
  found = json.loads((tmp_path / "report" / "results.json").read_text())
  assert {"policy_sft", "policy_resampled", "ppo_seed", "ppo_ser"} == {*found["systems"]}
  assert [*found["stages"]][-2:] == ["ppo_seed", "ppo_ser"]
  assert (tmp_path / "models" / "policy").is_dir() and (tmp_path / "models" / "reward").is_dir()


def _kill(place, workdir):
  """Runs the recipe in this process, until a file is about to get its final name."""
  for name in ("rename", "replace"):
    whole = getattr(os, name)

    def naming(source, target, *rest, whole=whole, **how):
      if str(target).endswith(place):
        os.kill(os.getpid(), signal.SIGKILL)
      return whole(source, target, *rest, **how)

    setattr(os, name, naming)
  with tiny_run.unrendered():
    running.run(config(), workdir)


@pytest.mark.slow
def test_a_run_killed_between_two_rounds_ends_like_one_left_alone(tmp_path, unrendered):
  """No round that was finished is made again, and no bit differs."""
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  running.run(config(), undisturbed)
  rounds_made = sorted(path.name for path in (undisturbed / "rows").glob("*_labels.jsonl"))
  assert rounds_made, "there are rounds"
  place = f"rows/{rounds_made[-1]}"
  process = multiprocessing.get_context("spawn").Process(target=_kill, args=(place, killed))
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL
  finished = tiny_run.files(killed / "rows")
  assert finished and not (killed / place).exists()
  calibrated = {path: path.stat().st_mtime_ns for path in (killed / "calibration").iterdir()}
  asked = []
  whole = rounds.scores

  def scores(context, model, pairs, places):
    asked.append(len(places))
    return whole(context, model, pairs, places)

  with mock.patch.object(rounds, "scores", scores):
    context = tiny_run.build(config(), killed)
    ser.RECIPE.train(context)
  later = [*(undisturbed / "rows").glob("*_scores.jsonl")]
  known = [name for name in finished if name.endswith("_scores.jsonl")]
  assert len(asked) == len(later) - len(known), "pools that were scored are not scored again"
  assert all(path.stat().st_mtime_ns == when for path, when in calibrated.items())
  running.run(config(), killed)
  assert tiny_run.files(killed / "rows") == tiny_run.files(undisturbed / "rows")
  assert last_states(killed) == last_states(undisturbed)
  assert test_resume.results(killed) == test_resume.results(undisturbed)


def last_states(workdir):
  """Returns the checksums of every stage's last checkpoint."""
  found = {}
  for stage in sorted((workdir / "checkpoints").iterdir()):
    step = max(int(path.name) for path in stage.iterdir() if path.name.isdigit())
    found[stage.name] = json.loads((stage / str(step) / "record" / "metadata").read_text())[
      "checksums"
    ]
  return found
