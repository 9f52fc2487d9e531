"""A whole run killed in every kind of stage ends, bit by bit, like one left alone."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import tiny_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS, SAVED = (
  5,
  2,
)  # killed at the end of step 4: two steps after a checkpoint, one before the last

# Runs launch/train.py in a process that kills itself, either while a stage takes its fourth step
# or at the moment a finished file gets its name.
KILLER = f"""
import os, pathlib, runpy, signal, sys, time

kind, where = sys.argv[1].split(":")
workdir = pathlib.Path(sys.argv[2])
sys.argv = ["launch/train.py", f"--workdir={{workdir}}", *sys.argv[3:]]
from pit_jax.training import loop

fit, replace = loop.fit, os.replace

def die():
  os.kill(os.getpid(), signal.SIGKILL)

def mortal_fit(stage, advance, *rest, **settings):
  def mortal(state, index):
    if kind == "step" and stage == where and index == {STEPS - 2}:
      while not (workdir / "checkpoints" / stage / "{SAVED}").exists():  # saved in the background
        time.sleep(0.05)
      die()
    return advance(state, index)
  return fit(stage, mortal, *rest, **settings)

def mortal_replace(source, target, **settings):
  if kind == "file" and pathlib.Path(target).name == where:
    die()
  return replace(source, target, **settings)

loop.fit, os.replace = mortal_fit, mortal_replace
runpy.run_path("launch/train.py", run_name="__main__")
"""

KILLS = {  # where → what the run says next time
  "step:sft_policy": "sft_policy: continues after step 2 of 5",
  "step:reward": "reward: continues after step 2 of 5",
  "file:reward.json": "reward: finished before",
  "step:rl_policy": "rl_policy: continues after step 2 of 5",
  "step:gap_reward": "gap_reward: continues after step 2 of 5",
  "file:policy.jsonl": "gap_reward: finished before",
  "step:pit_policy": "pit_policy: continues after step 2 of 5",
  "file:results.json": "pit_policy: finished before",
}


def launch(code: list[str], environment: dict) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, *code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
  )


def final_states(workdir: pathlib.Path) -> dict:
  """Returns the checksums of all arrays of every stage's last checkpoint, optimisers included."""
  stages = sorted((workdir / "checkpoints").iterdir())
  records = {
    stage.name: json.loads(next((stage / str(STEPS) / "record").glob("metadata")).read_text())
    for stage in stages
  }
  return {name: (record["checksums"], record["arrays"]) for name, record in records.items()}


def results(workdir: pathlib.Path) -> dict:
  found = json.loads((workdir / "report" / "results.json").read_text())
  del found["seconds"]
  return found


def logged(workdir: pathlib.Path) -> dict:
  """Returns metrics and samples of every stage, less what measures time."""
  rows = {
    path.relative_to(workdir).as_posix(): [json.loads(line) for line in path.open()]
    for folder in ("metrics", "samples")
    for path in (workdir / folder).iterdir()
  }
  return {
    name: [{key: row[key] for key in row if not key.startswith("perf/")} for row in lines]
    for name, lines in rows.items()
  }


@pytest.mark.slow
def test_a_run_killed_in_every_kind_of_stage_ends_like_one_left_alone(tmp_path):
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  steps = {f"{stage}__steps": STEPS for stage in ("sft", "reward", "gap_reward", "rl")}
  changes = {"save_every": SAVED, "save_every_rl": SAVED, **steps}
  settings = ["--config=configs/pit.py:tiny", *tiny_run.flags(**changes)]
  settings += [f"--config.curriculum[{i}].steps={STEPS}" for i in (0, 1)]
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  run = launch(["launch/train.py", f"--workdir={undisturbed}", *settings], environment)
  assert run.returncode == 0, run.stderr

  said = ""
  for kill, expected in KILLS.items():
    run = launch(["-c", KILLER, kill, str(killed), *settings], environment)
    assert run.returncode == -signal.SIGKILL, f"{kill}: {run.stdout}{run.stderr}"
    assert said in run.stdout, f"before {kill}"
    said = expected
  assert not (killed / "report" / "results.json").exists()
  run = launch(["launch/train.py", f"--workdir={killed}", *settings], environment)
  assert run.returncode == 0, run.stderr
  assert said in run.stdout

  assert len(final_states(undisturbed)) == 7, "policy: 3, improver: 4"
  assert final_states(killed) == final_states(undisturbed)
  assert logged(killed) == logged(undisturbed)
  assert results(killed) == results(undisturbed)
  written = [tiny_run.files(workdir / "models") for workdir in (killed, undisturbed)]
  assert written[0] == written[1]
  assert any(name.endswith("model.safetensors") for name in written[0])
  for name in ("references/policy.jsonl", "calibration/reward.json", "calibration/gap_reward.json"):
    assert (killed / name).read_bytes() == (undisturbed / name).read_bytes(), name
