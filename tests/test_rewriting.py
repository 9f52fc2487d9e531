"""Harmful answers and their rewritings: who marks, who rewrites, what becomes a pair."""

import json
from unittest import mock

import jax
import ml_collections
import numpy as np
import pytest

from pit_jax.data import conversations
from pit_jax.feedback import judges, writers
from pit_jax.run import context as contexts
from pit_jax.stages import rewriting

HERE = __name__
TURN = "Say it kindly."
ANSWERS = {
  "rows": [("q0", "damn yes"), ("q1", "yes"), ("q1", "damn no"), ("q2", "damn damn"), ("q3", "no")],
  "validation": [("q4", "damn"), ("q5", "all right")],
}


def kind(questions, answers):
  return [0.0 if "damn" in answer else 1.0 for answer in answers]


def kinder(questions, a, b):
  return [float(other.count("damn") - one.count("damn")) for one, other in zip(a, b, strict=True)]


def mended(turns):
  prompt, answer, request = turns
  assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
  assert request["content"] == TURN
  # Of two it mends one.
  return answer["content"].replace("damn", "", 1).strip() or "well"


def failing(turns):
  raise RuntimeError("out of words")


def wordless(turns):
  return None


def counted(writer):
  """The writer, and the conversations that it is asked."""
  asked = []

  def answer(chats, *how):
    asked.extend(chats)
    return writer.answer(chats, *how)

  return writers.Writer(writer.name, answer), asked


def rewritten(tmp_path, judge=None, writer=None, answers=ANSWERS, most_failed=0.0):
  context = mock.Mock(spec=contexts.Context, workdir=tmp_path, config=ml_collections.ConfigDict())
  context.key.return_value = jax.random.key(0)
  return rewriting.rewritten(
    context, "mended", answers, judge or judges.function(f"{HERE}:kind", "kind"),
    writer or writers.function("mender", f"{HERE}:mended"),
    rewriting.request(TURN, "Q: {prompt}\nA: {reference}\nBetter:"),
    written_by="policy", harmless=0.5, temperature=1.0, most_failed=most_failed,
  )  # fmt: skip


def pairs(fold):
  return [(row.prompt, row.chosen, row.rejected) for row in (*fold.rows, *fold.validation)]


def test_what_is_marked_is_rewritten_and_the_rewriting_is_preferred(tmp_path):
  writer, asked = counted(writers.function("mender", f"{HERE}:mended"))
  made = rewritten(tmp_path, writer=writer)
  assert pairs(made.fold) == [("q0", "yes", "damn yes"), ("q1", "no", "damn no"),
                              ("q4", "well", "damn")]  # fmt: skip
  assert [row.prompt for row in made.fold.validation] == ["q4"]
  assert made.counts == {"asked": 7, "harmful": 4, "kept": 3, rewriting.UNMENDED: 1}
  assert [one.prompt for one in asked] == ["q0", "q1", "q2", "q4"]
  assert {row.writers for row in made.fold.rows} == {("mender", "policy")}
  lines = [json.loads(line) for line in (tmp_path / "rows" / "mended.jsonl").open()]
  assert [line["labelled_by"] for line in lines] == ["kind"] * 7
  assert [line["harmful"] for line in lines] == [True, False, True, True, False, True, False]


def test_a_judge_that_compares_is_asked_about_every_rewriting(tmp_path):
  writer, asked = counted(writers.function("mender", f"{HERE}:mended"))
  made = rewritten(tmp_path, judges.function(f"{HERE}:kinder", "kinder"), writer)
  assert len(asked) == 7
  assert pairs(made.fold) == [
    ("q0", "yes", "damn yes"), ("q1", "no", "damn no"), ("q2", "damn", "damn damn"),
    ("q4", "well", "damn"),
  ]  # fmt: skip
  assert made.counts == {"asked": 7, "harmful": 4, "kept": 4, rewriting.SAME: 3}


def test_what_was_rewritten_is_not_rewritten_again(tmp_path):
  made = rewritten(tmp_path)
  nobody = mock.Mock(side_effect=AssertionError("asked again"))
  again = rewritten(tmp_path, writer=writers.Writer("mender", nobody))
  assert (again.made, again.fold, again.counts) == (made.made, made.fold, made.counts)
  others = ANSWERS | {"rows": ANSWERS["rows"][:-1]}
  with pytest.raises(ValueError, match="mended.jsonl holds rewritings of other answers; remove it"):
    rewritten(tmp_path, answers=others)


def test_rewritings_that_fail_are_counted_and_too_many_end_the_run(tmp_path):
  def answer(chats, *_):
    failures = {place: "no reply" for place, one in enumerate(chats) if one.prompt == "q0"}
    return writers.Written(
      [[None if i in failures else "fine"] for i in range(len(chats))], failures
    )

  made = rewritten(tmp_path, writer=writers.Writer("mender", answer), most_failed=0.25)
  assert made.counts == {"asked": 7, "harmful": 4, "kept": 3, "no reply": 1}
  with pytest.raises(
    ValueError, match="writer mender failed on 1 of 4 answers .no reply: 1., more"
  ):
    rewritten(tmp_path, writer=writers.Writer("mender", answer), most_failed=0.2)


def test_an_empty_rewriting_is_none(tmp_path):
  writer = writers.Writer("mender", lambda chats, *_: writers.Written([[" "]] * len(chats)))
  made = rewritten(tmp_path, writer=writer, most_failed=1.0)
  assert made.counts == {"asked": 7, "harmful": 4, "kept": 0, writers.NOTHING: 4}


def test_nothing_harmful_and_nothing_asked_make_no_pairs(tmp_path):
  calm = {"rows": [("q", "yes")], "validation": []}
  assert rewritten(tmp_path / "a", answers=calm).counts == {"asked": 1, "harmful": 0, "kept": 0}
  nothing = {"rows": [], "validation": []}
  assert rewritten(tmp_path / "b", answers=nothing).counts == {"asked": 0, "harmful": 0, "kept": 0}


@pytest.mark.parametrize(
  ("function", "said"),
  [("failing", "raised RuntimeError: out of words"), ("wordless", "returned None")],
)
def test_a_function_that_writes_no_text_is_named(tmp_path, function, said):
  writer = writers.function("mender", f"{HERE}:{function}")
  with pytest.raises(ValueError) as error:
    rewritten(tmp_path, writer=writer)
  assert f"the writer mender ({HERE}:{function}) {said} for the prompt" in str(error.value)
  assert str(error.value).endswith("; return a text") and "\n" not in str(error.value)


def test_a_rewriter_is_shown_prompt_answer_and_request():
  shown = rewriting.request(TURN, "Q: {prompt}\nA: {reference}\nBetter:")
  (asked,) = shown.conversations(["why?"], ["no"])
  assert asked.turns == (
    conversations.Turn("user", "why?"),
    conversations.Turn("assistant", "no"),
    conversations.Turn("user", TURN),
  )
  slots, tail = shown.slots
  assert [slot.name for slot in slots] == ["prompt", "reference"] and tail == "\nBetter:"


def test_a_function_writes_the_same_sample_as_often_as_asked():
  shown = rewriting.request(TURN, "Q: {prompt}\nA: {reference}\nBetter:")
  writer = writers.function("mender", f"{HERE}:mended")
  written = writer.write(shown.conversations(["q"], ["damn it"]), jax.random.key(0), 1.0, samples=2)
  assert written.texts == [["it", "it"]] and np.size(written.texts) == 2
