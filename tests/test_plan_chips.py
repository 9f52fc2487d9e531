"""Chips of several devices: how many there are, what they cost, and their meshes."""

import dataclasses
import types

import chips
import pytest

from pit_jax import costs, parallel
from pit_jax.tools.plan import planning

PEAK = costs.Peak(flops=1e12, bytes=1e11, memory=2**30, link=1e10)


@dataclasses.dataclass(frozen=True)
class Device:
  """A device that is not there."""

  id: int
  device_kind: str
  coords: tuple[int, int, int]
  core_on_chip: int
  slice_index: int | None
  platform: str = "tpu"
  process_index: int = 0


def devices(kind, sides, cores, slices=1):
  """Returns what a TPU topology of these sides describes, with so many devices on each chip."""
  places = [
    (slice_index, (x, y, z), core)
    for slice_index in range(slices)
    for z in range(sides[2])
    for y in range(sides[1])
    for x in range(sides[0])
    for core in range(cores)
  ]
  return [
    Device(index, kind, coords, core, slice_index if slices > 1 else None)
    for index, (slice_index, coords, core) in enumerate(places)
  ]


@pytest.mark.parametrize(
  ("cores", "slices", "said"),
  [(1, 1, "4 chips"), (2, 1, "4 chips, 8 devices"), (2, 2, "8 chips, 16 devices")],
)
def test_chips_are_counted_by_their_coordinates(cores, slices, said):
  assert planning.size_of(devices("TPU7x", (2, 2, 1), cores, slices)) == said


def test_devices_without_coordinates_are_chips():
  assert costs.count_chips([types.SimpleNamespace(id=index) for index in range(3)]) == 3


def test_chip_hours_are_those_of_chips():
  row = {"stage": "sft", "program": "step", "seconds": 360.0, "mfu": 0.5, "total": 1, "fits": True}
  row |= {"memory": dict.fromkeys(planning.tables.ROLES, 0), "xla": 1, "by_hand": None}
  row |= {"error": None, "flops": 1.0, "bytes": 1.0, "sent": {}, "bound": "compute"}
  plan = planning.Plan([row], {"sft": 100}, {"data": 8, "fsdp": 1, "tensor": 1}, 4, PEAK)
  record = plan.record()
  assert (record["hours"], record["chips"], record["chip_hours"]) == ({"sft": 10.0}, 4, 40.0)
  lines = plan.write("here").splitlines()
  (total,) = [line.split() for line in lines if line.startswith("run ")]
  assert total == ["run", "·", "·", "10.00", "40", "·", "·"]
  assert max(map(len, lines)) <= 80


def test_the_devices_of_a_chip_of_two_are_one_mesh():
  mesh = parallel.make_mesh((1, 4, 2), devices=devices("TPU7x", (2, 2, 1), 2))
  assert dict(mesh.shape) == {"data": 1, "fsdp": 4, "tensor": 2}
  pairs = mesh.devices.reshape(4, 2)
  assert all(first.coords == second.coords for first, second in pairs), "tensor within a chip"


def test_a_mesh_that_jax_cannot_lay_is_an_error_of_the_mesh():
  with pytest.raises(ValueError, match=r"mesh\.shape=\(3, 1, 1\).*cannot be laid"):
    parallel.make_mesh((3, 1, 1), devices=devices("TPU v5 lite", (2, 2, 1), 1))


def test_half_a_chip_does_half_of_what_the_data_sheet_says():
  # TPU7x: 2307 TFLOP/s of bfloat16, 192 GiB and 7.38 TB/s a chip, of which the compiler keeps some.
  half = costs.peak("TPU7x")
  assert (2 * half.flops, 2 * half.bytes) == (2307e12, 7.38e12)
  assert 2 * half.memory < 192 * 2**30


DESCRIBED = """
from pit_jax import costs
from pit_jax.tools.plan import compiled, planning
wanted = {"v4:2x2x1": (4, 4), "tpu7x:2x2x1": (4, 8), "v5p:2x2x1": (4, 4), "v5e:2x2": (4, 4)}
for name, (chips, devices) in wanted.items():
  found = compiled.devices(name)
  assert (costs.count_chips(found), len(found)) == (chips, devices), name
  assert planning.peak_of(found).memory > 15 * 2**30
"""


@chips.NEEDED
def test_real_topologies_are_those_that_runs_have():
  chips.passes(DESCRIBED)


def test_a_refusal_that_stages_share_is_told_once():
  memory = dict.fromkeys(planning.tables.ROLES, 0)
  rows = [
    {"stage": stage, "program": "step", "seconds": 1.0, "mfu": 0.5, "total": 1, "fits": not said,
     "memory": memory, "xla": 1, "by_hand": None, "error": said, "flops": 1.0, "bytes": 1.0,
     "sent": {}, "bound": "compute"}
    for stage, said in (("rl", "Used 9G."), ("sft", None), ("pit_data", "Used 9G."),
                        ("pit_policy", "Used 8G."))
  ]  # fmt: skip
  mesh = {"data": 1, "fsdp": 1, "tensor": 1}
  steps = {row["stage"]: 1 for row in rows}
  written = planning.Plan(rows, steps, mesh, 1, PEAK).write("here")
  assert written.count("Used 9G.") == written.count("Used 8G.") == 1
  assert "  step of rl and pit_data: Used 9G.\n  step of pit_policy: Used 8G.\n" in written
