"""Published schemas: dialogues, message lists and comparisons of summaries become preferences."""

import gzip
import json

import datasets
import pytest

from pit_jax.data import conversations, preferences


def rows_file(path, lines):
  """Writes rows as JSON lines, gzipped where the name says so."""
  data = "".join(json.dumps(line) + "\n" for line in lines).encode()
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def _talk(*contents):
  """Returns a conversation in which user and assistant take turns."""
  roles = ("user", "assistant")
  return tuple(conversations.Turn(roles[i % 2], said) for i, said in enumerate(contents))


def _messages(*contents):
  return [turn._asdict() for turn in _talk(*contents)]


DIALOGUE = "\n\nHuman: hi  there\n\nAssistant: hello \n\nHuman: why?\n\nAssistant:"


def test_the_shared_turns_of_a_dialogue_are_the_prompt(tmp_path):
  row = {"chosen": DIALOGUE + " because\n\n1. it is", "rejected": DIALOGUE + " no"}
  for name in ("rows.jsonl", "rows.jsonl.gz"):
    loaded = preferences.load(f"hh:{rows_file(tmp_path / name, [row])}")
    prompt = _talk("hi  there", "hello", "why?")
    assert loaded.rows == (preferences.Preference(prompt, "because\n\n1. it is", "no"),)
    written = "Human: hi  there\n\nAssistant: hello\n\nHuman: why?\n\nAssistant:"
    assert conversations.write(loaded.rows[0].prompt) == written


def test_line_ends_of_windows_divide_dialogues_too(tmp_path):
  pair = {"chosen": DIALOGUE + " because\n\n1. it is", "rejected": DIALOGUE + " no"}
  windows = {name: text.replace("\n", "\r\n") for name, text in pair.items()}
  path = rows_file(tmp_path / "rows.jsonl", [windows])
  expected = preferences.Preference(
    _talk("hi  there", "hello", "why?"), "because\n\n1. it is", "no"
  )
  for kind in ("jsonl", "hh"):
    assert preferences.load(f"{kind}:{path}").rows == (expected,)


BAD_DIALOGUES = {
  "other turn": (DIALOGUE.replace("why", "who") + " b", "dialogues differ", "the first 2 are"),
  "more turns": (DIALOGUE + " b\n\nHuman: d\n\nAssistant: e", "dialogues differ", "first 3 are"),
  "no reply": (DIALOGUE, "empty field", "last reply of 'rejected'"),
  "asks last": ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "not a dialogue", "Human, Assistant"),
  "no turns": ("just text", "not a dialogue", "none"),
  "preface": ("once\n\nHuman: a\n\nAssistant: b", "not a dialogue", "must begin"),
  "answers first": ("\n\nAssistant: b\n\nAssistant: c", "not a dialogue", "must begin"),
  "same reply": (DIALOGUE + " a", "chosen equals rejected", ""),
  "a number": (3, "wrong type", "int 3"),
}


@pytest.mark.parametrize("name", BAD_DIALOGUES)
def test_a_bad_dialogue_is_named_or_counted(tmp_path, name):
  rejected, reason, detail = BAD_DIALOGUES[name]
  good = {"chosen": DIALOGUE + " a", "rejected": DIALOGUE + " b"}
  path = rows_file(tmp_path / "rows.jsonl", [good, good | {"rejected": rejected}])
  with pytest.raises(ValueError) as caught:
    preferences.load(f"hh:{path}")
  assert str(caught.value).startswith(f"{path}, line 2: {reason}: ")
  assert detail in str(caught.value)
  loaded = preferences.load(f"hh:{path}", on_bad_row="skip")
  assert (len(loaded.rows), loaded.skipped) == (1, {reason: 1})


def test_real_dialogues(shared_data):
  path = shared_data / "hh_harmless.jsonl.gz"
  with pytest.raises(ValueError, match="line 73: empty field"):
    preferences.load(f"hh:{path}")
  loaded = preferences.load(f"hh:{path}", on_bad_row="skip")
  assert loaded.skipped == {"empty field": 4, "dialogues differ": 4}
  assert len(loaded.rows) == 1999 - 8
  with gzip.open(path, "rt", encoding="utf-8") as file:
    lines = file.readlines()
  squeeze = lambda value: "".join(value.split())  # noqa: E731
  for row in loaded.rows:
    raw = json.loads(lines[int(row.place.rsplit(" ", 1)[1]) - 1])
    prompt = conversations.write(row.prompt)
    assert squeeze(prompt + row.chosen) == squeeze(raw["chosen"])
    assert squeeze(prompt + row.rejected) == squeeze(raw["rejected"])
    assert raw["chosen"].rstrip().endswith(row.chosen)
    assert "\n\nHuman:" not in row.chosen


