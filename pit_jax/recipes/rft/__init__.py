"""Learning from demonstrations by a reward that is learnt from them (Li et al. 2024): RFT.

An expert's answers are imitated. Then come rounds of arXiv 2405.17888: samples of the policy; a
reward model that learns to prefer the demonstration to the sample of each prompt; RL that maximises
it, from the policy of the round's start and near it. Of all policies, imitation's among them, that
is kept whose samples are the hardest to tell from demonstrations, by a reward model's accuracy on
the validation part; rounds end with the first whose samples are easier, or cannot be told at all.

  sft           fine-tuned on the expert's answers
  sft_longer    the same for as many steps more as RL may take: is it only more training?
  rft           the rounds
  rft_shuffled  as many rounds with each pair's roles drawn at random: is it what the reward learnt?

Deviations: the published loops have no such rule; the published code maximises by trlx's
advantage-induced policy alignment, here it is PPO as in RLHF, and each round's reward model begins
with the trunk of `sft`, where the code takes that of a published model; KL is to the policy of the
round's start.
"""

import dataclasses
import math
import random
from collections.abc import Iterator

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
from pit_jax.stages import feedback, jobs, reward, rewards, rl, sft, trained
from pit_jax.training import optimizers

ARM = "rft"
SHUFFLED = "rft_shuffled"
COMPARED = (
  ("rft", "sft_longer"),
  ("rft", "sft"),
  ("rft", "rft_shuffled"),
  ("sft_longer", "sft"),
  ("rft_shuffled", "sft_longer"),
)


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains."""

  policies: dict[str, trained.Trained]  # by system
  rounds: int  # of the policy that was kept


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for each imitation, two for each round, and what tells the last samples."""
  planned = [
    kinds.Stage("sft", "sft", kept=("initial",)),
    kinds.Stage("sft_longer", "sft", steps=_steps(config), kept=("initial", "language")),
  ]
  rounds = range(1, config.rft.rounds + 1)
  # Both of imitation, and what was kept; in RL the policy of the round's start is the reference.
  kept = ("initial", *["language"] * 3)
  for arm in (ARM, SHUFFLED):
    for number in rounds:
      planned.append(kinds.Stage(_reward(arm, number), "reward", kept=(*kept, "language")))
      planned.append(kinds.Stage(_policy(arm, number), "rl", kept=kept))
    if arm == ARM:
      last = _reward(arm, len(rounds) + 1)
      planned.append(kinds.Stage(last, "reward", kept=(*kept, "language")))

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


def train(context: contexts.Context) -> Study:
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
  kept, rounds = _rounds(context, answers, policy)
  control = _shuffled(context, answers, policy, rounds)
  return Study({"rft": kept, "sft": policy, "sft_longer": longer, "rft_shuffled": control}, rounds)


def _rounds(
  context: contexts.Context, answers: feedback.Completions, imitation: trained.Trained
) -> tuple[trained.Trained, int]:
  """Returns the policy whose samples are the hardest to tell, and of how many rounds it is."""
  most = context.config.rft.rounds
  policy = kept = imitation
  hardest = math.inf

  for number in range(1, most + 2):
    name = _reward(ARM, number)
    pairs, of_round = _pairs(context, name, answers, policy)
    model = _rewarding(of_round, name, pairs, imitation, policy)
    accuracy = model.facts["accuracy"]
    if accuracy > hardest:
      return kept, number - 2
    kept, hardest = policy, accuracy
    if number > most or demonstrations.is_alike(accuracy, len(pairs.validation)):
      break
    policy = _reinforced(of_round, _policy(ARM, number), model, policy)

  return kept, number - 1


def _shuffled(
  context: contexts.Context, answers: feedback.Completions, imitation: trained.Trained, rounds: int
) -> trained.Trained:
  """Returns the policy after so many rounds whose rewards learn from roles at random.

  Such rewards tell nothing apart, so none of their policies is chosen by it.
  """
  policy = imitation
  for number in range(1, rounds + 1):
    name = _reward(SHUFFLED, number)
    pairs, of_round = _pairs(context, name, answers, policy)
    model = _rewarding(of_round, name, shuffled(pairs, context.seed(name)), imitation, policy)
    policy = _reinforced(of_round, _policy(SHUFFLED, number), model, policy)

  return policy


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
  job = context.config.rl
  fold = demonstrations.prompts(context, job.fold)
  own = {"reward": reward.signal(context, model, fold.prompts)}
  maximised = rewards.chosen(context, job, own, fold.prompts)

  models = {"policy": policy.params, "value": reward.centred(model)}
  how = {"reference": policy.params, "steps": job.steps, "job": job}
  # No name holds the start, which is used up.
  learner = rl.run(
    context, name, context.rows.prompts(fold), maximised,
    start=rl.begin(context, models, job), **how,
  )  # fmt: skip
  return trained.ended(context, learner)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with demonstrations and rewards."""
  yield from demonstrations.problems(config, ("reward",))
  yield from rewards.problems("rl", config.rl, ("reward",))
  if config.reward.model:
    yield (
      f"reward.model={config.reward.model!r}: this recipe learns its reward from demonstrations; "
      'use ""'
    )


def of_run(context: contexts.Context, study: Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  models = {name: policy.params for name, policy in study.policies.items()}
  suite = subject.suite_of(context, policy=models["rft"], sampler=models["sft"])
  about = (context, suite)
  pairs = list(COMPARED)
  control = "rft_resampled"
  return Subject(*about, models=models, compared=pairs, control=control, rounds=study.rounds)


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished run, with the number of rounds that were kept."""

  rounds: int = dataclasses.field(kw_only=True)

  @property
  def about(self) -> dict[str, str]:
    """Which policy the run kept."""
    said = f"{self.rounds} of {self.context.config.rft.rounds} rounds of reward learning and RL"
    return {"rft": f"{said}: its samples were the hardest to tell"}


RECIPE = recipe.Recipe(
  name="rft",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=stages,
  train=train,
  exported=lambda study: {"models": {"policy": study.policies["rft"].params}, "zero_point": None},
  subject=of_run,
  problems=problems,
  allowed=demonstrations.ALLOWED | {"rft.rounds": ranges.COUNT},
  headline=("rft", "sft_longer"),
  page=page.PAGE,
  pooled={"demonstrations": seeds.rows("system")},
  experiments={
    "main": main.measure,
    "length": length.measure,
    "demonstrations": demonstrations.measure,
  },
)
