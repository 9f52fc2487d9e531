"""Models on disk: what was written is read, and what does not fit is named."""

import json

import numpy as np
import pytest
import tiny

from pit_jax.models import files


@pytest.mark.parametrize("model", [tiny.language(tied=False), tiny.scalar(dtype="bfloat16")])
def test_a_model_survives_the_round_trip(tmp_path, model):
  params = tiny.parameters(model, seed=0)
  files.save(tmp_path / "new" / "folder", model.config, params)
  config, loaded = files.load(tmp_path / "new" / "folder")
  assert config == model.config
  assert_equal(loaded, params)
  files.check(loaded, params, "the file")  # raises nothing


def assert_equal(left, right):
  assert left.keys() == right.keys()
  for name in left:
    if isinstance(left[name], dict):
      assert_equal(left[name], right[name])
    else:
      assert left[name].dtype == right[name].dtype
      np.testing.assert_array_equal(left[name], right[name])


def test_saving_again_replaces_the_model(tmp_path):
  model = tiny.scalar()
  for seed in (0, 1):
    files.save(tmp_path, model.config, tiny.parameters(model, seed))
  assert_equal(files.load(tmp_path)[1], tiny.parameters(model, seed=1))


def cut_weights(directory):
  weights = directory / files.WEIGHTS
  weights.write_bytes(weights.read_bytes()[:-100])


def rewrite_config(**changes):
  def rewrite(directory):
    path = directory / files.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

  return rewrite


@pytest.mark.parametrize(
  "damage",
  [
    lambda directory: (directory / files.CONFIG).unlink(),
    lambda directory: (directory / files.WEIGHTS).unlink(),
    lambda directory: (directory / files.CONFIG).write_text('{"width": 16'),
    lambda directory: (directory / files.WEIGHTS).write_bytes(b""),
    cut_weights,
    rewrite_config(colour="red"),
    rewrite_config(kv_heads=3),
    rewrite_config(heads="four"),
    lambda directory: (directory / files.CONFIG).write_text("[]"),
  ],
  ids=[
    "no config",
    "no weights",
    "broken config",
    "empty weights",
    "cut weights",
    "unknown field",
    "impossible shape",
    "wrong type",
    "no object",
  ],
)
def test_what_cannot_be_read_is_named(tmp_path, damage):
  model = tiny.language()
  files.save(tmp_path, model.config, tiny.parameters(model, seed=0))
  damage(tmp_path)
  with pytest.raises(ValueError) as error:
    files.load(tmp_path)
  assert str(tmp_path) in str(error.value)


def test_check_lists_every_parameter_that_does_not_fit():
  wanted = tiny.parameters(tiny.language(tied=False), seed=0)
  params = {"trunk": {**wanted["trunk"], "embedding": np.zeros((12, 16)), "extra": np.zeros(3)}}
  with pytest.raises(ValueError) as error:
    files.check(params, wanted, "runs/x/model")
  message = str(error.value)
  assert message.startswith("runs/x/model does not fit")
  assert "head is missing" in message
  assert "trunk.extra is not part of the model" in message
  assert "trunk.embedding has shape (12, 16), not (11, 16)" in message
  assert "query" not in message
