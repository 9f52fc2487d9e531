"""Says before a run what it takes: memory, time and chip-hours on TPUs that need not be there.

  python launch/plan.py --config=configs/pit.py:8b --topology=v5e:16x16 [--config.KEY=VALUE …]

Every program of every stage is compiled for the real chip, on a machine without one; a few minutes
each. `--suggest` looks for the mesh, the micro-batches and the rematerialisation with which the
run is fastest of those that fit. `--stages` plans some alone. Two slices are
`--topology=2*v5e:16x16 --config.mesh.slices=2`; the links between them are counted as if they were
as fast as those within. Extra `tpu-plan`, on Linux.
"""

import json
import os
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to be asked about
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nor one that two processes would share
os.environ.setdefault("JAX_PLATFORMS", "cpu")

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<recipe>.py:<size>")
TOPOLOGY = flags.DEFINE_string("topology", None, "the chips: v5e:16x16, or two slices, 2*v5e:16x16")
ROWS = flags.DEFINE_integer("rows", 100_000, "preferences, where data.rows does not say", 1)
STAGES = flags.DEFINE_list("stages", [], "which stages; none: all of them")
SUGGEST = flags.DEFINE_bool("suggest", False, "look for a faster configuration that fits")
OUTPUT = flags.DEFINE_string("output", None, "file that gets the plan's numbers, as JSON")


def main(_: list[str]) -> None:
  """Plans the run that the configuration describes."""
  try:
    from pit_jax.plan import compiled, planning

    chips = compiled.chips(TOPOLOGY.value)
  except ImportError as error:
    raise SystemExit(f"error: {error}; pip install 'pit_jax[tpu-plan]' brings it") from error
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error
  try:
    config = CONFIG.value
    rows = config.data.rows or ROWS.value
    if SUGGEST.value:
      config = planning.suggest(config, chips, print)
    title = f"{CONFIG.value.recipe}, {TOPOLOGY.value}, {rows} preferences"
    plan = planning.plan(config, chips, rows, STAGES.value, lambda text: print(text, flush=True))
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error
  print(plan.write(title))
  if OUTPUT.value:
    pathlib.Path(OUTPUT.value).write_text(json.dumps(plan.rows, indent=1) + "\n")
  if not all(row["fits"] for row in plan.rows):
    raise SystemExit(1)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "topology"])
  app.run(main)
