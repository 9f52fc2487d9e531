"""What the README tells people to type, typed: in an empty folder, cut down to seconds."""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import test_gguf
import tiny
import tiny_run

from pit_jax import __main__ as cli
from pit_jax.data import text
from pit_jax.exchange import hf
from pit_jax.tasks import synthetic

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
DEMO = "--workdir=runs/demo"


def commands():
  """Returns the command lines of the README's blocks, continued lines joined, without comments."""
  # All blocks are read, so that none ends where another begins.
  blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
  lines = "\n".join(text for language, text in blocks if not language)
  lines = lines.replace("\\\n", " ").splitlines()
  return [shlex.split(line, comments=True) for line in lines if re.match(r"(make|pip|pit) ", line)]


def run(command, folder):
  """Runs a command as a user would, with this environment's Python first on the path."""
  path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
  python_path = f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"
  # The entry point of an installation does no more than this.
  words = [sys.executable, "-m", "pit_jax", *command[1:]] if command[0] == "pit" else command
  done = subprocess.run(
    words,
    cwd=folder,
    env=os.environ | {"PATH": path, "PYTHONPATH": python_path},
    capture_output=True,
    text=True,
    timeout=900,
    stdin=subprocess.DEVNULL,
  )
  assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
  return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with the project's make targets, a downloaded model, and the two files of a user."""
  folder = tmp_path_factory.mktemp("reader")
  for name in ("Makefile", "setup.py", "configs", "launch"):
    (folder / name).symlink_to(ROOT / name)
  rows = synthetic.preferences(150, seed=1)
  (folder / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  asked = [{"prompt": rows[0]["prompt"]}, {"prompt": rows[1]["prompt"], "response": "Hi."}]
  (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
  model = tiny.language(**test_gguf.SHAPE | {"vocabulary": 300, "layers": 1})
  params = tiny.parameters(model, seed=0, scale=0.1)
  test_gguf.write_words(folder / "words.gguf")
  words, published = text.load_tokenizer(folder / "words.gguf"), folder / "models" / "published"
  hf.save(published, model, params, **words.special_ids)
  words.save(published)
  return folder


def test_the_readme_says_what_to_type():
  said = [" ".join(command) for command in commands()]
  for start in ("pip install .", "pip install .[cuda]", "pip install .[tpu]", "pit train"):
    assert any(line.startswith(start) for line in said), start
  for target in ("make demo", "make test"):
    assert f"`{target}`" in README


def test_the_readme_is_short_and_has_one_picture_and_its_extras():
  assert len(README.splitlines()) <= 200
  (picture,) = re.findall(r'<img src="([^"]+)"', README)
  assert (ROOT / picture).stat().st_size < 200_000
  setup = (ROOT / "setup.py").read_text(encoding="utf-8")
  for extra in re.findall(r"\.\[(\w+)\]", README):
    assert f'"{extra}": ' in setup


def test_every_figure_of_its_table_and_picture_stands_among_the_results():
  figures = re.findall(r"[+−]\d+\.\d", README)
  assert len(figures) > 10
  assert [figure for figure in figures if figure not in RESULTS] == []
  drawn = re.search(r"(\d+)% of (\d+) held-out prompts, (\d+)% equal, (\d+)% worse", README)
  (row,) = re.findall(r"^\| pit \| original \| 1 \| gold \|.*$", RESULTS, re.MULTILINE)
  win, tie, lose = (f"{float(cell):.0f}" for cell in row.split("|")[-4:-1])
  assert drawn.groups() == (win, "768", tie, lose)
  picture = (ROOT / "docs" / "images" / "pit.svg").read_text(encoding="utf-8")
  assert f"768 prompts: {win}% better, {tie}% equal, {lose}% worse" in picture


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)", README))))
def test_every_make_target_it_names_exists(folder, target):
  assert run(["make", "-n", target], folder)


def test_make_demo_trains_what_the_readme_names(folder):
  (line,) = [line for line in run(["make", "-n", "demo"], folder).splitlines() if "launch" in line]
  (typed,) = [command for command in commands() if command[1:2] == ["train"] and DEMO in command]
  flags = [word.replace("configs/pit.py:", "pit:") for word in shlex.split(line)[2:]]
  assert sorted(flags) == sorted(typed[2:])


@pytest.mark.slow
def test_the_demo_runs_and_the_ten_lines_of_python_too(folder, monkeypatch):
  (command,) = [
    line for line in run(["make", "-n", "demo"], folder).splitlines() if "launch" in line
  ]
  demo = [sys.executable, *shlex.split(command)[1:], *tiny_run.flags()]
  said = run(demo, folder)
  assert "held-out" in said or "supports no claim" in said  # so small a run may find either
  assert (folder / "runs" / "demo" / "report" / "report.html").exists()
  assert "prompt" in run(["pit", "improve", DEMO], folder)

  (lines,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
  monkeypatch.chdir(folder)
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(compile(lines, "README.md", "exec"), {})
  assert " → " in printed.getvalue()


@pytest.mark.slow
def test_bringing_preferences_of_ones_own_runs(folder, unrendered, monkeypatch):
  """In this process; the demo has shown that a command is one."""
  monkeypatch.chdir(folder)
  monkeypatch.setattr(sys, "argv", sys.argv)  # which the command line replaces
  for command in commands():
    if command[0] == "pit" and DEMO not in command:  # pip has installed the package
      trains = command[1] == "train"
      small = [flag for flag in tiny_run.flags() if trains and "data.source" not in flag]
      # After --config, which they change; the README's own flags come last and win.
      with tiny_run.here():
        cli.main([*command[1:3], *small, *command[3:]])
  answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
  assert len(answers) == 2 and not any("error" in row for row in answers)
  described = json.loads((folder / "out" / "improver" / "config.json").read_text())
  assert (described["hidden_size"], described["dtype"]) == (32, "bfloat16")
