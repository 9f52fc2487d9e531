"""RLHF, the policy's chain alone (Ouyang et al. 2022): SFT, reward model, PPO.

`pit` runs the same chain. Deviations from the paper: the reward model reads two responses per
prompt instead of ranking many, or is a published one (`reward.model`), which reads words and is not
trained; no pretraining gradients are mixed into PPO. The value model starts from R_P, or, where the
trunk of a published R_P does not fit, from that of M_P^SFT with a fresh head.
"""

import dataclasses
from typing import Any

import ml_collections

from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import frontier as frontiers
from pit_jax.evaluate.experiments import length, main
from pit_jax.recipes import recipe
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import frontier, jobs, reward, rl, sft
from pit_jax.types import Params

EARLIER = ("language", "reward", "language")  # M_P^SFT, R_P and M_P^RL, which later stages keep


@dataclasses.dataclass(frozen=True)
class Policy:
  """The policy's chain: M_P^SFT, R_P, M_P^RL; and an independent judge, if one was asked for."""

  sft: Params
  reward: reward.RewardModel
  rl: Params
  judge: reward.RewardModel | None


def train_policy(context: contexts.Context) -> Policy:
  """Trains the three models of the policy's chain."""
  policy_sft = sft.policy(context)
  reward_model = reward.pointwise(context, policy_sft, policy_sft)
  watch = frontier.watch(context, context.config.rl.steps, policy_sft)
  trained = context.waiting(_train_rl(context, policy_sft, reward_model, watch).policy)
  judge = reward.judge(context, policy_sft)
  return Policy(sft=policy_sft, reward=reward_model, rl=trained, judge=judge)


def _train_rl(
  context: contexts.Context,
  policy_sft: Params,
  reward_model: reward.RewardModel,
  watch: frontier.Watch | None = None,
) -> rl.Learner:
  """Maximises E[R_P(x, y)] − β KL(M_P ‖ M_P^SFT) (Wang et al. 2024, eq. 3)."""
  job = context.config.rl
  value = reward.first_value(context, reward_model, policy_sft)
  return rl.run(
    context,
    "rl_policy",
    context.policy_prompts(),
    reward.signal(context, reward_model),
    start=rl.begin(context, {"policy": policy_sft, "value": value}, job),
    reference=policy_sft,
    steps=job.steps,
    job=job,
    watch=watch,
  )


def train_longer(context: contexts.Context, policy: Policy, name: str, steps: int) -> Params:
  """Carries the RL of a trained policy on, and returns it after so many more iterations.

  Policy, value model, Adam's moments and β are those at the end of M_P^RL, read back from its last
  checkpoint; the value model needs no warm-up. Only the learning rate, which had fallen to 0, rises
  and falls once more.
  """
  job = context.config.rl.copy_and_resolve_references()
  job.value_warmup = 0
  learner = rl.run(
    context,
    name,
    context.policy_prompts(),
    reward.signal(context, policy.reward),
    start=_train_rl(context, policy.sft, policy.reward),
    reference=policy.sft,
    steps=steps,
    job=job,
  )
  return context.waiting(learner.policy)


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of the policy's chain."""
  found = [kinds.Stage("sft_policy", "sft", kept=("initial",))]
  if not config.reward.model:
    found.append(kinds.Stage("reward", "reward", kept=("language",)))
  found.append(kinds.Stage("rl_policy", "rl"))
  if config.data.judge:
    found.append(kinds.Stage("reward_judge", "reward", fold="judge", kept=EARLIER))
  return found


def exported(policy: Policy) -> dict[str, Any]:
  """Returns what is exported of the policy's chain; see `export.save`."""
  models = {"policy": policy.rl, "reward": policy.reward.params}
  return {"models": models, "zero_point": None, "published": policy.reward.published}


RECIPE = recipe.Recipe(
  name="rlhf",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=stages,
  train=train_policy,
  exported=exported,
  subject=subject.of_policy,
  headline=("original", "policy_sft"),
  experiments={"main": main.measure, "length": length.measure, "frontier": frontiers.measure},
  needs={"frontier": frontiers.NEED},
)
