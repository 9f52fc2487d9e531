"""Heads that learn on features of a frozen trunk: against scalar models, and against slow loops."""

import json
import math
import re
from unittest import mock

import jax
import numpy as np
import pytest
import ser_run
import tiny_run

from pit_jax.recipes import running, ser
from pit_jax.recipes.ser import rounds
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.run import models as run_models
from pit_jax.stages import head

CHANGES = {"ser__trained": "head", "reward__learning_rate": 1e-2, "reward__steps": 60}


def job(steps=200, batch_size=16, **changes):
  section = ser_run.config(**CHANGES).reward.copy_and_resolve_references()
  section.update({"steps": steps, "batch_size": batch_size, "learning_rate": 0.05, **changes})
  return section


def told_apart(count=300, width=6, seed=0, columns=2):
  """Features of pairs that a direction tells apart."""
  chance = np.random.default_rng(seed)
  features = chance.normal(size=(count, columns, width)).astype(np.float32)
  truth = chance.normal(size=width)
  return features, np.where((features[:, 0] - features[:, -1]) @ truth > 0, 1, -1)


def test_a_head_finds_what_logistic_regression_by_hand_finds():
  """Full gradient descent of Σ log(1 + exp(−w · Δφ)) + decay, in plain NumPy, on noisy labels."""
  features, signs = told_apart()
  signs = signs * np.where(np.random.default_rng(1).random(300) < 0.2, -1, 1)
  deltas = (features[:, 0] - features[:, 1]) * signs[:, None]
  expected = np.zeros(6)
  for _ in range(4000):
    expected += 0.1 * (deltas / (1 + np.exp(deltas @ expected))[:, None]).mean(axis=0)
  found = head._fit(
    features, [*range(300)], signs.tolist(), job(3000, 64, learning_rate=0.01), jax.random.key(0)
  )
  np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(expected).max())


@pytest.mark.parametrize("columns", [2, 4])
def test_an_exchanged_pair_is_learnt_as_the_pair_with_the_other_label(columns):
  features, signs = told_apart(columns=columns)
  section = job(30)
  if columns == 4:
    section = ser_run.config().gap_reward.copy_and_resolve_references()
    section.update({"steps": 30, "batch_size": 16, "learning_rate": 0.05})
  rows = [*range(40, 90)]
  how = (section, jax.random.key(3))
  one = head._fit(features, rows, signs[rows].tolist(), *how)
  other = head._fit(features[:, ::-1].copy(), rows, (-signs[rows]).tolist(), *how)
  np.testing.assert_array_equal(one, other)
  assert np.abs(one).max() > 0.1
  turned = head._fit(features, rows, (-signs[rows]).tolist(), *how)
  np.testing.assert_allclose(turned, -one, rtol=1e-4, atol=1e-5)


def test_rows_that_are_not_given_are_not_learnt_from():
  features, signs = told_apart()
  rows = [*range(0, 100, 3)]
  how = (job(20), jax.random.key(5))
  one = head._fit(features, rows, signs[rows].tolist(), *how)
  changed = features.copy()
  changed[[place for place in range(300) if place not in rows]] = np.nan
  np.testing.assert_array_equal(one, head._fit(changed, rows, signs[rows].tolist(), *how))


def learnt(tmp_path, made=None):
  context = mock.Mock(spec=contexts.Context, workdir=tmp_path, made_rows=made or {"rows/x": "1"})
  context.read_json = lambda *path: contexts.Context.read_json(context, *path)
  context.write_json = lambda *path: contexts.Context.write_json(context, *path)
  context.key.return_value = jax.random.key(0)
  context.models = mock.Mock(spec=run_models.Models, waiting=lambda params: params)
  features, signs = told_apart()
  rows, validation = [*range(200)], [*range(200, 300)]
  # Of what validates, `chosen` is the better one.
  exchanged = np.where(signs[:, None, None] > 0, features, features[:, ::-1])
  features[200:] = exchanged[200:]
  arguments = (features, rows, signs[:200].tolist(), validation, job())
  return head.learn(context, "one", {"of": "trunk"}, *arguments), features


