"""Signals end a stage at any moment; it goes on as if they had not come."""

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from unittest import mock

import numpy as np
import pytest
import test_loop
import tiny_run

from pit_jax import compiling
from pit_jax.recipes import rlhf, running
from pit_jax.training import checkpoint, interruption

ROOT = pathlib.Path(__file__).resolve().parent.parent
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  """The folder of a whole run, in a process of its own as those that are killed are."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  assert run_child(workdir, kill_at=-1) == 0
  return workdir


def end(workdir: pathlib.Path) -> bytes:
  """Returns the end of a run."""
  return np.load(workdir / "final.npy").tobytes()


def last_row(workdir: pathlib.Path) -> dict:
  """Returns what the ledger of a run says last."""
  return json.loads((workdir / "goodput.jsonl").read_text().splitlines()[-1])


def test_killed_without_warning(whole, tmp_path):
  workdir = tmp_path / "killed"
  # Right after the save of step 10 began, its background write may or may not be complete.
  assert run_child(workdir, kill_at=10) == -signal.SIGKILL
  assert run_child(workdir, kill_at=18) == -signal.SIGKILL
  assert run_child(workdir, kill_at=-1) == 0
  assert end(workdir) == end(whole)
  logged = [test_loop.without_perf(run / "metrics" / "toy.jsonl") for run in (workdir, whole)]
  assert logged[0] == logged[1]
  names = {path.name for path in (workdir / "checkpoints" / "toy").iterdir()}
  assert names == {"20", "23"}


def test_sigterm_saves_the_step_under_way(whole, tmp_path):
  workdir = tmp_path / "stopped"
  assert run_child(workdir, kill_at=12, kill="SIGTERM") == 128 + signal.SIGTERM
  names = {path.name for path in (workdir / "checkpoints" / "toy").iterdir()}
  assert names == {"10", "13"}  # 13 steps were completed
  assert last_row(workdir).items() >= {"stage": "toy", "ends": True}.items()
  assert run_child(workdir, kill_at=-1) == 0
  assert end(workdir) == end(whole)


def test_sigterm_while_the_last_save_is_awaited_ends_the_run_too(tmp_path, monkeypatch):
  run, wait = test_loop.Run(tmp_path), checkpoint.Checkpoints.wait

  def terminated(self):
    signal.raise_signal(signal.SIGTERM)
    wait(self)

  monkeypatch.setattr(checkpoint.Checkpoints, "wait", terminated)
  with pytest.raises(interruption.Interrupted):
    run(save_every=50)
  monkeypatch.undo()
  assert last_row(tmp_path)["ends"]
  run.taken.clear()
  assert run()["step"] == 23 and run.taken == []


def test_sigterm_means_what_it_did_before_once_a_stage_has_ended(tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  test_loop.Run(tmp_path)()
  assert signal.getsignal(signal.SIGTERM) is before


# Folding the constant is computed by XLA's interpreter: about a minute, and its trace is short.
COMPILING = textwrap.dedent("""
  import sys
  import jax, numpy as np
  sys.path.insert(0, {tests!r})
  import test_loop
  from pit_jax.training import checkpoint, interruption, loop

  interruption.GRACE = {grace}
  wait = checkpoint.Checkpoints.wait

  def waited(self):
    wait(self)
    print("complete", self.latest(), flush=True)

  checkpoint.Checkpoints.wait = waited

  def slow(x):
    row = jax.numpy.asarray(np.arange(40_000, dtype=np.float32))
    sums = jax.lax.reduce_window(row, 0.0, jax.lax.add, (1_000,), (1,), "VALID")
    return x + sums[0]

  def advance(state, step):
    if step == 11:
      lowered = jax.jit(slow).lower(np.float32(0))
      print("compiling", flush=True)
      lowered.compile()
    return *test_loop.toy_step(state, step), {{}}

  loop.fit("toy", advance, test_loop.make_state(), steps=23, log_every=4, save_every=5,
           workdir={workdir!r}, metadata=test_loop.METADATA)
