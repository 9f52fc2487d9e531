"""Runs a recipe: `pit train --config=pit:tiny --workdir=runs/demo`.

The same command continues an interrupted run. The workdir is a folder, or gs://BUCKET/FOLDER (extra
`gcs`), from which a machine that comes back empty goes on too. On several hosts the command is
started on each of them, with a workdir that all of them see; they find each other on TPU pods, on
GKE, under Slurm and Open MPI, and elsewhere by --coordinator=ADDRESS:PORT --hosts=4 --host=0.

A step that went wrong is recorded in WORKDIR/flight; with --replay=STAGE:STEP the same command
takes it once more, from the checkpoint recorded with it, and compares the numbers.

With --verify_resume it trains four steps of every stage twice below WORKDIR/verify, once without a
stop and once with a restart after two steps of each, and compares every array that was saved.

Any value of the configuration can be set, here or in a YAML file:
`--config.rl.steps=100 --config.data.source=hh:preferences.jsonl.gz --values=mine.yaml`; `pit config
pit:tiny` lists them, each with what it means and what it may be.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence

from pit_jax import configurations, terminal


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Runs the recipe that the configuration names, or what was asked for of it."""
  options, values = _options(arguments)
  if options.coordinator is None and options.host is not None:
    raise ValueError(
      f"--host={options.host} without --coordinator: give --coordinator=ADDRESS:PORT and --hosts "
      "too, or neither --coordinator nor --host where hosts find each other"
    )

  config = configurations.load(options.config)
  keys = configurations.change(config, values)
  terminal.quiet()
  if unused := configurations.without_effect(config, keys):
    logging.getLogger(__name__).warning(
      "%s: without effect, as the models have the shape of their base, model.base=%s; use "
      "model.base=none to train models of another",
      ", ".join(unused),
      config.model.base,
    )
  if options.verify_resume:
    from pit_jax.storage import places
    from pit_jax.training import verify

    folder = places.local("--verify_resume --workdir", options.workdir)
    # Without the flag that would have the runs verify themselves in turn.
    others = [word for word in arguments if word != "--verify_resume"]
    steps = {"steps": options.verify_steps, "stop": options.verify_stop}
    sys.exit(verify.run(config.to_dict(), folder, terminal.again("train", others), **steps))
  _run(config, options)


def _run(config, options: argparse.Namespace) -> None:
  """Runs the recipe."""
  from pit_jax.recipes import recipe as recipes
  from pit_jax.recipes import running
  from pit_jax.storage import owners, places
  from pit_jax.training import flight, interruption

  owners.check_place(options.workdir)
  recipes.of(config)
  _join(options)
  replay = flight.replaying(flight.parse(options.replay))
  stopping = interruption.stopping(options.stop_after)
  with replay, stopping, places.opened(options.workdir) as workdir:
    # A step that is replayed changes nothing of its run.
    owning = contextlib.nullcontext() if options.replay else owners.held(workdir)
    with owning:
      running.run(config, workdir, stages_only=options.stages_only)


def _join(options: argparse.Namespace) -> None:
  """Joins the other hosts of the run."""
  from pit_jax import hosts

  known = {}
  if options.coordinator is not None:
    known = {"coordinator_address": options.coordinator, "num_processes": options.hosts}
    known["process_id"] = options.host
  hosts.start(options.hosts, **known)


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration among the arguments."""
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  at_least = terminal.at_least
  add("--config", required=True, help="NAME:SIZE, such as pit:tiny, or FILE.py:SIZE")
  add("--workdir", required=True, help="folder or gs://BUCKET/FOLDER: made, or continued")
  add("--coordinator", help="address and port of the first host")
  add("--hosts", type=at_least(1), help="how many hosts there must be")
  add("--host", type=at_least(0), help="which of them this is, from 0")
  add("--replay", help="STAGE:STEP, a step recorded in WORKDIR/flight")
  add("--verify_resume", action="store_true", help="compare few steps with and without restarts")
  add("--verify_steps", type=int, default=4, help="steps of every stage that are compared (4)")
  stop = "steps after which every stage is restarted (2)"
  add("--verify_stop", type=int, default=2, help=stop)
  add("--stages_only", action="store_true", help="train, and neither export nor evaluate")
  add("--stop_after", type=at_least(1), help="steps after which a new stage is stopped")
  return parser.parse_known_args(arguments)
