"""launch/improve.py: files of answers in and out, and what is typed in."""

import functools
import gzip
import io
import json
import sys

import jax
import pytest
import tiny_models

from pit_jax import parallel
from pit_jax.api import runs
from pit_jax.commands import improve
from pit_jax.data import questions
from pit_jax.exchange import export
from pit_jax.improve import improvement
from pit_jax.tools import improving

GOOD = [
  {"prompt": "what is it ?", "response": "the word", "id": 7, "tags": ["é", None]},
  {"prompt": "the last word ?"},
  {"id": 9, "response": None, "prompt": " this \n"},
]
WRONG = "--rounds=0 --temperature=-1 --margin=nan --batch_size=0 --stop_rule=x --input=x"
BAD = [b"{broken", b'["prompt"]', b'{"id": 1}', b'{"prompt": 3, "line": 0, "id": 2}', b"caf\xe9"]


@pytest.fixture(scope="module")
def models(tiny_export):
  """The run, loaded once: the same compiled programs serve all tests."""
  return export.load(tiny_export, mesh=parallel.make_mesh((1, 1, 1)), batch_size=2)


@pytest.fixture
def start(tiny_export, models, monkeypatch):
  """Returns a function that runs the command line."""

  def load(workdir, *, mesh, batch_size):
    assert mesh.size == 1 and batch_size in (1, 2)
    return models

  def run(*arguments):
    settings = ["--mesh=1,1,1", "--batch_size=2", "--temperature=0", *arguments]
    improve.main([f"--workdir={tiny_export}", *map(str, settings)])

  monkeypatch.setattr(export, "load", load)
  return run


@pytest.fixture
def script(monkeypatch):
  """Returns a function of the raw gap of every version, which replaces the models."""
  return functools.partial(tiny_models.script, monkeypatch)


def write_lines(path, lines):
  data = b"\n".join(json.dumps(x).encode() if isinstance(x, dict) else x for x in lines) + b"\n"
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def read_lines(path):
  data = path.read_bytes()
  data = gzip.decompress(data) if path.suffix == ".gz" else data
  return [json.loads(line) for line in data.decode("utf-8").split("\n")[:-1]]


def improve_lines(start, tmp_path, lines, *arguments, source="in.jsonl", target="out.jsonl"):
  given = write_lines(tmp_path / source, lines)
  start(f"--input={given}", f"--output={tmp_path / target}", *arguments)
  return read_lines(tmp_path / target)


def test_rows_come_back_with_what_the_models_say(start, models, tmp_path, capsys):
  found = improve_lines(start, tmp_path, GOOD, "--rounds=2")
  for given, row in zip(GOOD, found, strict=True):
    assert row.keys() == given.keys() | {"response", *improving.RESULT}
    assert row["drafted_by"] == ("policy" if given.get("response") is None else "input")
    kept = {name: row[name] for name in given if given[name] is not None}
    assert kept == {name: value for name, value in given.items() if value is not None}
    prompt, texts = given["prompt"].strip(), [row["response"]]
    if given.get("response") is None:
      assert texts == models.inference.answer(models.policy, [prompt], jax.random.key(0), 0.0)
    for version in row["rounds"]:
      orders = [version["text"], texts[-1]], [texts[-1], version["text"]]
      forth, back = models.inference.gaps(models.gap_reward, [prompt] * 2, *orders)
      assert version["gap"] == pytest.approx((forth - back) / 2, abs=1e-4)
      texts.append(version["text"])
    gains = [version["gap"] > 0 for version in row["rounds"]]
    assert all(gains[:-1]) and row["stopped"] == (None if gains[-1] else len(gains))
    assert row["improved"] == texts[sum(gains)]
  summary = capsys.readouterr().out
  improved = sum(row["rounds"][0]["gap"] > 0 for row in found)
  stopped = sum(row["stopped"] is not None for row in found)
  assert f"out.jsonl: 3 rows: {improved} improved, {stopped} stopped" in summary
  assert "0 errors\n" in summary and "2 drafts written by the policy" in summary


