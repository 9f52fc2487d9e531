"""The doctor as a command: planted faults are found, named and counted, and nothing else is."""

import json
import re

import numpy as np
import pytest
import test_report

from pit_jax.commands import doctor
from pit_jax.data import encode, preferences, template, text
from pit_jax.tasks import synthetic
from pit_jax.tools.doctor import examination, findings, rendering

SMALL = ["--vocabulary=300", "--held_out=0.2", "--validation=0.2"]


def examine(tmp_path, rows, *flags):
  """Runs the command on rows; returns its findings by name, and the file."""
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  written = tmp_path / "doctor.json"
  doctor.main([f"--source=jsonl:{path}", f"--json={written}", *SMALL, *flags])
  found = json.loads(written.read_text())["findings"]
  return {one["name"]: one for one in found}, path


def value(finding, label):
  (figure,) = [figure for figure in finding["figures"] if figure["label"] == label]
  return figure["value"]


def clean(count, start=0):
  """Returns rows with nothing wrong: no two prompts alike, and lengths decided by a coin."""
  rng = np.random.default_rng(start)
  words = lambda size: " ".join(f"w{n}" for n in rng.integers(0, 10**6, size))  # noqa: E731
  return [
    {"prompt": words(8), "chosen": words(rng.integers(4, 9)), "rejected": words(rng.integers(4, 9))}
    for _ in range(count)
  ]


def test_clean_rows_are_called_so(tmp_path, capsys):
  found, _ = examine(tmp_path, clean(300))
  severities = {name: one["severity"] for name, one in found.items()}
  unknown = ("noise", "position", "scored")  # which such rows cannot tell
  assert severities == {name: "unknown" if name in unknown else "ok" for name in found}
  assert "Nothing stands against training on these 300 preferences." in capsys.readouterr().out


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
  """Rows with one fault of each kind, and what the doctor finds."""
  rows = clean(300)
  rows += [dict(rows[7]), dict(rows[7])]  # lines 301, 302: copies of line 8
  rows.append(rows[9] | {"chosen": rows[9]["rejected"], "rejected": rows[9]["chosen"]})  # of 10
  rows += [rows[20] | {"chosen": a, "rejected": b} for a, b in ("ab", "bc", "ca")]  # 304 to 306
  rows.append({"prompt": "said twice", "chosen": "Yes, sir.", "rejected": "yes sir"})  # 307
  rows.append({"prompt": "", "chosen": "a", "rejected": "b"})  # 308
  tmp_path = tmp_path_factory.mktemp("planted")
  return (*examine(tmp_path, rows, f"--html={tmp_path / 'doctor.html'}"), tmp_path)


def test_planted_faults_are_counted(planted):
  found = planted[0]
  assert value(found["rows"], "usable rows") == 307
  assert value(found["rows"], "skipped: empty field") == 1
  assert value(found["duplicates"], "rows that repeat an earlier one") == 2
  assert value(found["duplicates"], "most copies of one row") == 3
  assert value(found["duplicates"], "pairs that differ in case and punctuation only") == 1
  assert value(found["contradictions"], "pairs judged either way") == 1
  assert value(found["cycles"], "circles, or knots of them") == 1
  # Of 307 judgements one of the contradiction and one of the circle cannot be satisfied.
  best = value(found["contradictions"], "best training accuracy any reward can have")
  assert best == pytest.approx(305 / 307)
  # Judged again: one pair three times alike, one either way.
  assert value(found["noise"], "pairs judged more than once") == 2
  assert value(found["noise"], "of them judged either way") == 1


def test_noise_is_not_known_where_all_agreeing_copies_are_gone(tmp_path):
  pair = {"prompt": "Which one?", "chosen": "This one.", "rejected": "That one."}
  turned = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
  others = [{**pair, "prompt": f"And {n}?"} for n in range(40)]
  found = examine(tmp_path, [pair, turned, *others])[0]
  assert found["noise"]["severity"] == "unknown"
  assert "removed as copies" in found["noise"]["found"]


def test_planted_faults_are_named_by_line(planted):
  found, path, _ = planted
  lines = {
    name: [place.removeprefix(f"{path}, line ") for place in one["places"]]
    for name, one in found.items()
  }
  assert lines["duplicates"] == ["301", "302", "307"]
  assert lines["contradictions"] == ["10", "303"]
  assert lines["cycles"] == ["304", "305", "306"]
  assert lines["noise"] == ["8", "10", "301", "302", "303"]
  assert [example["places"] for example in found["cycles"]["examples"]] == [
    [f"{path}, line {line}" for line in (304, 305, 306)]
  ]


