"""One process at a time writes into a workdir: who is refused, and what a kill leaves."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

import bucket_server
import pytest

from pit_jax.commands import train
from pit_jax.storage import buckets, mirrors, owners, places

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOLDS = """
import pathlib, sys, time
from pit_jax.storage import owners
owners.BEAT = 0.1
with owners.held(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(300)
"""


@contextlib.contextmanager
def holding(folder):
  """Holds a workdir in another process."""
  command = [sys.executable, "-c", HOLDS, str(folder)]
  environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
  )
  try:
    assert process.stdout.readline() == "held\n"
    yield process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def own(folder):
  """Enters and leaves a workdir."""
  with owners.held(folder):
    assert owners._read(folder).pid == os.getpid()


def leave_note(folder, **changes):
  """Leaves the note of somebody else."""
  note = dataclasses.replace(owners._own(), owner="somebody else", **changes)
  owners._write(folder, note)
  return note


def test_a_second_process_is_refused_by_name_and_a_kill_leaves_no_harm(tmp_path):
  folder = tmp_path / "run"
  with holding(folder) as process:
    host = socket.gethostname()
    refused = rf"being written to by process {process.pid} on {host}, since \d{{4}}-.* UTC"
    with pytest.raises(ValueError, match=refused):
      own(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / mirrors.NOTE).exists(), "nobody could remove it"
    began = time.monotonic()
    own(folder)
    assert time.monotonic() - began < 5, "nobody has to wait"
  assert not any(folder.iterdir()), "an end leaves nothing behind"


def test_training_is_refused_before_it_begins(tmp_path, monkeypatch):
  monkeypatch.setattr(owners.hosts, "start", lambda *_, **__: None)
  parent = os.getppid()
  leave_note(tmp_path, pid=parent, started=owners._started(parent))
  with pytest.raises(SystemExit, match=rf"error: .* written to by process {parent} on .*, since "):
    train.main(["--config=configs/pit.py:tiny", f"--workdir={tmp_path}"])


def test_what_a_process_left_of_the_same_number_is_no_owner(tmp_path):
  leave_note(tmp_path, started="1")  # this process' own number, which an earlier one had
  own(tmp_path)


def test_an_owner_on_another_host_is_watched(tmp_path, monkeypatch):
  monkeypatch.setattr(owners, "GRACE", 0.6)
  note = leave_note(tmp_path, host="elsewhere", namespace="")
  ended = threading.Event()
  with monkeypatch.context() as patch:
    patch.setattr(owners, "BEAT", 0.05)
    living = threading.Thread(target=owners._live, args=(tmp_path, note, ended))
    living.start()
    try:
      with pytest.raises(ValueError, match="by process .* on elsewhere"):
        own(tmp_path)
    finally:
      ended.set()
      living.join()
  began = time.monotonic()
  own(tmp_path)  # no sign of life for as long as it is watched
  assert time.monotonic() - began >= 0.6


def test_an_owner_that_ends_while_it_is_watched_is_not_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(owners, "GRACE", 30.0)
  monkeypatch.setattr(owners, "BEAT", 0.2)
  leave_note(tmp_path, host="elsewhere", namespace="")
  threading.Timer(0.3, (tmp_path / mirrors.NOTE).unlink).start()
  began = time.monotonic()
  own(tmp_path)
  assert time.monotonic() - began < 10


def test_of_many_at_once_one_has_it(tmp_path):
  together, won = threading.Barrier(8), []

  def take(number):
    note = dataclasses.replace(owners._own(), owner=str(number), host=f"host {number}")
    together.wait()
    if owners._write(tmp_path, note, is_new=True):
      won.append(number)

  threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(won) == 1 and owners._read(tmp_path).owner == str(won[0])


def test_a_process_that_lost_its_workdir_ends(tmp_path):
  with holding(tmp_path) as process:
    leave_note(tmp_path, host="elsewhere")
    assert process.wait(timeout=60) == 1
    assert "was taken over by process" in process.stderr.read()
  assert owners._read(tmp_path).host == "elsewhere", "and does not take the new owner's note away"


def test_other_hosts_of_a_run_are_no_second_owner(tmp_path, monkeypatch):
  """The first host decides for all: those beside it read and leave no note."""
  monkeypatch.setattr(owners.hosts, "is_first", lambda: False)
  monkeypatch.setattr(owners.hosts, "agree", lambda value: "")
  leave_note(tmp_path, pid=os.getppid(), started=owners._started(os.getppid()))
  with owners.held(tmp_path):
    pass
  monkeypatch.setattr(owners.hosts, "agree", lambda value: "the first host was refused")
  with pytest.raises(ValueError, match="the first host was refused"), owners.held(tmp_path):
    pass


def test_a_run_in_a_bucket_has_its_note_there(tmp_path, monkeypatch):
  pytest.importorskip("gcsfs", reason="gcsfs is absent; pip install 'pit_jax[gcs]'")
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  monkeypatch.setattr(owners, "SETTLE", 0.05)
  parent = os.getppid()
  with bucket_server.serving() as server, mock.patch.dict(os.environ, server.environment):
    buckets.files().invalidate_cache()
    with places.opened("gs://bucket/runs/one") as folder:
      with owners.held(folder):
        assert f"runs/one/{mirrors.NOTE}" in server.objects
        assert not (folder / mirrors.NOTE).exists()
      assert f"runs/one/{mirrors.NOTE}" not in server.objects
      leave_note(folder, pid=parent, started=owners._started(parent))
    with places.opened("gs://bucket/runs/one") as folder:
      assert not (folder / mirrors.NOTE).exists(), "it is no file of the run"
      with pytest.raises(ValueError, match=f"gs://bucket/runs/one is .* by process {parent}"):
        own(folder)


def test_a_run_does_not_begin_among_other_files(tmp_path, monkeypatch):
  for name in ("README.md", "setup.py", "data", ".git", "run.log"):
    (tmp_path / name).mkdir() if "." not in name[1:] else (tmp_path / name).touch()
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r"--workdir=\. holds other files \(README.md, data, setup"):
    owners.check_place(".")
  owners.check_place("runs/one")
  owners.check_place("gs://bucket/run")
  (tmp_path / "config.json").write_text("{}")
  owners.check_place(".")  # a run that is there already


def test_a_run_and_several_seeds_have_reports_of_their_own(tmp_path):
  seeds = tmp_path / "seeds"
  for folder in (tmp_path / "run", seeds / "seed_0", seeds / "seed_10"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
  with pytest.raises(ValueError, match=r"holds a run, .* such as --workdir=.*/run_seeds$"):
    owners.check_place(tmp_path / "run", pools=True)
  with pytest.raises(ValueError, match=r"of several seeds, .* such as --workdir=.*/seeds/seed_0$"):
    owners.check_place(seeds)
  owners.check_place(seeds, pools=True)
  owners.check_place(seeds / "seed_0")
  owners.check_place(tmp_path / "run")


@pytest.mark.parametrize(
  "name",
  ["requirements.txt", "models.py", "reports", "rows.jsonl", "samples.csv", "tokenizer.json",
   "judge_prompts.md", "metrics_old", "seed_list", "seeds"],
)  # fmt: skip
def test_files_that_are_called_nearly_as_a_runs_are_others(tmp_path, name):
  (tmp_path / name).touch()
  with pytest.raises(ValueError, match=f"holds other files .{name}."):
    owners.check_place(tmp_path)


def test_what_a_killed_start_leaves_is_no_other_file(tmp_path):
  for name in (
    "tokenizer",
    "tokens",
    "programs",
    ".owner.json",
    "slurm-12.out",
    "seed_0",
    "sweep.db-wal",
    "log.txt",
  ):
    (tmp_path / name).mkdir()
  owners.check_place(tmp_path)
