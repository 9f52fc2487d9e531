"""Rows that a run makes for itself: once, whole, and never unnoticed others."""

import dataclasses
import hashlib
import json
from unittest import mock

import pytest

from pit_jax.recipes import pit
from pit_jax.run import context as contexts
from pit_jax.run import made_rows


@pytest.fixture
def context(tmp_path):
  return mock.Mock(spec=contexts.Context, workdir=tmp_path)


ROWS = [{"prompt": "a\u2028b", "response": "é"}, {"prompt": "c", "response": ""}]


def test_rows_are_made_once_and_read_back(context, tmp_path):
  made = made_rows.once(context, "rows/labels", lambda: iter(ROWS))
  path = tmp_path / "rows" / "labels.jsonl"
  assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == ROWS
  assert made.rows == ROWS and made.column("response") == ["é", ""]
  assert made.hash == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  again = made_rows.once(context, "rows/labels", mock.Mock(side_effect=AssertionError))
  assert again == made


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_rows_may_be_one_json_list(context, tmp_path, rows):
  made = made_rows.once(context, "rows/labels", lambda: iter(rows), is_list=True)
  path = tmp_path / "rows" / "labels.json"
  assert json.loads(path.read_text()) == rows == made.rows
  again = made_rows.once(
    context, "rows/labels", mock.Mock(side_effect=AssertionError), is_list=True
  )
  assert again == made
  path.write_text(path.read_text()[:-3])
  with pytest.raises(ValueError, match=r"rows/labels\.json is damaged .* remove it, and it is"):
    made_rows.once(context, "rows/labels", list, is_list=True)


def test_what_is_interrupted_leaves_nothing_behind(context, tmp_path):
  def killed():
    yield ROWS[0]
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    made_rows.once(context, "rows/labels", killed)
  assert not list(tmp_path.rglob("*.jsonl*"))
  assert made_rows.once(context, "rows/labels", lambda: ROWS).rows == ROWS


@pytest.mark.parametrize("content", [b'{"prompt": "a"}\n{"pro', b"\xff\xfe\n", b"\n"])
def test_damaged_rows_are_named(context, tmp_path, content):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"rows\.jsonl is damaged .* remove it, and it is"):
    made_rows.once(context, "rows", list)


def test_an_empty_set_of_rows_is_one(context):
  assert made_rows.once(context, "rows/none", list).rows == []


@pytest.mark.parametrize(
  "wanted",
  [
    ROWS[:1],
    [*ROWS, ROWS[0]],
    ROWS[::-1],
    [{"prompt": "a\u2028b"}, {"prompt": "d"}],
    [{"prompt": "a\u2028b"}, {"prompt": "c", "draft": ""}],
  ],
)
def test_rows_of_other_texts_are_refused(context, wanted):
  made = made_rows.once(context, "rows/labels", lambda: ROWS)
  made_rows.check_of(made, ROWS, "labels of other texts")
  made_rows.check_of(made, [{"prompt": row["prompt"]} for row in ROWS], "labels of other texts")
  said = r"^rows/labels\.jsonl holds labels of other texts; remove it, and they are made again$"
  with pytest.raises(ValueError, match=said):
    made_rows.check_of(made, wanted, "labels of other texts")


def test_a_stage_whose_rows_were_changed_is_refused(finished_run, copied):
  path = copied.workdir / "references" / "policy.jsonl"
  before = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  pit.RECIPE.train(copied)  # as it is, it is finished
  path.write_text(path.read_text().replace(" ", "  ", 1))
  after = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  said = (
    rf'belongs to another run: made rows was {{"references/policy": "{before}"}} when it was saved '
    rf'and is {{"references/policy": "{after}"}} now'
  )
  with pytest.raises(ValueError, match=said):
    pit.RECIPE.train(copied)


def test_stages_before_the_rows_do_not_depend_on_them(finished_run):
  context = finished_run.context
  made = [made_rows.MadeRows(name, [], name) for name in ("a", "b")]
  later = made_rows.depending(made_rows.depending(context, made[0]), made[1])
  assert later.metadata == {**context.metadata, "made rows": {"a": "a", "b": "b"}}
  other = made_rows.depending(context, dataclasses.replace(made[0], hash="c"))
  assert other.metadata["made rows"] == {"a": "c"} and "made rows" not in context.metadata
