"""Runs a configuration with many values, on as many machines as take part, and compares the runs.

  python launch/sweep.py --config=configs/pit.py:tiny --sweep=configs/sweeps/kl.py \\
      --workdir=runs/kl [--workers=2] [--storage=postgresql://…] [--config.rl.steps=100 …]

The same command continues a sweep. Given the same --workdir (a shared folder) and --storage on
several machines, all of them take trials from it; without --storage it is a file in the workdir,
for the workers of one machine. A trial whose worker is killed goes to another one, which continues
it. Extra `sweep`.
"""

import argparse
import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # configs/, from any folder


def main(arguments: list[str] | None = None) -> None:
  """Runs the command line; `arguments` are those of the process unless given."""
  options, overrides = _options(arguments)
  try:
    import optuna

    from pit_jax.storage import places
    from pit_jax.sweep import space, summary, trials
  except ImportError as error:
    raise SystemExit(f"error: {error}; pip install 'pit_jax[sweep]' brings it") from error
  optuna.logging.set_verbosity(optuna.logging.ERROR)  # the table names what failed
  try:
    workdir = places.local("--workdir", options.workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    sweep = space.load(options.sweep, _config(options.config))
    given = [f"--config={options.config}", *overrides]
    storage = options.storage or f"sqlite:///{workdir / 'sweep.db'}"
    sweeping = trials.Sweeping(sweep, given, workdir, storage, options.heartbeat)
    sweeping.open()
    sweeping.work(options.workers)
    summary.write(sweeping.open(), sweep, workdir)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error


def _config(named: str):
  """Returns the configuration that `configs/<recipe>.py:<size>` names."""
  file, _, size = named.partition(":")
  module = importlib.import_module(f"configs.{pathlib.Path(file).stem}")
  return module.get_config(size) if size else module.get_config()


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("--config", required=True, help="configs/<recipe>.py:<size>")
  parser.add_argument(
    "--sweep", required=True, help="file with get_sweep(): sampler, trials, space"
  )
  parser.add_argument("--workdir", required=True, help="folder of the sweep: made, or continued")
  parser.add_argument("--workers", type=int, default=1, help="trials at a time on this machine")
  parser.add_argument("--storage", help="URL of the database that workers share")
  parser.add_argument("--heartbeat", type=int, default=10, help="seconds between signs of life")
  options, overrides = parser.parse_known_args(arguments)
  unknown = [word for word in overrides if not word.startswith("--config.")]
  if unknown:
    parser.error(f"{unknown}: only --config.KEY=VALUE is passed on to the runs")
  return options, overrides


if __name__ == "__main__":
  main()
