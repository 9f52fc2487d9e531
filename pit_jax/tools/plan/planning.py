"""Plans a run on given devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from pit_jax import costs, parallel
from pit_jax.models import pure
from pit_jax.run import abstract, checks, kinds, origin, published_models
from pit_jax.stages import programs
from pit_jax.tools.plan import compiled, stages, tables

Compiler = Callable[[programs.Program], compiled.Compiled]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run takes."""

  rows: list[dict]  # of every program of every stage; see `tables.row`
  steps: dict[str, int]  # stage → how many it has
  mesh: dict[str, int]  # its sizes, in devices
  chips: int  # how many chips these devices are
  peak: costs.Peak  # of one device

  def write(self, title: str) -> str:
    """Returns the plan's tables under a title."""
    sizes = " × ".join(f"{axis}={size}" for axis, size in self.mesh.items())
    return tables.write(self.rows, self.steps, self.chips, f"{title}: {sizes}", self.peak)

  def record(self) -> dict:
    """Returns the plan's numbers."""
    hours = tables.hours(self.rows, self.steps)
    return {
      "mesh": self.mesh,
      "chips": self.chips,
      "peak": dataclasses.asdict(self.peak),
      "steps": self.steps,
      "hours": hours,
      "chip_hours": sum(hours.values()) * self.chips,
      "fits": all(row["fits"] for row in self.rows),
      "programs": self.rows,
    }


def plan(
  config: ml_collections.ConfigDict,
  recipe: kinds.Method,
  devices: Sequence[Any],
  peak: costs.Peak,
  rows: int,
  wanted: Sequence[str],
  compile: Compiler,
) -> Plan:
  """Compiles every program of every stage, and returns what the run takes.

  Args:
    devices: abstract ones.
    peak: of one of them; see `peak_of`.
    rows: preferences of the data set.
    wanted: the stages to plan; none is all of them.
    compile: says what the compiler makes of a program.

  Raises:
    ValueError: the run cannot be planned, or has no such stage.
  """
  run = arrays(config, recipe, list(devices), peak.memory)
  all_stages = stages.stages(run, recipe, rows)
  unknown = set(wanted) - {stage.name for stage in all_stages}
  if unknown:
    raise ValueError(f"no stages {sorted(unknown)}; use {[stage.name for stage in all_stages]}")
  # Stages that share a program have the same maker of it, which makes one object.
  once = functools.cache(lambda make: compile(make()))
  table_rows = []
  steps = {}

  for stage in (stage for stage in all_stages if not wanted or stage.name in wanted):
    steps[stage.name] = stage.steps
    made = map(once, stage.makers)
    table_rows += [tables.row(stage, one, peak, run.mesh.size) for one in made]

  chips = costs.count_chips(run.mesh.devices.flat)
  return Plan(table_rows, steps, dict(run.mesh.shape), chips, peak)


def arrays(
  config: ml_collections.ConfigDict, recipe: kinds.Method, devices: list, memory: int | None
) -> abstract.Arrays:
  """Returns the arrays of a run on the devices of its mesh, which need not exist.

  Where the mesh is not given, it is chosen by the `memory` of one of them, in bytes.

  Raises:
    ValueError: the run cannot be.
  """
  if not recipe.kinds:
    raise ValueError(f"recipe {recipe.name} trains no network, so there is nothing to plan")
  checks.values(config, recipe)
  directory = origin.directory(config)
  platform = devices[0].platform
  vocabulary = config.data.vocabulary if directory is None else None
  shape = origin.shape(config, directory, vocabulary, platform)
  language = pure.language_model(shape)
  mesh = parallel.make_mesh(config.mesh.shape, language, devices, memory, config.mesh.slices)
  reward, _ = published_models.find(config, platform)

  return abstract.Arrays(config, mesh, language, pure.scalar_model(shape), reward)


def size_of(devices: Sequence[Any]) -> str:
  """Returns how many chips some devices are, in words."""
  chips = costs.count_chips(devices)
  words = f"{chips} chip{'' if chips == 1 else 's'}"
  return words if chips == len(devices) else f"{words}, {len(devices)} devices"


def peak_of(devices: Sequence[Any]) -> costs.Peak:
  """Returns what one of the devices does at most.

  Raises:
    ValueError: nobody has written it down.
  """
  peak = costs.peak(devices[0].device_kind)
  if peak is None:
    raise ValueError(f"{devices[0].device_kind!r} is not in pit_jax/costs.py; add it there")
  return peak
