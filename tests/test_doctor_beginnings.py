"""The doctor on prompts that begin alike: which they are, and whether folds keep them together."""

import test_doctor

from pit_jax.data import preferences


def talks(before, user, assistant, count=80):
  """Rows of conversations as texts, three prompts of each, the turns of one in a row."""
  rows = []
  for n in range(count):
    said = before
    for turn in range(3):
      said += user.format(f"question {n} {turn}")
      rows.append({"prompt": said, "chosen": f"yes {n} {turn}", "rejected": f"no {n} {turn}"})
      said += assistant.format(f"reply {n} {turn}")
  return rows


def test_the_turns_of_written_conversations_are_counted_and_do_not_leak(tmp_path):
  rows = talks("As follows.\n\n", "Human: {}\n\n", "Assistant: {}\n\n")
  found, _ = test_doctor.examine(tmp_path, rows)
  beginnings = found["beginnings"]
  assert beginnings["severity"] == "ok" and "each of them is in one fold" in beginnings["found"]
  assert test_doctor.value(beginnings, "prompts that begin like another one") == 240
  assert test_doctor.value(beginnings, "beginnings that they share") == 80
  assert test_doctor.value(beginnings, "shared beginnings in several folds") == 0
  assert found["leakage"]["severity"] == "ok"


def test_conversations_between_names_nobody_knows_are_reported_by_line(tmp_path):
  """Nothing says that Ann asks and Bob answers, but each prompt goes on where another ends."""
  rows = talks("", "Ann: {}\nBob:", " {}\n")
  found, path = test_doctor.examine(tmp_path, rows)
  beginnings = found["beginnings"]
  loaded = preferences.load(f"jsonl:{path}")
  of_prompt = {
    row.prompt: name
    for name, part in preferences.divide(loaded.rows, 0.2, 0.2).items()
    for row in part
  }
  split = [n for n in range(80) if len({of_prompt[row["prompt"]] for row in rows[3 * n :][:3]}) > 1]
  assert len(split) > 40
  assert beginnings["severity"] == "problem" and "data.fold_by=cluster" in beginnings["advice"]
  assert test_doctor.value(beginnings, "shared beginnings in several folds") == len(split)
  lines = [f"{path}, line {3 * n + turn}" for n in split for turn in (1, 2, 3)]
  assert beginnings["places"] == lines
  assert test_doctor.value(found["leakage"], "held out: prompts seen in training") > 0.5

  found, _ = test_doctor.examine(tmp_path, rows, "--fold_by=cluster")
  assert found["beginnings"]["severity"] == found["leakage"]["severity"] == "ok"
  assert test_doctor.value(found["beginnings"], "beginnings that they share") == 80


def test_a_first_turn_that_opens_everything_is_a_problem(tmp_path):
  rows = test_doctor.clean(300)
  asked = [row | {"prompt": f"{row['prompt']}\n### Instruction:\nSum up.\n"} for row in rows[:60]]
  found, _ = test_doctor.examine(tmp_path, [*asked, *rows[60:]])
  assert found["beginnings"]["severity"] == "problem"
  assert "opens 20.0% of the prompts" in found["beginnings"]["found"]
  label = "most prompts with one first turn of the user"
  assert test_doctor.value(found["beginnings"], label) == 60