def test_bad_rows_say_why_and_the_others_go_on(start, script, tmp_path, capsys):
  script(1.25, 0.125)
  lines = [line for bad in BAD for line in (bad, GOOD[0])] + [b"", b"  "]
  found = improve_lines(start, tmp_path, lines)
  assert len(found) == 2 * len(BAD)
  for i, line in enumerate(BAD):
    row, good = found[2 * i], found[2 * i + 1]
    fields = json.loads(line) if b'"id"' in line else {}
    assert row == fields | {"line": 2 * i + 1, "error": row["error"]} and row["error"]
    assert good["improved"] == "the word'" and good["stopped"] == 2
  summary = capsys.readouterr().out
  assert "10 rows: 5 improved, 5 stopped by the stop rule, 5 errors\n" in summary
  assert "the first error: line 1: broken JSON: " in summary and "drafts" not in summary


def test_drafts_under_other_names_are_not_lost_without_a_word(start, script, tmp_path, capsys):
  script(1.0, -1.0)
  lines = [
    {"prompt": "x", "answer": "mine", "id": 3},
    {"prompt": "y", "response": "", "draft": "z"},
  ]
  found = improve_lines(start, tmp_path, lines)
  assert [row["drafted_by"] for row in found] == ["policy", "policy"]
  assert (
    "2 drafts written by the policy: no row has a 'response'; fields of theirs that are not read: "
    "answer (1), id (1), draft (1)\n"
  ) in capsys.readouterr().out

  # An output is an input too: what the policy wrote is then given, and nothing of it is unread.
  start(f"--input={tmp_path / 'out.jsonl'}", f"--output={tmp_path / 'again.jsonl'}")
  assert [row["drafted_by"] for row in read_lines(tmp_path / "again.jsonl")] == ["input"] * 2
  improve_lines(start, tmp_path, [GOOD[0], {"prompt": "x"}])
  shown = capsys.readouterr().out
  assert shown.endswith("1 draft written by the policy: the others have a 'response'\n")


@pytest.mark.parametrize(
  "arguments, improved, gaps, stopped",
  [
    (["--rounds=4"], "the word''", [0.5, 0.25, -0.5], 3),
    (["--rounds=2"], "the word''", [0.5, 0.25], None),
    (["--margin=0.25"], "the word'", [0.5, 0.25], 2),
    (["--rounds=1", "--stop_rule=draft_zero"], "the word'", [0.25], None),  # 0.75 − 0.5
    (["--rounds=4", "--margin=-inf"], "the word''''", [0.5, 0.25, -0.5, 1.0], None),
  ],
)
def test_the_stop_rule(start, script, tmp_path, arguments, improved, gaps, stopped):
  script(0.75, 0.5, -0.25, 1.25, own=0.5)  # in both orders: 0.5, 0.25, −0.5, 1
  (row,) = improve_lines(start, tmp_path, GOOD[:1], *arguments)
  assert row["improved"] == improved and row["stopped"] == stopped
  assert [version["gap"] for version in row["rounds"]] == gaps
  assert [version["text"] for version in row["rounds"]] == [
    "the word" + "'" * k for k in range(1, len(gaps) + 1)
  ]


def test_order_is_kept_over_many_chunks(start, script, tmp_path):
  script(1.0, -1.0)
  lines = [{"prompt": f"x {i}", "response": f"y {i}"} if i % 5 else b"{" for i in range(50)]
  found = improve_lines(start, tmp_path, lines)
  for i, row in enumerate(found):
    assert row.get("improved") == (f"y {i}'" if i % 5 else None)
    assert row.get("line") == (None if i % 5 else i + 1)
  assert len(found) == 50 > 2 * improving.BATCHES * 2


def test_a_huge_input_streams(models, script, tiny_export):
  script(1.0, -1.0)
  taken = []

  def endless():
    while True:
      taken.append(1)
      yield questions.Question(len(taken), {}, "x", "y")

  run = runs.load(tiny_export, batch_size=2, mesh=(1, 1, 1))
  rows = improving.improve_rows(run, endless(), improving.Asking(), improving.Summary())
  next(rows)
  assert len(taken) == improving.BATCHES * models.inference.batch_size


