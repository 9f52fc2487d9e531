"""Repeats an experiment of a finished run for its report, or makes the next round's pairs.

  python launch/evaluate.py --workdir=runs/demo --experiment=length

The experiments of recipe pit are main (every system under every judge), rounds, temperature, gap,
length, cost and ledger; of rlhf main and length. Models are loaded and not trained. The noise is
that of the run, so unchanged code finds unchanged figures.

  python launch/evaluate.py --workdir=runs/demo --export_preferences=next.jsonl --with_data
  python launch/train.py --config=configs/pit.py:tiny --workdir=runs/next \\
      --config.model.base=embedded --config.data.source=jsonl:next.jsonl --config.data.rows=100000

answers and improves training prompts and writes {"prompt", "chosen", "rejected", "margin", …}: the
version that the stop rule keeps over the first draft, where R_PIT prefers it in both orders by more
than --minimum_margin. Held-out prompts, and those that validate or train an independent judge, give
none; nor does the reward fold unless --export_folds names it, since R_PIT would learn its own
verdicts. --with_data adds the run's own rows: with them the file has every fold, and the next run
holds out the same prompts, as long as data.held_out is the same.
"""

import pathlib

from absl import app, flags, logging

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run")
EXPERIMENT = flags.DEFINE_string(
  "experiment", None, "main, rounds, temperature, gap, length, cost, ledger"
)
EXPORT = flags.DEFINE_string("export_preferences", None, "file for new pairs, as JSON lines")
FOLDS = flags.DEFINE_list("export_folds", ["sft", "rl"], "whose prompts: sft, reward, rl")
MARGIN = flags.DEFINE_float("minimum_margin", 0.0, "of R_PIT, in deviations; 0 or more")
WITH_DATA = flags.DEFINE_bool("with_data", False, "whether the run's own rows follow the new ones")


def main(_: list[str]) -> None:
  """Runs the experiment, or writes the pairs."""
  from pit_jax.recipes import finished

  logging.set_verbosity(logging.WARNING)
  workdir = pathlib.Path(WORKDIR.value)
  try:
    if EXPERIMENT.value:
      finished.evaluate(workdir, EXPERIMENT.value)
    else:
      output = pathlib.Path(EXPORT.value)
      chosen = (FOLDS.value, MARGIN.value, WITH_DATA.value)
      finished.export_preferences(workdir, output, *chosen)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  flags.mark_flags_as_mutual_exclusive(["experiment", "export_preferences"], required=True)
  app.run(main)
