"""Rounds of recipe `ser`: when they end, what a lost label may do, restarts, and other models."""

import hashlib
import json
import math
import multiprocessing
import os
import signal
from unittest import mock

import jax
import numpy as np
import pytest
import ser_run
import test_resume
import tiny_run

from pit_jax import types
from pit_jax.data import preferences, tables
from pit_jax.recipes import running, ser
from pit_jax.recipes.ser import draws, rounds
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.run import models as run_models
from pit_jax.run import rows as run_rows
from pit_jax.stages import reward


def score(text):
  """Returns what the pretended models of `evolved` say of a text, between −2 and 2."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest()) / 2**14 - 2


def evolved(tmp_path, rows, accuracies=(), scored=score, **changes):
  """Evolves a draw of rows with models that score texts as they are told; nothing is trained.

  Returns what `rounds.evolve` does, and the rows that each model would be trained on.
  """
  values = {"ser__share": 0.3, "ser__rounds": 4, "ser__least_new": 0.03} | changes
  settings = ser_run.config(
    **{"ser__upper": 0.55, "ser__lower": 0.45, "ser__difference": 0.3, **values}
  )
  parts = (jax.sharding.Mesh, run_rows.Rows, run_models.Models)
  mocked = [mock.Mock(spec=part) for part in parts]  # which nothing asks
  context = contexts.Context(settings, tmp_path, ser.RECIPE, *mocked)
  trained = {}

  def fit(context, given, draw, name, labels, times=1):
    trained[name] = ([*labels.values()], times)
    number = [*trained].index(name)
    facts = {"accuracy": accuracies[number] if number < len(accuracies) else ser_run.LABELS}
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
  other = [ser_run.mirrored(row) if place in draw.pool else row for place, row in enumerate(rows)]
  _, again, _ = evolved(tmp_path / "other", other)
  for name in ("draw_1_seed", "draw_1_ser_1", "draw_1_seed_longer"):
    assert ser_run.sides(trained[name][0]) == ser_run.sides(again[name][0])
  assert len(trained["draw_1_ser_1"][0]) > len(trained["draw_1_seed"][0]) > 0
  assert ser_run.sides(trained["draw_1_ser_oracle"][0]) != ser_run.sides(
    again["draw_1_ser_oracle"][0]
  )


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
    "q", "a", "b", margin=2.0, label_probability=0.9, pair_weight=2.0, position=1,
    writers=("x", "y"), scores=(3.0, 1.0),
  )  # fmt: skip
  assert rounds.turned(row, -1) == preferences.Preference("q", "b", "a", writers=("y", "x"))
  assert rounds.turned(row, 1) == preferences.Preference("q", "a", "b", writers=("x", "y"))


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
    checks.values(ser_run.config(**changes), ser.RECIPE)
  assert said in str(error.value)


def test_too_few_labels_are_told_before_anything_is_trained(tmp_path):
  context = tiny_run.build(ser_run.config(ser__share=0.02), tmp_path)
  with pytest.raises(ValueError, match=r"ser.share=0.02 of \d+ rows leaves \d labels"):
    ser.RECIPE.train(context)
  assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_gap_model_evolves_by_one_threshold(tmp_path, unrendered):
  changes = {"ser__model": "gap", "ser__draws": 1, "ser__rounds": 1, "ser__samples": 3}
  with ser_run.told():
    running.run(ser_run.config(**changes), tmp_path)
  found = json.loads((tmp_path / "report" / "results.json").read_text())
  assert {stage["kind"] for name, stage in found["stages"].items() if name != "sft"} == {"gap"}
  scores = {
    row["row"]: row["chosen"] - row["rejected"]
    for row in ser_run.made(tmp_path, "draw_1_ser_1_scores")
  }
  sure = {row: gap for row, gap in scores.items() if abs(math.tanh(gap / 4)) > 0.01}
  labelled = ser_run.made(tmp_path, "draw_1_ser_1_labels")
  assert {row["row"] for row in labelled} == {*sure} and sure
  context = tiny_run.build(ser_run.config(**changes), tmp_path)
  rows = context.rows.fold("reward").rows
  for one in labelled:
    assert (one["chosen"] == rows[one["row"]].chosen) == (sure[one["row"]] > 0)
  assert (tmp_path / "models" / "gap_reward").is_dir()
  assert {"best_of_seed", "best_of_ser"} <= {*found["systems"]}


@pytest.mark.slow
def test_rl_maximises_the_model_of_the_seed_and_the_evolved_one(tmp_path, unrendered):
  with ser_run.told():
    running.run(ser_run.config(ser__policy="ppo", ser__draws=1, ser__rounds=1), tmp_path)
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
    running.run(ser_run.config(), workdir)


@pytest.mark.slow
def test_a_run_killed_between_two_rounds_ends_like_one_left_alone(tmp_path, unrendered):
  """No round that was finished is made again, and no bit differs."""
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  running.run(ser_run.config(), undisturbed)
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
    context = tiny_run.build(ser_run.config(), killed)
    ser.RECIPE.train(context)
  later = [*(undisturbed / "rows").glob("*_scores.jsonl")]
  known = [name for name in finished if name.endswith("_scores.jsonl")]
  assert len(asked) == len(later) - len(known), "pools that were scored are not scored again"
  assert all(path.stat().st_mtime_ns == when for path, when in calibrated.items())
  running.run(ser_run.config(), killed)
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
