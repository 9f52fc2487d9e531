"""A recipe's stages as a planner sees them: their programs, how often, and what stays in memory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import ml_collections

from pit_jax.models import pure
from pit_jax.run import abstract, memory
from pit_jax.tools.plan import programs

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

  config, fold, prompt = run.config, _fold(run.config, rows), run.improver_prompt
  policy, earlier = run.own(run.language), memory.earlier(run)
  initial = () if run.base() else policy  # random weights stay as long as they are the start

  def imitating(name, prompt, *kept):
    made = (find("imitation", prompt),)
    return Stage(name, _steps(config.sft, fold), made, _kept(run, initial, *kept))

  preference, ordering = (find("preference"),), (find("gap_order"),)
  if config.recipe == "reward":
    return [
      Stage("reward", _steps(config.reward, fold), preference, _kept(run, initial)),
      Stage("gap_reward", _steps(config.gap_reward, fold), ordering, _kept(run, initial, policy)),
    ]
  learning = Stage("reward", _steps(config.reward, fold), preference, _kept(run, policy))
  made = [imitating("sft_policy", run.prompt), *([] if run.published else [learning])]
  made.append(_reinforcement(run, find, "rl_policy", config.rl.steps, run.reward, {}))
  if config.recipe == "rlhf":
    return made
  sampling = (find("sampling", run.prompt),)
  asked = run.own(run.reward), policy, policy, run.own(run.scalar)  # the policy that samples aside
  return [
    *made,
    imitating("sft_improver", prompt, earlier),
    Stage("gap_reward", _steps(config.gap_reward, fold), ordering, _kept(run, earlier, policy)),
    # A reference for every prompt of the fold.
    Stage("references", -(-fold // config.rl.batch_size), sampling, _kept(run, *asked)),
    *(
      _reinforcement(run, find, f"pit_{stage.name}", stage.steps, run.scalar, earlier)
      for stage in config.curriculum
    ),
  ]


def _reinforcement(
  run: abstract.Arrays,
  find: Callable,
  name: str,
  steps: int,
  reward: pure.PureModel | None,
  earlier: dict,
) -> Stage:
  """Returns a stage of RL, of the improver where there are earlier models."""
  prompt, size = run.improver_prompt if earlier else run.prompt, abstract.device_bytes
  makers = (find("sampling", prompt), find("iteration", prompt))
  if reward:  # else no device scores
    makers = (makers[0], find("scoring", prompt, reward), makers[1])
  roles = programs.iteration(run, prompt).roles
  frozen = {role: size(tree) for role, tree in memory.frozen(run, reward).items()}
  kept = _kept(run, earlier) | {
    "policy": size(roles["policy"]),
    "value": size(roles["value"]),
    "reference": frozen["reference"],
    "reward": frozen["reward model"],
  }
  return Stage(name, steps, makers, kept)


def _kept(run: abstract.Arrays, *models: Any) -> dict[str, int]:
  """Returns the bytes of models that stay, that of which all are made among them."""
  base = abstract.device_bytes(run.base())
  return {"earlier": abstract.device_bytes(models) + base}


def _fold(config: ml_collections.ConfigDict, rows: int) -> int:
  """Returns the rows of one of the folds that are trained on."""
  fold = rows * (1 - config.data.held_out) / len(config.data.training)
  return max(int(fold * (1 - config.data.validation)), 1)


def _steps(job: Any, rows: int) -> int:
  return job.steps or max(round(job.epochs * rows / job.batch_size), 1)
