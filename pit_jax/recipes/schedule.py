"""What a run will do, said before it trains: rows of each fold, stages and their steps, devices."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import ml_collections

from pit_jax.data import batches
from pit_jax.run import context as contexts
from pit_jax.run import origin

PARTS = ("sft", "sft_validation", "reward", "reward_validation", "judge", "rl", "held_out")


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage that takes optimiser steps.

  Attributes:
    name: as checkpoints, metrics and progress have it.
    kind: "supervised" or "rl".
    fold: whose rows it sees.
    steps: of the optimiser, or iterations of PPO.
    batch_size: rows of a step.
    models: networks' passes over a row in a step, for comparing stages of different kinds.
  """

  name: str
  kind: str
  fold: str
  steps: int
  batch_size: int
  models: float


def stages(config: ml_collections.ConfigDict, rows: Mapping[str, int]) -> list[Stage]:
  """Returns the stages of a run in order, without ablations.

  Args:
    config: of the run.
    rows: how many each fold has; some may be left out once their lengths are known.
  """
  recipe = config.recipe
  has_reward, has_judge = not config.reward.model, rows.get("judge", 0) > 0
  found = []
  if recipe in ("pit", "rlhf"):
    found.append(_supervised(config, "sft_policy", "sft", "sft", rows, 1))
  if has_reward:
    found.append(_supervised(config, "reward", "reward", "reward", rows, 2))
  if recipe in ("pit", "rlhf"):
    found.append(_reinforced(config, "rl_policy", config.rl.steps))
  if recipe in ("pit", "rlhf") and has_judge:
    found.append(_supervised(config, "reward_judge", "reward", "judge", rows, 2))
  if recipe == "pit":
    found.append(_supervised(config, "sft_improver", "sft", "sft", rows, 1))
  if recipe in ("pit", "reward"):
    found.append(_supervised(config, "gap_reward", "gap_reward", "reward", rows, 4))
  if recipe == "pit":
    found += [_reinforced(config, f"pit_{stage.name}", stage.steps) for stage in config.curriculum]
  return found


def _supervised(config, name: str, section: str, fold: str, rows, models: int) -> Stage:
  job = config[section]
  steps = job.steps or batches.count_steps(rows[fold], job.batch_size, job.epochs)
  return Stage(name, "supervised", fold, steps, job.batch_size, 3.0 * models)  # there and back


def _reinforced(config, name: str, steps: int) -> Stage:
  """Of a row: sampled, read by policy, reference, value and reward, learnt by two in each epoch."""
  models = 5.0 + 2 * 3 * config.rl.epochs
  return Stage(name, "rl", "rl", steps, config.rl.batch_size, models)


def announced(context: contexts.Context) -> contexts.Context:
  """Says what a run will do, and returns it with an outlook by which progress tells what is left.

  One host prints; nothing that is trained depends on it.
  """
  rows = {name: len(getattr(context.folds, name)) for name in PARTS}
  planned = stages(context.config, rows)
  said = [*lines(context.config, rows, planned), *_models(context)]
  work = {
    stage.name: (stage.kind, stage.steps, stage.models * stage.batch_size) for stage in planned
  }
  return context.announced(said, work)


def tokenizer(config: ml_collections.ConfigDict) -> str:
  """Returns the directory of a run's base model, or of its tokenizer; "" where one is learnt."""
  return str(origin.directory(config) or config.data.tokenizer)


def has_base(config: ml_collections.ConfigDict) -> bool:
  """Returns whether a run starts from a model, whose chat template it may take."""
  return origin.directory(config) is not None


def lines(
  config: ml_collections.ConfigDict, rows: Mapping[str, int], planned: list[Stage]
) -> Iterator[str]:
  """Yields what a run will do with its rows, a line of text each."""
  yield "rows: " + ", ".join(
    f"{name.replace('_', ' ')} {many:,}" for name, many in rows.items() if many
  )
  for stage in planned:
    epochs = stage.steps * stage.batch_size / max(rows[stage.fold], 1)
    unit = "iterations" if stage.kind == "rl" else "steps"
    yield (
      f"stage {stage.name}: {stage.steps:,} {unit} of {stage.batch_size:,} rows, "
      f"{epochs:.3g} times the {rows[stage.fold]:,} of {stage.fold}"
    )
  if config.get("ablations") and config.recipe == "pit":
    yield "then the ablations, each with as many iterations as the curriculum"


def _models(context: contexts.Context) -> Iterator[str]:
  """Yields what is trained on what."""
  devices = context.mesh.devices.flat
  adapters = context.config.model.lora.rank
  kind = f", adapters of rank {adapters} alone are trained" if adapters else ""
  yield (
    f"models: {context.language.size:,} parameters each{kind}; {context.mesh.size} × "
    f"{devices[0].device_kind} ({jax.process_count()} hosts)".replace("(1 hosts)", "(1 host)")
  )
  yield (
    "the first step of each stage compiles its programs, which takes about a minute, for large "
    "models longer; what is left is told without it"
  )
