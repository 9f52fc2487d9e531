"""What a run will do, said before it trains: rows of each fold, stages and their steps, devices."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import ml_collections

from pit_jax.data import preferences
from pit_jax.evaluate.experiments import length
from pit_jax.feedback import ceilings
from pit_jax.run import context as contexts
from pit_jax.run import kinds

# Passes of a held-out prompt through networks in an experiment: about as many as PIT's take. They
# tell how long an evaluation may last, and nothing else.
PASSES = 12


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage that takes optimiser steps."""

  name: str  # as checkpoints, metrics and progress have it
  kind: str  # of its section
  fold: str  # whose rows it sees
  made: int | None  # rows that are made of the fold's; None: these are seen themselves
  steps: int  # of the optimiser, or iterations of PPO
  batch_size: int  # rows of a step
  passes: float  # networks that a row passes in a step, for comparing stages of different kinds
  unit: str  # what a step is called
  samples: int  # rows of a step for each of the fold's
  key: str  # of the configuration, which says how long it lasts
  is_packed: bool = False  # do several rows of the fold share one of a step?


def stages(
  config: ml_collections.ConfigDict, recipe: kinds.Method, rows: Mapping[str, int]
) -> list[Stage]:
  """Returns the stages of a run that learn, in order.

  Args:
    config: of the run.
    recipe: of the run.
    rows: how many each fold has; some may be left out once their lengths are known.
  """
  learning = []
  for stage in recipe.stages(config):
    kind = kinds.kind_of(recipe, config, stage)
    if kind.learns:
      job = kinds.job_of(config, stage)
      fold = kinds.fold_of(config, stage)
      steps = kinds.steps_of(config, stage, _count(rows, fold))
      seen = (stage.name, job.kind, fold, stage.made)
      work = (steps, job.batch_size, kind.passes(job), kind.unit, job.get("samples", 1))
      learning.append(Stage(*seen, *work, _key(job, stage), bool(job.get("packing"))))

  return learning


def _count(rows: Mapping[str, int], fold: str) -> int:
  """Returns how many rows a fold has, or several together."""
  return sum(rows.get(name, 0) for name in preferences.folds_in(fold))


def _key(job: ml_collections.ConfigDict, stage: kinds.Stage) -> str:
  """Returns what is to be raised for more steps of a stage: passes over its fold, or its steps."""
  if stage.steps is not None:
    return "curriculum"
  return f"{stage.section}.{'epochs' if 'epochs' in job and not job.steps else 'steps'}"


def announced(context: contexts.Context) -> contexts.Context:
  """Says what a run will do, and returns it with an outlook by which progress tells what is left.

  One host prints; nothing that is trained depends on it.
  """
  rows = {name: len(part) for name, part in context.rows.folds.items()}
  planned = stages(context.config, context.recipe, rows)
  # How many steps packed rows take is known later, and says nothing of those that are not packed.
  kind = {row.name: f"packed {row.kind}" if row.is_packed else row.kind for row in planned}
  work = {row.name: (kind[row.name], row.steps, row.passes * row.batch_size) for row in planned}
  said = [*lines(rows, planned), *_models(context), *asked(context.config, context.recipe, rows)]
  return context.announced(said, work, _evaluation(context))


def _evaluation(context: contexts.Context) -> float:
  """Returns about how many passes through networks the experiments take, rows in all."""
  recipe = context.recipe
  if recipe.subject is None:
    return 0.0
  held_out = {row.prompt for row in context.rows.folds["held_out"]}
  prompts = min(len(held_out), context.config.evaluation.prompts)
  # What length explains is computed from answers that are there.
  asking = [one for one in recipe.experiments.values() if one is not length.measure]
  return float(PASSES * prompts * len(asking))


def lines(rows: Mapping[str, int], planned: list[Stage]) -> Iterator[str]:
  """Yields what a run will do with its rows, a line of text each."""
  counts = (f"{name.replace('_', ' ')} {many:,}" for name, many in rows.items() if many)
  yield f"rows: {', '.join(counts)}"

  for stage in planned:
    # Rows of a step are responses; the epochs are over prompts.
    count = stage.made or _count(rows, stage.fold)
    epochs = stage.steps * stage.batch_size / stage.samples / max(count, 1)
    of = f"{count:,} made of {stage.fold}" if stage.made else f"the {count:,} of {stage.fold}"
    size = f"{stage.steps:,} {stage.unit} of {stage.batch_size:,}"
    if not stage.is_packed:
      yield f"stage {stage.name}: {size} rows, {epochs:.3g} times {of}"
    elif stage.key.endswith(".epochs"):
      # How many share a row is known once their tokens are.
      yield f"stage {stage.name}: {epochs:.3g} times {of}, at most {size} packed rows"
    else:
      yield f"stage {stage.name}: {size} packed rows of {of}"


def asked(
  config: ml_collections.ConfigDict, recipe: kinds.Method, rows: Mapping[str, int]
) -> Iterator[str]:
  """Yields what a run asks of endpoints, a line of text for each; see `stages`."""
  telling = [*ceilings.telling(config, rows)]
  if evaluation := config.get("evaluation"):
    rows = {**rows, preferences.HELD_OUT: min(rows[preferences.HELD_OUT], evaluation.prompts)}
  yield from ceilings.lines(config, [*telling, *recipe.asks(config, rows)])


def _models(context: contexts.Context) -> Iterator[str]:
  """Yields what is trained on what."""
  devices = context.mesh.devices.flat
  adapters = context.config.model.lora.rank
  kind = f", adapters of rank {adapters} alone are trained" if adapters else ""
  yield (
    f"models: {context.models.language.size:,} parameters each{kind}; {context.mesh.size} × "
    f"{devices[0].device_kind} ({jax.process_count()} hosts)".replace("(1 hosts)", "(1 host)")
  )

  yield "the first step of a stage compiles its programs, unless an earlier start kept them"
