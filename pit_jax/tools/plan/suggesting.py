"""Looks for the mesh, the micro-batches and the rematerialisation with which a run is fastest.

What is learnt depends on none of them. Candidates are put in order by an estimate in closed form,
and the compiler is asked about one after the other. The best one fits, and takes the least time by
the roofline of what was compiled.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from pit_jax import costs, parallel
from pit_jax.run import abstract, kinds, memory, origin
from pit_jax.stages import programs
from pit_jax.tools.plan import planning, stages, tables
from pit_jax.training import optimizers

ACCUMULATIONS = (1, 2, 4, 8, 16)
REMATS = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A configuration that may fit."""

  config: ml_collections.ConfigDict
  recipe: kinds.Method
  hours: float  # estimated, of the stages that `look` compiles

  @property
  def flags(self) -> str:
    """How a command sets what is searched for."""
    values = {"mesh.shape": ",".join(map(str, self.config.mesh.shape))}
    values |= {"model.remat": self.config.model.remat}
    for job in kinds.sections(self.config):
      values[f"{job}.accumulation"] = self.config[job].accumulation
    return " ".join(f"--config.{name}={value}" for name, value in values.items())

  @property
  def of_rl(self) -> tuple:
    """What the programs of RL depend on: not on the micro-batches of other stages."""
    jobs = (self.config[name] for name in _of_rl(self.config, self.recipe))
    parts = tuple(job.accumulation for job in jobs)
    return tuple(self.config.mesh.shape), self.config.model.remat, *parts


@dataclasses.dataclass(frozen=True)
class Tried:
  """A candidate that the compiler was asked about."""

  candidate: Candidate
  hours: float | None  # by the roofline of what was compiled; None where a program does not fit
  bytes: int  # of a chip, in the largest program that was compiled
  program: str  # its name
  is_hopeless: bool = False  # whether RL does not fit, on which others' micro-batches do not count


def candidates(
  config: ml_collections.ConfigDict,
  recipe: kinds.Method,
  devices: Sequence[Any],
  peak: costs.Peak,
  rows: int,
) -> list[Candidate]:
  """Returns the candidates that may fit, those first that are estimated to be fastest.

  The devices are abstract ones, and `rows` are the preferences of the data set.

  Raises:
    ValueError: the recipe cannot be planned, or no candidate can fit.
  """
  possible = []
  refused = None
  slices = len(parallel.by_slice(devices, config.mesh.slices))

  for each in _variants(config, recipe, len(devices), slices):
    run = planning.arrays(each, recipe, list(devices), peak.memory)
    try:
      memory.check(run, recipe, peak.memory)
    except ValueError as error:
      refused = error
      continue

    possible.append(Candidate(each, recipe, estimate(run, recipe, peak, rows)))

  if not possible:
    raise ValueError(f"nothing can fit; the last that was counted: {refused or 'no mesh divides'}")
  return sorted(possible, key=lambda candidate: candidate.hours)


