"""Repeats one experiment of a finished run and rewrites its report.

  python launch/evaluate.py --workdir=runs/demo --experiment=length

The experiments of recipe pit are main (every system under every judge), rounds, temperature, gap,
length and cost; of rlhf main and length. Models are loaded and not trained. The noise is that of
the run, so unchanged code finds unchanged figures.
"""

from absl import app, flags, logging

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run, or its gs:// address")
EXPERIMENT = flags.DEFINE_string("experiment", None, "main, rounds, temperature, gap, length, cost")


def main(_: list[str]) -> None:
  """Runs the experiment."""
  from pit_jax.recipes import finished
  from pit_jax.storage import buckets, places

  logging.set_verbosity(logging.WARNING)
  try:
    with places.opened(WORKDIR.value) as workdir:
      finished.evaluate(workdir, EXPERIMENT.value)
  except (ValueError, buckets.UnreachableError) as error:
    raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "experiment"])
  app.run(main)
