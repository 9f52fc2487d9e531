"""Texts that are conversations for certain are read as such; what is uncertain stays a text."""

import csv
import json

import pytest

from pit_jax.data import conversations, preferences

TALK = [
  {"role": "user", "content": "Why?"},
  {"role": "assistant", "content": "So."},
  {"role": "user", "content": "And how?"},
]
ENDS = {"chosen": "Thus.", "rejected": "Not at all."}
PROMPT = tuple(conversations.Turn(**turn) for turn in TALK)
HEAD = "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: And how?\n\nAssistant:"
STEERED = "Why?\n<extra_id_1>Assistant\nSo.\n<extra_id_1>User\nAnd how?"


def load(tmp_path, row, **more):
  path = tmp_path / "rows.jsonl"
  path.write_text(json.dumps(row) + "\n")
  (loaded,) = preferences.load(f"jsonl:{path}", **more).rows
  return loaded


def whole(end):
  return [*TALK, {"role": "assistant", "content": end}]


READ = {
  "whole conversations in JSON": {name: json.dumps(whole(end)) for name, end in ENDS.items()},
  "a prompt in JSON": {**ENDS, "prompt": json.dumps(TALK)},
  "all three in JSON": {
    "prompt": json.dumps(TALK, indent=1),
    **{name: json.dumps([whole(end)[-1]]) for name, end in ENDS.items()},
  },
  "replies that are one message in JSON": {
    "prompt": TALK,
    **{name: json.dumps(whole(end)[-1]) for name, end in ENDS.items()},
  },
  "a dialogue as the prompt": {**ENDS, "prompt": HEAD},
  "a dialogue that asks for no reply": {**ENDS, "prompt": HEAD.removesuffix("\n\nAssistant:")},
  "a prompt of HelpSteer": {**ENDS, "prompt": STEERED},
  "a prompt of NeMo": {
    **ENDS,
    "prompt": f"<extra_id_0>System\n\n<extra_id_1>User\n{STEERED}\n<extra_id_1>Assistant\n",
  },
  **{
    f"dialogues beside {what}": {
      "prompt": prompt,
      **{n: f"{HEAD} {end}" for n, end in ENDS.items()},
    }
    for what, prompt in (
      ("what they begin with", HEAD),
      ("the last question", "And how?"),
      ("the first question", "Why?"),
    )
  },
}


@pytest.mark.parametrize("row", READ.values(), ids=READ)
def test_conversations_in_texts_are_those_of_message_lists(tmp_path, row):
  loaded = load(tmp_path, row)
  assert loaded.prompt == PROMPT
  assert {"chosen": loaded.chosen, "rejected": loaded.rejected} == ENDS


@pytest.mark.parametrize("row", READ.values(), ids=READ)
def test_line_ends_of_windows_change_no_conversation(tmp_path, row):
  """A table that Windows wrote has them inside its quoted cells."""
  texts = {
    name: (value if isinstance(value, str) else json.dumps(value)).replace("\n", "\r\n")
    for name, value in row.items()
  }
  path = tmp_path / "rows.csv"
  with path.open("w", newline="") as file:
    table = csv.DictWriter(file, list(texts))
    table.writeheader()
    table.writerow(texts)
  (loaded,) = preferences.load(f"csv:{path}").rows
  assert (loaded.prompt, loaded.chosen, loaded.rejected) == (PROMPT, *ENDS.values())


def test_a_systems_turn_and_one_question_are_read(tmp_path):
  asked = load(tmp_path, {**ENDS, "prompt": "System: Be brief.\n\nHuman: Why?\n\nAssistant:"})
  assert asked.prompt == (("system", "Be brief."), ("user", "Why?"))
  assert load(tmp_path, {**ENDS, "prompt": "Human: Why?\n\nAssistant:"}).prompt == (
    ("user", "Why?"),
  )


@pytest.mark.parametrize(
  "changed",
  [
    {"prompt": str(TALK)},  # Python's repr
    {"prompt": json.dumps(TALK)[:-1]},
    {"prompt": json.dumps([1, 2])},
    {"prompt": json.dumps({"role": "user"})},
    {"prompt": "Why?\n\nHuman: And how?\n\nAssistant:"},
    {"prompt": "Human: Why?\n\nHuman: And how?\n\nAssistant:"},
    {"prompt": "Human: Why?\n\nAssistant: So.\n\nAssistant:"},
    {"prompt": "User: Why?\nAssistant:"},
    {"prompt": STEERED.removesuffix("\n<extra_id_1>User\nAnd how?")},
    {"prompt": "Why?\n<extra_id_1>User\nAnd how?"},
    {"prompt": "What is <extra_id_1> for?"},
    {"prompt": "Another?", "chosen": f"{HEAD} Thus.", "rejected": f"{HEAD} No."},
    {"prompt": "Why?", "chosen": f"{HEAD} Thus.", "rejected": "No."},
    {"chosen": json.dumps(whole("Thus.")), "prompt": "Why?"},  # and rejected is a bare reply
  ],
)
def test_what_is_uncertain_stays_as_it_is(tmp_path, changed):
  row = {"prompt": "Why?", **ENDS, **changed}
  loaded = load(tmp_path, row)
  given = [loaded.prompt, loaded.chosen, loaded.rejected]
  assert given == [row[name].strip() for name in ("prompt", "chosen", "rejected")]


def test_the_public_dialogues_beside_prompts_are_the_dialogues_alone(shared_data, tmp_path):
  """HH-RLHF as copies of it are: with the dialogue up to its last reply as a column."""
  source = shared_data / "hh_harmless.jsonl.gz"
  alone = preferences.load(f"hh:{source}", on_bad_row="skip", limit=200).rows
  path = tmp_path / "rows.jsonl"
  with path.open("w") as file:
    for row in alone:
      head = conversations.write(row.prompt)
      texts = {
        "prompt": head,
        "chosen": f"{head} {row.chosen}",
        "rejected": f"{head} {row.rejected}",
      }
      file.write(json.dumps(texts) + "\n")
  read = preferences.load(f"jsonl:{path}").rows
  certain = [n for n, row in enumerate(alone) if not isinstance(row.prompt, str)]
  assert len(certain) > 150
  assert sum(read[n] == alone[n] for n in certain) >= len(certain) - 2