def test_the_page_shows_every_finding_and_needs_nothing_else(planted):
  found, path, tmp_path = planted
  written = (tmp_path / "doctor.html").read_text(encoding="utf-8")
  page = test_report.Page(written)
  for one in found.values():
    for words in (one["title"], one["found"], one["advice"]):
      assert words in page.text
    for figure in one["figures"]:
      assert figure["label"] in page.text
  assert {f"#{name}" for name in found} <= set(page.addresses)
  assert all(address.startswith("#") for address in page.addresses)
  assert not {"script", "link", "img", "iframe"} & set(page.tags)
  assert "prefers-color-scheme: dark" in written and "rows.jsonl, line 304" in page.text
  assert not re.search(r"<svg[^§]*#22262e[^§]*</svg>", written)  # ink follows the page


def test_what_rows_say_is_text_on_the_page_and_in_the_terminal(tmp_path, capsys):
  said = "<script>alert(1)</script> [bold]not markup[/bold] [/]"
  row = {"prompt": said, "chosen": "Yes!", "rejected": "yes"}
  _, path = examine(tmp_path, [*clean(100), row], f"--html={tmp_path / 'doctor.html'}")
  assert "[bold]not markup[/bold] [/]" in " ".join(capsys.readouterr().out.split())
  page = test_report.Page((tmp_path / "doctor.html").read_text(encoding="utf-8"))
  assert "script" not in page.tags and said in page.text


def test_near_copies_and_conversations_leak_into_what_is_held_out(tmp_path):
  rows = clean(400)
  folds = preferences.divide([preferences.Preference(**row) for row in rows], 0.2, 0.2)
  held = [row.prompt for row in folds["held_out"]]
  trained = {row.prompt for part in (folds["sft"], folds["reward"], folds["rl"]) for row in part}
  # Upper case makes another text, and so another hash: some of these will be trained on.
  copies = [prompt.upper() for prompt in held]
  talks = [
    [{"role": "user", "content": f"talk {i}"}, {"role": "assistant", "content": f"well {i}"}]
    for i in range(40)
  ]
  asked = [{"role": "user", "content": "so?"}, {"role": "user", "content": "how, again?"}]
  more = [*copies, *([*talk, turn] for talk in talks for turn in asked)]
  rows += [
    {"prompt": prompt, "chosen": f"c{i}", "rejected": f"r{i}"} for i, prompt in enumerate(more)
  ]
  found, path = examine(tmp_path, rows)
  loaded = preferences.load(f"jsonl:{path}")
  parts = preferences.divide(loaded.rows, 0.2, 0.2)
  of_prompt = {row.prompt: name for name, part in parts.items() for row in part}
  trains = {prompt for prompt, name in of_prompt.items() if name in ("sft", "reward", "rl")}

  def leaks(prompt):
    if isinstance(prompt, str):
      return any(p != prompt and str(p).upper() == prompt.upper() for p in trains)
    return any(not isinstance(p, str) and p[0] == prompt[0] for p in trains)

  held = [prompt for prompt, name in of_prompt.items() if name == "held_out"]
  expected = [leaks(prompt) for prompt in held]
  assert sum(expected) > 20 and not all(expected)
  share = value(found["leakage"], "held out: prompts seen in training")
  assert share == pytest.approx(np.mean(expected))
  assert found["leakage"]["severity"] == "problem"
  assert "data.fold_by=cluster" in found["leakage"]["advice"]
  (table,) = found["leakage"]["tables"]
  assert int(table["rows"][0][1]) == len(held) and int(table["rows"][0][4]) == sum(expected)
  assert trained  # there was something to leak into


def test_what_is_cut_is_what_training_cuts(tmp_path):
  rows = synthetic.preferences(200, seed=3)
  found, path = examine(tmp_path, rows, "--max_prompt_length=60", "--max_response_length=20")
  loaded = preferences.load(f"jsonl:{path}")
  fold = preferences.divide(loaded.rows, 0.2, 0.2)["sft"]
  texts = [part for row in fold for part in (row.prompt, row.chosen, row.rejected)]
  words = text.train_tokenizer(texts, 300, tmp_path / "words")
  settings = encode.Settings(words, template.Template(), 60, 20)
  counts = encode.preferences(loaded.rows, settings).contents.counts
  cut = value(found["truncation"], "pairs with something cut")
  dropped = value(found["truncation"], "pairs that become equal, and are dropped")
  assert dropped == counts["dropped"] > 0
  # Dropped pairs were cut too: their beginnings are the same, and all that is left of them.
  assert round(cut * 200) == counts["cut"] + counts["dropped"]


def test_a_planted_length_bias_is_measured(tmp_path):
  rows = clean(600)
  for i, row in enumerate(rows):
    row["chosen" if i % 5 else "rejected"] += " and more, and more again" * 10
  found, _ = examine(tmp_path, rows)
  assert value(found["length"], "the longer one is chosen") == pytest.approx(0.8, abs=0.02)
  accuracy = value(found["length"], "accuracy from the lengths alone (chance: 50%)")
  assert accuracy == pytest.approx(0.8, abs=0.02)
  assert found["length"]["severity"] == "problem"


