"""What a process frees: page faults of programs, and memory that is kept or given back."""

import json
import os
import platform
import resource
import subprocess
import sys
import types
from unittest import mock

import pytest

from pit_jax import heap
from pit_jax.models import pure
from pit_jax.run import models

PUBLISHED = ("reward", "judge", "language_judge")  # models of others beside a run's own
is_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")

# Prints the page faults of calls of a program, and the mebibytes that are given back.
PROGRAM = """
import json, os, pathlib, resource, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # so that there are few threads
import jax, jax.numpy as jnp, numpy as np
from pit_jax import heap

def resident():
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize() / 2**20

def faults(calls):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(calls):
    program(x).block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

program, x = jax.jit(lambda x: (x @ x.T) @ x), jnp.ones((3000, 4))  # by a temporary of 34 MiB
program(x).block_until_ready()
if sys.argv[1] == "keep":
  heap.keep()
faults(24)  # in which each thread has once been given pages of its own
counted = faults(8)
array = np.ones(2**23)  # 64 MiB
del array
freed = resident()
heap.give_back()
print(json.dumps({"faults": counted, "given": freed - resident()}))
"""


def measured(how: str) -> dict[str, float]:
  """Returns what the program prints in a process of its own."""
  command = [sys.executable, "-c", PROGRAM, how]
  own = {name: value for name, value in os.environ.items() if name not in heap.SET_BY}
  run = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
  return json.loads(run.stdout)


@is_glibc
def test_programs_get_pages_that_are_there_and_give_them_back():
  """The pages of a temporary are cleared at every call; or once for each thread that runs one."""
  kept, default = measured("keep"), measured("default")
  pages = 3000 * 3000 * 4 // resource.getpagesize()
  assert default["faults"] >= 8 * pages
  assert kept["faults"] < 4 * pages
  assert kept["given"] > 60
  assert default["given"] < 30


@pytest.mark.parametrize(
  ("size", "device", "beside", "is_kept"),
  [
    (1_000_000, "cpu", "", True),
    (pure.SMALL, "cpu", "", False),
    (1_000_000, "tpu", "", False),
    (1_000_000, "cpu", "reward", False),
    (1_000_000, "cpu", "judge", False),
    (1_000_000, "cpu", "language_judge", False),
  ],
)
def test_processes_of_small_networks_alone_on_cpus_keep_it(size, device, beside, is_kept):
  mesh = types.SimpleNamespace(devices=mock.Mock(flat=[types.SimpleNamespace(platform=device)]))
  published = {name: object() if name == beside else None for name in PUBLISHED}
  run = types.SimpleNamespace(
    language=types.SimpleNamespace(is_small=size < pure.SMALL),
    inference=types.SimpleNamespace(mesh=mesh),
    **published,
  )
  with mock.patch.object(heap, "keep") as keep:
    models.Models.prepare(run)
  assert keep.called == is_kept


@pytest.mark.parametrize(
  ("largest", "set_to"),
  [
    (heap.MOST, {heap.MMAP_THRESHOLD: heap.MOST, heap.TRIM_THRESHOLD: heap.MOST}),
    (heap.EARLIER, {heap.MMAP_THRESHOLD: heap.EARLIER, heap.TRIM_THRESHOLD: heap.MOST}),
    (0, {}),  # a threshold that is set, and one that no longer rises, would be worse than before
  ],
)
def test_thresholds_that_glibc_refuses(monkeypatch, largest, set_to):
  for name in heap.SET_BY:
    monkeypatch.delenv(name, raising=False)
  found = {}

  def mallopt(option, value):
    if option == heap.MMAP_THRESHOLD and value > largest:
      return 0
    found[option] = value
    return 1

  with mock.patch.object(heap, "_glibc", return_value=mock.Mock(mallopt=mallopt)):
    heap.keep()
  assert found == set_to


@pytest.mark.parametrize("name", heap.SET_BY)
def test_what_the_environment_says_stays(monkeypatch, name):
  monkeypatch.setenv(name, "1")
  with mock.patch.object(heap, "_glibc") as glibc:
    heap.keep()
  assert not glibc.called


def test_other_allocators_are_left_alone():
  with mock.patch.object(heap, "_glibc", side_effect=OSError):
    heap.keep()
    heap.give_back()
