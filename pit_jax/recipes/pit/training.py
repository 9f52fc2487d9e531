"""Training of PIT: the policy's chain, the improver's chain, and the ablations."""

import dataclasses

from pit_jax.recipes.pit import criticised, curriculum, gap_rewards
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import dpo, frontier, reward, sft, trained
from pit_jax.stages import rewards as named_rewards


@dataclasses.dataclass(frozen=True)
class Models:
  """All that a run of PIT trains."""

  policy: policy_chain.Policy
  improver_sft: trained.Trained  # M_PIT^SFT
  gap_reward: reward.RewardModel  # R_PIT
  improver: trained.Trained  # M_PIT^RL
  # What else was trained, by system; empty unless it was asked for.
  ablations: dict[str, trained.Trained]
  # What rewarded pit, and ablations of it that something else rewarded, by system.
  gap_rewards: dict[str, gap_rewards.GapReward]
  # M_PIT^RL that never saw a critique, where it is asked for.
  uncriticised: trained.Trained | None = None


def train(context: contexts.Context) -> Models:
  """Trains the four models and, when asked for, the ablations."""
  c = context.config
  stages = c.curriculum
  rl_fold = context.rows.fold(c.rl.fold)
  named_rewards.try_functions(context, "rl", rl_fold, ["gap"], is_improver=True)
  policy = policy_chain.train_policy(context)
  improver_sft, context = _imitate(context, "sft_improver", criticised.is_used(c))
  start = improver_sft.params

  # A published R_P of another shape has no trunk to start from.
  trunk = policy.reward.params if policy.reward.fits else start
  pairs = context.rows.fold(c.gap_reward.fold)
  gap = {"start": trunk, "job": c.gap_reward, "sampler": start}
  gap_reward = reward.gap(context, "gap_reward", pairs, **gap)
  references = curriculum.policy_references(context, rl_fold, policy.rl.params)
  said = ()
  if criticised.is_used(c):
    drafts = references.column("response")
    said, made = criticised.asked(context, "critiques", rl_fold.prompts, drafts)
    context = made_rows.depending(context, made)

  def improver(name, stages, **more):
    shared = {"job": c.rl, "improver_sft": start, "from_policy": references, "said": said}
    return curriculum.run(context, name, rl_fold, stages, **shared, **more)

  def drafts(questions, key):
    return context.models.inference.answer(policy.rl.params, questions, key, c.temperature)

  rewards = {"pit": gap_rewards.of_model(context, gap_reward)}
  watch = frontier.watch(context, curriculum.steps(stages), start, drafts)
  pit = improver("pit", stages, gap_reward=rewards["pit"], watch=watch)
  uncriticised = None
  if c.uncriticised:
    imitating, plain_context = _imitate(context, "sft_improver_uncriticised", is_told=False)
    uncriticised = curriculum.run(
      plain_context, "pit_uncriticised", rl_fold, curriculum.uncriticised(stages), job=c.rl,
      improver_sft=imitating.params, gap_reward=rewards["pit"], from_policy=references,
    )  # fmt: skip

  ablations = {}

  if c.ablations:
    rewards["pit_single_term"] = gap_rewards.single_term(context, pairs, **gap)
    plain = (pairs.validation, policy.reward, start)
    rewards["pit_rp_difference"] = gap_rewards.difference(context, *plain)

    # What differs from pit in one thing, with as many RL steps (table 2): the curriculum's stages
    # alone; M_P^RL carried on instead, for as many steps as the improver had; other rewards.
    for name, alone in curriculum.singles(stages).items():
      ablations[name] = improver(name, alone, gap_reward=rewards["pit"])
    longer = (context, policy, "rlhf_longer", curriculum.steps(stages))
    ablations["rlhf_longer"] = policy_chain.train_longer(*longer)
    for name in ("pit_single_term", "pit_rp_difference"):
      ablations[name] = improver(name, stages, gap_reward=rewards[name])

    # The last one, since their order numbers the streams of their noise.
    labelled = context.rows.fold(c.dpo.fold)
    how = {"reference": start, "job": c.dpo, "prompts": kinds.IMPROVER}
    ablations["improver_dpo"] = dpo.run(context, "dpo_improver", labelled, start=start, **how)

  return Models(policy, improver_sft, gap_reward, pit, ablations, rewards, uncriticised)


def _imitate(
  context: contexts.Context, name: str, is_told: bool
) -> tuple[trained.Trained, contexts.Context]:
  """Returns M_PIT^SFT, told of every second draft what a critic says, and what follows' context."""
  job = context.config.sft
  fold = context.rows.fold(job.fold)
  how = {"start": context.initial_policy(), "job": job}
  if not is_told:
    return sft.run(context, name, fold, prompts=kinds.IMPROVER, **how), context
  lessons, made = criticised.lessons(context, fold)
  context = made_rows.depending(context, made)
  return sft.learn(context, name, lessons, **how), context
