"""The improver's RL as a list of stages, each with a source of references."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from jaxtyping import Array, Float

from pit_jax import hosts
from pit_jax.data import conversations, encode, tables
from pit_jax.stages import context as contexts
from pit_jax.stages import frontier, gap_rewards, rl, workdirs
from pit_jax.types import Params

Number = Float[Array, ""] | float


def policy_references(context: contexts.Context, policy: Params) -> list[str]:
  """Samples a reference per RL prompt from M_P^RL into references/policy.jsonl, or reads them."""
  path = context.workdir / "references" / "policy.jsonl"
  prompts = [row.prompt for row in context.folds.rl]
  if not hosts.agree(path.exists()):
    key, temperature = context.key("policy references"), context.config.rl.temperature
    responses = context.inference.answer(policy, prompts, key, temperature)
    pairs = zip(map(conversations.write, prompts), responses, strict=True)
    rows = ({"prompt": x, "response": y} for x, y in pairs)
    workdirs.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
  with path.open(encoding="utf-8") as file:
    return [json.loads(line)["response"] for line in file]


def texts(
  context: contexts.Context, sources: Sequence[str], from_policy: Sequence[str]
) -> tuple[list[conversations.Prompt], list[str]]:
  """Returns the questions and references of a stage: every RL prompt with each source's."""
  rows = context.folds.rl
  references = {
    "dataset.rejected": [row.rejected for row in rows],
    "dataset.chosen": [row.chosen for row in rows],
    "policy": from_policy,
  }
  asked = [row.prompt for row in rows] * len(sources)
  return asked, [reference for source in sources for reference in references[source]]


def prompts(
  context: contexts.Context, sources: Sequence[str], from_policy: Sequence[str]
) -> tables.Table:
  """Returns the improver's prompts of a stage, as it sees them."""
  asked, given = texts(context, sources, from_policy)
  return encode.improver_prompts(asked, given, context.settings, context.tokens)


def run(
  context: contexts.Context,
  name: str,
  stages: Sequence[ml_collections.ConfigDict],
  *,
  improver_sft: Params,
  gap_reward: gap_rewards.GapReward,
  from_policy: Sequence[str],
  watch: frontier.Watch | None = None,
) -> Params:
  """Trains M_PIT through the stages: one optimisation in which references and β change.

  Parameters, value model, Adam's moments and what the controller made of β pass from stage to
  stage, the value model is warmed up once, and the learning rates rise and fall once over all.

  Args:
    context: the run's surroundings.
    name: prefix of the stages' names.
    stages: each with `name`, `references` (sources), `steps`, `kl_coefficient` and
      `learning_rate` (the height of the schedule while it lasts); everything else is the config's
      `rl`.
    improver_sft: M_PIT^SFT, the start of the first stage and the KL reference of all.
    gap_reward: R_PIT or what stands for it: the reward of all stages and the first value model.
    from_policy: the references sampled from M_P^RL.
    watch: keeps samples along the stages.

  Returns:
    M_PIT^RL.
  """
  start = {"policy": improver_sft, "value": gap_reward.value}
  learner = rl.begin(context, start, context.config.rl, stages[0].kl_coefficient)
  total, begun, before = steps(stages), 0, stages[0]
  for number, stage in enumerate(stages, start=1):
    job = context.config.rl.copy_and_resolve_references()
    job.learning_rate = stage.learning_rate
    coefficient = _handed_on(learner.kl_coefficient, before.kl_coefficient, stage.kl_coefficient)
    learner = rl.run(
      context,
      f"{name}_{stage.name}",
      prompts(context, stage.references, from_policy),
      gap_reward.signal(*texts(context, stage.references, from_policy)),
      start=dataclasses.replace(learner, kl_coefficient=coefficient),
      reference=improver_sft,
      steps=stage.steps,
      job=job,
      begun=begun,
      planned=total,
      watch=watch,
      told=functools.partial(_told, number, begun, total, gap_reward.unchanged),
    )
    begun += stage.steps
    before = stage
  return context.waiting(learner.policy)


def _handed_on(coefficient: float, before: float, after: float) -> float:
  """Returns the β that a stage begins with, in units of score per nat.

  Stages of one configured β hand it on as the controller left it, others in the proportion of
  theirs. A β of 0 cannot have been moved.

  Args:
    coefficient: β at the end of the stage before.
    before: the configured β of that stage.
    after: that of this one.
  """
  return coefficient * (after / before) if before else after


def _told(
  number: int, begun: int, total: int, zero_point: float, index: int, scores: jax.Array
) -> dict[str, Any]:
  """Returns where in the curriculum an iteration stands, and how often it beat the reference."""
  gap, wins = _against(scores, zero_point)
  return {
    "curriculum/stage": number,
    "curriculum/fraction": (begun + index + 1) / total,
    "objective/gap_reward": gap,
    "objective/win_vs_reference": wins,
  }


@jax.jit
def _against(scores: Float[Array, " B"], zero_point: Number) -> tuple[Number, Number]:
  """Returns the mean gap over that of identical texts, and the share of gaps above it."""
  gaps = scores - zero_point
  return gaps.mean(), (gaps > 0).mean()


def steps(stages: Sequence[ml_collections.ConfigDict]) -> int:
  """Returns the RL iterations of a curriculum."""
  return sum(stage.steps for stage in stages)


def alone(stage: ml_collections.ConfigDict, steps: int) -> ml_collections.ConfigDict:
  """Returns a stage that has all the steps of a curriculum to itself (an ablation)."""
  only = stage.copy_and_resolve_references()
  only.update({"steps": steps})
  return only
