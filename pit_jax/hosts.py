"""The hosts of one run: all take the same steps on the same data, and the first one writes.

Every host runs the same command on a workdir that all of them see. What one of them reads or
decides by looking at a file, the others are told (`agree`), so that none takes another path.
"""

import contextlib
import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def start(expected: int | None = None, **known: Any) -> None:
  """Joins the other hosts, before anything is computed; a single host is alone.

  JAX finds the others by itself on TPU pods, on GKE, under Slurm and Open MPI.

  Args:
    expected: how many hosts there must be; None takes as many as there are.
    known: coordinator_address, num_processes and process_id where nothing can be found, as
      `jax.distributed.initialize` takes them.

  Raises:
    ValueError: another number of hosts than expected came together.
  """
  if any(value is not None for value in known.values()):
    jax.distributed.initialize(**known)
  else:
    with contextlib.suppress(ValueError):  # no cluster was found
      jax.distributed.initialize()
  if expected is not None and jax.process_count() != expected:
    raise ValueError(
      f"{jax.process_count()} hosts came together, --hosts={expected} are wanted; start the same "
      "command on all of them, or give --coordinator, --hosts and --host"
    )


def is_first() -> bool:
  """Returns whether this host writes for all."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Returns when every host has come to the place of this name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agree(value: Any) -> Any:
  """Returns what the first host gave, whatever JSON value the others gave."""
  if jax.process_count() == 1:
    return value
  said = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
  padded = np.zeros(size, np.uint8)
  padded[: min(size, len(said))] = said[:size]
  return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))


def fetch(tree: Any) -> Any:
  """Returns arrays as NumPy ones, whole, on every host; all hosts must ask for them."""

  def whole(x):
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
      return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return x

  return jax.device_get(jax.tree.map(whole, tree))
