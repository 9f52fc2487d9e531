"""Plans a run on given chips."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from pit_jax import costs
from pit_jax.plan import compiled, programs, stages, tables

Compiler = Callable[[programs.Program], compiled.Compiled]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run takes.

  Attributes:
    rows: of every program of every stage; see `tables.stage_rows`.
    steps: stage → how many it has.
    mesh: the sizes of the mesh.
    peak: of one chip.
  """

  rows: list[dict]
  steps: dict[str, int]
  mesh: dict[str, int]
  peak: costs.Peak

  def write(self, title: str) -> str:
    """Returns the plan's tables under a title."""
    sizes = " × ".join(f"{axis}={size}" for axis, size in self.mesh.items())
    count = math.prod(self.mesh.values())
    return tables.write(self.rows, self.steps, count, f"{title}: {sizes}", self.peak)

  def record(self) -> dict:
    """Returns the plan's numbers."""
    hours = tables.hours(self.rows, self.steps)
    return {
      "mesh": self.mesh,
      "peak": dataclasses.asdict(self.peak),
      "steps": self.steps,
      "hours": hours,
      "chip_hours": sum(hours.values()) * math.prod(self.mesh.values()),
      "fits": all(row["fits"] for row in self.rows),
      "programs": self.rows,
    }


def plan(
  config: ml_collections.ConfigDict,
  chips: Sequence[Any],
  peak: costs.Peak,
  rows: int,
  wanted: Sequence[str],
  compile: Compiler,
) -> Plan:
  """Compiles every program of every stage, and returns what the run takes.

  Args:
    config: of the run.
    chips: abstract ones.
    peak: of one chip; see `peak_of`.
    rows: preferences of the data set.
    wanted: the stages to plan; none is all of them.
    compile: says what the compiler makes of a program.

  Raises:
    ValueError: the run cannot be planned, or has no such stage.
  """
  run = programs.arrays(config, list(chips), peak.memory)
  found = stages.stages(run, rows)
  unknown = set(wanted) - {stage.name for stage in found}
  if unknown:
    raise ValueError(f"no stages {sorted(unknown)}; use {[stage.name for stage in found]}")
  known, made, steps = {}, [], {}
  for stage in (stage for stage in found if not wanted or stage.name in wanted):
    steps[stage.name] = stage.steps
    for make in stage.makers:
      program = make()
      if id(program) not in known:
        known[id(program)] = compile(program)
    ready = [known[id(make())] for make in stage.makers]
    made += tables.stage_rows(stage, ready, peak, run.mesh.size)
  return Plan(made, steps, dict(run.mesh.shape), peak)


def peak_of(chips: Sequence[Any]) -> costs.Peak:
  """Returns what one of the chips does at most.

  Raises:
    ValueError: nobody has written it down.
  """
  peak = costs.peak(chips[0].device_kind)
  if peak is None:
    raise ValueError(f"{chips[0].device_kind!r} is not in pit_jax/costs.py; add it there")
  return peak
