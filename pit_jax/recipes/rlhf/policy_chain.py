"""Training of the policy's chain: SFT, reward model, PPO; and of a judge."""

import dataclasses

from pit_jax.data import preferences
from pit_jax.run import context as contexts
from pit_jax.stages import frontier, reward, rewards, rl, sft, trained
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Policy:
  """The policy's chain: M_P^SFT, R_P, M_P^RL; and an independent judge, if one was asked for."""

  sft: trained.Trained
  reward: reward.RewardModel
  rl: trained.Trained
  judge: reward.RewardModel | None


def train_policy(context: contexts.Context) -> Policy:
  """Trains the three models of the policy's chain."""
  c = context.config
  rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), ["reward"])
  fold = context.rows.fold(c.sft.fold)
  policy_sft = sft.run(context, "sft_policy", fold, start=context.initial_policy(), job=c.sft)
  start = policy_sft.params
  reward_model = train_reward(context, start=start, sampler=start)
  watch = frontier.watch(context, c.rl.steps, start)
  policy = trained.ended(context, _train_rl(context, start, reward_model, watch))
  return Policy(policy_sft, reward_model, policy, _train_judge(context, start))


def train_reward(
  context: contexts.Context, *, start: Params, sampler: Params | None
) -> reward.RewardModel:
  """Trains R_P, or calibrates the published model that is R_P; see `reward.run`."""
  job = context.config.reward
  fold = context.rows.fold(job.fold)
  # A published model is R_P as it is: only its unit is made.
  if context.models.reward is not None:
    return reward.published(context, "reward", fold, context.models.reward, sampler)
  return reward.run(context, "reward", fold, start=start, job=job, sampler=sampler)


def _train_judge(context: contexts.Context, policy_sft: Params) -> reward.RewardModel | None:
  """Trains the independent judge, R_P on rows that train nothing else; None if there are none."""
  job = context.config.reward
  rows = context.rows.folds[preferences.JUDGE]
  if not rows:
    return None

  # Rows of its own, so that what judges is not what rewarded; the validation part may be shared.
  fold = dataclasses.replace(context.rows.fold(job.fold), rows=rows)
  start = {"start": policy_sft, "sampler": policy_sft}
  return reward.run(context, "reward_judge", fold, job=job, **start)


def _asked(context: contexts.Context, model: reward.RewardModel) -> tuple:
  """Returns the prompts of RL, and what rewards the answers to them."""
  job = context.config.rl
  fold = context.rows.fold(job.fold)
  own = {"reward": reward.signal(context, model, fold.prompts)}
  return context.rows.prompts(fold), rewards.chosen(context, job, own, fold.prompts)


def _train_rl(
  context: contexts.Context, policy_sft: Params, model: reward.RewardModel, watch=None
) -> rl.Learner:
  """Maximises E[R_P(x, y)] − β KL(M_P ‖ M_P^SFT) (Wang et al. 2024, eq. 3)."""
  job = context.config.rl
  value = reward.first_value(context, model, policy_sft)
  how = {"reference": policy_sft, "steps": job.steps, "job": job, "watch": watch}
  # No name holds the start, which is used up.
  return rl.run(
    context, "rl_policy", *_asked(context, model),
    start=rl.begin(context, {"policy": policy_sft, "value": value}, job), **how,
  )  # fmt: skip


def train_longer(
  context: contexts.Context, policy: Policy, name: str, steps: int
) -> trained.Trained:
  """Carries the RL of a trained policy on, and returns it after so many more iterations.

  Policy, value model, Adam's moments and β are those at the end of M_P^RL, read back from its last
  checkpoint; the value model needs no warm-up. Only the learning rate, which had fallen to 0, rises
  and falls once more.
  """
  job = context.config.rl.copy_and_resolve_references()
  job.value_warmup = 0
  policy_sft = policy.sft.params
  how = {"reference": policy_sft, "steps": steps, "job": job}
  learner = rl.run(
    context, name, *_asked(context, policy.reward),
    start=_train_rl(context, policy_sft, policy.reward), **how,
  )  # fmt: skip
  return trained.ended(context, learner)
