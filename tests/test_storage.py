"""Runs in object storage: what Orbax, tensorstore and gcsfs do with a server in Google's place."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from unittest import mock

import bucket_run
import bucket_server
import jax.numpy as jnp
import numpy as np
import pytest
import test_hosts

from pit_jax import hosts
from pit_jax.storage import buckets, mirrors, places
from pit_jax.training import checkpoint, flight, keeping, writers

RUN = "gs://bucket/runs/one"
TOY = "runs/one/checkpoints/toy"
needs_client = pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None,
  reason="gcsfs is absent; pip install 'pit_jax[gcs]'",
)


@pytest.fixture(scope="module")
def serving():
  """A server for all tests of this file: what the clients know of addresses, they keep."""
  with bucket_server.serving() as server, mock.patch.dict(os.environ, server.environment):
    yield server


@pytest.fixture
def server(serving, machine):
  """The server, with empty buckets and in good health."""
  serving.objects.clear()
  serving.fails = lambda method, path: None
  buckets.files().invalidate_cache()
  return serving


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """Makes this process one on another, empty machine, again at every call."""

  def change():
    monkeypatch.setattr(tempfile, "tempdir", tempfile.mkdtemp(dir=tmp_path))

  change()
  return change


def train(**settings):
  with places.opened(RUN) as folder:
    return bucket_run.train(folder, **settings)


@contextlib.contextmanager
def counting(taken):
  """Notes every step that is taken."""
  step = bucket_run.step

  def counted(state, key):
    taken.append(int(state["n"]))
    return step(state, key)

  with mock.patch.object(bucket_run, "step", counted):
    yield


def logged(folder):
  rows = writers.read(folder / "metrics" / "toy.jsonl")
  return [(row["step"], row["loss"]) for row in rows]


def steps(server):
  names = {name.removeprefix(f"{TOY}/").split("/")[0] for name in server.below(f"{TOY}/")}
  return sorted(names)


@needs_client
def test_a_killed_run_ends_on_an_empty_machine_as_if_nothing_had_happened(server, tmp_path):
  expected = bucket_run.train(tmp_path / "undisturbed")
  lost = tmp_path / "lost"
  lost.mkdir()
  command = [sys.executable, bucket_run.__file__, RUN, "5"]
  environment = {**os.environ, "TMPDIR": str(lost), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  shutil.rmtree(lost)
  drawn = server.objects["runs/one/references/drawn.json"]
  taken = []
  with counting(taken), places.opened(RUN) as folder:  # this process is another machine
    ended = bucket_run.train(folder)
    assert logged(folder) == logged(tmp_path / "undisturbed")
  assert len(taken) < bucket_run.STEPS
  assert server.objects["runs/one/references/drawn.json"] == drawn
  for name, value in expected.items():
    np.testing.assert_array_equal(ended[name], value)


@needs_client
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(server, machine, caplog):
  expected = train()
  assert steps(server) == ["4", "6"]
  (data,) = server.below(f"{TOY}/6/state/d/")
  server.put(data, server.objects[data].content[:-20] + bytes(20))
  machine()
  ended = train()
  assert f"{TOY}/6: the state cannot be read" in caplog.text
  assert "trying the checkpoint before it" in caplog.text
  np.testing.assert_array_equal(ended["w"], expected["w"])
  assert steps(server) == ["4", "6", "6.damaged"]


@needs_client
def test_a_save_without_its_last_object_does_not_count(server, machine):
  expected = train()
  del server.objects[f"{TOY}/6/commit_success.txt"]
  machine()
  taken = []
  with counting(taken):
    ended = train()
  assert len(taken) == 2, "steps 5 and 6 are taken again"
  np.testing.assert_array_equal(ended["w"], expected["w"])


@needs_client
def test_a_server_that_is_down_for_a_while_is_waited_for(server):
  # Of a file of the mirror, of Orbax' own files and of the arrays the first request fails.
  failing = {
    "runs/one/metrics/toy.jsonl": 503, "toy/2/record/metadata": 429,
    "toy/2/state/manifest.ocdbt": 503, "toy/2/commit_success.txt": 500,
  }  # fmt: skip

  def fails(method, path):
    found = [name for name in failing if name in path and (method == "POST" or "metrics" in name)]
    return failing.pop(found[0]) if found else None

  server.fails = fails
  train()
  assert not failing and steps(server) == ["4", "6"]


@needs_client
def test_what_is_out_of_reach_is_not_damaged(server, machine):
  train()
  machine()
  before = dict(server.objects)
  server.fails = lambda method, path: 403 if "/state/" in path or "/record/" in path else None
  with pytest.raises(buckets.UnreachableError, match=f"{TOY}/6 cannot be reached"):
    train()
  assert server.objects.keys() == before.keys()
  machine()
  server.fails = lambda method, path: 403
  with pytest.raises(buckets.UnreachableError, match="see that the bucket is there"):
    train()


@needs_client
def test_a_save_that_fails_says_what_is_complete(server):
  server.fails = lambda method, path: 403 if method == "POST" and "/toy/4/" in path else None
  with pytest.raises(checkpoint.SaveError) as error:
    train()
  assert "step 2 is the newest complete one" in str(error.value)
  assert "See that the bucket can be written to" in str(error.value)


@needs_client
def test_all_that_a_checkpoint_was_made_from_is_there_before_it(server):
  seen = []

  def watch(method, path):
    if method == "POST" and "/toy/4/commit_success.txt" in path:
      rows = server.objects["runs/one/metrics/toy.jsonl"].content.splitlines()
      seen.append([json.loads(row)["step"] for row in rows])

  server.fails = watch
  train()
  assert seen[0][:4] == [1, 2, 3, 4]
  kept = {name.split("/")[2] for name in server.below("runs/one/")}
  assert kept == {"checkpoints", "goodput.jsonl", "metrics", "references", "tensorboard"}


@needs_client
def test_of_a_file_that_both_have_the_newer_one_is_taken(server, machine):
  with places.opened(RUN) as folder:
    for name in ("same", "mine", "theirs"):
      (folder / name).write_text("old")
    for name in ("tokens", "programs"):
      (folder / name).mkdir()
      (folder / name / "set").write_text("made again")
  assert server.below("runs/one/t") == ["runs/one/theirs"]
  assert server.below("runs/one/p") == []
  (folder / "mine").write_text("newer here")
  server.put("runs/one/theirs", b"newer there")
  server.put("runs/one/added", b"there alone")
  server.put("runs/one/models/weights", b"large")
  with places.opened(RUN) as again:
    assert again == folder and not (folder / "models").exists()
    found = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
  del found[mirrors.MARK]
  assert found == {
    "same": "old", "mine": "newer here", "theirs": "newer there", "added": "there alone",
  }  # fmt: skip
  assert server.objects["runs/one/mine"].content == b"newer here"
  with places.opened(f"{RUN}/", only=("models",)) as again:  # the same address
    assert (again / "models" / "weights").read_text() == "large"
  (folder / "same").unlink()  # as those do who tidy up temporary folders
  with places.opened(RUN):
    assert (folder / "same").read_text() == "old"


@needs_client
def test_other_hosts_read_what_the_first_one_wrote(server, machine, monkeypatch):
  with places.opened(RUN) as folder:
    (folder / "written").write_text("by the first")
    places.share(folder / "written")
  machine()
  monkeypatch.setattr(hosts, "is_first", lambda: False)
  with places.opened(RUN) as other:
    (other / "written").write_text("by another")
    server.put("runs/one/later", b"by the first")
    assert other != folder and not (other / "later").exists()
    places.share(other / "later")
    assert (other / "later").read_text() == "by the first"
  assert server.objects["runs/one/written"].content == b"by the first"


@pytest.mark.slow
@needs_client
def test_two_hosts_with_a_disk_each_write_one_run(server, machine, tmp_path):
  port, started = test_hosts.free_port(), []
  for host in ("0", "1"):
    (tmp_path / host).mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / host), "JAX_NUM_CPU_DEVICES": "1"}
    environment |= {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    environment |= {"COORDINATOR": f"localhost:{port}", "HOST": host, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, bucket_run.__file__, RUN]
    started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
  for process in started:
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 0, said[-3000:]
  names = [list((tmp_path / host).rglob("drawn.json")) for host in ("0", "1")]
  assert [len(found) for found in names] == [1, 1], "each host has its mirror"
  with places.opened(RUN) as folder:  # one host and one device go on from what two wrote
    ended = bucket_run.train(folder)
  np.testing.assert_allclose(ended["w"], bucket_run.train(tmp_path / "alone")["w"], rtol=1e-6)


@needs_client
def test_a_step_that_went_wrong_keeps_its_checkpoint_within_the_bucket(server, machine):
  with places.opened(RUN) as folder:
    bucket_run.train(folder)
    last = f"gs://bucket/{TOY}/6"
    said = flight.write(
      flight.Recorder(), "toy", 7, {"loss": float("nan")}, {"x": jnp.arange(3.0)}, folder, last
    )
  assert f"Recorded in {RUN}/flight/toy-7" in said
  machine()
  with places.opened(RUN) as folder:
    kept = flight.Replay("toy", 7).folder(folder) / "checkpoints"
    assert not kept.exists(), "arrays stay in the bucket"
    with checkpoint.Checkpoints(places.address(kept), read_only=True) as saved:
      state, _ = saved.restore(6, bucket_run.start())
  assert int(state["n"]) == 6


def test_folders_stay_as_they_are(tmp_path):
  with places.opened(str(tmp_path / "run")) as folder:
    assert folder == tmp_path / "run" and places.mirror() is None
    places.push()
    assert places.address(folder / "x") == str(folder / "x")
  assert not folder.exists()
  assert keeping.remedy(str(folder)) == "See that there is room on the disk"


@pytest.mark.parametrize("named", ["s3://bucket/run", "gs://bucket", "gs:///run", "gs://b/../run"])
def test_other_addresses_are_refused(named):
  asked = pytest.raises(ValueError, match="give a local folder, or gs://BUCKET/FOLDER")
  with asked, places.opened(named):
    pass


def test_without_the_extra_it_is_named(monkeypatch, machine):
  monkeypatch.setitem(sys.modules, "gcsfs", None)
  with pytest.raises(ValueError, match=r"pip install 'pit_jax\[gcs\]'"), places.opened(RUN):
    pass


def test_a_folder_that_must_be_local_is_named():
  assert places.local("data.cache", "cache") == pathlib.Path("cache")
  with pytest.raises(ValueError, match="data.cache=gs://b/c: .*give a local folder"):
    places.local("data.cache", "gs://b/c")
