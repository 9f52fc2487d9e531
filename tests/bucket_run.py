"""A run of one small stage: `python bucket_run.py WORKDIR [STEP]` dies after STEP steps."""

import os
import signal
import sys

import jax
import jax.numpy as jnp

from pit_jax import hosts
from pit_jax.run import workdirs
from pit_jax.storage import places
from pit_jax.training import keeping, loop, operations

STEPS, EVERY = 6, 2


def start():
  return {"w": jnp.linspace(0.5, 2.0, 8, dtype=jnp.float32), "n": jnp.int32(0)}


def spread():
  """Returns the same over the devices of all hosts."""
  mesh = jax.make_mesh((jax.device_count(),), ("x",), (jax.sharding.AxisType.Auto,))
  homes = {"w": jax.P("x"), "n": jax.P()}
  homes = {name: jax.sharding.NamedSharding(mesh, home) for name, home in homes.items()}
  return jax.jit(start, out_shardings=homes)()


@jax.jit
def step(state, key):
  noise = jax.random.normal(key, state["w"].shape)
  state = {"w": jnp.sin(state["w"] * 1.7) + 0.1 * noise, "n": state["n"] + 1}
  return state, {"loss": state["w"].sum()}


def train(workdir, die_after=None, metadata=None, **more):
  """Trains the stage; the file of references is written once, and every run needs it."""

  def advance(state, index):
    if index == die_after:
      os.kill(os.getpid(), signal.SIGKILL)
    return *step(state, jax.random.fold_in(jax.random.key(3), index)), {}

  references = workdir / "references" / "drawn.json"
  if not hosts.agree(references.exists()):
    workdirs.write_text(references, f"[{os.getpid()}]")
  surroundings = operations.Operations(keeping=keeping.Keeping(newest=2, **more))
  every = {"log_every": 1, "save_every": EVERY, "metadata": metadata or {"data": "d"}}
  return loop.fit(
    "toy", advance, spread(), steps=STEPS, workdir=workdir, surroundings=surroundings, **every
  )


if __name__ == "__main__":
  if "COORDINATOR" in os.environ:
    known = {"coordinator_address": os.environ["COORDINATOR"], "num_processes": 2}
    hosts.start(2, **known, process_id=int(os.environ["HOST"]))
  with places.opened(sys.argv[1]) as folder:
    train(folder, *map(int, sys.argv[2:]))
