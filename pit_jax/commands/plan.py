"""Says before a run what it takes: memory, time and chip-hours on TPUs that need not be there.

  pit plan --config=pit:8b --topology=v5e:16x16 [--config.KEY=VALUE …]

Every program of every stage is compiled for the real chip, on a machine without one; a few minutes
each. What the compiler said is kept in `--output`: a plan that was interrupted goes on, and one
that changes little is soon made. The tables lie there too, beside their numbers as JSON. `--stages`
plans some alone. `--suggest` looks, for about `--minutes`, for the mesh, the micro-batches and the
rematerialisation with which the run is fastest of those that fit, and says how to set them. Extra
`tpu-plan`, on Linux. It exits with 1 where something does not fit. Two slices are
`--topology=2*v5e:16x16 --config.mesh.slices=2`; the links between them are counted as if they were
as fast as those within. `--scaling` plans with one row for each chip, at `--lengths` of prompt and
response together on the topology, and at the first of these on `--topologies`; it names what grows
faster than its work, and exits with 0 whatever does not fit. There is no plan for CPUs and GPUs:
`pit bench` measures this machine.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from pit_jax import configurations, terminal

QUIET = {  # environment in which the compiler keeps quiet
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to be asked about
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # else it complains that there is none; any name will do
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TPU_MIN_LOG_LEVEL": "3",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nor one that two processes would share
}

TOPOLOGY = re.compile(r"([1-9]\d*\*)?(v\d+[a-z]*|tpu\d+x?):\d+(x\d+){1,2}")
ALLOWED = (
  "give one such as v5e:16x16, v6e:8x8, v5p:4x4x8, tpu7x:2x2x1 or, for two slices, 2*v5e:16x16. "
  "There is no plan for CPUs and GPUs: start with few steps and rows, as "
  "pit_hh:smollm2_135m_smoke does, and measure with pit bench --model=DIRECTORY"
)


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Plans the run that the configuration describes."""
  options, values = _options(arguments)
  for name, value in QUIET.items():  # before JAX is imported
    os.environ.setdefault(name, value)
  config = configurations.load(options.config)
  configurations.change(config, values)
  try:
    fits = _plan(config, options)
  except ImportError as error:
    raise ValueError(f"{error}; pip install 'pit_jax[tpu-plan]' brings it") from error
  sys.exit(0 if fits else 1)


def _plan(config: Any, options: argparse.Namespace) -> bool:
  """Prints and writes what was asked for, and returns whether it fits."""
  from pit_jax.recipes import recipe as recipes
  from pit_jax.tools.plan import compiled, planning

  recipe = recipes.of(config)
  folder = pathlib.Path(options.output)
  devices = compiled.devices(options.topology)
  rows = config.data.rows or options.rows
  name = pathlib.Path(options.config).name.replace(".py", "")
  title = f"{name} on {options.topology} ({planning.size_of(devices)})"

  def compile(program):
    began = time.monotonic()
    made = compiled.compile(program, folder / "programs")
    seconds = time.monotonic() - began
    _say(f"  {program.name}: {made.error or f'{made.total / 2**30:.2f} GiB'}, {seconds:.0f} s")
    return made

  asked = (config, recipe, devices, rows, compile)
  if options.suggest:
    return _suggest(options, f"{title}, {rows} preferences", *asked)
  file = folder / f"{name}_{options.topology}".replace(":", "_")
  if options.scaling:
    return _scale(options, name, file, *asked)

  peak = planning.peak_of(devices)
  plan = planning.plan(config, recipe, devices, peak, rows, options.stages, compile)
  table = plan.write(f"{title}, {rows} preferences")
  print(table)
  file.with_suffix(".txt").write_text(table + "\n", encoding="utf-8")
  file.with_suffix(".json").write_text(json.dumps(plan.record(), indent=1) + "\n", encoding="utf-8")
  return all(row["fits"] for row in plan.rows)


def _suggest(options: argparse.Namespace, title: str, *asked: Any) -> bool:
  """Prints the candidates that were compiled, and returns whether one fits."""
  from pit_jax.tools.plan import planning, suggesting

  config, recipe, devices, rows, compile = asked
  peak = planning.peak_of(devices)
  ordered = suggesting.candidates(config, recipe, devices, peak, rows)
  _say(f"{len(ordered)} candidates may fit; none is begun after {options.minutes:g} minutes")
  end = time.monotonic() + 60 * options.minutes
  tried = suggesting.search(
    ordered,
    lambda candidate: suggesting.look(candidate, devices, peak, rows, compile),
    lambda: time.monotonic() > end,
    _say,
  )
  print(suggesting.write(tried, title, peak))
  return tried[0].hours is not None


