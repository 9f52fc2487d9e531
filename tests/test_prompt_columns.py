"""What belongs to a prompt is read, or named: systems, contexts, prompts beside conversations."""

import json
import logging

import pytest
from shapes import battle, kaggle, safe, sharegpt, talk, ultrafeedback
from test_doctor import clean, examine

from pit_jax.data import conversations, preferences

PLAIN = {"prompt": "why?", "chosen": "yes", "rejected": "no"}
WHOLE = {
  name: talk("hi", "ho", "why?", text) for name, text in (("chosen", "a"), ("rejected", "b"))
}
SYSTEM = conversations.Turn("system", "be brief")
UNREAD = "the column {!r} beside the prompt is not read"


def load(tmp_path, *lines, **options):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return preferences.load(f"jsonl:{path}", **options)


@pytest.mark.parametrize("column", ["system", "system_prompt", "system_message"])
def test_a_system_beside_a_prompt_is_the_systems_turn(tmp_path, column):
  talks = [PLAIN, {**PLAIN, "prompt": talk("hi", "ho", "why?")}, WHOLE]
  loaded = load(
    tmp_path, *({**row, column: " be brief "} for row in [*talks, PLAIN | {column: ""}])
  )
  turns = [("user", "hi"), ("assistant", "ho"), ("user", "why?")]
  assert [row.prompt for row in loaded.rows[:3]] == [
    (SYSTEM, ("user", "why?")),
    (SYSTEM, *turns),
    (SYSTEM, *turns),
  ]
  (empty,) = load(tmp_path, PLAIN | {column: " "}).rows
  assert empty.prompt == "why?" and not loaded.notes


def test_a_system_that_is_said_twice_is_said_once_and_two_are_refused(tmp_path):
  inside = {**PLAIN, "prompt": [SYSTEM._asdict(), *talk("why?")], "system": "be brief"}
  (row,) = load(tmp_path, inside).rows
  assert row.prompt == (SYSTEM, ("user", "why?"))
  with pytest.raises(ValueError, match="line 1: two systems: the system says 'be long' and 'be br"):
    load(tmp_path, inside | {"system": "be long"})


@pytest.mark.parametrize(
  "column", ["input", "context", "history", "conversation", "question", "instruction"]
)
def test_a_column_that_is_not_read_is_named_once(tmp_path, column, caplog):
  lines = [PLAIN, PLAIN | {column: "told before"}, PLAIN | {column: [{"text": "and more"}]}]
  with caplog.at_level(logging.WARNING):
    loaded = load(tmp_path, *lines)
  assert loaded.notes == {UNREAD.format(column): 2}
  assert caplog.text.count(f"column {column!r} beside the prompt is not read (2 rows") == 1
  assert "line 2" in caplog.text
  for told in (None, "", [], "why?", [["why?", "yes"]]):  # nothing, or what the row says anyway
    assert load(tmp_path, PLAIN | {column: told}).notes == {}


def test_the_doctor_names_columns_that_are_not_read(tmp_path):
  rows = [row | {"context": "a story"} for row in clean(40)]
  found = examine(tmp_path, rows)[0]["reading"]
  assert (found["severity"], found["figures"][0]["value"]) == ("warning", 40)
  assert "the column 'context' beside the prompt is not read" in found["found"]


def test_the_doctor_does_not_call_ties_unusable(tmp_path):
  ties = [battle("tie", asked_first=f"q{i}") for i in range(20)]
  won = [battle("model_a", asked_first=f"w{i}") for i in range(40)]
  found = examine(tmp_path, ties + won)[0]["rows"]
  assert found["found"] == "40 rows can be used. Left out without a preference, as ties: 20."
  assert found["severity"] == "ok"


@pytest.mark.parametrize(
  "prompt", ["who?", 3, talk("who?"), talk("why?"), [SYSTEM._asdict(), *talk("why?")]]
)
def test_conversations_are_used_whatever_a_prompt_beside_them_says(tmp_path, prompt):
  loaded = load(tmp_path, WHOLE | {"prompt": prompt}, WHOLE | {"prompt": prompt})
  turns = (("user", "hi"), ("assistant", "ho"), ("user", "why?"))
  assert [(row.prompt, row.chosen, row.rejected) for row in loaded.rows] == [(turns, "a", "b")] * 2
  ((note, rows),) = loaded.notes.items()
  assert note.startswith("'prompt' is not what the conversations beside it begin with")
  assert rows == 2


@pytest.mark.parametrize(
  "prompt",
  [
    "",
    [],
    None,
    "hi",
    "why?",
    talk("hi", "ho", "why?"),
    "Human: hi\n\nAssistant: ho\n\nHuman: why?\n\nAssistant:",
  ],
)
def test_a_prompt_that_says_what_conversations_say_needs_no_word(tmp_path, prompt):
  assert load(tmp_path, WHOLE | {"prompt": prompt}).notes == {}


