"""What no writer or rater is made of, told before anything is trained."""

import ml_collections
import pytest
import tiny_run

from pit_jax.feedback import named
from pit_jax.recipes import running


def config_of(**parts) -> ml_collections.ConfigDict:
  """Returns a configuration with one section `feedback`."""
  config = tiny_run.config()
  with config.unlocked():
    config.feedback = ml_collections.ConfigDict(parts)
  return config


@pytest.mark.parametrize(
  ("parts", "said"),
  [
    ({"judges": {}}, "feedback.judges is not known; use writers or raters"),
    (
      {"raters": {"r": {"kind": "oracle"}}},
      "feedback.raters.r.kind='oracle'; use one of gold, reward_model, gap_model, language_model, ",
    ),
    ({"writers": {"w": {}}}, "feedback.writers.w.kind=None; use one of model, directory, endpoint"),
    (
      {"writers": {"w": {"kind": "file"}}},
      "feedback.writers.w.path is missing, which the kind file",
    ),
    (
      {"raters": {"r": {"kind": "gold", "tie": 1}}},
      "feedback.raters.r.tie is not known; beside kind, gold has nothing",
    ),
    ({"writers": {"w": {"kind": "file", "path": "no/where"}}}, "w.path=no/where is no file"),
    ({"raters": {"r": {"kind": "function", "function": "a.b:c"}}}, "a.b:c cannot be imported"),
    (
      {"raters": {"r": {"kind": "language_model", "model": "m", "verdict": "loud"}}},
      "feedback.raters.r.verdict='loud'; use one of json, logprob",
    ),
    (
      {"writers": {"w": {"kind": "grammar", "writer": "me"}}},
      "feedback.writers.w: writer='me'; use one of hasty, plain, strong, strong_answer_first",
    ),
    (
      {"writers": {"w": {"kind": "grammar", "writer": "hasty", "warm": 3}}},
      "feedback.writers.w: warm=3; use a share from 0 to 1",
    ),
    (
      {"writers": {"w": {"kind": "grammar", "writer": "hasty", "warm": "often"}}},
      "feedback.writers.w: warm='often'; use a number",
    ),
    (
      {"raters": {"r": {"kind": "critic", "critic": "weak", "first": -1}}},
      "feedback.raters.r: first=-1; use a share from 0 to 1",
    ),
    (
      {"raters": {"r": {"kind": "critic"}}},
      "feedback.raters.r.critic is missing, which the kind critic needs",
    ),
    (
      {"writers": {"w": {"kind": "endpoint", "model": "m", "base_url": "here"}}},
      "feedback.writers.w.base_url is 'here'; use an address such as",
    ),
  ],
)
def test_what_no_one_can_be_made_of_is_refused_before_training(parts, said, tmp_path):
  config = config_of(**parts)
  with pytest.raises(ValueError) as error:
    running.run(config, tmp_path / "run")
  assert said in str(error.value)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("part", "section", "row", "said"),
  [
    (
      "writers",
      {"kind": "file"},
      '{"prompt": "q"}',
      "rows.jsonl, line 2: the row has no 'response'",
    ),
    (
      "raters",
      {"kind": "annotations"},
      '{"instruction": "q", "output_1": "a", "output_2": "b"}',
      "rows.jsonl, line 2: 'preference' is missing",
    ),
    (
      "raters",
      {"kind": "verifier", "form": "number"},
      '{"prompt": "1 + 2", "answer": "many"}',
      "rows.jsonl: of the prompt '1 + 2': 'many' is no answer",
    ),
  ],
)
def test_a_row_of_no_use_is_told_before_training(part, section, row, said, tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text("\n" + row + "\n")
  config = config_of(**{part: {"one": {**section, "path": str(path)}}})
  with pytest.raises(ValueError) as error:
    running.run(config, tmp_path / "run")
  assert f"feedback.{part}.one: " in str(error.value)
  assert said in str(error.value)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tie", [0.1, 5, "none"])
def test_of_a_field_that_a_kind_has_not_one_thing_is_said(tie, tmp_path):
  right = tmp_path / "right.jsonl"
  right.write_text('{"prompt": "1 + 1", "answer": "2"}\n')
  one = {"kind": "verifier", "path": str(right), "form": "number", "tie": tie}
  with pytest.raises(ValueError) as error:
    named.check(config_of(raters={"r": one}))
  assert str(error.value) == (
    "feedback.raters.r.tie is not known; beside kind, verifier has path, form, prompt, answer, "
    "scores"
  )
