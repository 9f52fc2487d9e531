"""Repeats one experiment of a finished run, or all of them, and rewrites its report.

  python launch/evaluate.py --workdir=runs/demo --experiment=length
  python launch/evaluate.py --workdir=runs/demo --config.evaluation.prompts=1024

The experiments of recipe pit are main (every system under every judge), ablation, rounds,
temperature, gap, length, cost and frontier; of rlhf main, length and frontier; of reward labels.
Models are loaded and not trained. The noise is that of the run, so unchanged code finds unchanged
figures. Values of the configuration's section `evaluation` may be changed; then all experiments are
made anew.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run, or its gs:// address")
EXPERIMENT = flags.DEFINE_string(
  "experiment",
  None,
  "main, ablation, rounds, temperature, gap, length, cost, frontier, labels; all unless given",
)


def main(arguments: list[str]) -> None:
  """Runs the experiments; the arguments that are left over are values of the configuration."""
  from pit_jax.recipes import finished
  from pit_jax.storage import buckets, places

  logging.set_verbosity(logging.WARNING)
  try:
    with places.opened(WORKDIR.value) as workdir:
      config = finished.configuration(workdir)
      change(config, arguments)
      finished.evaluate(workdir, EXPERIMENT.value, config)
  except (ValueError, AttributeError, flags.Error, buckets.UnreachableError) as error:
    raise SystemExit(f"error: {error}") from error


def change(config, arguments: list[str]) -> None:
  """Sets values of a configuration, given as --config.evaluation.prompts=1024.

  Raises:
    flags.Error, AttributeError, ValueError: an argument is nothing that can be set.
  """
  values = flags.FlagValues()
  sys.argv, given = list(arguments), sys.argv  # where config_flags looks for overrides
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=values)
    _, *unknown = values(arguments)
  finally:
    sys.argv = given
  if unknown:
    raise ValueError(f"{' '.join(unknown)}: give values as --config.evaluation.prompts=1024")


def parse(arguments: list[str]) -> list[str]:
  """Parses this command's own flags and leaves the configuration's values."""
  return flags.FLAGS(arguments, known_only=True)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  app.run(main, flags_parser=parse)