def _scale(options: argparse.Namespace, name: str, file: pathlib.Path, *asked: Any) -> bool:
  """Prints and writes how costs grow by either axis; it fits, whatever does not."""
  from pit_jax.report import plots
  from pit_jax.tools.plan import compiled, planning, scaling

  config, recipe, devices, rows, compile = asked
  first = options.lengths[0]
  by_chips = {len(there): there for there in map(compiled.devices, options.topologies)}
  if len(by_chips) < len(options.topologies):
    raise ValueError("--topologies: two have as many chips; name topologies of different sizes")

  # Axis → where on it, and the length and devices that are planned there.
  wanted = {
    "tokens": [(length, length, devices) for length in options.lengths],
    "chips": [(chips, first, by_chips[chips]) for chips in sorted(by_chips)],
  }
  for axis, points in wanted.items():
    if len(points) < 2:  # nothing grows
      continue
    measured = []
    for at, length, there in points:
      _say(f"{length:,} tokens on {planning.size_of(there)}")
      planned = scaling.measure(config, recipe, there, length, rows, options.stages, compile)
      measured.append(scaling.Point(at, planned))

    where = f"on {options.topology}" if axis == "tokens" else f"at {first:,} tokens"
    table = scaling.write(f"{name} {where}, a row a chip", axis, measured, int(axis == "tokens"))
    print(table, end="\n\n")
    own = file.with_name(f"{file.name}_by_{axis}")
    own.with_suffix(".txt").write_text(table + "\n", encoding="utf-8")
    record = json.dumps(scaling.record(measured), indent=1)
    own.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    plots.save(scaling.draw(axis, measured), own.with_suffix(".png"))
  return True


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration among the arguments."""
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  add("--config", required=True, help="NAME:SIZE, such as pit:tiny, or FILE.py:SIZE")
  chips = "the TPU chips, of kind and sides (required): v5e:16x16, or two slices, 2*v5e:16x16"
  add("--topology", help=chips)
  rows = "preferences, where data.rows does not say (100000)"
  add("--rows", type=terminal.at_least(1), default=100_000, help=rows)
  add("--stages", type=terminal.words, default=[], help="which stages; all of them unless given")
  add("--suggest", action="store_true", help="look for the fastest configuration that fits")
  minutes = "after which --suggest tries no further one (60)"
  add("--minutes", type=terminal.at_least(0.0), default=60.0, help=minutes)
  add("--scaling", action="store_true", help="plan at several lengths and on several topologies")
  lengths = "tokens of prompt and response together (1024,4096,16384,32768)"
  add("--lengths", type=_lengths, default=(1024, 4096, 16384, 32768), help=lengths)
  add("--topologies", type=terminal.words, default=[], help="at the first length, on these chips")
  add("--output", default="runs/plans", help="folder of the tables and the programs (runs/plans)")
  options, values = parser.parse_known_args(arguments)
  # Here, before anything is imported that takes long; whether the compiler has it, it says itself.
  if options.topology is None:
    raise ValueError(f"required: --topology, the chips to plan for; {ALLOWED}")
  for flag, named in (("topology", [options.topology]), ("topologies", options.topologies)):
    if wrong := [one for one in named if not TOPOLOGY.fullmatch(one)]:
      raise ValueError(f"--{flag}={wrong[0]} is no topology of TPUs; {ALLOWED}")
  kinds = {name.partition(":")[0].rpartition("*")[2] for name in options.topologies}
  if len(kinds) > 1:
    several = " and ".join(sorted(kinds))
    raise ValueError(f"--topologies: {several} differ in more than their number; name one kind")
  if options.scaling and options.suggest:
    raise ValueError("--scaling and --suggest plan different runs; give one of them")
  if options.scaling and max(len(options.lengths), len(options.topologies)) < 2:
    raise ValueError("--scaling: nothing grows at one point; give two --lengths or --topologies")

  return options, values


def _lengths(text: str) -> tuple[int, ...]:
  """Returns lengths in tokens, of which half are a response's, from the shortest on."""
  found = terminal.counts(text, 2)
  if list(found) != sorted({*found}):
    raise argparse.ArgumentTypeError(f"{text!r}: give each length once, the shortest first")
  return found
