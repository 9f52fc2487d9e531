"""What the doctor shows of rows: how they were read, which cannot be used, where two differ."""

import json
import re

import pytest
import test_doctor

from pit_jax import config_keys, configurations
from pit_jax.commands import doctor
from pit_jax.data import text
from pit_jax.tools.doctor import findings


def test_what_rows_are_taken_for_is_said_and_one_is_shown(tmp_path, capsys):
  """Ratings of which more is better may stand under a name of which less is."""
  answers = [{"answer": "awful stuff", "rank": 1}, {"answer": "very fine", "rank": 10}]
  rows = [{"prompt": row["prompt"], "answers": answers} for row in test_doctor.clean(40)]
  found, path = test_doctor.examine(tmp_path, rows)
  reading = found["reading"]
  assert reading["found"].startswith(
    "40 rows were read as nectar, preferred is the lower 'rank': 1 is the best; "
  )
  (example,) = reading["examples"]
  assert example["text"] == (
    f"prompt: {rows[0]['prompt']} | chosen: awful stuff | rejected: very fine"
  )
  assert "rows.jsonl, line 1: prompt: " in capsys.readouterr().out
  assert path.name == "rows.jsonl"
  standard = test_doctor.examine(tmp_path, test_doctor.clean(40))[0]["reading"]
  assert standard["found"].startswith("40 rows were read as standard, preferred is 'chosen'; ")
  assert standard["severity"] == "ok"


def test_few_steps_name_the_keys_that_make_more(tmp_path):
  found, _ = test_doctor.examine(tmp_path, test_doctor.clean(100), "--config=pit:tiny")
  advice = found["steps"]["advice"]
  raised, lowered = re.search("raise (.*), or lower (.*)\\.", advice).groups()
  config = configurations.load("pit:tiny")
  keys = [f"--config.{key}" for key, _ in config_keys.leaves(config)]
  assert "--config.sft.epochs" in raised and "--config.sft.batch_size" in lowered
  assert {*f"{raised}, {lowered}".split(", ")} <= {*keys}


def test_steps_that_are_set_are_raised_and_nothing_else(tmp_path):
  """Neither more rows nor smaller steps of them make more of what is set."""
  few = [f"--config.{name}.steps=4" for name in ("sft", "reward", "gap_reward")]
  found, _ = test_doctor.examine(tmp_path, test_doctor.clean(100), "--config=pit:tiny", *few)
  advice = found["steps"]["advice"]
  assert "raise --config.sft.steps, --config.reward.steps, --config.gap_reward.steps;" in advice
  assert not re.search("epochs|batch_size|give more rows", advice)


def test_rows_that_cannot_be_used_are_shown_by_reason(tmp_path, capsys):
  """Five of each reason are printed with what is wrong, and the file has all."""
  bad = [{"prompt": f"bad {i}", "chosen": "a"} for i in range(7)]
  bad.append({"prompt": "", "chosen": "a", "rejected": "b"})
  found, path = test_doctor.examine(tmp_path, [*test_doctor.clean(100), *bad])
  printed = capsys.readouterr().out
  lines = re.findall(r"rows\.jsonl, line (\d+): missing field: 'rejected' is absent", printed)
  assert lines == ["101", "102", "103", "104", "105"]
  assert "rows.jsonl, line 108: empty field: 'prompt' holds no text" in printed
  assert [one["places"] for one in found["rows"]["examples"]] == [
    [f"{path}, line {line}"] for line in (101, 102, 103, 104, 105, 108)
  ]
  places = [f"{path}, line {line}" for line in range(101, 109)]
  assert found["rows"]["places"] == places
  unusable = json.loads((tmp_path / "doctor.json").read_text())["unusable"]
  assert [row["place"] for row in unusable] == places
  assert [row["reason"] for row in unusable] == ["missing field"] * 7 + ["empty field"]
  assert unusable[-1]["message"] == "empty field: 'prompt' holds no text"


def test_a_tokenizer_that_is_given_needs_no_base(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text.train_tokenizer(["a b"], 258, tmp_path / "words")
  config = "--config=pit_hh:smollm2_135m_smoke"  # which starts from models/smollm2
  with pytest.raises(SystemExit) as caught:
    test_doctor.examine(tmp_path, test_doctor.clean(100), config)
  assert str(caught.value) == (
    "error: model.base=models/smollm2 is no directory; set --config.model.base=DIRECTORY "
    "(`pit convert import` writes one)"
  )
  found, _ = test_doctor.examine(
    tmp_path, test_doctor.clean(100), config, f"--tokenizer={tmp_path / 'words'}"
  )
  record = json.loads((tmp_path / "doctor.json").read_text())
  assert str(tmp_path / "words") in record["tokenizer"] and "steps" in found


def test_the_source_is_looked_for_before_a_tokenizer_is_loaded(tmp_path):
  with pytest.raises(SystemExit, match="error: no file absent.jsonl "):
    doctor.main(["--source=jsonl:absent.jsonl", f"--tokenizer={tmp_path / 'none'}"])


def test_texts_beside_each_other_show_what_differs():
  same = "the same words again and again " * 20
  one, other = findings.shorten_beside([f"{same} why? {same}", f"{same} how? {same}"], 90)
  assert " why? " in one and " how? " in other and one.startswith("… words")
  assert max(map(len, (one, other))) <= 94
  # What goes on with more, and what fits.
  one, other = findings.shorten_beside([same, f"{same} and more"], 90)
  assert other.endswith("and again and more") and one.endswith("again and again")
  assert findings.shorten_beside(["short", f"short {same}"], 90)[0] == "short"
  # Early differences are seen at the beginning, and texts that are the same have none.
  texts = [f"one {same}", f"two {same}"]
  assert findings.shorten_beside(texts, 90) == [findings.shorten(text, 90) for text in texts]
  assert findings.shorten_beside([same, same], 90) == [findings.shorten(same, 90)] * 2
  assert findings.shorten_beside([f"{'x' * 200}a", f"{'x' * 200}b"], 40)[1].endswith("xb")


def test_conversations_with_one_beginning_are_shown_where_they_differ(tmp_path):
  talk = [{"role": "user", "content": "tell me " * 40}, {"role": "assistant", "content": "well"}]
  rows = [
    {"prompt": [*talk, {"role": "user", "content": last}], "chosen": f"c {last}", "rejected": "r"}
    for last in ("and why?", "but how?")
  ]
  found, _ = test_doctor.examine(tmp_path, [*test_doctor.clean(100), *rows])
  (example,) = found["beginnings"]["examples"]
  assert "and why?" in example["text"] and "but how?" in example["text"]
