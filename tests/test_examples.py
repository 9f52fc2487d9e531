"""The examples run, each in a process of its own and at a tiny size."""

import contextlib
import json
import os
import pathlib
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


def run(name, folder, flags):
  """Runs an example in a folder, and returns what it prints."""
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


@pytest.mark.slow
def test_training_and_improving(tmp_path):
  said = run("train_and_improve.py", tmp_path, tiny_run.flags("pit"))
  assert "R_P of what is kept: [" in said and said.count("Which street") == 3


@pytest.mark.slow
def test_preferences_of_ones_own(tmp_path):
  said = run("own_preferences.py", tmp_path, tiny_run.flags("reward"))
  assert "1000 rows can be used; left out: none" in said and "R_PIT of the better" in said


@pytest.mark.slow
def test_a_reward_function(tmp_path):
  said = run("reward_function.py", tmp_path, tiny_run.flags("rlhf"))
  assert "words per letter of the policy" in said
  lines = (tmp_path / "run" / "metrics" / "rl_policy.jsonl").read_text().splitlines()
  assert "objective/rewards/reward_function:brevity" in json.loads(lines[-1])


@pytest.mark.slow
def test_dpo(tmp_path):
  said = run("dpo.py", tmp_path, tiny_run.flags("dpo", **SMALL_DPO))
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
