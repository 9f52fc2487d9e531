"""Runs a configuration with many values, on as many machines as take part, and compares the runs.

  pit sweep --config=pit:tiny --sweep=configs/sweeps/kl.py \\
      --workdir=runs/kl [--workers=2] [--storage=postgresql://…] [--config.rl.steps=100 …]

The same command continues a sweep. Given the same --workdir (a shared folder) and --storage on
several machines, all of them take trials from it; without --storage it is a file in the workdir,
for the workers of one machine. A trial whose worker is killed goes to another one, which continues
it. Extra `sweep`.
"""

import argparse
import pathlib
from collections.abc import Sequence

from pit_jax import configurations, terminal


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Tries what the sweep's file describes, and compares the runs."""
  options, values = _options(arguments)
  config = configurations.load(options.config)
  configurations.change(config, values)
  try:
    import optuna

    from pit_jax.storage import owners, places
    from pit_jax.tools.sweep import space, summary, trials
  except ImportError as error:
    raise ValueError(f"{error}; pip install 'pit_jax[sweep]' brings it") from error
  optuna.logging.set_verbosity(optuna.logging.ERROR)  # the table names what failed
  workdir = places.local("--workdir", options.workdir).resolve()
  owners.check_place(workdir, beside=[pathlib.Path(options.sweep).name])
  sweep = space.load(configurations.place(options.sweep, "sweeps") or options.sweep, config)
  workdir.mkdir(parents=True, exist_ok=True)
  given = [f"--config={options.config}", *values]
  storage = options.storage or f"sqlite:///{workdir / 'sweep.db'}"
  sweeping = trials.Sweeping(sweep, given, workdir, storage, options.heartbeat)
  sweeping.open()
  sweeping.work(options.workers)
  summary.write(sweeping.open(), sweep, workdir)


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration, which every run is given."""
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  at_least = terminal.at_least
  add("--config", required=True, help="NAME:SIZE, such as pit:tiny, or FILE.py:SIZE")
  add("--sweep", required=True, help="file with get_sweep(), or kl, rates")
  add("--workdir", required=True, help="folder of the sweep: made, or continued")
  add("--workers", type=at_least(1), default=1, help="trials at a time on this machine (1)")
  add("--storage", help="URL of the database that workers share")
  add("--heartbeat", type=at_least(1), default=10, help="seconds between signs of life (10)")
  return parser.parse_known_args(arguments)
