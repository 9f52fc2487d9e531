"""Says before a run what it takes: memory, time and chip-hours on TPUs that need not be there.

  python launch/plan.py --config=configs/pit.py:8b --topology=v5e:16x16 [--config.KEY=VALUE …]

Every program of every stage is compiled for the real chip, on a machine without one; a few minutes
each. What the compiler said is kept in `--output`: a plan that was interrupted goes on, and one
that changes little is soon made. The tables lie there too, beside their numbers as JSON. `--stages`
plans some alone. `--suggest` looks, for about `--minutes`, for the mesh, the micro-batches and the
rematerialisation with which the run is fastest of those that fit, and says how to set them. Extra
`tpu-plan`, on Linux. It exits with 1 where something does not fit. Two slices are
`--topology=2*v5e:16x16 --config.mesh.slices=2`; the links between them are counted as if they were
as fast as those within.
"""

import json
import os
import pathlib
import sys
import time

from absl import app, flags
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder
QUIET = {
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to be asked about
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # else it complains that there is none; any name will do
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TPU_MIN_LOG_LEVEL": "3",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nor one that two processes would share
}
for name, value in QUIET.items():
  os.environ.setdefault(name, value)

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<recipe>.py:<size>")
TOPOLOGY = flags.DEFINE_string("topology", None, "the chips: v5e:16x16, or two slices, 2*v5e:16x16")
ROWS = flags.DEFINE_integer("rows", 100_000, "preferences, where data.rows does not say", 1)
STAGES = flags.DEFINE_list("stages", [], "which stages; none: all of them")
SUGGEST = flags.DEFINE_bool("suggest", False, "look for the fastest configuration that fits")
MINUTES = flags.DEFINE_float("minutes", 60.0, "after which --suggest tries no further one", 0.0)
OUTPUT = flags.DEFINE_string("output", "runs/plans", "folder of the tables and the programs")


def main(_: list[str]) -> None:
  """Plans the run that the configuration describes."""
  try:
    fits = _plan()
  except ImportError as error:
    raise SystemExit(f"error: {error}; pip install 'pit_jax[tpu-plan]' brings it") from error
  except ValueError as error:
    raise SystemExit(f"error: {error}") from error
  raise SystemExit(0 if fits else 1)


def _plan() -> bool:
  """Prints and writes what was asked for, and returns whether it fits."""
  from pit_jax.plan import compiled, planning, suggesting

  config, folder = CONFIG.value, pathlib.Path(OUTPUT.value)
  devices = compiled.devices(TOPOLOGY.value)
  peak, rows = planning.peak_of(devices), config.data.rows or ROWS.value

  def compile(program):
    began = time.monotonic()
    made = compiled.compile(program, folder / "programs")
    seconds = time.monotonic() - began
    _say(f"  {program.name}: {made.error or f'{made.total / 2**30:.2f} GiB'}, {seconds:.0f} s")
    return made

  size = planning.size_of(devices)
  title = f"{_name()} on {TOPOLOGY.value} ({size}), {rows} preferences"
  if SUGGEST.value:
    ordered = suggesting.candidates(config, devices, peak, rows)
    _say(f"{len(ordered)} candidates may fit; none is begun after {MINUTES.value:g} minutes")
    end = time.monotonic() + 60 * MINUTES.value
    tried = suggesting.search(
      ordered,
      lambda candidate: suggesting.look(candidate, devices, peak, rows, compile),
      lambda: time.monotonic() > end,
      _say,
    )
    print(suggesting.write(tried, title, peak))
    return tried[0].hours is not None
  plan = planning.plan(config, devices, peak, rows, STAGES.value, compile)
  table, file = plan.write(title), folder / f"{_name()}_{TOPOLOGY.value}".replace(":", "_")
  print(table)
  file.with_suffix(".txt").write_text(table + "\n")
  file.with_suffix(".json").write_text(json.dumps(plan.record(), indent=1) + "\n")
  return all(row["fits"] for row in plan.rows)


def _name() -> str:
  """Returns "pit:8b" of --config=configs/pit.py:8b."""
  return pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.replace(
    ".py", ""
  )


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "topology"])
  app.run(main)
