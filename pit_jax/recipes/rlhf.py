"""RLHF, the policy's chain alone (Ouyang et al. 2022): SFT, reward model, PPO.

`pit` runs the same chain. Deviations from the paper: the reward model reads two responses per
prompt instead of ranking many, or is a published one (`reward.model`), which reads words and is not
trained; no pretraining gradients are mixed into PPO. The value model starts from R_P, or, where the
trunk of a published R_P does not fit, from that of M_P^SFT with a fresh head.
"""

import dataclasses
import pathlib

import ml_collections

from pit_jax import export
from pit_jax.evaluate import findings, language_models, report
from pit_jax.stages import context as contexts
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
  steps = context.config.rl.steps
  watch = frontier.watch(context, steps, policy_sft)
  trained = train_rl(context, "rl_policy", policy_sft, reward_model, steps, watch)
  judge = reward.judge(context, policy_sft)
  return Policy(sft=policy_sft, reward=reward_model, rl=trained, judge=judge)


def train_rl(
  context: contexts.Context,
  name: str,
  policy_sft: Params,
  reward_model: reward.RewardModel,
  steps: int,
  watch: frontier.Watch | None = None,
) -> Params:
  """Maximises E[R_P(x, y)] − β KL(M_P ‖ M_P^SFT) (Wang et al. 2024, eq. 3)."""
  job = context.config.rl
  value = reward.first_value(context, reward_model, policy_sft)
  trained = rl.run(
    context,
    name,
    context.policy_prompts(),
    reward.signal(context, reward_model),
    start=rl.begin(context, {"policy": policy_sft, "value": value}, job),
    reference=policy_sft,
    steps=steps,
    rate=rl.schedule(job, steps),
    job=job,
    watch=watch,
  )
  return context.waiting(trained.policy)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, exports, evaluates and reports."""
  language_models.check(config.evaluation.language_judge)
  context = contexts.build(config, workdir)
  policy = train_policy(context)
  models = {"policy": policy.rl, "reward": policy.reward.params}
  export.save(
    workdir, context.inference, models, zero_point=None, published=policy.reward.published
  )
  report.publish(findings.of_policy(context, policy), workdir)
