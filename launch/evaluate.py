"""Repeats one experiment of a finished run and rewrites its report.

  python launch/evaluate.py --workdir=runs/demo --experiment=length

The experiments of recipe pit are main (every system under every judge), ablation, rounds,
temperature, gap, length, cost and frontier; of rlhf main, length and frontier. Models are loaded
and not trained. The noise is that of the run, so unchanged code finds unchanged figures.
"""

import pathlib

from absl import app, flags, logging

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run")
EXPERIMENT = flags.DEFINE_string(
  "experiment", None, "main, ablation, rounds, temperature, gap, length, cost, frontier"
)


def main(_: list[str]) -> None:
  """Runs the experiment."""
  from pit_jax.recipes import finished

  logging.set_verbosity(logging.WARNING)
  try:
    finished.evaluate(pathlib.Path(WORKDIR.value), EXPERIMENT.value)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "experiment"])
  app.run(main)