def test_gzip_in_and_out(start, script, tmp_path):
  script(1.0, -1.0)
  plain = improve_lines(start, tmp_path, GOOD)
  names = {"source": "in.jsonl.gz", "target": "out.jsonl.gz"}
  assert improve_lines(start, tmp_path, GOOD, **names) == plain
  mistaken = (tmp_path / "in.jsonl.gz").rename(tmp_path / "in.txt")  # known by content, not name
  start(f"--input={mistaken}", f"--output={tmp_path / 'out.jsonl'}")
  assert read_lines(tmp_path / "out.jsonl") == plain


def test_standard_input_and_output(start, script, tmp_path, monkeypatch, capfdbinary):
  script(1.0, -1.0)
  plain = improve_lines(start, tmp_path, GOOD)
  raw = (tmp_path / "in.jsonl").read_bytes()
  capfdbinary.readouterr()
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(raw))))
  start("--input=-", "--output=-")
  captured = capfdbinary.readouterr()
  assert [json.loads(line) for line in captured.out.splitlines()] == plain
  assert captured.err.decode().startswith("3 rows: 3 improved")


def test_text_stays_as_it_was(start, script, tmp_path):
  """Readable letters stay readable; half a surrogate pair outside the prompt is no error."""
  script(1.0, -1.0)
  lines = [
    {"prompt": "日本 ü", "response": "é"},
    b'{"prompt": "x", "response": "y", "z": "\\ud800"}',
  ]
  found = improve_lines(start, tmp_path, lines)
  assert found[0]["improved"] == "é'" and found[1]["z"] == "\ud800"
  assert "日本 ü".encode() in (tmp_path / "out.jsonl").read_bytes()


def test_the_summary_of_shortened_rows_and_of_none(start, script, tmp_path, capsys):
  script(1.0, -1.0)
  assert improve_lines(start, tmp_path, [b"", b" "]) == []
  assert "0 rows: 0 improved, 0 stopped by the stop rule, 0 errors" in capsys.readouterr().out
  lines = [{"prompt": "x " * 99, "response": "y"}, {"prompt": "x", "response": "y " * 99}]
  found = improve_lines(start, tmp_path, [GOOD[0], *lines])
  assert [row["is_cut"] for row in found] == [False, True, True]
  assert (
    "2 cut to the length limits, 32 tokens of a prompt and 16 of a response, the first at line 2"
  ) in capsys.readouterr().out


def test_the_seed_decides_the_samples(start, tmp_path):
  def sample(seed):
    lines = [{"prompt": "what is it ?"}] * 20  # more than a chunk
    arguments = ["--rounds=1", "--temperature=1", f"--seed={seed}"]
    return improve_lines(start, tmp_path, lines, *arguments)

  first = sample(0)
  assert first == sample(0) != sample(1)
  assert len({row["response"] for row in first}) == 20  # every row has noise of its own


def test_the_input_is_never_overwritten(start, tmp_path):
  path = write_lines(tmp_path / "in.jsonl", GOOD)
  before = path.read_bytes()
  (tmp_path / "link").symlink_to(path)
  for name in (path, tmp_path / "link", tmp_path / "." / "in.jsonl"):
    with pytest.raises(SystemExit, match="is the input"):
      start(f"--input={path}", f"--output={name}")
  assert path.read_bytes() == before


def test_outputs_that_cannot_be_written_are_refused_at_once(start, tmp_path, monkeypatch):
  monkeypatch.setattr(export, "load", None)  # no model is loaded for nothing
  path = write_lines(tmp_path / "in.jsonl", GOOD)
  for output, message in (
    ("absent/out", "no folder"),
    (".", "not a regular file"),
    ("o.csv", "as JSON lines"),
  ):
    with pytest.raises(SystemExit, match=message):
      start(f"--input={path}", f"--output={tmp_path / output}")
  with pytest.raises(SystemExit, match=r"none\.jsonl: No such file"):
    start(f"--input={tmp_path / 'none.jsonl'}", f"--output={tmp_path / 'out.jsonl'}")


