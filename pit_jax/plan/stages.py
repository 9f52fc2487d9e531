"""A recipe's stages as a planner sees them: their programs, how often, and what stays in memory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import ml_collections

from pit_jax.plan import programs
from pit_jax.stages import abstract, memory

RECIPES = ("pit", "rlhf", "reward")


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a run.

  Attributes:
    name: as the run calls it.
    steps: of the stage.
    makers: what makes its programs, each of which is called once per step.
    kept: role → bytes of each device that stay there while any of them runs.
  """

  name: str
  steps: int
  makers: tuple[Callable[[], programs.Program], ...]
  kept: dict[str, int]


def stages(run: abstract.Arrays, rows: int) -> list[Stage]:
  """Returns the stages of a run, in order.

  Models that later stages or the report need stay on the devices: they are the role `earlier`.

  Args:
    run: its arrays.
    rows: preferences of the data set.

  Raises:
    ValueError: the recipe is not one that can be planned.
  """
  if run.config.recipe not in RECIPES:
    raise ValueError(f"recipe {run.config.recipe!r} is not planned; use one of {RECIPES}")

  @functools.cache  # makes each program once, since the compiler need not see it twice
  def find(name, *arguments):
    return functools.cache(lambda: getattr(programs, name)(run, *arguments))

  config, fold = run.config, _fold(run.config, rows)
  if config.recipe == "reward":
    return [
      Stage("reward", _steps(config.reward, fold), (find("preference"),), _kept(run, 0)),
      Stage("gap_reward", _steps(config.gap_reward, fold), (find("gap_order"),), _kept(run, 1)),
    ]
  made = [
    Stage("sft_policy", _steps(config.sft, fold), (find("imitation", run.prompt),), _kept(run, 1)),
    Stage("reward", _steps(config.reward, fold), (find("preference"),), _kept(run, 1)),
    _reinforcement(run, find, "rl_policy", config.rl.steps, run.prompt, 0),
  ]
  if config.recipe == "rlhf":
    return made
  prompt = run.improver_prompt
  made += [
    Stage("sft_improver", _steps(config.sft, fold), (find("imitation", prompt),), _kept(run, 4)),
    Stage("gap_reward", _steps(config.gap_reward, fold), (find("gap_order"),), _kept(run, 4)),
    # A reference for every prompt of the fold.
    Stage(
      "references",
      -(-fold // config.rl.batch_size),
      (find("sampling", run.prompt),),
      _kept(run, 4),
    ),
  ]
  return made + [
    _reinforcement(run, find, f"pit_{stage.name}", stage.steps, prompt, 3)
    for stage in config.curriculum
  ]


def _reinforcement(
  run: abstract.Arrays, find: Callable, name: str, steps: int, prompt: int, earlier: int
) -> Stage:
  kinds = ("sampling", "scoring", "iteration")
  size = abstract.device_bytes
  roles = programs.iteration(run, prompt).roles
  frozen = {role: size(tree) for role, tree in memory.frozen(run).items()}
  kept = _kept(run, earlier) | {
    "policy": size(roles["policy"]),
    "value": size(roles["value"]),
    "reference": frozen["reference"],
    "reward": frozen["reward model"],
  }
  return Stage(name, steps, tuple(find(kind, prompt) for kind in kinds), kept)


def _kept(run: abstract.Arrays, earlier: int) -> dict[str, int]:
  """Returns the bytes of so many models that earlier stages trained."""
  trained, _ = run.parts(run.language)
  return {"earlier": earlier * abstract.device_bytes(trained)}


def _fold(config: ml_collections.ConfigDict, rows: int) -> int:
  """Returns the rows of one of the folds that are trained on."""
  fold = rows * (1 - config.data.held_out) / len(config.data.training)
  return max(int(fold * (1 - config.data.validation)), 1)


def _steps(job: Any, rows: int) -> int:
  return job.steps or max(round(job.epochs * rows / job.batch_size), 1)
