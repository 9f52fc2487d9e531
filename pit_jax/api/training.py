"""Training, as a Python program asks for it."""

import os
import pathlib

import ml_collections

from pit_jax import arguments, configurations, hosts
from pit_jax.api import preferences as own
from pit_jax.api import runs
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import running
from pit_jax.run import rows, workdirs
from pit_jax.storage import owners, places

PREFERENCES = "rows/preferences.jsonl"  # below a workdir: what a program gave to train on
SCHEMA = "standard"  # of these rows, whatever the configuration says of its own source


def train(
  config: str | ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  preferences: own.Preferences | None = None,
) -> runs.Run | None:
  """Runs a recipe to its end: trains, exports, measures and reports; the same call goes on.

  Args:
    config: the name of a configuration, such as "pit:tiny" or "mine.py:small", or what `get_config`
      returned and a program changed.
    workdir: a folder, or gs://BUCKET/FOLDER: made, or continued.
    preferences: what to train on in place of `data.source`; they are written into the workdir.

  Returns:
    The finished run; None where its recipe exports no models.

  Raises:
    ValueError: the configuration, its data or its models cannot be used, or the workdir belongs to
      another run.
  """
  if isinstance(config, str | os.PathLike):
    config = configurations.load(os.fspath(config))
  if not isinstance(config, ml_collections.ConfigDict):
    kind = type(config).__name__
    raise ValueError(f"config is {kind}; name one, such as 'pit:tiny', or give a ConfigDict")
  if not isinstance(preferences, own.Preferences | None):
    kind = type(preferences).__name__
    raise ValueError(f"preferences is {kind}; give pit_jax.Preferences(rows), or leave it out")

  if pathlib.Path(arguments.place("workdir", workdir, "runs/mine")).is_file():
    raise ValueError(f"workdir={os.fspath(workdir)} is a file; name a folder")
  owners.check_place(workdir)
  recipe = recipes.of(config)
  hosts.prepare()  # before a device is asked for; kept programs are found by its options, too

  with places.opened(workdir) as folder, owners.held(folder):
    if preferences is not None:
      _keep(preferences, folder)
      config = config.copy_and_resolve_references()
      with config.unlocked():
        config.data.source = f"{rows.BELOW}{PREFERENCES}"
        # They were read by these already, and are written with the standard names.
        config.data.columns = ""
        config.data.schema = SCHEMA
    running.run(config, folder)

  return runs.load(workdir) if recipe.exported is not None else None


def _read(path: pathlib.Path) -> tuple:
  return own.Preferences.read(f"jsonl:{path}", schema=SCHEMA).rows


def _keep(preferences: own.Preferences, folder: pathlib.Path) -> None:
  """Writes the rows into a workdir whose run has not begun, or sees that they are those of it."""
  path = folder / PREFERENCES
  # What a call that was refused left there belongs to no run.
  if not (folder / workdirs.CONFIG).exists():
    preferences.save(path)
    return

  # A run that goes on has to see the rows that it began with.
  if not path.exists() or _read(path) != preferences.rows:
    raise ValueError(
      f"{places.address(folder)} holds a run on other preferences; give those that it began with "
      f"({PREFERENCES}, or its data.source) to continue it, or another workdir"
    )
