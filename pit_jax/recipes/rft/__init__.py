"""Learning from demonstrations by a reward that is learnt from them (Li et al. 2024): RFT.

An expert's answers are imitated. Then come rounds of arXiv 2405.17888: samples of the policy; a
reward model that learns to prefer the demonstration to the sample of each prompt; RL that maximises
it, from the policy of the round's start and near it. Rounds end where the reward cannot tell
samples from demonstrations of the validation part; later ones are then the policy as it was.

  sft             fine-tuned on the expert's answers
  sft_longer      the same for as many steps more as RL may take: is it only more training?
  rft_K           after K rounds
  rft_shuffled_K  the same with each pair's roles drawn at random: is it what the reward learnt?

Deviations: the published loops have no stop rule; the published code maximises by trlx's
advantage-induced policy alignment, here it is PPO as in RLHF, and each round's reward model begins
with the trunk of `sft`, where the code takes that of a published model; KL is to the policy of the
round's start.
"""

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.recipes import recipe
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.rft import page
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import feedback, jobs, reinforced, reward, rewards, sft, trained
from pit_jax.training import optimizers
from pit_jax.types import Params

ARM = "rft"
SHUFFLED = "rft_shuffled"


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for each imitation, and two for each round."""
  planned = [
    kinds.Stage("sft", "sft", kept=("initial",)),
    kinds.Stage("sft_longer", "sft", steps=_steps(config), kept=("initial", "language")),
  ]
  kept = ("initial", "language", "language")  # both of imitation; every round adds its policy
  for arm in (ARM, SHUFFLED):
    for number in range(1, config.rft.rounds + 1):
      planned.append(kinds.Stage(_reward(arm, number), "reward", kept=kept))
      planned.append(kinds.Stage(_policy(arm, number), "rl", kept=kept))
      kept = (*kept, "language")

  return planned


def _reward(arm: str, number: int) -> str:
  return f"{arm}_reward_{number}"


def _policy(arm: str, number: int) -> str:
  return f"{arm}_{number}"


def _steps(config: ml_collections.ConfigDict) -> int:
  """Returns how many optimiser steps the policy takes in all rounds of an arm."""
  job = config.rl
  learning = job.steps - optimizers.value_warmup(job)
  return config.rft.rounds * learning * job.epochs * job.minibatches


def train(context: contexts.Context) -> dict[str, trained.Trained]:
  """Trains all arms; what is finished is read back."""
  c = context.config
  rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), ["reward"])
  answers = demonstrations.completions(context)
  context = made_rows.depending(context, answers.made)
  fold = answers.demonstrations
  policy = sft.run(context, "sft", fold, start=context.initial_policy(), job=c.sft)

  job = c.sft.copy_and_resolve_references()
  job.steps = _steps(c)
  longer = sft.run(context, "sft_longer", fold, start=policy.params, job=job)
  made = {"sft": policy, "sft_longer": longer}
  rounds = _rounds(context, ARM, answers, policy, c.rft.rounds)
  controls = _rounds(context, SHUFFLED, answers, policy, len(rounds))
  for arm, own in ((ARM, rounds), (SHUFFLED, controls)):
    last = policy
    for number in range(1, c.rft.rounds + 1):
      # Every seed of a study has the same systems, wherever its rounds end.
      name = _policy(arm, number)
      last = made[name] = own.get(name, last)

  return made


def _rounds(
  context: contexts.Context,
  arm: str,
  answers: feedback.Completions,
  imitation: trained.Trained,
  most: int,
) -> dict[str, trained.Trained]:
  """Returns the policy of each round that an arm has, by its name.

  They end early where samples cannot be told from demonstrations. Of roles at random nothing can be
  told, and no round ends for it.
  """
  policy = imitation
  made = {}

  for number in range(1, most + 1):
    name = _reward(arm, number)
    pairs, of_round = _pairs(context, name, answers, policy)
    if arm == SHUFFLED:
      pairs = shuffled(pairs, context.seed(name))
    model = _rewarding(of_round, name, pairs, imitation, policy)
    told = (model.facts["accuracy"], len(pairs.validation))
    if arm == ARM and demonstrations.is_alike(*told):
      break

    policy = _reinforced(of_round, _policy(arm, number), model, policy)
    made[_policy(arm, number)] = policy

  return made


def _pairs(
  context: contexts.Context, name: str, answers: feedback.Completions, policy: trained.Trained
) -> tuple[preferences.Fold, contexts.Context]:
  """Returns demonstrations over samples of a policy; see `demonstrations.over_samples`."""
  fold = demonstrations.prompts(context, context.config.sft.fold)
  return demonstrations.over_samples(context, name, fold, answers, policy.params)


def _rewarding(
  context: contexts.Context,
  name: str,
  pairs: preferences.Fold,
  imitation: trained.Trained,
  policy: trained.Trained,
) -> reward.RewardModel:
  """Returns the reward that pairs teach, of deviation 1 on samples of a policy."""
  models = {"start": imitation.params, "sampler": policy.params}
  return reward.run(context, name, pairs, job=context.config.reward, **models)


def shuffled(fold: preferences.Fold, seed: int) -> preferences.Fold:
  """Returns pairs of which each is turned round, or not, by a fair coin."""
  coin = random.Random(seed)

  def turned(row):
    if coin.random() < 0.5:
      return row
    return dataclasses.replace(row, chosen=row.rejected, rejected=row.chosen)

  return preferences.Fold(tuple(map(turned, fold.rows)), tuple(map(turned, fold.validation)))


def _reinforced(
  context: contexts.Context, name: str, model: reward.RewardModel, policy: trained.Trained
) -> trained.Trained:
  """Maximises E[r(x, y)] − β KL(π ‖ π_k) from π_k, the policy of the round's start."""
  fold = demonstrations.prompts(context, context.config.rl.fold)
  return reinforced.policy(context, name, fold, model, policy.params)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with demonstrations and rewards."""
  yield from demonstrations.problems(config, ("reward",))
  yield from rewards.problems("rl", config.rl, ("reward",))
  if config.reward.model:
    yield (
      f"reward.model={config.reward.model!r}: this recipe learns its reward from demonstrations; "
      'use ""'
    )


def compared(policies: Iterable[str]) -> list[tuple[str, str]]:
  """Returns which systems are compared: each round with imitation, its control, the one before."""
  rounds, controls = (page.rounds(policies, arm) for arm in (ARM, SHUFFLED))
  own = [(a, b) for a in [*rounds, *controls] for b in ("sft_longer", "sft")]
  own += [*zip(rounds, controls, strict=True), *zip(rounds[1:], rounds, strict=False)]
  return [*own, ("sft_longer", "sft")]


def of_run(context: contexts.Context, policies: dict[str, trained.Trained]) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  models = {name: policy.params for name, policy in policies.items()}
  first = _policy(ARM, 1)
  suite = subject.suite_of(context, policy=models[first], sampler=models["sft"])
  pairs = compared(models)
  control = f"{first}_resampled"
  # The one that the run is about comes first.
  models = {first: models[first], **models}
  how = {"compared": pairs, "control": control, "about": _told(models)}
  return subject.Policies(context, suite, models=models, **how)


def _told(models: Mapping[str, Params]) -> dict[str, str]:
  """Returns what the policy of every round is, by system, and which rounds there were none of."""
  told = {}
  for arm in (ARM, SHUFFLED):
    before = models["sft"]
    for name in page.rounds(models, arm):
      told[name] = page.about(name, is_over=models[name] is before)
      before = models[name]

  return told


def _last(policies: dict[str, trained.Trained]) -> trained.Trained:
  """Returns the policy of the last round."""
  return policies[page.rounds(policies, ARM)[-1]]


RECIPE = recipe.Recipe(
  name="rft",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=stages,
  train=train,
  own_texts=True,
  exported=lambda policies: {"models": {"policy": _last(policies).params}, "zero_point": None},
  subject=of_run,
  problems=problems,
  asks=demonstrations.asks,
  allowed=demonstrations.ALLOWED | {"rft.rounds": ranges.COUNT},
  headline=("rft_1", "sft_longer"),
  page=page.PAGE,
  pooled={"demonstrations": seeds.rows("system")},
  experiments={
    "main": main.measure,
    "length": length.measure,
    "demonstrations": demonstrations.measure,
  },
)