def _variants(
  config: ml_collections.ConfigDict, recipe: kinds.Method, count: int, slices: int
) -> Iterator[ml_collections.ConfigDict]:
  """Yields every combination whose micro-batches divide over the devices.

  RL is given as many as the other stages, or the most of which so many are a multiple.
  """
  of_rl = _of_rl(config, recipe)
  jobs = _supervised(config, recipe)
  base = origin.directory(config)
  vocabulary = config.data.vocabulary if base is None else None
  model = origin.shape(config, base, vocabulary, "tpu")
  here = count // slices
  # As in `parallel.choose`, no head is cut.
  most = math.gcd(here, model.heads, model.kv_heads, model.hidden)
  tensors = [2**power for power in range(most.bit_length()) if most % 2**power == 0]

  # States spread over a slice (fsdp), or rows alone over all devices (data).
  meshes = {
    shape
    for tensor in tensors
    for shape in ((slices, here // tensor, tensor), (count // tensor, 1, tensor))
  }

  for shape, parts, remat in itertools.product(sorted(meshes), ACCUMULATIONS, REMATS):
    c = config.copy_and_resolve_references().unlock()
    c.mesh.shape = shape
    c.model.remat = remat
    for job in jobs:
      c[job].accumulation = parts

    # Rows are spread over all devices but those of `tensor`, and have to divide over them.
    spread = count // shape[2]
    sizes = [c[name].batch_size // c[name].minibatches for name in of_rl]
    is_whole = not any(size % spread for size in (*sizes, c.inference_batch_size))
    for name, size in zip(of_rl, sizes, strict=True):
      c[name].accumulation = math.gcd(parts, max(size // spread, 1))
    if is_whole and not any(c[job].batch_size % (parts * spread) for job in jobs):
      yield c.lock()


def search(
  ordered: Sequence[Candidate],
  look: Callable[[Candidate], Tried],
  is_over: Callable[[], bool],
  say: Callable[[str], None],
) -> list[Tried]:
  """Returns what was tried, the best of what fits first, then what does not fit.

  The search ends when its time is over, or when no candidate that is left promises to be faster
  than the best: the estimate leaves out much of what a program does, so few take less than theirs.

  Args:
    ordered: the candidates, by their estimates.
    look: asks the compiler about one.
    is_over: whether the time is over, asked before every candidate but the first.
    say: told of every candidate.
  """
  tried: list[Tried] = []
  for candidate in ordered:
    if any(one.is_hopeless and one.candidate.of_rl == candidate.of_rl for one in tried):
      continue
    best = min((one.hours for one in tried if one.hours is not None), default=float("inf"))

    if candidate.hours >= best:
      say("none of the others promises to be faster")
      break

    if tried and is_over():
      say("the time is over, and others were not tried")
      break

    say(f"estimated {candidate.hours:.3g} h: {candidate.flags}")
    tried.append(look(candidate))
    say("  " + _said(tried[-1]))

  return sorted(tried, key=lambda one: float("inf") if one.hours is None else one.hours)


def look(
  candidate: Candidate,
  devices: Sequence[Any],
  peak: costs.Peak,
  rows: int,
  compile: planning.Compiler,
) -> Tried:
  """Returns what the compiler makes of the largest stages of a candidate.

  They are the last one of reward modelling and the last one of RL. RL comes first, since most that
  does not fit is found there; what does not fit is compiled no further.
  """
  run = planning.arrays(candidate.config, candidate.recipe, list(devices), peak.memory)
  hours = 0.0
  largest = (0, "")

  for stage in reversed(_largest(run, candidate.recipe, rows)):
    for make in reversed(stage.makers):
      row = tables.row(stage, compile(make()), peak, run.mesh.size)
      size = (row["total"], f"{stage.name}: {row['program']}")
      if not row["fits"]:
        # RL alone has several programs, and no micro-batches that could make it fit.
        return Tried(candidate, None, *size, len(stage.makers) > 1)

      largest = max(largest, size)
      hours += stage.steps * row["seconds"] / 3600

  return Tried(candidate, hours, *largest)


def _largest(run: abstract.Arrays, recipe: kinds.Method, rows: int) -> list[stages.Stage]:
  """Returns the supervised stage whose rows take most and the last of RL, if there are such."""
  in_order = stages.stages(run, recipe, rows)
  largest = {}
  jobs = _supervised(run.config, recipe)

  for stage in in_order:
    kind = kinds.kind_of(recipe, run.config, stage.planned)
    passes = kind.passes(kinds.job_of(run.config, stage.planned))
    name = "supervised" if stage.planned.section in jobs else "rl" if kind.learns else "sampling"
    if passes >= largest.get(name, (0.0, None))[0]:
      largest[name] = (passes, stage)

  return [largest[name][1] for name in ("supervised", "rl") if name in largest]


def estimate(run: abstract.Arrays, recipe: kinds.Method, peak: costs.Peak, rows: int) -> float:
  """Returns the hours of the stages that `look` compiles, in closed form.

  A program takes as long as the busiest of computing, main memory and links. Training: the
  operations of the mathematics, a third more where they are repeated; each micro-batch gathers the
  weights for the way there and for the way back and scatters their gradient, and each layer sums
  activations over `tensor` twice, on the way there, back, and again where it is computed again.
  Sampling: every token reads all weights and the cache, and sums activations in each layer.
  """
  seconds = 0.0
  for stage in _largest(run, recipe, rows):
    job = kinds.job_of(run.config, stage.planned)
    *others, last = (make() for make in stage.makers)
    step = sum(_sampling(run, one, job, peak) for one in others if one.sampled > 1)
    if others:  # RL, which updates each model that learns in every minibatch
      updates = len(optimizers.kinds(job.estimator)) * job.epochs
      updates *= job.minibatches * job.accumulation
    else:
      updates = job.accumulation

    seconds += stage.steps * (step + _learning(run, last, updates, peak))

  return seconds / 3600


def _supervised(config: ml_collections.ConfigDict, recipe: kinds.Method) -> list[str]:
  """Returns the sections of the recipe whose batches are cut into micro-batches alone."""
  of_rl = _of_rl(config, recipe)
  return [name for name in kinds.sections(config) if name not in of_rl]


def _of_rl(config: ml_collections.ConfigDict, recipe: kinds.Method) -> list[str]:
  """Returns the sections of the recipe that have minibatches, too."""
  names = kinds.sections(config)
  return [name for name in names if "minibatches" in recipe.kinds[config[name].kind].cuts]


def _learning(run: abstract.Arrays, made: programs.Program, parts: int, peak: costs.Peak) -> float:
  """Returns the estimated seconds of a training program of so many micro-batches."""
  c = run.language.config
  sizes = run.mesh.shape
  weights = _weights(run)
  compute = made.flops * (4 / 3 if c.remat == "full" else 1) / run.mesh.size / peak.flops

  # Training takes 6 operations per parameter and token (`costs.training`).
  tokens = made.flops / (6 * _count(run)) * sizes["tensor"] / run.mesh.size
  gathered = 3 * parts * weights * (sizes["fsdp"] - 1) / sizes["fsdp"]
  gathered += 2 * 2 * parts * weights * (sizes["data"] - 1) / sizes["data"]  # gradients, float32
  summed = 2 * (3 if c.remat == "full" else 2) * _sum(run, tokens)
  return max(compute, 3 * parts * weights / peak.bytes, (gathered + summed) / peak.link)


def _sampling(run: abstract.Arrays, program: programs.Program, job: Any, peak: costs.Peak) -> float:
  """Returns the estimated seconds of sampling."""
  compute = program.flops / run.mesh.size / peak.flops
  read = program.sampled * (_weights(run) + program.made["cache"])
  rows = job.batch_size * run.mesh.shape["tensor"] / run.mesh.size
  summed = program.sampled * 2 * _sum(run, rows)
  return max(compute, read / peak.bytes, summed / peak.link)


def _count(run: abstract.Arrays) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(run.params(run.scalar)))


def _weights(run: abstract.Arrays) -> float:
  """Returns the bytes of a model on each chip once they are gathered."""
  width = jnp.dtype(run.language.config.dtype).itemsize
  return _count(run) * width / run.mesh.shape["tensor"]


def _sum(run: abstract.Arrays, tokens: float) -> float:
  """Returns the bytes that a chip sends to sum what each layer makes of so many tokens once."""
  c = run.language.config
  tensor = run.mesh.shape["tensor"]
  # On a ring an all-reduce sends 2 (n − 1) / n of the bytes.
  return 2 * c.layers * tokens * c.width * jnp.dtype(c.dtype).itemsize * (tensor - 1) / tensor


def write(tried: Sequence[Tried], title: str, peak: costs.Peak) -> str:
  """Returns what was tried as a table, and what to set."""
  lines = [title, "", f" {'estimate':>9}{'hours':>11}{'GiB':>8} of {peak.memory / costs.GIB:.2f}"]
  for one in tried:
    hours = "too large" if one.hours is None else f"{one.hours:.3g}"
    line = f" {one.candidate.hours:9.3g}{hours:>11}{one.bytes / costs.GIB:8.2f}  {one.program:22}"
    lines.append(f"{line} {one.candidate.flags}")

  chosen = "best: " + tried[0].candidate.flags
  if tried[0].hours is None:
    chosen = "nothing that was tried fits; use more chips, smaller batches, or model.lora.rank"
  return "\n".join([*lines, "", chosen])


def _said(one: Tried) -> str:
  size = f"{one.bytes / costs.GIB:.2f} GiB in {one.program}"
  return f"too large: {size}" if one.hours is None else f"{one.hours:.3g} h, {size}"
