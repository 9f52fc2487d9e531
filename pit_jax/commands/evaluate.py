"""Repeats an experiment of a finished run, or all of them, or makes the next round's pairs.

  pit evaluate --workdir=runs/demo --experiment=length
  pit evaluate --workdir=runs/demo --config.evaluation.prompts=1024

The experiments of recipe pit are main (every system under every judge), ablation, rounds, stop
(what each stop rule keeps), temperature, gap, length, cost, frontier and ledger; of rlhf main,
length and frontier; of reward labels. Models are loaded and not trained. The noise is that of the
run, so unchanged code finds unchanged figures. Values of the configuration's section `evaluation`
may be changed; then all experiments are made anew.

  pit evaluate --workdir=runs/demo --export_preferences=next.jsonl --with_data
  pit train --config=pit:tiny --workdir=runs/next \\
      --config.model.base=embedded --config.data.source=jsonl:next.jsonl --config.data.rows=100000

answers and improves training prompts and writes {"prompt", "chosen", "rejected", "margin", …}: the
version that the stop rule keeps over the first draft, where R_PIT prefers it in both orders by more
than --minimum_margin. Held-out prompts, and those that validate or train an independent judge, give
none; nor does the reward fold unless --export_folds names it, since R_PIT would learn its own
verdicts, and with data.judge in the next run its judge would, too. --with_data adds the run's own
rows: with them the file has every fold, and the next run holds out the same prompts, as long as
data.held_out is the same.
"""

import argparse
from collections.abc import Sequence

from pit_jax import arguments, configurations, terminal

EXPORTING = {"export_folds": ["sft", "rl"], "minimum_margin": 0.0, "with_data": False}


@terminal.command
def main(asked: Sequence[str]) -> None:
  """Runs the experiments, or writes the pairs."""
  options, values = _options(asked)
  terminal.quiet()

  from pit_jax.recipes import finished
  from pit_jax.run import workdirs
  from pit_jax.storage import owners, places

  with places.opened(options.workdir) as workdir:
    config = workdirs.saved(workdir)
    configurations.change(config, values)
    if options.export_preferences is None:
      with owners.held(workdir):
        finished.evaluate(workdir, options.experiment, config)
      return
    if values:
      raise ValueError(f"{' '.join(values)}: --export_preferences takes the run as it is")
    option = "--export_preferences"
    output = arguments.output(option, places.local(option, options.export_preferences))
    more = (options.export_folds, options.minimum_margin, options.with_data)
    finished.export_preferences(workdir, output, *more)


def _options(asked: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration among the arguments."""
  parser = terminal.Parser(__doc__)
  one = parser.add_mutually_exclusive_group()
  add = parser.add_argument
  add("--workdir", required=True, help="folder of a finished run, or its gs:// address")
  one.add_argument(
    "--experiment",
    help="main, ablation, rounds, stop, temperature, gap, length, cost, frontier, ledger, labels; "
    "all unless given",
  )
  one.add_argument("--export_preferences", metavar="FILE", help="file for new pairs, as JSON lines")
  add("--export_folds", type=terminal.words, help="whose prompts: sft, reward, rl (sft,rl)")
  add("--minimum_margin", type=float, help="of R_PIT, in deviations; 0 or more (0.0)")
  add("--with_data", action="store_true", default=None, help="the run's own rows follow the new")
  options, values = parser.parse_known_args(asked)
  given = [f"--{name}" for name in EXPORTING if getattr(options, name) is not None]
  if given and options.export_preferences is None:
    raise ValueError(
      f"{', '.join(given)}: nothing is exported; name a file as --export_preferences=FILE, or "
      "leave them out"
    )
  for name, default in EXPORTING.items():
    if getattr(options, name) is None:
      setattr(options, name, default)
  return options, values