def judged(count, first_wins, writers=("m", "n"), seed=0):
  """Returns judgements in which the first wins with a probability; its place is recorded."""
  rng = np.random.default_rng(seed)
  rows = []
  for row in clean(count):
    place = 1 if rng.random() < first_wins else 2
    row["chosen_position"] = place
    if writers:
      names = writers[:: 3 - 2 * place]
      row |= dict(zip(("chosen_generator", "rejected_generator"), names, strict=True))
    rows.append(row)
  return rows


def test_position_bias_is_told_where_it_can_be(tmp_path):
  found = examine(tmp_path, judged(500, 0.7, None))[0]["position"]
  assert value(found, "the first one is chosen") == pytest.approx(0.7, abs=0.06)
  assert found["severity"] == "problem" and "drawn at random" in found["found"]
  found = examine(tmp_path, judged(500, 0.7))[0]["position"]
  assert found["severity"] == "unknown" and "m always stood first" in found["found"]
  turned = judged(250, 0.7) + judged(500, 0.7, ("n", "m"), 1)[250:]
  found = examine(tmp_path, turned)[0]["position"]
  assert value(found, "the first one, of two equally good ones") == pytest.approx(0.7, abs=0.06)


def test_pairs_judged_in_both_orders_tell_position_from_quality(tmp_path):
  """The better one always wins, whichever order: no bias, though it stood first more often."""
  rows = judged(300, 1.0)
  rows += [row | {"chosen_position": 2} for row in rows[:100]]
  found = examine(tmp_path, rows)[0]
  assert value(found["position"], "the first one is chosen") == 0.75
  assert value(found["position"], "the first one, in pairs judged in both orders") == 0.5
  assert found["position"]["severity"] == "ok"
  assert value(found["noise"], "flip rate of a label") == 0


def test_a_column_is_no_place(tmp_path):
  """Annotators see outputs in an order of their own: output_1 did not stand first."""
  rows = [
    {
      "instruction": row["prompt"],
      "output_1": row["chosen"],
      "output_2": row["rejected"],
      "generator_1": "m",
      "generator_2": "n",
      "preference": 1 + (i % 3 == 0),
    }
    for i, row in enumerate(clean(300))
  ]
  found = examine(tmp_path, rows)[0]["position"]
  assert found["severity"] == "unknown" and not found["figures"]
  assert "does not say which response stood first" in found["found"]
  assert "chosen_position" in found["advice"]


def test_too_few_rows_for_folds_are_a_finding(tmp_path, capsys):
  found, _ = examine(tmp_path, clean(2))
  assert found["rows"]["severity"] == "problem"
  assert "2 rows with 2 different prompts leave" in found["rows"]["found"]
  assert found["leakage"]["severity"] == "unknown"
  assert "learnt from all rows" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["jsonl:absent.jsonl", "csv:rows.csv", "synthetic", "empty"])
def test_a_source_that_cannot_be_read_is_refused_as_in_training(tmp_path, source):
  if source == "empty":
    (tmp_path / "rows.jsonl").write_text("")
    source = f"jsonl:{tmp_path / 'rows.jsonl'}"
  with pytest.raises(ValueError) as expected:
    preferences.load(source, on_bad_row="skip")
  with pytest.raises(SystemExit) as caught:
    doctor.main([f"--source={source}"])
  assert str(caught.value) == f"error: {expected.value}"


def test_severities_have_an_order_and_limits():
  assert [findings.severity(share) for share in (0, 0.009, 0.01, 0.099, 0.1)] == (
    ["ok", "note", "warning", "warning", "problem"]
  )
  assert findings.gravest(["note", "problem", "ok"]) == "problem"
  assert findings.gravest([]) == "ok"
  assert findings.percent(0.9995) == "99.95%" and findings.percent(0.5) == "50.0%"


def test_neither_real_dialogues_nor_real_judgements_leak(shared_data, tmp_path):
  """Many dialogues are turns of one conversation, which is in one fold as a whole."""
  words = text.train_tokenizer(["a b"], 258, tmp_path / "words")
  settings = encode.Settings(words, template.Template(), 256, 128)
  severities = {}
  for name, source, limit in (
    ("dialogues", f"hh:{shared_data / 'hh_harmless.jsonl.gz'}", None),
    ("judgements", f"jsonl:{shared_data / 'alpacaeval_gpt4_preferences.jsonl.gz'}", 500),
  ):
    loaded = preferences.load(source, on_bad_row="skip", limit=limit)
    found = examination.examine(loaded, settings, "bytes", preferences.Division())
    severities[name] = {one.name: one.severity for one in found.findings}
    assert rendering.headline(found) in rendering.text(found, width=200)
  assert severities["dialogues"]["leakage"] == "ok"
  assert severities["judgements"]["leakage"] == "ok"
  assert severities["judgements"]["position"] == "unknown"
