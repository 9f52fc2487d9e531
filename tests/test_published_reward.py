"""A published reward model in the place of R_P."""

import shutil

import jax
import numpy as np
import pytest
import test_stages
import tiny
import tiny_run

from pit_jax.data import synthetic, text
from pit_jax.models import architecture, hf, pure
from pit_jax.stages import context as contexts
from pit_jax.stages import reward, rl

SHAPE = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "head_width": 8, "hidden": 16}


def directory_of(place, make, words, **changes):
  """Returns a model directory with random weights and the tokenizer."""
  model = make(architecture.ModelConfig(vocabulary=words.vocab_size, **(SHAPE | changes)))
  hf.save(place, model, tiny.parameters(model, seed=len(place.name)), **words.special_ids)
  words.save(place)
  return place


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """The base's directory, and that of a reward model of its shape."""
  place = tmp_path_factory.mktemp("models")
  rows = synthetic.preferences(50, seed=1)
  texts = (row["prompt"] + row["chosen"] for row in rows)
  words = text.train_tokenizer(texts, 300, place / "words")
  base = directory_of(place / "base", pure.language_model, words)
  return base, directory_of(place / "reward", pure.scalar_model, words)


def config(models, **changes):
  base, published = models
  return tiny_run.config(model__base=str(base), reward__model=str(published), **changes)


def test_it_is_the_reward_in_another_unit_and_nothing_is_trained(models, tmp_path, monkeypatch):
  test_stages.forbid_steps(monkeypatch)
  context = contexts.build(config(models), tmp_path)
  found = reward.pointwise(context, context.initial_policy())
  published = hf.load(models[1], context.scalar)
  jax.tree.map(np.testing.assert_array_equal, found.params["trunk"], published["trunk"])
  questions = [row.prompt for row in context.folds.held_out]
  answers = [row.chosen for row in context.folds.held_out]
  theirs = context.inference.rate(published, questions, answers)
  ours = context.inference.rate(found.params, questions, answers)
  expected = theirs * found.facts["gain"] + found.facts["bias"]
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
  assert found.facts["gain"] > 0 and 0 <= found.facts["accuracy"] <= 1
  assert not (tmp_path / "checkpoints" / "reward").exists()


def test_the_value_model_starts_from_it(models, tmp_path):
  context = contexts.build(config(models), tmp_path)
  found, policy = reward.pointwise(context, context.initial_policy()), context.initial_policy()
  learner = rl.begin(context, {"policy": policy, "value": found.params}, context.config.rl)
  jax.tree.map(np.testing.assert_array_equal, learner.train.params["value"], found.params)


def other(models, tmp_path, **changes):
  return directory_of(
    tmp_path / "other", pure.scalar_model, text.load_tokenizer(models[0]), **changes
  )


def test_another_shape_is_refused(models, tmp_path):
  wide = other(models, tmp_path, hidden=24)
  with pytest.raises(ValueError, match=r"it has hidden 24 and not 16; evaluation\.reward_model"):
    contexts.build(config((models[0], wide)), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()


def test_another_tokenizer_is_refused(models, tmp_path):
  same_shape = other(models, tmp_path)
  shutil.rmtree(same_shape.parent / "words", ignore_errors=True)
  words = text.train_tokenizer(["quite other words"], 300, same_shape.parent / "words")
  words.save(same_shape)
  with pytest.raises(ValueError, match="has another tokenizer than the run"):
    contexts.build(config((models[0], same_shape)), tmp_path / "run")


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"model__lora__rank": 2}, "reward.model=.* has a trunk of its own"),
    ({"model__base": "none"}, "is no model of the base's shape|has another tokenizer"),
  ],
)
def test_runs_without_a_place_for_it_are_refused(models, tmp_path, changes, said):
  made = config(models)
  made.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  with pytest.raises(ValueError, match=said):
    contexts.build(made, tmp_path / "run")


def test_a_language_model_is_refused(models, tmp_path):
  with pytest.raises(ValueError, match=r"reward\.model=.*base holds no sequence classifier"):
    contexts.build(config((models[0], models[0])), tmp_path / "run")
