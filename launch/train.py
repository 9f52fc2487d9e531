"""Runs a recipe: `python launch/train.py --config=configs/pit.py:tiny --workdir=runs/demo`.

The same command continues an interrupted run. Any value of the configuration can be set:
`--config.rl.steps=100 --config.data.source=hh:preferences.jsonl.gz`.
"""

import importlib
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<recipe>.py:<size>")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: made, or continued")


def main(_: list[str]) -> None:
  """Runs the recipe that the configuration names."""
  logging.set_verbosity(logging.WARNING)  # Orbax says a page per stage at INFO
  recipe = importlib.import_module(f"pit_jax.recipes.{CONFIG.value.recipe}")
  try:
    recipe.run(CONFIG.value, pathlib.Path(WORKDIR.value))
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