""")


def test_sigterm_ends_a_process_that_compiles_and_nothing_saved_is_lost(whole, tmp_path):
  assert interruption.GRACE + 2 * interruption.LOOK < 30
  tests = pathlib.Path(__file__).parent
  told = {"tests": str(tests), "workdir": str(tmp_path / "stopped"), "grace": 2.0}
  process = subprocess.Popen(
    [sys.executable, "-c", COMPILING.format(**told)],
    cwd=tests.parent, env={**os.environ}, stdout=subprocess.PIPE, text=True,
  )  # fmt: skip
  assert any(line == "compiling\n" for line in process.stdout)
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  said = process.stdout.read().splitlines()
  assert process.wait() == interruption.CODE
  assert 2 <= time.monotonic() - began < 30
  # Compiling counts up to the end, though no step said meanwhile that the process lives.
  assert last_row(tmp_path / "stopped")["ends"]
  assert time.time() - last_row(tmp_path / "stopped")["at"] < 10
  # The checkpoint that was begun before is complete, and only then the process ends.
  assert said == ["complete 10", "toy: stopped while compiling; the same command continues"]
  assert run_child(tmp_path / "stopped", kill_at=-1) == 0
  assert end(tmp_path / "stopped") == end(whole)


def test_a_step_that_does_not_compile_is_waited_for(monkeypatch):
  monkeypatch.setattr(interruption, "GRACE", 0.0)
  monkeypatch.setattr(interruption, "LOOK", 0.01)
  looks = []
  monkeypatch.setattr(compiling, "is_under_way", looks.append)  # None: it does not
  monkeypatch.setattr(interruption.os, "_exit", looks.append)
  with (
    pytest.raises(interruption.Interrupted),
    interruption.Watch("toy", 0, lambda: None) as watch,
  ):
    signal.raise_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while len(looks) < 3 and time.monotonic() < deadline:
      time.sleep(0.01)
    assert watch.is_due(1)
  assert len(looks) >= 3 and set(looks) == {threading.main_thread().ident}


def test_signals_reach_those_who_listened_before(tmp_path):
  read, written = socket.socketpair()
  written.setblocking(False)
  read.settimeout(60)
  before = signal.set_wakeup_fd(written.fileno())
  try:
    with pytest.raises(interruption.Interrupted), interruption.Watch("toy", 0, lambda: None):
      signal.raise_signal(signal.SIGTERM)
      assert read.recv(1) == bytes([signal.SIGTERM])
    assert signal.set_wakeup_fd(-1) == written.fileno()
  finally:
    signal.set_wakeup_fd(before)
    read.close()
    written.close()


STOPPED = "evaluation: stopped; the same command begins it again, and trains nothing anew"
BUSY = """
import hashlib, os, signal, threading
from pit_jax.training import interruption
interruption.GRACE = 0.2
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
with interruption.told("evaluation"):
  hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # minutes, in which no Python runs
"""


def test_an_evaluation_says_that_it_is_stopped(capsys):
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(interruption.Interrupted) as stopped, interruption.told("evaluation"):
    signal.raise_signal(signal.SIGTERM)
  assert stopped.value.code == 143 and capsys.readouterr().out == f"{STOPPED}\n"
  assert len(STOPPED) <= 80 and signal.getsignal(signal.SIGTERM) is before


def test_an_evaluation_stops_while_no_python_runs():
  done = subprocess.run(
    [sys.executable, "-c", BUSY], cwd=ROOT, capture_output=True, text=True, timeout=100
  )
  assert (done.returncode, done.stdout) == (143, f"{STOPPED}\n"), done.stderr


def test_a_run_says_that_its_evaluation_is_stopped(monkeypatch, tmp_path, capsys):
  """All but the evaluation is left out, in which the signal comes."""
  monkeypatch.setattr(running.contexts, "build", lambda *_: None)
  context = mock.Mock(rows=mock.Mock(folds={}))
  monkeypatch.setattr(running.schedule, "announced", lambda _: context)
  monkeypatch.setattr(running.subject, "check_judges", lambda _: None)
  monkeypatch.setattr(running.findings, "of_run", lambda *_: signal.raise_signal(signal.SIGTERM))
  recipe = dataclasses.replace(rlhf.RECIPE, train=lambda _: None, exported=None)
  with pytest.raises(interruption.Interrupted):
    running._run(recipe, tiny_run.config("rlhf"), tmp_path)
  assert STOPPED in capsys.readouterr().out
