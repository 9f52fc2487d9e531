"""RLHF, the policy's chain alone (Ouyang et al. 2022): SFT, reward model, PPO.

`pit` runs the same chain. Deviations from the paper: the reward model reads two responses per
prompt instead of ranking many, or is a published one (`reward.model`), which reads words and is not
trained; no pretraining gradients are mixed into PPO. The value model starts from R_P, or, where the
trunk of a published R_P does not fit, from that of M_P^SFT with a fresh head.
"""

import dataclasses
import pathlib

import ml_collections

from pit_jax.evaluate import findings
from pit_jax.exchange import export
from pit_jax.feedback import language_models
from pit_jax.recipes import schedule
from pit_jax.report import pages
from pit_jax.run import context as contexts
from pit_jax.stages import frontier, reward, rl, sft
from pit_jax.types import Params


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


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, exports, evaluates and reports."""
  language_models.check(config.evaluation.language_judge)
  context = schedule.announced(contexts.build(config, workdir))
  policy = train_policy(context)
  models = {"policy": policy.rl, "reward": policy.reward.params}
  export.save(
    workdir, context.inference, models, zero_point=None, published=policy.reward.published
  )
  pages.publish(findings.of_policy(context, policy), workdir)
