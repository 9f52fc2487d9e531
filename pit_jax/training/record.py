"""The record beside a checkpoint's arrays: what they depend on, and what they must be like."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def check_metadata(
  saved: Mapping[str, Any], current: Mapping[str, Any], *, where: str = "the checkpoint"
) -> None:
  """Refuses to continue a run whose data, template or model has changed.

  Raises:
    ValueError: an entry differs or exists on one side only; the message has both values.
  """
  # Through JSON both: a tuple that comes back as a list is no change.
  saved = as_json(saved)
  current = as_json(current)
  changed = [
    f"{key} was {_show(saved, key)} when it was saved and is {_show(current, key)} now"
    for key in sorted(saved.keys() | current.keys())
    if key not in saved or key not in current or saved[key] != current[key]
  ]

  if changed:
    raise ValueError(
      f"{where} belongs to another run: {'; '.join(changed)}. "
      "Restore the old setting, or start in a new workdir"
    )


def _show(metadata: Mapping[str, Any], key: str) -> str:
  return json.dumps(metadata[key]) if key in metadata else "absent"


def as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """Returns metadata as it will come back from disk: tuples as lists, keys as strings."""
  return json.loads(json.dumps(dict(metadata)))


def describe(tree: Any) -> dict[str, str]:
  """Returns, for every array of a tree, its type and shape as `float32[3,4]`."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    for path, leaf in leaves
  }


def check_arrays(saved: Mapping[str, str], wanted: Mapping[str, str], where: str) -> None:
  """Raises a ValueError that names the arrays whose type or shape is another."""
  names = sorted(saved.keys() | wanted.keys())
  different = [name for name in names if saved.get(name) != wanted.get(name)]
  if different:
    differences = "; ".join(
      f"{name} is {saved.get(name, 'absent')}, wanted {wanted.get(name, 'absent')}"
      for name in different[:3]
    )
    others = f" and {len(different) - 3} more" if len(different) > 3 else ""
    raise ValueError(f"{where} holds other arrays than the state: {differences}{others}")


def is_addressable(state: Any) -> bool:
  """Returns whether this host holds all parts of every array."""
  return all(leaf.is_fully_addressable for leaf in jax.tree.leaves(state))


def checksums(state: Any) -> list[int] | None:
  """Returns a CRC-32 per array, in tree order, or None where other hosts hold parts of them."""
  if not is_addressable(state):
    return None
  return [zlib.crc32(_host_bytes(leaf)) for leaf in jax.tree.leaves(state)]


def _host_bytes(leaf: jax.Array) -> bytes:
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf).tobytes()


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  """Returns the abstract array: shape, type and sharding."""
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
