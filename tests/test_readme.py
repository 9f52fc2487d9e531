"""What the README tells people to type, typed: in an empty folder, cut down to seconds."""

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

from pit_jax.data import text
from pit_jax.exchange import hf
from pit_jax.tasks import synthetic

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8")


def commands():
  """Returns the command lines of the README's blocks, continued lines joined, without comments."""
  blocks = "\n".join(re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
  lines = blocks.replace("\\\n", " ").splitlines()
  return [
    shlex.split(line, comments=True) for line in lines if re.match(r"(make|pip|python) ", line)
  ]


def run(command, folder):
  """Runs a command as a user would, with this environment's Python first on the path."""
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
  done = subprocess.run(
    command,
    cwd=folder,
    env=environment | {"PATH": path},
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
  return done.stdout


def tree():
  """Returns what docs/tree.md says of every path, folders with their slash."""
  block = TREE.split("```")[1]
  above, found = [], {}
  for line in block.strip().splitlines():
    indent, name, clause = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
    above = [*above[: len(indent) // 2], name]
    found["".join(above)] = clause
  return found


def test_the_tree_has_a_clause_for_every_file_and_no_other():
  told = tree()
  files = {
    path.relative_to(ROOT).as_posix()
    for folder in ("configs", "launch", "pit_jax")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".yaml") and path.name != "__init__.py"
  }
  assert {path for path in told if not path.endswith("/")} == files
  assert all((ROOT / path).exists() for path in told)
  assert [path for path in files if not told[path]] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with the project's commands, a downloaded model, and the two files of a user."""
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
  for start in ("make demo", "make test", "pip install -e .", "python launch/train.py"):
    assert any(line.startswith(start) for line in said), start


@pytest.mark.parametrize(
  "target", sorted(set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)))
)
def test_every_make_target_it_names_exists(folder, target):
  assert run(["make", "-n", target], folder)


@pytest.mark.slow
def test_the_demo_runs(folder):
  (command,) = [
    line for line in run(["make", "-n", "demo"], folder).splitlines() if "launch" in line
  ]
  demo = [sys.executable, *shlex.split(command)[1:], *tiny_run.flags()]
  said = run(demo, folder)
  assert "held-out" in said or "supports no claim" in said  # so small a run may find either
  assert (folder / "runs" / "demo" / "report" / "report.html").exists()


@pytest.mark.slow
def test_bringing_preferences_of_ones_own_runs(folder):
  for command in commands():
    if command[0] == "python":  # `make` has installed the package, and runs nothing else here
      trains = "launch/train.py" in command
      small = [flag for flag in tiny_run.flags() if trains and "data.source" not in flag]
      # After --config, which they change; the README's own flags come last and win.
      run([*command[:3], *small, *command[3:]], folder)
  answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
  assert len(answers) == 2 and not any("error" in row for row in answers)
  described = json.loads((folder / "out" / "improver" / "config.json").read_text())
  assert (described["hidden_size"], described["dtype"]) == (32, "bfloat16")
