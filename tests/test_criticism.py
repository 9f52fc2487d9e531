"""Critiques of drafts are asked for once and kept, and each that is of no use is counted."""

import dataclasses
import json
from unittest import mock

import jax
import judge_server
import ml_collections
import pytest
import tiny_models
from test_endpoint import KEY, SETTINGS

from pit_jax.data import conversations, critiques
from pit_jax.feedback import endpoint, writers
from pit_jax.run import context as contexts
from pit_jax.stages import criticism

FORM = critiques.Form(
  "Weaknesses: {weaknesses}\nScore: {score}\nChanges: {changes}\nBetter answer: {answer}",
  request="What is weak? Say it so:\n{form}",
  plain="Question: {prompt}\nDraft: {reference}\nFeedback:",
)
WELL = "Weaknesses: short\nScore: 4\nChanges: say why\nBetter answer: much better"
SAID = {  # question → what the teacher replies, and what becomes of the draft
  "q0": (WELL, critiques.REFINED),
  "q1": (WELL.replace("much better", "DRAFT of  q1"), critiques.UNCHANGED),
  "q2": (WELL.replace("Score: 4\n", ""), critiques.NO_SCORE),
  "q3": (WELL.replace("much better", ""), critiques.NO_ANSWER),
  "q4": (None, "the endpoint is gone"),
  "q5": ("It is fine.", critiques.NO_FORM),
  "q6": (WELL.replace("4", "14"), critiques.OUT_OF_RANGE),
  "q7": (WELL.replace("much better", "q7"), critiques.COPIED_ANSWER),
}
DRAFTS = {
  "rows": [(question, f"draft of {question}") for question in list(SAID)[:6]],
  "validation": [(question, f"draft of {question}") for question in list(SAID)[6:]],
}


@pytest.fixture
def context(tmp_path):
  made = mock.Mock(spec=contexts.Context, workdir=tmp_path, models=mock.Mock())
  made.key.return_value = jax.random.key(0)
  made.config = ml_collections.ConfigDict()
  return made


def scripted(asked, *_):
  said = [SAID[one.prompt][0] for one in asked]
  failed = {i: SAID[one.prompt][1] for i, one in enumerate(asked) if said[i] is None}
  return writers.Written([[text] for text in said], failed)


def criticised(context, critic=None, drafts=DRAFTS, most_failed=1.0):
  critic = critic or writers.Writer("teacher", scripted)
  how = {"written_by": "policy", "temperature": 0.0, "most_failed": most_failed}
  return criticism.criticised(context, "critiques", drafts, critic, FORM, **how)


def test_every_draft_is_kept_and_counted_once(context):
  found = criticised(context)
  outcomes = {row.prompt: row.outcome for part in found.parts.values() for row in part}
  assert outcomes == {question: outcome for question, (_, outcome) in SAID.items()}
  assert sum(found.counts.values()) == len(SAID)
  assert found.failures == {kind: 1 for _, (_, kind) in [*SAID.items()][2:]}
  assert {part: [row.prompt for row in rows] for part, rows in found.useful.items()} == {
    "rows": ["q0", "q1"], "validation": [],
  }  # fmt: skip
  refined, same = found.useful["rows"]
  assert (refined.text, same.text) == ("much better", "draft of q1")
  assert all(row.text == row.draft for part in found.parts.values() for row in part[2:])


def test_what_was_asked_is_read_back_and_nobody_asked_again(context):
  def nobody(*_):
    raise AssertionError("asked again")

  once = criticised(context)
  assert criticised(context, writers.Writer("teacher", nobody)) == once
  row = json.loads((context.workdir / "rows" / "critiques.jsonl").read_text().splitlines()[4])
  assert row == {
    "prompt": "q4", "draft": "draft of q4", "written_by": "policy", "critique": None,
    "criticised_by": "teacher", "failure": "the endpoint is gone",
  }  # fmt: skip
  other = {**DRAFTS, "validation": DRAFTS["validation"][:1]}
  with pytest.raises(ValueError, match="holds critiques of other drafts; remove it"):
    criticised(context, drafts=other)


