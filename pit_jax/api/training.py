"""Training, as a Python program asks for it."""

import os
import pathlib

import ml_collections

from pit_jax import configurations
from pit_jax.api import preferences as own
from pit_jax.api import runs
from pit_jax.data import schemas
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import running
from pit_jax.storage import owners, places

PREFERENCES = "rows/preferences.jsonl"  # below a workdir: what a program gave to train on


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
  if isinstance(config, str):
    config = configurations.load(config)
  owners.check_place(workdir)
  recipe = recipes.of(config)

  with places.opened(workdir) as folder, owners.held(folder):
    if preferences is not None:
      config = config.copy_and_resolve_references()
      with config.unlocked():
        config.data.source = f"jsonl:{_kept(preferences, folder)}"
        # They were read by these already, and are written with the standard names.
        config.data.columns, config.data.schema = "", schemas.AUTO
    running.run(config, folder)

  return runs.load(workdir) if recipe.exported is not None else None


def _kept(preferences: own.Preferences, folder: pathlib.Path) -> pathlib.Path:
  """Returns the file below a workdir that holds the rows; writes it if it is not there."""
  path = (folder / PREFERENCES).resolve()
  if not path.exists():
    preferences.save(path)
    return path

  # A run that goes on has to see the rows that it began with.
  if own.Preferences.read(f"jsonl:{path}").rows != preferences.rows:
    raise ValueError(
      f"{places.address(folder)} holds a run on other preferences ({PREFERENCES}); give those to "
      "continue it, or another workdir"
    )
  return path
