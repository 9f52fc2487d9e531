"""Several hosts are as one: two processes with four devices each, and one with eight.

Both sum over devices through the same library (gloo), in an order that the mesh alone decides, so
everything they write is the same to the last bit. Without a coordinator one process sums in XLA
itself, which adds in another order, and float addition depends on it; nothing else differs.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import published
import pytest
import tiny_run

from pit_jax import hosts
from pit_jax.commands import train

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = (4, 2, 1)


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def command(workdir, *more, **changes):
  sizes = {"mesh__shape": SHAPE, "evaluation__prompts": 8, "inference_batch_size": 16}
  sizes |= {"rl__batch_size": 16, "rl__minibatches": 2}
  kept = tiny_run.flags("rlhf", **sizes, **changes)
  launch = [sys.executable, "launch/train.py", "--config=configs/rlhf.py:tiny"]
  return [*launch, f"--workdir={workdir}", *kept, *more]


def start(asked, devices, log):
  """Starts a command in a process that has so many devices."""
  environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
  environment |= {
    "JAX_NUM_CPU_DEVICES": str(devices),
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
  }
  with log.open("w") as file:
    return subprocess.Popen(asked, cwd=ROOT, env=environment, stdout=file, stderr=file)


def finish(process, log):
  assert process.wait(timeout=900) == 0, log.read_text()[-3000:]


def run(workdir, count, **changes):
  """Runs the recipe on so many hosts with eight devices in all, and returns what each one said."""
  port, started = free_port(), []
  for host in range(count):
    log = workdir.with_name(f"{workdir.name}-{host}.log")
    joining = (f"--coordinator=localhost:{port}", f"--hosts={count}", f"--host={host}")
    # No host's figures are looked at; the command itself is started below.
    asked = [sys.executable, "tests/unpainted.py", *command(workdir, *joining, **changes)[2:]]
    started.append((start(asked, 8 // count, log), log))
  for process, log in started:
    finish(process, log)
  return [log.read_text() for _, log in started]


def rows(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in lines]


@pytest.mark.slow
def test_two_hosts_do_what_one_does(tmp_path):
  """R_P is a published model, asked in words, so that every host reads what all have sampled.

  On the two hosts it and the reference wait in the hosts' memory, which changes no bit either.
  """
  one, two, model = tmp_path / "one", tmp_path / "two", published.foreign(tmp_path / "model")
  changes = {"reward__model": model, "data__judge": 0.5}
  run(one, 1, **changes)
  said = run(two, 2, **changes, model__offload=True)
  assert said[0].count("steps/s") and not said[1].count("steps/s")  # the first one speaks
  stages = sorted(path.name for path in (one / "metrics").iterdir())
  assert stages == ["reward_judge.jsonl", "rl_policy.jsonl", "sft_policy.jsonl"]
  for stage in stages:
    assert rows(two / "metrics" / stage) == rows(one / "metrics" / stage), stage
  same = ("models", "samples", "calibration", "tokenizer")
  for folder in same:
    expected = tiny_run.files(one / folder)
    assert expected and tiny_run.files(two / folder) == expected, folder
  found = [json.loads((place / "report" / "results.json").read_text()) for place in (one, two)]
  for results in found:
    timed = ("seconds", "goodput", "sampling", "speeds", "made")
    settings = results["data"].pop("configuration_hash")
    assert all(results.pop(name) for name in timed) and results.pop("config") and settings
  assert found[0] == found[1]


def find_no_cluster():
  raise ValueError("coordinator_address should be defined.")


def test_a_missing_host_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(jax.distributed, "initialize", find_no_cluster)
  with pytest.raises(SystemExit, match="error: 1 hosts came together, --hosts=3 are wanted"):
    train.main(command(tmp_path / "run", "--hosts=3")[2:])
  assert not (tmp_path / "run").exists()


def test_a_host_without_the_others_address_is_refused(tmp_path):
  log = tmp_path / "log"
  assert start(command(tmp_path / "run", "--host=1"), 1, log).wait(timeout=120) == 1
  assert "--host=1 without --coordinator" in log.read_text()
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("said", ["coordinator_address should be defined.", "Number of processes"])
def test_only_where_no_cluster_is_found_a_host_is_alone(monkeypatch, said):
  def initialize():
    raise ValueError(said)

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  if said.startswith("coordinator_address"):
    assert hosts.start() is None
  else:
    with pytest.raises(ValueError, match="Number of processes.*give --coordinator, --hosts and"):
      hosts.start()


def test_alone_there_is_nothing_to_agree_on():
  assert hosts.agree({"a": [1, None]}) == {"a": [1, None]}
  assert hosts.is_first() and hosts.wait("here") is None
  np.testing.assert_array_equal(hosts.fetch({"x": np.arange(3)})["x"], np.arange(3))


@pytest.mark.parametrize("given", ["", "--some=1", f"--{next(iter(hosts.TPU_OPTIONS))}=7"])
def test_the_compilers_options_are_ours_unless_the_environment_has_others(monkeypatch, given):
  monkeypatch.setenv("LIBTPU_INIT_ARGS", given)
  hosts.prepare()
  hosts.prepare()  # once more changes nothing
  said = dict(option.split("=") for option in os.environ["LIBTPU_INIT_ARGS"].split())
  assert said == {f"--{k}": v for k, v in hosts.TPU_OPTIONS.items()} | dict(
    option.split("=") for option in given.split()
  )
