"""The hosts of one run: all take the same steps on the same data, and the first one writes.

Every host runs the same command on a workdir that all of them see. What one of them reads or
decides by looking at a file, the others are told (`agree`), so that none takes another path.
"""

import json
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# Options of the TPU's compiler. Weights that are spread over fsdp are gathered whole before a
# product: by itself the compiler makes large products a loop over the parts of all devices, which
# reads and writes the sum once for each. So a step of SFT of 8b on v6e:8x8 moves 0.7 instead of
# 3.2 TB on each chip, as pit plan counts it.
TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
OPTIONS = "--coordinator, --hosts and --host"  # that say who the others are


def prepare() -> None:
  """Tells the TPU's compiler the options of this library, before any device is asked for.

  What LIBTPU_INIT_ARGS says of them in the environment goes before.
  """
  flags = os.environ.get("LIBTPU_INIT_ARGS", "")
  own = [f"--{name}={value}" for name, value in TPU_OPTIONS.items() if name not in flags]
  os.environ["LIBTPU_INIT_ARGS"] = " ".join([flags, *own]).strip()


def start(expected: int | None = None, **known: Any) -> None:
  """Joins the other hosts, before anything is computed; a single host is alone.

  JAX finds the others by itself on TPU pods, on GKE, under Slurm and Open MPI. Where it finds
  nothing, coordinator_address, num_processes and process_id are given, as
  `jax.distributed.initialize` takes them.

  Raises:
    ValueError: another number of hosts than expected came together (None takes any), or a cluster
      says too little of itself.
  """
  prepare()
  if any(value is not None for value in known.values()):
    jax.distributed.initialize(**known)
  else:
    try:
      jax.distributed.initialize()
    except ValueError as error:
      if "coordinator_address should be defined" not in str(error):  # else no cluster was found
        problem = f"a cluster was found, and not all that is wanted of it ({error})"
        raise ValueError(f"{problem}; give {OPTIONS}") from error

  if expected is not None and jax.process_count() != expected:
    problem = f"{jax.process_count()} hosts came together, --hosts={expected} are wanted"
    raise ValueError(f"{problem}; start the same command on all of them, or give {OPTIONS}")


def is_first() -> bool:
  """Returns whether this host writes for all."""
  return jax.process_index() == 0


def is_alone() -> bool:
  """Returns whether there is no other host."""
  return jax.process_count() == 1


def wait(name: str) -> None:
  """Waits at a barrier until every host has come to the place of this name."""
  if not is_alone():
    multihost_utils.sync_global_devices(name)


def agree(value: Any) -> Any:
  """Broadcasts the JSON value of the first host; what the others gave is not looked at."""
  if is_alone():
    return value
  encoded = np.frombuffer(json.dumps(value).encode(), np.uint8)

  # A broadcast needs arrays of one shape on all hosts; so the first one's length goes ahead.
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(encoded))))
  padded = np.zeros(size, np.uint8)
  padded[: min(size, len(encoded))] = encoded[:size]
  return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))


def fetch(tree: Any) -> Any:
  """Gathers sharded arrays as whole NumPy ones on every host; all hosts must ask for them."""

  def whole(x):
    # What a host holds whole needs no other; tiled joins the shards instead of stacking them.
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
      return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return x

  return jax.device_get(jax.tree.map(whole, tree))
