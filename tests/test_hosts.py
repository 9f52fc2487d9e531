"""Several hosts are as one: two processes with four devices each, and one with eight."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tiny_run

from pit_jax import hosts

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = (4, 2, 1)


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def command(workdir, *more):
  flags = tiny_run.flags(mesh__shape=SHAPE, evaluation__prompts=8, inference_batch_size=16)
  kept = [flag for flag in flags if "curriculum" not in flag]
  launch = [sys.executable, "launch/train.py", "--config=configs/rlhf.py:tiny"]
  return [*launch, f"--workdir={workdir}", *kept, *more]


def start(asked, devices, log):
  """Starts a command in a process that has so many devices."""
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  environment |= {
    "JAX_NUM_CPU_DEVICES": str(devices),
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
  }
  with log.open("w") as file:
    return subprocess.Popen(asked, cwd=ROOT, env=environment, stdout=file, stderr=file)


def finish(process, log):
  assert process.wait(timeout=900) == 0, log.read_text()[-3000:]


def rows(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in lines]


@pytest.mark.slow
def test_two_hosts_do_what_one_does(tmp_path):
  one, two, port = tmp_path / "one", tmp_path / "two", free_port()
  alone = start(command(one), 8, tmp_path / "one.log")
  finish(alone, tmp_path / "one.log")
  joined = [
    start(
      command(two, f"--coordinator=localhost:{port}", "--hosts=2", f"--host={host}"),
      4,
      tmp_path / f"{host}.log",
    )
    for host in range(2)
  ]
  for host, process in enumerate(joined):
    finish(process, tmp_path / f"{host}.log")
  assert (tmp_path / "1.log").read_text().count("steps/s") == 0  # the first one speaks
  stages = sorted(path.name for path in (one / "metrics").iterdir())
  assert stages == sorted(path.name for path in (two / "metrics").iterdir()) and len(stages) == 3
  for stage in stages:
    for a, b in zip(rows(one / "metrics" / stage), rows(two / "metrics" / stage), strict=True):
      assert a.keys() == b.keys()
      for name, value in a.items():
        np.testing.assert_allclose(b[name], value, rtol=2e-3, atol=2e-4, err_msg=f"{stage} {name}")
  found = {path.name for path in (two / "models").iterdir()}
  assert found == {path.name for path in (one / "models").iterdir()}
  assert (two / "report" / "report.html").exists()


def test_a_missing_host_is_named(tmp_path):
  log = tmp_path / "log"
  process = start(command(tmp_path / "run", "--hosts=3"), 1, log)
  assert process.wait(timeout=120) == 1
  assert "1 hosts came together, --hosts=3 are wanted" in log.read_text()
  assert not (tmp_path / "run").exists()


def test_alone_there_is_nothing_to_agree_on():
  assert hosts.agree({"a": [1, None]}) == {"a": [1, None]}
  assert hosts.is_first() and hosts.wait("here") is None
  np.testing.assert_array_equal(hosts.fetch({"x": np.arange(3)})["x"], np.arange(3))