def test_hugging_face_dialogues(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
  pair = {"chosen": DIALOGUE + " yes", "rejected": DIALOGUE + " no"}
  path = rows_file(tmp_path / "rows.jsonl", [pair, pair | {"chosen": "just text"}])
  with pytest.raises(ValueError, match="line 2: not a dialogue"):
    preferences.load(f"hf:{path}")
  loaded = preferences.load(f"hf:{path}", on_bad_row="skip")
  assert loaded.rows[0].prompt == _talk("hi  there", "hello", "why?")
  assert (loaded.rows[0].chosen, loaded.rows[0].rejected) == ("yes", "no")
  assert loaded.skipped == {"not a dialogue": 1}


def test_an_assistant_who_speaks_twice_is_shown_as_text(tmp_path):
  start = "\n\nHuman: a\n\nAssistant: b\n\nAssistant: "
  path = rows_file(tmp_path / "rows.jsonl", [{"chosen": start + "c", "rejected": start + "d"}])
  expected = preferences.Preference("Human: a\n\nAssistant: b\n\nAssistant:", "c", "d")
  assert preferences.load(f"hh:{path}").rows == (expected,)


REPLY = {"role": "assistant", "content": " yes "}
OTHER = {"role": "assistant", "content": "no"}
SYSTEM = {"role": "system", "content": "be brief"}
ASKED = _messages("hi", "ho", "why?")
TALKED = _talk("hi", "ho", "why?")
MESSAGES = {  # name → row, its prompt
  "replies as texts": (
    {"prompt": ASKED, "chosen": "yes", "rejected": "no"},
    TALKED,
  ),
  "replies as lists": (
    {"prompt": ASKED, "chosen": [REPLY], "rejected": [OTHER]},
    TALKED,
  ),
  "whole conversations": (
    {"chosen": [*ASKED, REPLY], "rejected": [*ASKED, OTHER]},
    TALKED,
  ),
  "and a prompt": (
    {"prompt": "hi ", "chosen": [*ASKED, REPLY], "rejected": [*ASKED, OTHER]},
    TALKED,
  ),
  "and all turns": (
    {"prompt": ASKED[:1], "chosen": [*ASKED[:1], REPLY], "rejected": [*ASKED[:1], OTHER]},
    _talk("hi"),
  ),
  "a system": (
    {"prompt": [SYSTEM, *ASKED[:1]], "chosen": "yes", "rejected": "no"},
    (conversations.Turn("system", "be brief"), *_talk("hi")),
  ),
  "a text": ({"prompt": "hi", "chosen": [REPLY], "rejected": [OTHER]}, "hi"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message_lists_are_conversations(tmp_path, name):
  row, prompt = MESSAGES[name]
  expected = (preferences.Preference(prompt, "yes", "no"),)
  assert preferences.load(f"jsonl:{rows_file(tmp_path / 'rows.jsonl', [row])}").rows == expected
  datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "disk")
  assert preferences.load(f"hf:{tmp_path / 'disk'}").rows == expected
  datasets.Dataset.from_list([row]).to_parquet(tmp_path / "rows.parquet")
  assert preferences.load(f"parquet:{tmp_path / 'rows.parquet'}").rows == expected


BAD_MESSAGES = {
  "other turn": (
    {"rejected": [*ASKED[:2], *_messages("who?"), OTHER]},
    "dialogues differ",
    "first 2",
  ),
  "asks last": ({"chosen": ASKED}, "not a conversation", "'chosen' must end with a message of the"),
  "empty": ({"chosen": []}, "not a conversation", "roles are: none"),
  "same reply": ({"rejected": [*ASKED, REPLY]}, "chosen equals rejected", ""),
  "one text": ({"prompt": ASKED, "chosen": "yes"}, "wrong type", "'rejected' must be a text"),
  "no object": ({"chosen": [*ASKED, "yes"]}, "wrong type", "'chosen'[3] must be an object"),
  "tool": ({"chosen": [{"role": "tool", "content": "x"}, REPLY]}, "not a conversation", "'tool'"),
  "late system": ({"chosen": [*ASKED, SYSTEM, REPLY]}, "not a conversation", "at the beginning"),
  "no content": ({"chosen": [*ASKED, {"role": "assistant"}]}, "missing field", "chosen[3].content"),
  "columns": (
    {"prompt": {"role": ["user"], "content": ["hi", "ho"]}, "chosen": "a", "rejected": "b"},
    "wrong type",
    "role: 1, content: 2",
  ),
  "ends with a reply": (
    {"prompt": ASKED[:2], "chosen": "a", "rejected": "b"},
    "not a conversation",
    "'prompt' must end with a message of the user; its roles are: user, assistant",
  ),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_message_lists_are_named_or_counted(tmp_path, name):
  changes, reason, detail = BAD_MESSAGES[name]
  good = {"chosen": [*ASKED, REPLY], "rejected": [*ASKED, OTHER]}
  path = rows_file(tmp_path / "rows.jsonl", [good, good | changes])
  with pytest.raises(ValueError) as caught:
    preferences.load(f"jsonl:{path}")
  assert str(caught.value).startswith(f"{path}, line 2: {reason}: ")
  assert detail in str(caught.value)
  loaded = preferences.load(f"jsonl:{path}", on_bad_row="skip")
  assert (len(loaded.rows), loaded.skipped) == (1, {reason: 1})


def test_a_conversation_is_folded_with_its_text_and_fingerprinted_apart():
  talks = [_talk(f"question {i}", "so", "why?") for i in range(300)]
  spoken = [preferences.Preference(talk, "a", "b") for talk in talks]
  written = [preferences.Preference(conversations.write(talk), "a", "b") for talk in talks]
  places = [
    {name: [rows.index(row) for row in part] for name, part in parts.items()}
    for rows in (spoken, written)
    for parts in [preferences.divide(rows, 0.1, 0.1)]
  ]
  assert places[0] == places[1]
  assert preferences.fingerprint(spoken) != preferences.fingerprint(written)


OUTPUTS = {"instruction": "why?", "output_1": "because", "output_2": "no", "preference": 2}


def test_a_judgement_of_two_outputs_keeps_their_writers_and_no_places(tmp_path):
  written = OUTPUTS | {"generator_1": "m", "generator_2": "n", "input": "", "preference": 1}
  lines = [OUTPUTS, written, OUTPUTS | {"input": "asked of Kim", "preference": 1.03}]
  loaded = preferences.load(f"jsonl:{rows_file(tmp_path / 'rows.jsonl', lines)}")
  assert loaded.rows == (
    preferences.Preference("why?", "no", "because"),
    preferences.Preference("why?", "because", "no", writers=("m", "n")),
    preferences.Preference("why?\n\nasked of Kim", "because", "no"),
  )


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({"preference": 0}, "no preference"),
    ({"preference": 1.5}, "no preference"),
    ({"preference": float("nan")}, "wrong type"),
    ({"preference": None}, "wrong type"),
    ({"output_1": "no"}, "chosen equals rejected"),
    ({"output_2": ""}, "empty field"),
    ({"instruction": None}, "missing field"),
  ],
)
def test_bad_judgements_are_counted(tmp_path, changes, reason):
  path = rows_file(tmp_path / "rows.jsonl", [OUTPUTS, OUTPUTS | changes])
  assert preferences.load(f"jsonl:{path}", on_bad_row="skip").skipped == {reason: 1}


def test_rows_of_a_schema_that_is_only_read_by_name_say_its_name(tmp_path):
  row = {"prompt": "why?", "response_0": "a", "response_1": "b", "safer_response_id": 1}
  source = f"jsonl:{rows_file(tmp_path / 'rows.jsonl', [row])}"
  with pytest.raises(ValueError, match="name it as data.schema=pku_safer"):
    preferences.load(source)
  assert preferences.load(source, schema="pku_safer").rows[0].chosen == "b"


def test_a_position_that_is_none_is_named(tmp_path):
  row = {"prompt": "why?", "chosen": "because", "rejected": "no", "chosen_position": 3}
  with pytest.raises(ValueError, match="'chosen_position' must be 1 or 2, not int 3"):
    preferences.load(f"jsonl:{rows_file(tmp_path / 'rows.jsonl', [row])}")