def test_more_failures_than_are_allowed_end_the_run_with_their_kinds(context):
  with pytest.raises(ValueError) as error:
    criticised(context, most_failed=0.5)
  assert "critic teacher failed on 6 of 8 drafts (no score: 1, no answer: 1" in str(error.value)
  # No key of this configuration says how many may.
  assert str(error.value).endswith("more than a share of 0.5; mend what failed")


class Teacher(judge_server.Handler):
  """Criticises whatever it is shown, in the form that it is asked for."""

  def behave(self, how, body):
    said = f"Thinking.\n{WELL} than {body['messages'][1]['content']}"
    choice = {"index": 0, "message": {"role": "assistant", "content": said}}
    self.send(200, json.dumps({"choices": [choice | {"finish_reason": "stop"}]}))


def test_a_teacher_behind_an_endpoint_is_asked_all_at_once_and_paid_once(
  context, tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)
  with judge_server.serving() as server:
    server.RequestHandlerClass = Teacher
    server.hold = 0.2
    settings = endpoint.Settings(base_url=server.url, **SETTINGS)
    teacher = writers.behind_endpoint("teacher", settings, tmp_path / "paid.sqlite")
    found = criticised(context, teacher)
    assert len(server.asked) == 8 and server.most > 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("teacher (some-model): 8 requests, ~")
    turns = server.bodies[0]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[2]["content"] == FORM.asked and "Better answer: …" in FORM.asked
    assert turns[1]["content"] == f"draft of {turns[0]['content']}"
    assert found.counts == {critiques.REFINED: 8, critiques.UNCHANGED: 0}
    assert found.parts["rows"][3].text == "much better than draft of q3"

    # Killed before the rows were whole: what was answered is not asked again.
    (tmp_path / "rows" / "critiques.jsonl").unlink()
    assert criticised(context, teacher).parts == found.parts and len(server.asked) == 8


def test_a_file_of_critiques_is_a_teacher(context, tmp_path):
  rows = []
  for question, draft in (pair for part in DRAFTS.values() for pair in part):
    (one,) = FORM.format.conversations([question], [draft])
    rows.append({"prompt": conversations.messages(one.turns), "response": WELL})
  path = tmp_path / "critiques.jsonl"
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  assert criticised(context, writers.file("teacher", path)).counts[critiques.REFINED] == 8


def test_a_model_criticises_in_as_many_tokens_as_critiques_have(tmp_path):
  asking = tiny_models.inference_of(tmp_path)
  context = mock.Mock(spec=contexts.Context, models=mock.Mock(inference=asking))
  c = ml_collections.ConfigDict({"max_tokens": 13})
  params = tiny_models.models_of(asking)["policy"]
  critic = criticism.of_model(context, "self", params, c)
  drafts = [("what is it ?", "it is the word"), ("what ?", "the word")]
  found = criticism.refined(critic, FORM, drafts, jax.random.key(0), 1.0)
  assert [(row.prompt, row.draft) for row in found] == drafts
  asked = FORM.format.conversations(*zip(*drafts, strict=True))
  how = (asking.reading(13), params, asked, jax.random.key(0), 1.0)
  assert [row.reply for row in found] == type(asking).reply(*how)


def test_replies_in_a_part_of_the_form_are_read_so_and_asked_for_as_all_of_it():
  whole = dataclasses.replace(FORM, request="Look again: {form}")
  asked = []

  def answer(chats, *how):
    asked.extend(chats)
    return writers.Written([["a far better one"], ["Look again: " + whole.asked], [""]])

  drafts = [("what ?", "one"), ("who ?", "two"), ("why ?", "three")]
  part = dataclasses.replace(whole, template="{answer}")
  critic = writers.Writer("self", answer)
  found = criticism.refined(critic, whole, drafts, jax.random.key(0), 0.0, part)
  assert asked == whole.format.conversations(*zip(*drafts, strict=True))
  assert found[0].text == "a far better one" and found[0].outcome == critiques.REFINED
  assert [row.text for row in found[1:]] == ["two", "three"]
  assert found[2].outcome == critiques.NO_ANSWER