@pytest.mark.parametrize("role", [*conversations.ROLES, "tool"])
def test_messages_beside_a_prompt_that_say_the_same_need_no_word(tmp_path, role):
  """Roles are no texts, whatever they are called; and what a message alone says is named."""
  said = (
    [sharegpt(role, "why?")],
    [{"role": role, "content": "why?"}],
    {"from": [role], "value": ["why?"]},
  )
  for told in said:
    assert load(tmp_path, PLAIN | {"conversations": told}).notes == {}
  more = [sharegpt(role, "why?"), sharegpt(role, "told before")]
  assert load(tmp_path, PLAIN | {"conversations": more}).notes == {
    UNREAD.format("conversations"): 1
  }


def test_a_system_in_the_prompt_beside_conversations_is_kept(tmp_path):
  loaded = load(tmp_path, WHOLE | {"prompt": [SYSTEM._asdict(), *talk("hi", "ho", "why?")]})
  assert loaded.rows[0].prompt[0] == SYSTEM and not loaded.notes


def test_what_several_columns_could_decide_is_said_and_can_be_chosen(tmp_path):
  row = safe(1, 0)
  loaded = load(tmp_path, row)
  assert loaded.rows[0].chosen == "yes"
  assert any("data.schema=pku_safer" in note for note in loaded.notes)
  loaded = load(tmp_path, row, schema="pku_safer")
  assert loaded.rows[0].chosen == "no" and not loaded.notes
  (note,) = load(tmp_path, ultrafeedback(3, 4, 5)).notes
  assert "'overall_score'" in note and "'custom_system_prompt'" in note


UNCLEAR = {
  "question or instruction": (
    {"question": "why?", "instruction": "say", "chosen": "a", "rejected": "b"},
    "schema unclear: it may be question or instruction; name one as data.schema. The fields are: ",
  ),
  "two shapes": (
    safe(1, 0, response_a="c", response_b="d", winner_model_a=1, winner_model_b=0),
    "schema unclear: it may be pku_better or arena_texts",
  ),
  "nearly": (
    {"history": "why?", "human_ref_A": "a", "human_ref_B": "b"},
    "unknown schema: it looks like shp, without labels. The fields are: history, human",
  ),
  "a tree": (
    {"message_id": "1", "parent_id": "0", "text": "a", "role": "assistant", "rank": 0},
    "unknown schema: these look like the messages of a tree: of every two replies",
  ),
  "demonstrations": (
    {"messages": talk("why?", "so")},
    "unknown schema: these look like demonstrations",
  ),
  "a rated reply": (
    {"messages": None, "label": True},
    "wrong type: 'messages' must be a list of messages, not NoneType None",
  ),
  "a rated question": (
    {"messages": talk("why?"), "label": True},
    "not a conversation: 'messages' must end with a message of the assistant; its roles are: user",
  ),
  "a rated beginning": (
    {"messages": talk("", "so")[1:], "label": True},
    "not a conversation: 'messages' must hold a message of the user before the last",
  ),
  "anything": ({"text": "a"}, "unknown schema: rows need prompt, chosen and rejected, or the"),
  "no prompt": ({"chosen": "a", "rejected": "b"}, "missing field: 'prompt' is absent"),
  "several turns": (
    kaggle(prompt='["a", "b"]', first='["c", "d"]', second='["e", "f"]'),
    "dialogues differ: 'chosen' has 3 turns before its last reply and 'rejected' 3, but only the",
  ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_nothing_is_guessed_and_no_usable_row_says_why(tmp_path, name):
  fields, message = UNCLEAR[name]
  with pytest.raises(ValueError) as caught:
    load(tmp_path, fields, fields, on_bad_row="skip")
  assert f"line 1: {message}" in str(caught.value)
  assert "holds no usable row: 2 rows such as " in str(caught.value)


def test_a_schema_can_be_named(tmp_path):
  row = {"question": "why?", "instruction": "say", "chosen": "a", "rejected": "b"}
  loaded = load(tmp_path, row, schema="question")
  assert loaded.rows[0].prompt == "why?"
  assert loaded.notes == {UNREAD.format("instruction"): 1}
  texts = {"chosen": "The sky is  blue.", "rejected": "The sky is green."}
  (row,) = load(tmp_path, texts, schema="implicit").rows
  assert (row.prompt, row.chosen, row.rejected) == ("The sky", "is  blue.", "is green.")
  with pytest.raises(ValueError, match="line 1: missing field: shp has human_ref_A, .* too; the"):
    load(tmp_path, {"history": "h"}, schema="shp")
  with pytest.raises(ValueError, match="data.schema is 'hs'; use one of auto, standard, hh, "):
    load(tmp_path, PLAIN, schema="hs")
