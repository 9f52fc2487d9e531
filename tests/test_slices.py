"""Slices of devices: each is one block of the data axis, and no weight leaves it."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.experimental import mesh_utils

from pit_jax import layout, parallel
from pit_jax.models import pure
from pit_jax.stages import objectives, supervised
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")


@dataclasses.dataclass(frozen=True)
class Chip:
  """A device that is not there."""

  id: int
  slice_index: int
  process_index: int = 0
  platform: str = "cpu"
  device_kind: str = "cpu"
  coords: tuple[int, int, int] = (0, 0, 0)
  core_on_chip: int = 0


def chips(*sizes):
  """Returns the devices of slices of these sizes, in no order."""
  slices = np.repeat(range(len(sizes)), sizes)
  order = np.random.default_rng(0).permutation(len(slices))
  return [Chip(int(index), int(slices[index])) for index in order]


@pytest.mark.parametrize("slices", [2, -1])
def test_each_slice_is_one_block_of_data(slices):
  found = chips(8, 8)
  mesh = parallel.make_mesh((4, 2, 2), devices=found, slices=slices)
  assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 2}
  assert [{chip.slice_index for chip in block.flat} for block in mesh.devices] == [
    {0},
    {0},
    {1},
    {1},
  ]
  expected = mesh_utils.create_hybrid_device_mesh((2, 2, 2), (2, 1, 1), found)
  np.testing.assert_array_equal(mesh.devices, expected)


def test_devices_that_do_not_say_are_dealt_out_in_their_order():
  mesh = parallel.make_mesh((-1, 2, 1), slices=2)
  assert [device.id for device in mesh.devices.flat] == list(range(8))
  assert tuple(mesh.shape.values()) == (4, 2, 1)
  few = parallel.make_mesh((2, 2, 1), slices=2)  # two of each four
  assert [device.id for device in few.devices.flat] == [0, 1, 4, 5]
  assert tuple(parallel.make_mesh((-1, 1, 1), slices=-1).shape.values()) == (8, 1, 1)


@pytest.mark.parametrize("kind", ["TPU v4", "TPU v5e", "TPU v6 lite"])
@pytest.mark.parametrize("tensor", [2, 4, 8, 16])
def test_what_crosses_tensor_stays_among_neighbours_of_a_torus(kind, tensor):
  """Whether or not the size is that of a side: here 8, of 8 × 8."""
  places = np.random.default_rng(1).permutation([(x, y, 0) for x in range(8) for y in range(8)])
  torus = [
    Chip(index, 0, platform="tpu", device_kind=kind, coords=tuple(map(int, place)))
    for index, place in enumerate(places)
  ]
  mesh = parallel.make_mesh((1, -1, tensor), devices=torus)
  assert sorted(chip.id for chip in mesh.devices.flat) == list(range(64))
  for group in mesh.devices.reshape(-1, tensor):
    sides = [sorted({chip.coords[axis] for chip in group}) for axis in range(3)]
    assert all(side[-1] - side[0] == len(side) - 1 for side in sides), "without gaps"
    assert np.prod([len(side) for side in sides]) == tensor, "they fill a rectangle"


@pytest.mark.parametrize(
  "sizes, shape, slices, words",
  [
    ((8, 8), (4, 2, 2), 1, "mesh.slices=1, and the devices lie in 2; use 2, or -1"),
    ((8, 8), (4, 2, 2), 4, "mesh.slices=4, and the devices lie in 2; use 2, or -1"),
    ((8,), (4, 2, 1), 2, "mesh.slices=2, and the devices lie in 1; use 1, or -1"),
    ((8, 8), (1, 8, 2), 2, "data=1 does not divide over mesh.slices=2.* a multiple of 2 for data"),
    ((8, 4), (-1, 1, 1), 2, r"slices of \[8, 4\] devices; slices have to be equally large"),
  ],
)
def test_what_would_leave_a_slice_is_refused(sizes, shape, slices, words):
  with pytest.raises(ValueError, match=words):
    parallel.make_mesh(shape, devices=chips(*sizes), slices=slices)


@pytest.mark.parametrize("slices", [0, -2, 3])
def test_numbers_of_slices_that_cannot_be_are_refused(slices):
  with pytest.raises(ValueError, match=f"mesh.slices={slices}"):
    parallel.make_mesh((-1, 1, 1), slices=slices)


def test_auto_chooses_within_a_slice():
  llama = {"vocabulary": 128_256, "width": 4096, "layers": 32, "heads": 32, "kv_heads": 8}
  llama |= {"head_width": 128, "hidden": 14_336, "tied": False, "dtype": "bfloat16"}
  memory, sizes = 16 * 2**30, (16, 16, 16, 16)
  mesh = parallel.make_mesh(("auto",), tiny.language(**llama), chips(*sizes), memory, slices=-1)
  assert parallel.choose(16, tiny.language(**llama), memory) == (1, 4, 4)
  assert tuple(mesh.shape.values()) == (4, 4, 4)


def step(mesh):
  """Returns a compiled step of imitation, as text."""
  model = tiny.language(layers=2, vocabulary=16, remat="full")
  optimizer = training_step.adam(clip_norm=1.0)
  loss = pure.on_trained(objectives.imitation(model))
  state = supervised.place(tiny.parameters(model, seed=0), model.axes, optimizer, mesh)
  lengths = [3] * 16
  batch = Demonstrations(tiny.prompts(0, lengths, 4), tiny.responses(1, lengths, 5))
  given = (state, {"base": {}}, parallel.put_batch(batch, mesh), jax.random.key(0), jnp.float32(1))
  program = training_step.make_train_step(loss, optimizer)
  return jax.jit(layout.on(mesh, program)).lower(*given).compile().as_text()


def numbers(text):
  return [int(one) for one in text.split(",")]


def places(sizes, order=None):
  """Returns the places of all devices in an array of these sizes, its axes put in an order."""
  sizes = numbers(sizes)
  order = numbers(order) if order else range(len(sizes))
  return np.arange(math.prod(sizes)).reshape(sizes).transpose(order)


def groups(line):
  """Returns which devices, by their places in the mesh, a collective joins."""
  if found := re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", line):
    return [numbers(group) for group in re.findall(r"\d[\d,]*", found[1])]
  order = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
  if found := re.search(rf"replica_groups=\[([\d,]+)\]<={order}", line):
    return places(*found.groups()[1:]).reshape(numbers(found[1])).tolist()
  pattern = rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({order}\))? \{{([^}}]*)\}}"
  axes, listed, turned, joined = re.search(pattern, line).groups()
  names, sizes = re.findall(r"'(\w+)'", axes), [int(size) for size in re.findall(r"=(\d+)", axes)]
  found = places(listed or str(math.prod(sizes)), turned).reshape(sizes)
  last = [names.index(name) for name in re.findall(r"'(\w+)'", joined)]
  found = np.moveaxis(found, last, range(-len(last), 0))
  return found.reshape(-1, math.prod(sizes[axis] for axis in last)).tolist()


def test_groups_are_read_as_compilers_write_them():
  expected = {
    "replica_groups={{0,2},{1,3}}, use": [[0, 2], [1, 3]],
    "source_target_pairs={{0,0},{1,2},{2,1}}, meta": [[0, 0], [1, 2], [2, 1]],
    "replica_groups=[2,4]<=[8], use": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "replica_groups=[4,2]<=[2,4]T(1,0), use": [[0, 4], [1, 5], [2, 6], [3, 7]],
    "replica_groups=mesh['a'=2,'b'=2] {'b'}, use": [[0, 1], [2, 3]],
    "replica_groups=mesh['a'=2,'b'=2] {'a'}, use": [[0, 2], [1, 3]],
    "replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]) {'a','b'}, use": [list(range(8))],
    "replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}, u": [[0, 2], [1, 3]],
  }
  for text, found in expected.items():
    assert groups(text) == found, text


def test_only_sums_cross_the_network_between_slices():
  mesh, crossing, staying = parallel.make_mesh((2, 2, 2), slices=2), set(), set()
  pattern = re.compile(r" (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)\(")
  for line in step(mesh).splitlines():
    if kind := pattern.search(line):
      leaves = any(len({place // 4 for place in group}) > 1 for group in groups(line))
      (crossing if leaves else staying).add(kind[1])
  assert crossing == {"all-reduce"}
  assert "all-gather" in staying  # of what fsdp spreads
