"""The devices of a run as one mesh, and how parameters, train states and batches come onto it."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pit_jax import layout
from pit_jax.training import step as training_step


def make_mesh(shape: tuple[int, ...]) -> jax.sharding.Mesh:
  """Returns the mesh of the given (data, fsdp, tensor) sizes; one of them may be −1, "the rest".

  Raises:
    ValueError: if the sizes need another number of devices than there are.
  """
  shape, count = tuple(shape), len(jax.devices())
  known = math.prod(size for size in shape if size != -1)
  if len(shape) != len(layout.AXES) or shape.count(-1) > 1 or any(s < 1 and s != -1 for s in shape):
    raise ValueError(
      f"mesh.shape={shape}; give {layout.AXES} as positive sizes, at most one of them -1"
    )
  if -1 in shape and count % known == 0:
    shape = tuple(count // known if size == -1 else size for size in shape)
  needed = math.prod(shape)
  if -1 in shape or needed > count:
    raise ValueError(
      f"mesh.shape={shape} (data × fsdp × tensor) does not fit {count} devices; "
      f"choose sizes whose product is at most {count}"
    )
  # Auto: the compiler propagates shardings from arguments (jax.make_mesh defaults to Explicit).
  return jax.make_mesh(
    shape,
    layout.AXES,
    axis_types=(AxisType.Auto,) * len(layout.AXES),
    devices=jax.devices()[:needed],
  )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def partition(abstract: Any, axes: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns the sharding of every parameter.

  Args:
    abstract: the parameters, or their shapes.
    axes: the same tree with the logical axis names of each parameter.
    mesh: the devices.
  """
  return jax.tree.map(lambda leaf, names: layout.sharding(mesh, leaf.shape, names), abstract, axes)


def state_sharding(
  abstract: training_step.TrainState, axes: Any, mesh: jax.sharding.Mesh
) -> training_step.TrainState:
  """Returns the sharding of a train state: moments live where their parameters live.

  A leaf of the optimiser's state belongs to the parameter whose path its own path ends with;
  counters and the like belong to none and are replicated.
  """
  params, whole = partition(abstract.params, axes, mesh), replicated(mesh)
  homes = {_keys(path): home for path, home in jax.tree_util.tree_leaves_with_path(params)}

  def place(path, _):
    keys = _keys(path)
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
  if rows % parts(mesh):
    raise ValueError(
      f"batch of {rows} does not divide over {parts(mesh)} devices "
      f"(data={mesh.shape['data']} × fsdp={mesh.shape['fsdp']}); use a multiple of {parts(mesh)}"
    )
  sharding = NamedSharding(mesh, PartitionSpec(layout.RULES["batch"]))

  def place(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

  return jax.tree.map(place, batch)
