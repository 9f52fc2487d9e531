"""Plans a run on given chips, and looks for the fastest configuration that fits them."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from pit_jax import parallel
from pit_jax.bench import devices
from pit_jax.plan import compiled, operations, programs, stages, tables
from pit_jax.stages import abstract, memory

ACCUMULATIONS = (1, 2, 4, 8, 16)
JOBS = ("sft", "reward", "gap_reward")


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
  peak: devices.Peak

  def write(self, title: str) -> str:
    """Returns the plan's tables under a title."""
    sizes = " × ".join(f"{axis}={size}" for axis, size in self.mesh.items())
    count = math.prod(self.mesh.values())
    return tables.write(self.rows, self.steps, count, f"{title}: {sizes}", self.peak)


def plan(
  config: ml_collections.ConfigDict,
  chips: Sequence[Any],
  rows: int,
  wanted: Sequence[str],
  say: Callable[[str], None],
) -> Plan:
  """Compiles every program of every stage, and returns what the run takes.

  Args:
    config: of the run.
    chips: abstract ones.
    rows: preferences of the data set.
    wanted: the stages to plan; none is all of them.
    say: told of every program that was compiled.

  Raises:
    ValueError: the run cannot be planned, or has no such stage.
  """
  peak = _peak(chips)
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
        known[id(program)] = compiled.compile(program)
        say(f"compiled {stage.name}: {program.name}")
    ready = [known[id(make())] for make in stage.makers]
    made += tables.stage_rows(stage, ready, peak, run.mesh.size)
  return Plan(made, steps, dict(run.mesh.shape), peak)


def _peak(chips: Sequence[Any]) -> devices.Peak:
  peak = devices.peak(chips[0].device_kind)
  if peak is None:
    raise ValueError(f"{chips[0].device_kind!r} is not in pit_jax/bench/devices.py; add it there")
  return peak


def suggest(
  config: ml_collections.ConfigDict, chips: Sequence[Any], say: Callable[[str], None]
) -> ml_collections.ConfigDict:
  """Returns the configuration with the mesh, micro-batches and rematerialisation that suit best.

  Candidates are put in order by an estimate of their largest training step; the first one whose
  largest programs fit, as the compiler says, is taken. What is learnt does not depend on any of it.

  Raises:
    ValueError: none fits.
  """
  peak, found = _peak(chips), []
  for candidate in _candidates(config, parallel.by_slice(chips, config.mesh.slices)):
    try:
      run = programs.arrays(candidate, list(chips), peak.memory)
      memory.check(run, peak.memory)
      found.append((estimate(run, peak), len(found), run))
    except ValueError:
      continue  # does not divide, or cannot fit
  for seconds, _, run in sorted(found):
    everything = {stage.name: stage for stage in stages.stages(run, rows=1)}
    training = everything.get("gap_reward", everything["reward"])
    fits = _fits(training, peak) and _fits([*everything.values()][-1], peak)
    say(
      f"{_described(run.config)}: about {seconds:.1f} s a step, {'fits' if fits else 'too large'}"
    )
    if fits:
      return run.config
  raise ValueError("nothing fits; use more chips, smaller batches or adapters (model.lora.rank)")


def _fits(stage: stages.Stage, peak: devices.Peak) -> bool:
  made = (compiled.compile(make()) for make in reversed(stage.makers))
  return all(
    one.error is None and sum(tables.memory(stage, one).values()) <= peak.memory for one in made
  )


def _candidates(
  config: ml_collections.ConfigDict, slices: Sequence[Sequence[Any]]
) -> Iterator[ml_collections.ConfigDict]:
  data, here = len(slices), len(slices[0])
  tensors = (2**power for power in range(here.bit_length()))
  for tensor, parts, remat in itertools.product(tensors, ACCUMULATIONS, (False, True)):
    if here % tensor:
      continue
    candidate = config.copy_and_resolve_references().unlock()
    candidate.mesh.shape = (data, here // tensor, tensor)
    candidate.model.remat = remat
    for job in JOBS:
      candidate[job].accumulation = parts
    rows = [candidate[job].batch_size for job in JOBS]
    rows = [size // parts for size in rows] + [candidate.rl.batch_size // candidate.rl.minibatches]
    if all(size and size % (data * here // tensor) == 0 for size in rows):
      yield candidate.lock()


def estimate(run: abstract.Arrays, peak: devices.Peak) -> float:
  """Returns the seconds of a step of gap reward modelling, without compiling it.

  The longer of computing and of what the links carry: each micro-batch gathers the weights for the
  way there and for the way back and scatters their gradient, and each layer sums activations over
  `tensor` twice, on the way there, back, and again where it is computed again.
  """
  config, c = run.config.gap_reward, run.language.config
  program = programs.gap_order(run)
  flops = operations.count(program.function.trace(*program.arguments).jaxpr) / run.mesh.size
  fsdp, tensor = run.mesh.shape["fsdp"], run.mesh.shape["tensor"]
  width = jnp.dtype(c.dtype).itemsize
  weights = sum(leaf.size for leaf in jax.tree.leaves(run.params(run.scalar))) * width / tensor
  gathered = 3 * config.accumulation * weights * (fsdp - 1) / fsdp
  rows = 2 * config.batch_size / (run.mesh.size / tensor)
  tokens = rows * (run.improver_prompt + 2 * run.response)
  sums = 2 * c.layers * (3 if c.remat else 2) * tokens * c.width * width
  summed = 2 * sums * (tensor - 1) / tensor
  return max(flops / peak.flops, (gathered + summed) / peak.link)


def _described(config: ml_collections.ConfigDict) -> str:
  return (
    f"--config.mesh.shape={','.join(map(str, config.mesh.shape))} "
    f"--config.model.remat={config.model.remat} "
    + " ".join(f"--config.{job}.accumulation={config[job].accumulation}" for job in JOBS)
  )
