"""The devices of a run as one mesh, and how parameters, train states and batches come onto it."""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pit_jax import hosts, layout, ranges
from pit_jax.models import pure
from pit_jax.training import step as training_step

AUTO = ("auto",)
SHAPES = f"{AUTO}, or sizes of {layout.AXES}, positive or, one of them at most, -1: the rest"
# Per parameter: policy and value model with gradient and Adam's moments, reference and reward.
RL_BYTES = 2 * 16 + 2 * 4


def make_mesh(
  shape: Sequence[int | str],
  model: pure.PureModel | None = None,
  devices: Sequence[Any] | None = None,
  memory: int | None = None,
  slices: int = 1,
) -> jax.sharding.Mesh:
  """Returns the mesh of the given (data, fsdp, tensor) sizes; one of them may be −1, "the rest".

  Over several slices only `data` is laid: each slice is one block of it. So sums of gradients and
  of losses cross the network between slices, and the rows of PPO's minibatches; no weights do.

  Args:
    shape: the sizes; or ("auto",), which `choose` makes of the devices and the model.
    model: for "auto", the language model of the run.
    devices: to be used; None is all there are.
    memory: bytes of one device, for "auto"; None is what the devices say.
    slices: groups of devices with a fast network of their own; see `by_slice`.

  Raises:
    ValueError: if the sizes need another number of devices than there are, or do not go together
      with the slices.
  """
  groups = by_slice(jax.devices() if devices is None else list(devices), slices)
  shape = _sizes(tuple(shape), groups, model, memory)
  data = shape[0] // len(groups)
  here = math.prod(shape) // len(groups)
  blocks = [_block((data, *shape[1:]), group[:here]) for group in groups]

  # Auto: the compiler propagates shardings from arguments (jax.make_mesh defaults to Explicit).
  kinds = (AxisType.Auto,) * len(layout.AXES)
  return jax.sharding.Mesh(np.concatenate(blocks), layout.AXES, axis_types=kinds)


