"""Signals end a stage at any moment; it goes on as if they had not come."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import test_loop

from pit_jax.training import checkpoint, interruption

CHILD = textwrap.dedent("""
  import os, signal, sys
  import jax, numpy as np
  sys.path.insert(0, {tests!r})
  import test_loop
  from pit_jax.training import loop

  def advance(state, step):
    if step == {kill_at}:
      os.kill(os.getpid(), signal.{kill})
    return *test_loop.toy_step(state, step), {{}}

  state = loop.fit("toy", advance, test_loop.make_state(), steps=23, log_every=4, save_every=5,
                   workdir={workdir!r}, metadata=test_loop.METADATA)
  np.save({workdir!r} + "/final.npy", np.asarray(state["w"]))
""")


def run_child(workdir: pathlib.Path, kill_at: int, kill: str = "SIGKILL") -> int:
  tests = pathlib.Path(__file__).parent
  told = {"tests": str(tests), "workdir": str(workdir), "kill_at": kill_at, "kill": kill}
  code = CHILD.format(**told)
  return subprocess.run(
    [sys.executable, "-c", code], cwd=tests.parent, env={**os.environ}, timeout=120
  ).returncode


def undisturbed(workdir: pathlib.Path) -> bytes:
  """Returns the end of a whole run, in a process of its own as those that are killed are."""
  assert run_child(workdir, kill_at=-1) == 0
  return np.load(workdir / "final.npy").tobytes()


def test_killed_without_warning(tmp_path):
  whole, workdir = tmp_path / "whole", tmp_path / "killed"
  expected = undisturbed(whole)
  # Right after the save of step 10 began, its background write may or may not be complete.
  assert run_child(workdir, kill_at=10) == -signal.SIGKILL
  assert run_child(workdir, kill_at=18) == -signal.SIGKILL
  assert run_child(workdir, kill_at=-1) == 0
  assert np.load(workdir / "final.npy").tobytes() == expected
  logged = [test_loop.without_perf(run / "metrics" / "toy.jsonl") for run in (workdir, whole)]
  assert logged[0] == logged[1]
  names = {path.name for path in (workdir / "checkpoints" / "toy").iterdir()}
  assert names == {"20", "23"}


def test_sigterm_saves_the_step_under_way(tmp_path):
  expected = undisturbed(tmp_path / "whole")
  workdir = tmp_path / "stopped"
  assert run_child(workdir, kill_at=12, kill="SIGTERM") == 128 + signal.SIGTERM
  names = {path.name for path in (workdir / "checkpoints" / "toy").iterdir()}
  assert names == {"10", "13"}  # 13 steps were completed
  assert run_child(workdir, kill_at=-1) == 0
  assert np.load(workdir / "final.npy").tobytes() == expected


def test_sigterm_while_the_last_save_is_awaited_ends_the_run_too(tmp_path, monkeypatch):
  run, wait = test_loop.Run(tmp_path), checkpoint.Checkpoints.wait

  def terminated(self):
    signal.raise_signal(signal.SIGTERM)
    wait(self)

  monkeypatch.setattr(checkpoint.Checkpoints, "wait", terminated)
  with pytest.raises(interruption.Interrupted):
    run(save_every=50)
  monkeypatch.undo()
  run.taken.clear()
  assert run()["step"] == 23 and run.taken == []


def test_sigterm_means_what_it_did_before_once_a_stage_has_ended(tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  test_loop.Run(tmp_path)()
  assert signal.getsignal(signal.SIGTERM) is before
