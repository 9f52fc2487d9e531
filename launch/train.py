"""Runs a recipe: `python launch/train.py --config=configs/pit.py:tiny --workdir=runs/demo`.

The same command continues an interrupted run. On several hosts it is started on each of them, with
a workdir that all of them see; they find each other on TPU pods, on GKE, under Slurm and Open MPI,
and elsewhere by --coordinator=ADDRESS:PORT --hosts=4 --host=0.

Any value of the configuration can be set:
`--config.rl.steps=100 --config.data.source=hh:preferences.jsonl.gz`.
"""

import importlib
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<recipe>.py:<size>")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: made, or continued")
COORDINATOR = flags.DEFINE_string("coordinator", None, "address and port of the first host")
HOSTS = flags.DEFINE_integer("hosts", None, "how many hosts there must be", lower_bound=1)
HOST = flags.DEFINE_integer("host", None, "which of them this is, from 0", lower_bound=0)


def main(_: list[str]) -> None:
  """Runs the recipe that the configuration names."""
  logging.set_verbosity(logging.WARNING)  # Orbax says a page per stage at INFO
  try:
    _join()
    recipe = importlib.import_module(f"pit_jax.recipes.{CONFIG.value.recipe}")
    recipe.run(CONFIG.value, pathlib.Path(WORKDIR.value))
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error


def _join() -> None:
  """Joins the other hosts of the run."""
  from pit_jax import hosts

  known = {}
  if COORDINATOR.value is not None:
    known = {"coordinator_address": COORDINATOR.value, "num_processes": HOSTS.value}
    known["process_id"] = HOST.value
  hosts.start(HOSTS.value, **known)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