def _block(shape: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
  """Returns the devices of a slice in an array of a shape, neighbours where a network is theirs.

  A size that is no product of the sides of a TPU's torus takes a part of one: `tensor`=2 on 8 × 8
  is a pair of neighbours, and `fsdp`=32 all the pairs.
  """
  try:
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  except (AssertionError, NotImplementedError) as error:  # so JAX says that it knows no such torus
    problem = f"(data × fsdp × tensor) of a slice cannot be laid over its devices ({error})"
    todo = "choose sizes whose product is all of them"
    raise ValueError(f"mesh.shape={shape} {problem}; {todo}") from error


def by_slice(devices: Sequence[Any], slices: int) -> list[list[Any]]:
  """Returns the devices of each of so many slices; −1 is as many as the devices say.

  Devices that do not say in which slice they lie are dealt out in their order.

  Raises:
    ValueError: if the devices say otherwise, or the slices are not equally large.
  """
  slice_indices = {getattr(device, "slice_index", None) for device in devices}
  count = len(slice_indices) if slices == -1 else slices
  if count < 1 or (None not in slice_indices and len(slice_indices) != count):
    said = len(slice_indices)
    todo = f"use {said}, or -1 for as many as they say"
    raise ValueError(f"mesh.slices={slices}, and the devices lie in {said}; {todo}")

  if None in slice_indices:
    # Dealt out, since none names its slice. Unequal groups are refused below.
    groups = [list(group) for group in np.array_split(np.array(devices, object), count)]
  else:
    index = operator.attrgetter("slice_index")
    groups = [list(group) for _, group in itertools.groupby(sorted(devices, key=index), index)]

  lengths = [len(group) for group in groups]
  if len(set(lengths)) > 1:
    problem = f"{len(devices)} devices make slices of {lengths} devices"
    raise ValueError(f"mesh.slices={slices}: {problem}; slices have to be equally large")

  return groups


def _sizes(
  shape: tuple[int | str, ...],
  groups: Sequence[Sequence[Any]],
  model: pure.PureModel | None,
  memory: int | None,
) -> tuple[int, ...]:
  """Returns the sizes of a mesh, each a number."""
  slices = len(groups)
  count = slices * len(groups[0])
  if shape == AUTO:
    if model is None:
      raise ValueError(f"mesh.shape={AUTO} is chosen by the model, and there is none; give sizes")
    data, *rest = choose(len(groups[0]), model, memory or device_memory())
    shape = (slices * data, *rest)

  if not is_shape(shape):
    raise ValueError(f"mesh.shape={shape}; use {SHAPES}")

  fixed = math.prod(size for size in shape if size != -1)
  if -1 in shape and count % fixed == 0:
    shape = tuple(count // fixed if size == -1 else size for size in shape)
  needed = math.prod(shape)

  if -1 in shape or needed > count:
    problem = f"mesh.shape={shape} (data × fsdp × tensor) does not fit {count} devices"
    raise ValueError(f"{problem}; choose sizes whose product is at most {count}")

  if shape[0] % slices:
    problem = f"mesh.shape={shape}: data={shape[0]} does not divide over mesh.slices={slices}"
    todo = f"choose a multiple of {slices} for data"
    raise ValueError(f"{problem}, and fsdp and tensor stay within a slice; {todo}")

  return shape


def is_shape(value: Any) -> bool:
  """Returns whether a value says the shape of a mesh, of however many devices."""
  if not ranges.is_list(value) or tuple(value) == AUTO:
    return ranges.is_list(value)
  are_sizes = all(ranges.WHOLE.holds(size) and (size > 0 or size == -1) for size in value)
  return len(value) == len(layout.AXES) and value.count(-1) <= 1 and are_sizes


def choose(count: int, model: pure.PureModel, memory: int | None) -> tuple[int, int, int]:
  """Returns the (data, fsdp, tensor) sizes that suit so many devices of one slice.

  `tensor` is the smallest power of two with which the weights that sampling gathers take at most a
  quarter of a device; it cuts no head. Rows alone are spread, over `data`, where a device can keep
  all that RL keeps; else states are spread too, over `fsdp`. Where nobody knows the bytes of one
  device, None, the models are taken to be small.
  """
  if memory is None:
    return count, 1, 1
  weights = model.size * jax.numpy.dtype(model.config.dtype).itemsize
  tensor = 1
  while weights / tensor > memory / 4 and not count % (2 * tensor) and _cuts(model, 2 * tensor):
    tensor *= 2
  is_small = model.size * RL_BYTES / tensor <= memory / 2

  return (count // tensor, 1, tensor) if is_small else (1, count // tensor, tensor)


def _cuts(model: pure.PureModel, tensor: int) -> bool:
  """Returns whether `tensor` devices share all heads and hidden features of a layer evenly."""
  c = model.config
  return not any(count % tensor for count in (c.heads, c.kv_heads, c.hidden))


def device_memory() -> int | None:
  """Returns the bytes that a device of the first host has for arrays, None where it does not say.

  Only its own host may ask a device, and all hosts must go by the same answer.
  """
  device = jax.local_devices()[0]
  stats = device.memory_stats() if device.platform != "cpu" else None
  return hosts.agree((stats or {}).get("bytes_limit"))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def partition(abstract: Any, axes: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns the sharding of every parameter, or of its shape, by a like tree of logical axes."""
  return jax.tree.map(lambda leaf, names: layout.sharding(mesh, leaf.shape, names), abstract, axes)


def homes(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Any:
  """Returns the sharding of every parameter of a model."""
  return partition(jax.eval_shape(model.init, jax.random.key(0)), model.axes, mesh)


def state_sharding(
  abstract: training_step.TrainState, axes: Any, mesh: jax.sharding.Mesh
) -> training_step.TrainState:
  """Returns the sharding of a train state: moments live where their parameters live.

  A leaf of the optimiser's state belongs to the parameter whose path its own path ends with;
  counters and the like belong to none and are replicated.
  """
  params = partition(abstract.params, axes, mesh)
  whole = replicated(mesh)
  homes = {_keys(path): home for path, home in jax.tree_util.tree_leaves_with_path(params)}

  def place(path, _):
    keys = _keys(path)
    # Ever shorter ends, so that the longest that names a parameter decides.
    ends = (keys[start:] for start in range(len(keys)))
    return next((homes[end] for end in ends if end in homes), whole)

  opt_state = jax.tree_util.tree_map_with_path(place, abstract.opt_state)
  return training_step.TrainState(step=whole, params=params, opt_state=opt_state)


def _keys(path: tuple) -> tuple:
  return tuple(getattr(entry, "key", None) for entry in path)


def parts(mesh: jax.sharding.Mesh) -> int:
  """Returns over how many devices the rows of a batch are spread."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def put_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Places a batch record with its rows spread over the data and fsdp axes of all hosts.

  Every host gives the whole batch, and its devices take their rows of it.

  Raises:
    ValueError: if the rows do not divide over those devices.
  """
  rows = jax.tree.leaves(batch)[0].shape[0]
  count = parts(mesh)
  if rows % count:
    sizes = f"(data={mesh.shape['data']} × fsdp={mesh.shape['fsdp']})"
    problem = f"batch of {rows} does not divide over {count} devices {sizes}"
    raise ValueError(f"{problem}; use a multiple of {count}")

  sharding = NamedSharding(mesh, PartitionSpec(layout.RULES["batch"]))

  def place(x):
    x = np.asarray(x)
    # It asks for the parts of this host's own devices alone.
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

  return jax.tree.map(place, batch)
