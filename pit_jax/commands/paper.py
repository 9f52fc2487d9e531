"""Runs a configuration, with the ablations that it has, over several seeds, pooled in one report.

  pit paper --workdir=runs/paper          (`make paper`)

Every seed has data, models and evaluation of its own, in WORKDIR/seed_<n>; the pooled report is
WORKDIR/report/report.html. The same command continues an interrupted run.
"""

import argparse
import json
from collections.abc import Sequence

from pit_jax import configurations, terminal


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Runs what is not finished of the seeds, and pools them."""
  options, values = _options(arguments)
  config = configurations.load(options.config)
  configurations.change(config, values)
  terminal.quiet()

  from pit_jax.evaluate import seeds
  from pit_jax.recipes import finished, running
  from pit_jax.recipes import recipe as recipes
  from pit_jax.report import pages
  from pit_jax.storage import owners, places

  recipe = recipes.of(config)
  if "main" not in recipe.experiments:
    raise ValueError(
      f"--config={options.config}: recipe {config.recipe} compares no systems that could be pooled"
    )
  workdir = places.local("--workdir", options.workdir)
  results = {}
  owners.check_place(workdir, pools=True)
  with owners.held(workdir):
    for seed in options.seeds:
      one = config.copy_and_resolve_references().unlock()
      one.seed = seed
      if "ablations" in one:
        one.ablations = not options.without_ablations
      folder = workdir / f"seed_{seed}"
      path = folder / "report" / "results.json"
      old = finished.results(one, folder)
      if not (old and is_judged(old)):
        with owners.held(folder):
          running.run(one.lock(), folder)
      results[seed] = json.loads(path.read_text(encoding="utf-8"))
    pages.publish(seeds.pool(results, recipe.pooled), workdir, recipe.page)


def is_judged(results: dict) -> bool:
  """Returns whether every pair has a verdict, or one that asking again does not bring.

  Else the seed's evaluation is made again.
  """
  from pit_jax.feedback import language_judge

  failures = (row.get("failures") or {} for row in results["comparisons"])
  return all(language_judge.LASTING.issuperset(reasons) for reasons in failures)


def _seeds(text: str) -> tuple[int, ...]:
  if not all(seed.strip().isdecimal() for seed in text.split(",")):
    raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers, as in --seeds=0,1,2")
  seeds = tuple(map(int, text.split(",")))
  if len({*seeds}) < len(seeds):
    raise argparse.ArgumentTypeError(f"{text!r} has a seed twice; give each once")
  return seeds


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration among the arguments."""
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  add("--config", default="pit:tiny", help="pit:<size> (tiny)")
  add("--workdir", required=True, help="folder of the runs: made, or continued")
  seeds = "seeds, separated by commas (0,1,2)"
  add("--seeds", type=_seeds, default=(0, 1, 2), help=seeds)
  add("--without_ablations", action="store_true", help="train none of the ablations")
  return parser.parse_known_args(arguments)