def test_a_failure_leaves_the_older_output(start, tmp_path, monkeypatch):
  older = write_lines(tmp_path / "out.jsonl", [b'"older"'])
  calls = []

  def fail_at_the_second_chunk(*arguments, **settings):
    calls.append(1)
    if len(calls) == 2:
      raise RuntimeError("out of memory")
    return original(*arguments, **settings)

  original = improvement.improve
  monkeypatch.setattr(improvement, "improve", fail_at_the_second_chunk)
  with pytest.raises(RuntimeError, match="out of memory"):
    improve_lines(start, tmp_path, GOOD * 10, "--rounds=1")
  assert read_lines(older) == ["older"]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("argument", WRONG.split())
def test_senseless_arguments_are_refused(start, argument):
  with pytest.raises(SystemExit, match=f"error: .*{argument.split('=')[0]}"):
    start(argument)


def test_a_run_that_is_not_finished_is_named(tmp_path):
  with pytest.raises(SystemExit, match="no finished run"):
    improve.main([f"--workdir={tmp_path}"])


def test_a_folder_that_is_not_there_is_named_as_one(tmp_path):
  with pytest.raises(SystemExit, match="there is no folder .*/missing "):
    improve.main([f"--workdir={tmp_path}/missing"])


def converse(start, monkeypatch, capsys, typed, *arguments):
  monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
  start(*arguments)
  return capsys.readouterr().out


def test_typed_in_answers_are_improved_until_the_stop_rule(start, script, monkeypatch, capsys):
  script(0.75, 0.5, -0.25, 1.25)
  shown = converse(start, monkeypatch, capsys, "what ?\nthe word\n\n", "--rounds=4")
  versions = [line.split() for line in shown.splitlines() if "the word" in line]
  assert versions == [
    ["0", "the", "word"],
    ["1", "+0.500", "the", "word'"],
    ["2", "+0.250", "the", "word''"],
    ["3", "-0.500", "the", "word'''"],
  ]
  assert "\nkept: version 2; version 3 is not better by more than 0\n" in shown


def test_a_typed_draft_without_a_better_version_is_kept(start, script, monkeypatch, capsys):
  script(0.25, 0.125)
  shown = converse(start, monkeypatch, capsys, "what ?\nthe word\n\n")
  assert "\nkept: version 0 (the draft); version 1 is not better by more than 0\n" in shown


TALK = [{"role": "user", "content": "what ?"}, {"role": "assistant", "content": "the word"}]
TALK += [{"role": "user", "content": "this ?"}]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_conversation_is_pasted_as_json(start, script, monkeypatch, capsys, indent):
  script(1.0, 2.0)
  asked = []
  check = questions.check
  note = lambda fields, *rest: asked.append(fields["prompt"]) or check(fields, *rest)  # noqa: E731
  monkeypatch.setattr(questions, "check", note)
  typed = f"{json.dumps(TALK, indent=indent)}\nthe word\n\n"
  shown = converse(start, monkeypatch, capsys, typed, "--rounds=1")
  assert asked == [TALK] and "read as a conversation, messages: 3\n" in shown
  assert "kept: version 1; --rounds=1 are made" in shown


def test_json_that_is_no_conversation_is_said_to_be_a_text(start, script, monkeypatch, capsys):
  script(1.0, 2.0)
  typed = f"{json.dumps(TALK)[:-1]}\nthe word\n\n"
  shown = converse(start, monkeypatch, capsys, typed, "--rounds=1")
  assert "read as a text: it is no JSON list of messages {role, content}\n" in shown
  shown = converse(start, monkeypatch, capsys, "[this] what ?\nthe word\n\n", "--rounds=1")
  assert "read as" not in shown


def test_without_a_draft_the_policy_writes_one(start, models, script, monkeypatch, capsys):
  script(1.0, 1.0)
  # Two prompts, the second after an error; the input ends without an empty line.
  typed = "what ?\n\nbad \ud800\n\nthis\nno"
  shown = converse(start, monkeypatch, capsys, typed, "--rounds=2")
  (answer,) = models.inference.answer(models.policy, ["what ?"], jax.random.key(0), 0.0)
  assert f"  0           {answer}\n" in shown and f"  1    +0.750  {answer}'\n" in shown
  assert "error: invalid UTF-8" in shown
  assert "  2    +0.750  no''\n" in shown
  ended = "kept: version 2; --rounds=2 are made, each better by more than 0\n"
  assert shown.count(ended) == 2
