"""Runs PIT with all ablations over several seeds and pools them in one report.

  python launch/paper.py --workdir=runs/paper          (`make paper`)

Every seed has data, models and evaluation of its own, in WORKDIR/seed_<n>; the pooled report is
WORKDIR/report/report.html. The same command continues an interrupted run.
"""

import json
import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

CONFIG = config_flags.DEFINE_config_file("config", "configs/pit.py:tiny", "configs/pit.py:<size>")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the runs: made, or continued")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds, separated by commas")


def main(_: list[str]) -> None:
  """Runs every seed, then writes the pooled report."""
  from pit_jax.training import checkpoint

  logging.set_verbosity(logging.WARNING)
  try:
    _run()
  except checkpoint.HangingError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # a plain exit would wait for the writer that hangs
  except (ValueError, checkpoint.SaveError) as error:
    raise SystemExit(f"error: {error}") from error


def _run() -> None:
  """Runs what is not finished of the seeds, and pools them."""
  from pit_jax.evaluate import report, seeds
  from pit_jax.recipes import finished, pit
  from pit_jax.storage import places

  if not SEEDS.value or not all(seed.strip().isdecimal() for seed in SEEDS.value):
    raise ValueError(f"--seeds={','.join(SEEDS.value)}: give whole numbers, as in --seeds=0,1,2")
  workdir, results = places.local("--workdir", WORKDIR.value), {}
  for seed in map(int, SEEDS.value):
    config = CONFIG.value.copy_and_resolve_references().unlock()
    config.seed, config.ablations = seed, True
    folder = workdir / f"seed_{seed}"
    path = folder / "report" / "results.json"
    old = finished.results(config, folder)
    if not (old and is_judged(old)):
      pit.run(config.lock(), folder)
    results[seed] = json.loads(path.read_text())
  report.publish(seeds.pool(results), workdir)


def is_judged(results: dict) -> bool:
  """Returns whether every pair has a verdict, or one that asking again does not bring.

  Else the seed's evaluation is made again.
  """
  from pit_jax.evaluate import language_judge

  failures = (row.get("failures") or {} for row in results["comparisons"])
  return all(language_judge.LASTING.issuperset(reasons) for reasons in failures)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  app.run(main)