def test_a_head_is_calibrated_kept_and_read_back(tmp_path):
  model, features = learnt(tmp_path)
  scores = features[200:] @ np.asarray(model.params["head"])
  np.testing.assert_allclose(scores.std(), 1.0, rtol=1e-4)
  np.testing.assert_allclose(scores.mean() + model.facts["shift"], 0.0, atol=1e-4)
  assert model.facts["accuracy"] == np.mean(scores[:, 0] > scores[:, 1]) > 0.9
  margin = (scores[:, 0] - scores[:, 1]).mean() / model.facts["gain"]
  np.testing.assert_allclose(model.facts["margin"], margin, rtol=1e-4)
  with mock.patch.object(head, "_fit", side_effect=AssertionError("learnt again")):
    again, _ = learnt(tmp_path)
  np.testing.assert_array_equal(again.params["head"], model.params["head"])
  assert again.facts == model.facts


def test_a_head_of_other_rows_is_refused(tmp_path):
  learnt(tmp_path)
  with pytest.raises(ValueError, match=re.escape("one.json was learnt from other rows")):
    learnt(tmp_path, {"rows/x": "2"})


@pytest.fixture(scope="module", params=["reward", "gap"])
def run(request, tmp_path_factory):
  """A finished run of heads on one trunk, and its configuration: read it."""
  workdir = tmp_path_factory.mktemp("heads") / "run"
  changes = {**CHANGES, "ser__model": request.param, "gap_reward__learning_rate": 1e-2}
  config = ser_run.config(**changes, ser__samples=2)
  with tiny_run.unrendered():
    running.run(config, workdir)
  return workdir, config


def test_heads_are_a_run_with_every_arm_and_no_stage_of_their_own(run):
  workdir, config = run
  results = json.loads((workdir / "report" / "results.json").read_text())
  assert [*results["stages"]] == ["sft"]
  assert {row["arm"] for row in results["ser"]["arms"]} == {*ser_run.ARMS}
  assert results["seconds"]["self-labelling"] > 0
  exported = "reward" if config.ser.model == "reward" else "gap_reward"
  assert (workdir / "models" / exported).is_dir()


def test_what_a_head_says_of_features_is_what_the_scalar_model_says_of_words(run):
  workdir, config = run
  context = tiny_run.build(config, workdir)
  study = ser.RECIPE.train(context)  # read back
  rows = context.rows.folds["held_out"]
  pairs = rounds.encoded(context, rows, study.sft.params)
  places = [*pairs.at][:9]
  asking = context.models.inference
  prompts, chosen, rejected = (
    [getattr(rows[place], name) for place in places] for name in ("prompt", "chosen", "rejected")
  )
  for arm in ("seed", "ser_oracle"):
    model = study.draws[0].models[arm]
    found = rounds.scores(context, model, pairs, places)
    if config.ser.model == "reward":
      words = [asking.rate(model.params, prompts, texts) for texts in (chosen, rejected)]
    else:
      words = [
        asking.gaps(model.params, prompts, *texts)
        for texts in ((chosen, rejected), (rejected, chosen))
      ]
    for one, other in zip(found, words, strict=True):
      np.testing.assert_allclose(one * model.facts["gain"], other, rtol=1e-3, atol=1e-4)
  assert math.isfinite(study.whole.facts["accuracy"])


def test_heads_that_are_there_are_not_learnt_again(run):
  workdir, config = run
  before = tiny_run.files(workdir / "heads")
  with mock.patch.object(head, "_fit", side_effect=AssertionError("learnt again")):
    ser.RECIPE.train(tiny_run.build(config, workdir))
  assert tiny_run.files(workdir / "heads") == before and before


def test_what_a_head_does_not_do_is_refused():
  for key, value in {"label_smoothing": 0.1, "members": 3, "select": "best"}.items():
    with pytest.raises(ValueError, match=f"reward.{key}={value!r} with ser.trained='head'"):
      checks.values(ser_run.config(**CHANGES, **{f"reward__{key}": value}), ser.RECIPE)
