"""The doctor on texts that are not what they seem, and on labels against their own scores."""

import json

import chats
import pytest
import test_doctor

from pit_jax.data import preferences, rows, suspects, text, values
from pit_jax.run import rows as run_rows

FINE = (
  "A human: is a word; user: another",
  "a < b > c and [not an instruction]",
  'He says {"role": "user"} is JSON',
  "<b>user</b>\n# Users\nThe user said: hi",
  "Q: one?\nA: two\nQ: three?",
)


def pair(prompt="Why?", chosen="So.", rejected="No.", **more):
  return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


PLANTED = {
  suspects.LISTED: (
    pair(chosen="[{'role': 'assistant', 'content': 'So.'}]"),
    pair(prompt="[{'content': 'Why?', 'role': 'user'}\n {'content': 'So.', 'role': 'assistant'}]"),
    pair(rejected='{"from": "gpt", "value": "broken'),
  ),
  suspects.TEMPLATE: (
    pair(prompt="<|im_start|>user\nWhy?<|im_end|>"),
    pair(chosen="So.<|eot_id|>"),
    pair(rejected="No. [/INST]"),
    pair(prompt="<start_of_turn>user\nWhy?<end_of_turn>"),
    pair(chosen="So.</s>"),
    pair(chosen="So.\n<extra_id_1>User\nWhere?"),
  ),
  suspects.LABELLED: (
    pair(prompt="As follows.\nUser: Why?\nAssistant: So.\nUser: Where?"),
    pair(chosen="So.\n\nHuman: Where?\n\nAssistant: Here."),
    pair(rejected="Assistant: No."),
    pair(prompt="### Instruction:\nWhy?\n\n### Response:"),
    pair(
      prompt=[{"role": "user", "content": "Human: Why?"}],
    ),
  ),
}


def test_planted_texts_are_found_by_line(tmp_path):
  fine = [pair(prompt=f"{n}", chosen=said) for n, said in enumerate(FINE)]
  planted = [row for kind in PLANTED.values() for row in kind]
  found, path = test_doctor.examine(tmp_path, [*test_doctor.clean(200), *fine, *planted])
  disguised = found["disguised"]
  assert disguised["severity"] == "warning"
  for kind, of_kind in PLANTED.items():
    assert test_doctor.value(disguised, kind) == len(of_kind)
  first = 200 + len(fine) + 1
  assert disguised["places"] == [f"{path}, line {first + n}" for n in range(len(planted))]
  assert "lists of {role, content}" in disguised["advice"]


def test_marks_of_the_tokenizers_own_template_are_found(tmp_path):
  form = chats.CHATML.replace("<|im_start|>", "{-begin-}")
  words = chats.save(tmp_path, "chatml", form, hidden=("{-begin-}", "{-unused-}"))
  tokens = suspects.spelled(words)
  assert set(tokens) == {"{-begin-}", "<|im_end|>"}
  row = rows.Preference("Why?", "So. {-begin-}", "No. {-unused-}")
  assert suspects.find(row, tokens) == [suspects.TEMPLATE]
  assert suspects.find(row) == []


SCORED = (
  # (row's own columns, what the two scores and the margin say of the label)
  ({"score_chosen": 2, "score_rejected": 1}, None),
  ({"score_chosen": 1, "score_rejected": 1}, values.TIED),
  ({"score_chosen": 1, "score_rejected": 1.5}, values.REVERSED),
  ({"chosen_rating": "3", "rejected_rating": "4"}, values.REVERSED),
  ({"margin": 0.5}, None),
  ({"margin": 0}, values.TIED),
  ({"margin": -0.5}, values.REVERSED),
  ({"margin": 1, "score_chosen": 1, "score_rejected": 2}, values.REVERSED),
  ({"margin": -1, "score_chosen": 2, "score_rejected": 2}, values.REVERSED),
)


def scored_rows():
  return [row | SCORED[n % len(SCORED)][0] for n, row in enumerate(test_doctor.clean(180))]


def test_labels_against_their_scores_are_counted_by_line(tmp_path):
  found, path = test_doctor.examine(tmp_path, [*scored_rows(), *test_doctor.clean(50, start=1)])
  scored = found["scored"]
  assert test_doctor.value(scored, "rows with scores or a margin") == 180
  assert test_doctor.value(scored, "labels against their scores") == 100
  assert test_doctor.value(scored, "labels of ties") == 40
  assert scored["severity"] == "problem" and "data.against_scores=drop" in scored["advice"]
  lines = [n + 1 for n in range(180) if SCORED[n % len(SCORED)][1]]
  assert scored["places"] == [f"{path}, line {line}" for line in lines]


def test_rows_against_their_scores_are_left_out_when_asked_for(tmp_path):
  path = tmp_path / "rows.jsonl"
  rows_with = [row | {"prompt": str(n)} for n, row in enumerate(scored_rows())]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows_with))
  assert len(preferences.load(f"jsonl:{path}").rows) == 180
  loaded = preferences.load(f"jsonl:{path}", against_scores="drop")
  assert loaded.skipped == {values.TIED: 40, values.REVERSED: 100}
  assert [row.prompt for row in loaded.rows] == [
    str(n) for n in range(180) if SCORED[n % len(SCORED)][1] is None
  ]
  with pytest.raises(ValueError, match='against_scores is \'flip\'; use "keep" or "drop"'):
    preferences.load(f"jsonl:{path}", against_scores="flip")


def test_training_warns_of_texts_that_are_not_what_they_seem(tmp_path, caplog):
  words = text.train_tokenizer(["a b"], 258, tmp_path / "words")
  fine, listed = rows.Preference("Why?", "So.", "No.", place="line 1"), PLANTED[suspects.LISTED]
  suspicious = rows.check(listed[0], "line 2")
  data = preferences.PreferenceSet((fine, suspicious, suspicious), {}, "jsonl:x", "")
  run_rows.warn(data, words)
  (said,) = (record.getMessage() for record in caplog.records)
  assert said.startswith("jsonl:x: a message list as text (2 rows, the first at line 2);")


def test_rows_without_scores_say_nothing_of_their_labels(tmp_path):
  found, _ = test_doctor.examine(tmp_path, test_doctor.clean(100))
  assert found["scored"]["severity"] == "unknown" and not found["scored"]["figures"]
