"""The examples run at a tiny size: two in processes of their own, the others in the tests' own.

There other tests have traced what they compute; that a file is a program, the two show.
"""

import contextlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import tiny_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALL_DPO = {"dpo__steps": 3, "dpo__batch_size": 8, "dpo__evaluate_every": 3}


def environment():
  """Returns the environment of somebody who has installed the library."""
  path = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
  return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


def start(name, folder, flags):
  """Runs an example in a process of its own, and returns what it prints."""
  command = [sys.executable, str(ROOT / "examples" / name), "run", *flags]
  settings = {"capture_output": True, "text": True, "timeout": 900, "env": environment()}
  done = subprocess.run(command, cwd=folder, **settings)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_examples_are_short_and_say_how_they_are_called():
  assert len(EXAMPLES) == 5
  for path in EXAMPLES:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60, path.name
    assert f"python examples/{path.name} runs/" in text


@pytest.fixture
def run(monkeypatch, tmp_path, unrendered, capsys):
  """Returns a function that runs an example in this process, and returns what it prints."""

  def run(name, flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "run", *flags])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out

  return run


@pytest.mark.slow
def test_training_and_improving(run):
  said = run("train_and_improve.py", tiny_run.flags("pit"))
  assert "R_P of what is kept: [" in said and said.count("Which street") == 3


@pytest.mark.slow
def test_preferences_of_ones_own(run):
  said = run("own_preferences.py", tiny_run.flags("reward"))
  assert "1000 rows can be used; left out: none" in said and "R_PIT of the better" in said


@pytest.mark.slow
def test_a_reward_function(tmp_path):
  flags = tiny_run.flags("rlhf", frontier__checkpoints=0)
  said = start("reward_function.py", tmp_path, flags)
  assert "words per letter of the policy" in said
  lines = (tmp_path / "run" / "metrics" / "rl_policy.jsonl").read_text().splitlines()
  assert "objective/rewards/reward_function:brevity" in json.loads(lines[-1])


@pytest.mark.slow
def test_dpo(run):
  said = run("dpo.py", tiny_run.flags("dpo", **SMALL_DPO))
  assert "chosen responses gained" in said and " by gold: " in said


@contextlib.contextmanager
def served(workdir):
  """Yields the address of the example's server."""
  command = [sys.executable, str(ROOT / "examples" / "serve.py"), str(workdir), "0"]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
    try:
      yield process.stdout.readline().split()[-1]
    finally:
      process.terminate()


def ask(address, content):
  """Returns the server's reply to a request."""
  request = urllib.request.Request(address, json.dumps(content).encode())
  try:
    with urllib.request.urlopen(request, timeout=300) as reply:
      return json.load(reply)
  except urllib.error.HTTPError as error:
    return json.load(error)


@pytest.mark.slow
def test_serving(finished_run):
  with served(finished_run.workdir) as address:
    made = ask(address, {"prompt": "Which street gets call 5?", "draft": "Hi."})
    assert made["draft"] == "Hi." and len(made["rounds"]) >= 1 and made["why"]
    assert ask(address, {"prompt": "Which street gets call 5?"})["draft"]
    assert "error" in ask(address, {"draft": "Hi."})
