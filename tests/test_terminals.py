"""Words reach every terminal and every file, whatever alphabet the machine has."""

import ast
import importlib
import io
import pathlib
import subprocess
import sys

import pytest
from test_improve_file import improve_lines, models, start  # noqa: F401, fixtures

from pit_jax import __main__, terminal

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMANDS = __main__.names()
LIBRARY = [path for folder in ("pit_jax", "launch") for path in (ROOT / folder).rglob("*.py")]


def said(monkeypatch, encoding, call):
  """Returns the bytes that reach a terminal of this encoding."""
  streams = {
    name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")
  }
  with monkeypatch.context() as patch:
    for name, stream in streams.items():
      patch.setattr(sys, name, stream)
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    try:
      call()
    except SystemExit as ended:
      assert not ended.code, ended.code
    for stream in streams.values():
      stream.flush()
  return streams["stdout"].buffer.getvalue()


@pytest.mark.parametrize("columns", ["80", "40"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_on_narrow_terminals_of_any_alphabet(
  name, columns, monkeypatch
):
  monkeypatch.setenv("COLUMNS", columns)
  module = importlib.import_module(f"pit_jax.commands.{name}")
  for encoding in ("ascii", "latin-1"):
    help_text = said(monkeypatch, encoding, lambda: module.main(["--help"]))
    assert b"usage:" in help_text and module.__doc__.split()[0].encode() in help_text


def test_an_interrupted_command_ends_in_a_line(capsys):
  @terminal.command
  def main(_):
    raise KeyboardInterrupt

  with pytest.raises(SystemExit) as ended:
    main([])
  assert ended.value.code == 130 and ended.value.__suppress_context__
  assert capsys.readouterr().err.strip().startswith("interrupted; ")


def test_a_command_that_tells_much_tells_it_in_ascii(monkeypatch):
  doctor = importlib.import_module("pit_jax.commands.doctor")
  told = said(monkeypatch, "ascii", lambda: doctor.main(["--source=synthetic", "--rows=200"]))
  assert b"200" in told and told.isascii()


@pytest.mark.parametrize(
  ("encoding", "text", "expected"),
  [
    ("ascii", "Δ +3.1 · [−1.0 … 2.0] × café — “so”", b'Delta +3.1 . [-1.0 ... 2.0] x cafe - "so"'),
    ("latin-1", "café × Δ", "café × Delta".encode("latin-1")),
    ("ascii", "你好", rb"\u4f60\u597d"),
    ("utf-8", "lone \ud800 surrogate", rb"lone \ud800 surrogate"),
    ("cp437", "Δ 你", rb"Delta \u4f60"),
  ],
)  # fmt: skip
def test_what_an_alphabet_lacks_is_written_in_plain_letters(monkeypatch, encoding, text, expected):
  def call():
    terminal.reach_terminals()
    print(text, end="")

  assert said(monkeypatch, encoding, call) == expected


def test_typed_words_of_another_alphabet_are_read(monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="ascii"))
  terminal.reach_terminals()
  assert sys.stdin.readline() == "caf\ufffd\n"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_written_and_read_in_utf8_whatever_the_machine_prefers(path):
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
      continue
    # Our own functions of these names take more than a path's methods do.
    if {"read_text": 0, "write_text": 1}.get(node.func.attr) == len(node.args):
      named = {keyword.arg for keyword in node.keywords}
      assert "encoding" in named, f"line {node.lineno} depends on the machine"


def test_output_rows_can_be_input_rows(start, models, tmp_path):  # noqa: F811
  mended = {"prompt": "what ?", "response": "so .", "error": "broken JSON", "line": 7, "id": 3}
  again = {"prompt": "who ?", "improved": "old", "rounds": [1], "stopped": 1, "line": "of mine"}
  broken = {"prompt": 3, "improved": "old", "rounds": [], "stopped": None}
  rows = improve_lines(start, tmp_path, [mended, again, broken], "--rounds=1")
  told = {"improved", "rounds", "stopped", "drafted_by", "is_cut"}
  assert rows[0].keys() == {"prompt", "response", "id"} | told
  assert rows[1]["line"] == "of mine" and rows[1]["rounds"] != [1]
  assert rows[2].keys() == {"prompt", "line", "error"} and rows[2]["line"] == 3
  twice = improve_lines(start, tmp_path, rows[:2], "--rounds=1")
  assert [row.keys() for row in twice] == [row.keys() for row in rows[:2]]


def test_checkpoints_without_a_score_are_no_warning():
  """Of a stage that keeps its best step Orbax warns at every save between two validations."""
  code = (
    "from pit_jax import terminal; terminal.quiet()\n"
    "from absl import logging\n"
    "logging.warning('Requested `tracked_metric`; did not provide metrics.')\n"
    "logging.warning('disk is nearly full')\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert "disk is nearly full" in done.stderr and "tracked_metric" not in done.stderr
