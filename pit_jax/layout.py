"""Sharding rules: one table from logical axes to mesh axes says where arrays live.

Networks know no mesh. They name the axes of what they compute, and a program made by `on` places
it by the table; in all other programs a name does nothing. Without it a compiler that sees only
where the arguments live may move activations to the weights instead of weights to the activations.
"""

import contextvars
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")

RULES = {  # logical axis → mesh axis; parameters and activations have different names
  "layer": None,
  "rank": None,
  "norm": None,
  "embed": "fsdp",
  "mlp": "tensor",
  "vocab": "tensor",
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_dim": None,
  "batch": ("data", "fsdp"),
}
# Sampling reads all weights for every token: they are gathered once, whole but for `tensor`.
SAMPLING_RULES = RULES | {"embed": None}

# Memory kinds, as JAX calls them: where arrays are used, and where they wait.
DEVICE = "device"
HOST = "pinned_host"

_MESH = contextvars.ContextVar[jax.sharding.Mesh | None]("mesh", default=None)


def sharding(
  mesh: jax.sharding.Mesh,
  shape: tuple[int, ...],
  names: tuple[str | None, ...],
  rules: dict[str, Any] = RULES,
) -> NamedSharding:
  """Returns the sharding of an array: over which mesh axes each of its dimensions is cut.

  A dimension that its mesh axes do not divide stays whole (two key/value heads over four
  devices): correct on every mesh, and `tensor` sizes that divide the heads cost nothing. `names`
  are the logical ones of its axes, None stays whole; the rules are logical axis → mesh axis.
  """
  spec = [
    rules[name] if name and size % _parts(mesh, rules[name]) == 0 else None
    for name, size in zip(names, shape, strict=True)
  ]
  return NamedSharding(mesh, PartitionSpec(*spec))


def on(mesh: jax.sharding.Mesh, function: Callable) -> Callable:
  """Returns the function with its activations placed on a mesh, to be compiled for it.

  On one device it is the function itself.
  """
  if mesh.size == 1:
    return function

  @functools.wraps(function)
  def placed(*arguments, **keywords):
    token = _MESH.set(mesh)
    try:
      return function(*arguments, **keywords)
    finally:
      _MESH.reset(token)

  return placed


def spread(x: Any, *names: str | None, rules: dict[str, Any] = RULES) -> Any:
  """Constrains the sharding of the arrays of a tree by the names of their first axes.

  Axes after them stay whole. The rules are logical axis → mesh axis.
  """
  mesh = _MESH.get()
  if mesh is None:
    return x

  def place(leaf):
    rest = (None,) * (leaf.ndim - len(names))
    home = sharding(mesh, leaf.shape, (*names, *rest), rules)
    return jax.lax.with_sharding_constraint(leaf, home)

  return jax.tree.map(place, x)


def each(function: Callable, names: Sequence[tuple[str | None, ...]], *arrays: jax.Array) -> Any:
  """Maps a function over the shards of arrays: each device runs it on its own part (shard_map).

  The compiler divides no kernel that is written by hand; so each device runs it on what it has.
  Results lie as the first array does. `names` are those of the first axes of each array; axes after
  them stay whole.
  """
  mesh = _MESH.get()
  if mesh is None:
    return function(*arrays)
  homes = [
    sharding(mesh, x.shape, (*own, *(None,) * (x.ndim - len(own)))).spec
    for x, own in zip(arrays, names, strict=True)
  ]

  # A Pallas kernel does not say over which mesh axes its results differ: no check_vma.
  places = {"in_specs": tuple(homes), "out_specs": homes[0]}
  return jax.shard_map(function, mesh=mesh, check_vma=False, **places)(*arrays)


def to_hosts(tree: Any) -> Any:
  """Returns arrays in the memory of their devices' hosts, each host with the parts of its own."""
  return jax.tree.map(lambda leaf: jax.device_put(leaf, leaf.sharding.with_memory_kind(HOST)), tree)


def to_devices(tree: Any) -> Any:
  """Returns arrays in the memory of their devices; what is there already is not copied.

  Within a program the copies live as long as they are read.
  """

  def bring(leaf):
    space = jax.memory.Space.Device
    if jax.typeof(leaf).memory_space == space:
      return leaf

    # A traced array has no sharding yet; a program names the memory space alone.
    is_traced = isinstance(leaf, jax.core.Tracer)
    return jax.device_put(leaf, space if is_traced else leaf.sharding.with_memory_kind(DEVICE))

  return jax.tree.map(bring, tree)


def parts(name: str) -> int:
  """Returns over how many devices an axis is cut."""
  mesh = _MESH.get()
  return 1 if mesh is None else _parts(mesh, RULES[name])


def _parts(mesh: jax.sharding.Mesh, axes: str | tuple[str, ...] | None) -> int:
  axes = (axes,) if isinstance(axes, str) else axes or ()
  return math.prod(mesh.shape[axis] for axis in axes)
