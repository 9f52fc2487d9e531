"""Runs a recipe: `python launch/train.py --config=configs/pit.py:tiny --workdir=runs/demo`.

The same command continues an interrupted run. The workdir is a folder, or gs://BUCKET/FOLDER (extra
`gcs`), from which a machine that comes back empty goes on too. On several hosts the command is
started on each of them, with a workdir that all of them see; they find each other on TPU pods, on
GKE, under Slurm and Open MPI, and elsewhere by --coordinator=ADDRESS:PORT --hosts=4 --host=0.

A step that went wrong is recorded in WORKDIR/flight; with --replay=STAGE:STEP the same command
takes it once more, from the checkpoint recorded with it, and compares the numbers.

With --verify_resume it trains four steps of every stage twice below WORKDIR/verify, once without a
stop and once with a restart after two steps of each, and compares every array that was saved.

Any value of the configuration can be set:
`--config.rl.steps=100 --config.data.source=hh:preferences.jsonl.gz`.
"""

import importlib
import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<recipe>.py:<size>")
WORKDIR = flags.DEFINE_string("workdir", None, "folder or gs://BUCKET/FOLDER: made, or continued")
COORDINATOR = flags.DEFINE_string("coordinator", None, "address and port of the first host")
HOSTS = flags.DEFINE_integer("hosts", None, "how many hosts there must be", lower_bound=1)
HOST = flags.DEFINE_integer("host", None, "which of them this is, from 0", lower_bound=0)
REPLAY = flags.DEFINE_string("replay", None, "STAGE:STEP, a step recorded in WORKDIR/flight")
VERIFY = flags.DEFINE_bool("verify_resume", False, "compare few steps with and without restarts")
VERIFY_STEPS = flags.DEFINE_integer("verify_steps", 4, "steps of every stage that are compared")
VERIFY_STOP = flags.DEFINE_integer("verify_stop", 2, "steps after which every stage is restarted")
STOP_AFTER = flags.DEFINE_integer("stop_after", None, "steps after which a new stage is stopped")


def main(_: list[str]) -> None:
  """Runs the recipe that the configuration names."""
  from pit_jax.storage import buckets, places
  from pit_jax.training import checkpoint, verify

  logging.set_verbosity(logging.WARNING)  # Orbax says a page per stage at INFO
  try:
    if VERIFY.value:
      folder = places.local("--verify_resume --workdir", WORKDIR.value)
      sys.exit(verify.run(CONFIG.value.to_dict(), folder, VERIFY_STEPS.value, VERIFY_STOP.value))
    _run()
  except checkpoint.HangingError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # a plain exit would wait for the writer that hangs
  except (ValueError, checkpoint.SaveError, buckets.UnreachableError) as error:
    raise SystemExit(f"error: {error}") from error


def _run() -> None:
  """Runs the recipe, or what was asked for of it."""
  import jax

  from pit_jax.storage import places
  from pit_jax.training import flight, interruption

  _join()
  jax.config.update("jax_debug_nans", CONFIG.value.debug_nans)
  recipe = importlib.import_module(f"pit_jax.recipes.{CONFIG.value.recipe}")
  replay = flight.replaying(flight.parse(REPLAY.value))
  stopping = interruption.stopping(STOP_AFTER.value)
  with replay, stopping, places.opened(WORKDIR.value) as workdir:
    recipe.run(CONFIG.value, workdir)


def _join() -> None:
  """Joins the other hosts of the run."""
  from pit_jax import hosts

  known = {}
  if COORDINATOR.value is None and HOST.value is not None:
    raise ValueError(
      f"--host={HOST.value} without --coordinator: give --coordinator=ADDRESS:PORT and --hosts "
      "too, or neither --coordinator nor --host where hosts find each other"
    )
  if COORDINATOR.value is not None:
    known = {"coordinator_address": COORDINATOR.value, "num_processes": HOSTS.value}
    known["process_id"] = HOST.value
  hosts.start(HOSTS.value, **known)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
