"""AlpacaEval's files of labels: what is a label, what is none, and who is asked about what."""

import gzip
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.data import conversations
from pit_jax.feedback import annotations, judges, labels

TALK = (
  conversations.Turn("user", "the rent ?"),
  conversations.Turn("assistant", "4"),
  conversations.Turn("user", "why ?"),
)


def written(tmp_path, *rows, name="labels.json"):
  path = tmp_path / name
  names = ("instruction", "output_1", "output_2", "preference")
  path.write_text(json.dumps([dict(zip(names, row)) for row in rows]), encoding="utf-8")
  return path


def test_a_label_counts_whichever_output_is_shown_first(tmp_path):
  path = written(tmp_path, ("q", "a", "b", 1), ("q", "c", "d", 2))
  rater = annotations.rater("GPT", path)
  assert rater.name == "GPT"
  asked = ("q", "a", "b"), ("q", "b", "a"), ("q", "c", "d"), ("q", "d", "c")
  said = rater.verdicts(*zip(*asked))
  assert said.difference.tolist() == [1.0, -1.0, -1.0, 1.0] and not said.failures


def test_of_both_orders_the_one_that_is_asked_for_counts(tmp_path):
  """An annotator who prefers what stands first contradicts itself, and is quoted as it spoke."""
  rater = annotations.rater("x", written(tmp_path, ("q", "a", "b", 1), ("q", "b", "a", 1)))
  assert rater.verdicts(["q", "q"], ["a", "b"], ["b", "a"]).difference.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("label", [0, 1.5, 3, -1, None, "", "A", True, float("nan"), float("inf")])
def test_what_is_no_preference_is_counted_and_prefers_neither(tmp_path, label):
  path = written(tmp_path, ("q", "a", "b", label), ("q", "a", "c", 2))
  asked = [labels.Pair("q", "a", other) for other in ("b", "c", "d")]
  made = labels.labels(asked, annotations.rater("x", path))
  assert made.counts == {
    "kept": 1,
    "ties": 0,
    "disagreeing orders": 0,
    "a label that is no preference": 1,
    "no label in the file": 1,
  }
  assert made.failures == {"a label that is no preference": 1, "no label in the file": 1}
  assert [row["chosen"] for row in made.rows] == ["c"]


@pytest.mark.parametrize("label", [1, 2, 1.0, "2"])
def test_numbers_and_texts_of_them_are_labels(tmp_path, label):
  rater = annotations.rater("x", written(tmp_path, ("q", "a", "b", label)))
  expected = 1.0 if float(label) == 1 else -1.0
  assert rater.verdicts(["q"], [" a "], ["b"]).difference.tolist() == [expected]


@pytest.mark.parametrize(
  ("row", "said"),
  [
    ({"output_1": "a", "output_2": "b", "preference": 1}, "item 1: 'instruction' is missing"),
    (
      {"instruction": "q", "output_1": 7, "output_2": "b", "preference": 1},
      "item 1: 'output_1' is 7; it has to be a text",
    ),
    (
      {"instruction": "q", "output_1": "a", "output_2": "b"},
      "item 1: 'preference' is missing; give 1 or 2, or null",
    ),
    (["q", "a"], "item 1: list is no row; write an object with instruction, output_1"),
  ],
)
def test_a_row_that_lacks_something_is_named(tmp_path, row, said):
  path = tmp_path / "labels.json"
  path.write_text(json.dumps([row]), encoding="utf-8")
  with pytest.raises(ValueError, match=f"{path}, {said}"):
    annotations.rater("x", path)


def test_lines_and_packed_files_are_read_alike(tmp_path):
  row = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 2}
  plain = tmp_path / "labels.jsonl"
  plain.write_text(json.dumps(row) + "\n", encoding="utf-8")
  packed = tmp_path / "labels.jsonl.gz"
  packed.write_bytes(gzip.compress(plain.read_bytes()))
  assert annotations.read(plain) == annotations.read(packed) == {("q", "a", "b"): 2}


texts = strategies.text(min_size=1).map(str.strip).filter(bool)


@hypothesis.given(
  strategies.lists(
    strategies.tuples(texts, texts, texts, strategies.floats(-2, 2)).filter(
      lambda row: row[1] != row[2]
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
  )
)
def test_what_a_rater_says_is_read_back_as_it_was_said(tmp_path_factory, rows):
  def verdicts(questions, a, b):
    return judges.Verdicts(np.array([difference for *_, difference in rows]))

  pairs = [labels.Pair(*row[:3], ("ada", "bob")) for row in rows]
  made = labels.labels(pairs, judges.Judge("critic", verdicts, None, 0.5), orders=1)
  path = tmp_path_factory.mktemp("labels") / "labels.json"
  path.write_text(json.dumps(made.annotations), encoding="utf-8")

  # By whoever knows AlpacaEval's files alone, and by this library whole.
  again = labels.labels(pairs, annotations.rater("critic", path))
  prefers = [row["chosen_position"] for row in made.rows]
  assert [row["chosen_position"] for row in again.rows] == prefers
  whole = labels.labelled(pairs, json.loads(path.read_text()), "critic")
  assert (whole.rows, whole.counts) == (made.rows, made.counts)


def test_labels_of_other_pairs_are_refused():
  pair = labels.Pair(TALK, "a", "b")
  rater = judges.Judge("x", lambda *_: judges.Verdicts(np.ones(1)), None, 0.1)
  made = labels.labels([pair], rater, orders=1).annotations
  assert labels.labelled([pair], made, "x").rows[0]["prompt"][2]["content"] == "why ?"
  for others in ([], [pair._replace(b="c")], [pair, pair]):
    with pytest.raises(ValueError, match="1 labels are not those of .* remove their file"):
      labels.labelled(others, made, "x")


@pytest.mark.parametrize("text", ["[]", ""])
def test_a_file_without_labels_is_no_rater(tmp_path, text):
  path = tmp_path / "labels.json"
  path.write_text(text)
  with pytest.raises(ValueError):
    annotations.rater("empty", path)


def test_a_label_that_no_float_holds_is_none(tmp_path):
  path = tmp_path / "labels.json"
  row = {"instruction": "a", "output_1": "b", "output_2": "c", "preference": int("9" * 400)}
  path.write_text(json.dumps([row]))
  assert annotations.read(path) == {("a", "b", "c"): None}
