"""Repeats an experiment of a finished run, or all of them, or makes the next round's pairs.

  python launch/evaluate.py --workdir=runs/demo --experiment=length
  python launch/evaluate.py --workdir=runs/demo --config.evaluation.prompts=1024

The experiments of recipe pit are main (every system under every judge), ablation, rounds, stop
(what each stop rule keeps), temperature, gap, length, cost, frontier and ledger; of rlhf main,
length and frontier; of reward labels. Models are loaded and not trained. The noise is that of the
run, so unchanged code finds unchanged figures. Values of the configuration's section `evaluation`
may be changed; then all experiments are made anew.

  python launch/evaluate.py --workdir=runs/demo --export_preferences=next.jsonl --with_data
  python launch/train.py --config=configs/pit.py:tiny --workdir=runs/next \\
      --config.model.base=embedded --config.data.source=jsonl:next.jsonl --config.data.rows=100000

answers and improves training prompts and writes {"prompt", "chosen", "rejected", "margin", …}: the
version that the stop rule keeps over the first draft, where R_PIT prefers it in both orders by more
than --minimum_margin. Held-out prompts, and those that validate or train an independent judge, give
none; nor does the reward fold unless --export_folds names it, since R_PIT would learn its own
verdicts, and with data.judge in the next run its judge would, too. --with_data adds the run's own
rows: with them the file has every fold, and the next run holds out the same prompts, as long as
data.held_out is the same.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run, or its gs:// address")
EXPERIMENT = flags.DEFINE_string(
  "experiment",
  None,
  "main, ablation, rounds, stop, temperature, gap, length, cost, frontier, ledger, labels; all "
  "unless given",
)
EXPORT = flags.DEFINE_string("export_preferences", None, "file for new pairs, as JSON lines")
FOLDS = flags.DEFINE_list("export_folds", ["sft", "rl"], "whose prompts: sft, reward, rl")
MARGIN = flags.DEFINE_float("minimum_margin", 0.0, "of R_PIT, in deviations; 0 or more")
WITH_DATA = flags.DEFINE_bool("with_data", False, "whether the run's own rows follow the new ones")


def main(arguments: list[str]) -> None:
  """Runs the experiments, or writes the pairs.

  The arguments that are left over are values of the configuration.
  """
  given = [f"--{flag.name}" for flag in (FOLDS, MARGIN, WITH_DATA) if flag.present]
  if given and not EXPORT.value:
    raise SystemExit(
      f"error: {', '.join(given)}: nothing is exported; name a file as --export_preferences=FILE, "
      "or leave them out"
    )
  from pit_jax.recipes import finished
  from pit_jax.storage import buckets, places

  logging.set_verbosity(logging.WARNING)
  try:
    with places.opened(WORKDIR.value) as workdir:
      config = finished.configuration(workdir)
      try:
        change(config, arguments)
      except (AttributeError, flags.Error) as error:
        raise ValueError(error) from error
      if not EXPORT.value:
        finished.evaluate(workdir, EXPERIMENT.value, config)
      elif arguments[1:]:
        raise ValueError(f"{' '.join(arguments[1:])}: --export_preferences takes the run as it is")
      else:
        output = places.local("--export_preferences", EXPORT.value)
        finished.export_preferences(workdir, output, FOLDS.value, MARGIN.value, WITH_DATA.value)
  except (ValueError, buckets.UnreachableError) as error:
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
  flags.mark_flags_as_mutual_exclusive(["experiment", "export_preferences"])
  app.run(main, flags_parser=parse)
