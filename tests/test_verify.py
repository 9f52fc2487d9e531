"""Two runs are compared bit by bit, and the first array that differs is named."""

import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import pytest
import tiny_run

from pit_jax.training import interruption, keeping, loop, operations, verify

ROOT = pathlib.Path(__file__).resolve().parent.parent


def train(workdir, stages=("a", "b"), stop=None, drift=0.0):
  """Trains stages of four steps; those after a restart drift, if asked to."""
  started = []
  surroundings = operations.Operations(keeping=keeping.Keeping(newest=4))

  def advance(state, step):
    is_off = started.count(stage) > 1 and step == 3
    return {"w": state["w"] * 0.5 + 1, "m": {"v": state["m"]["v"] + step + is_off * drift}}, {}, {}

  is_over = False
  while not is_over:
    try:
      for stage in stages:
        started.append(stage)
        with interruption.stopping(stop):
          loop.fit(
            stage,
            advance,
            {"w": jnp.arange(4.0), "m": {"v": jnp.zeros(2)}},
            steps=4,
            workdir=workdir,
            metadata={},
            log_every=1,
            save_every=1,
            surroundings=surroundings,
          )
      is_over = True
    except interruption.Interrupted as stopped:
      assert stopped.code == interruption.CODE == 143
  return started


def test_a_restart_that_changes_nothing_passes(tmp_path, capsys):
  assert train(tmp_path / "whole") == ["a", "b"]
  assert train(tmp_path / "parts", stop=2) == ["a", "a", "b", "a", "b"]
  capsys.readouterr()
  whole, parts = (verify.chain(tmp_path / name) for name in ("whole", "parts"))
  assert [(link.stage, link.step) for link in whole] == [(s, n) for s in "ab" for n in (1, 2, 3, 4)]
  assert len({link.digest for link in whole}) == 4, "both stages are alike, their steps are not"
  assert whole == parts
  assert verify.tell(whole, parts) == 0
  said = capsys.readouterr().out
  assert all(said.count(link.digest[:16]) == 4 for link in whole)
  assert "2 stages: a restart changes no bit" in said


def test_the_first_difference_is_named(tmp_path, capsys):
  train(tmp_path / "whole")
  train(tmp_path / "parts", stop=2, drift=1e-6)
  whole, parts = (verify.chain(tmp_path / name) for name in ("whole", "parts"))
  assert verify.tell(whole, parts) == 1
  said = capsys.readouterr().out.splitlines()[-1]
  assert said == "error: a, step 4: ['m']['v'] differ after a restart"
  assert verify.difference(whole, whole[:3]) == "8 steps were saved, with restarts 3"


def test_a_stop_must_lie_within_the_steps(tmp_path):
  with pytest.raises(ValueError, match="stop after 1 to 3"):
    verify.run({}, tmp_path, [], steps=4, stop=4)


def test_the_changes_reach_every_stage(tmp_path):
  config = tiny_run.config()
  changed = verify.changes(config.to_dict(), 4, tmp_path)
  config.update_from_flattened_dict(
    {k: v for k, v in changed.items() if "[" not in k and k != "data.cache"}
  )
  assert all(config[job].steps == 4 for job in ("sft", "reward", "gap_reward", "rl"))
  assert [changed[f"curriculum[{i}].steps"] for i in (0, 1)] == [4, 4]


@pytest.mark.slow
def test_the_command_verifies_a_recipe(tmp_path):
  flags = tiny_run.flags("rlhf")
  command = [sys.executable, "launch/train.py", "--config=configs/rlhf.py:tiny", *flags]
  command += [f"--workdir={tmp_path}", "--verify_resume", "--verify_steps=2", "--verify_stop=1"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  rows = re.findall(r"^(\w+) +(\d) +([0-9a-f]{16})  ([0-9a-f]{16})$", done.stdout, re.MULTILINE)
  assert [row[:2] for row in rows] == [
    (stage, step) for stage in ("sft_policy", "reward", "rl_policy") for step in "12"
  ]
  assert all(one == other for _, _, one, other in rows)
  assert "3 stages: a restart changes no bit" in done.stdout
  assert not [*tmp_path.rglob("report")], "states are compared, and nothing is evaluated"
