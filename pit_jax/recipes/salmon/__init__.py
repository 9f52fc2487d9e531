"""SALMON: a reward model that reads the principles it is to reward by (arXiv 2310.05910).

A policy is sampled twice per prompt; a judge says which sample is better by one principle at a
time; rows show some principles, some of them negated, and are labelled by the one of which the
judge is surest. One reward model learns from all rows, and every policy is then trained for the
list of principles that the reward model is shown.

  sft              the policy that is sampled: fine-tuned on a writer, or the base itself
  salmon           RL under the list of the run, salmon.principles
  salmon_NAME      RL under another list, by the same reward model
  reward_shuffled  a reward model whose rows show each other's principles: is it what they say?
  reward_plain     a reward model whose rows show none

Deviations: the published reward model reads the response before the instruction and principles
after both, which is one of the orders of `salmon.response` and not the default; it is a head on
the last state, which is `salmon.form="scalar"`, and where the base is too small to read principles
so the reward is one of likelihoods (`implicit`), of a model that demonstrations under principles
have taught to read before any label; the KL penalty is
that of this library's PPO, not clamped at 0; each list has its own unit, a deviation of 1 on
samples of `sft`, where the published score is used as it is; on the embedded task the judge is a
noisy reader of one check, since no model that small can judge.
"""

import dataclasses
import functools
from collections.abc import Iterator

import ml_collections

from pit_jax.data import preferences, principles
from pit_jax.evaluate import seeds
from pit_jax.evaluate.experiments import length, main
from pit_jax.exchange import export
from pit_jax.feedback import named
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.salmon import (
  banks,
  conditioned,
  implicit,
  improving,
  labelling,
  measures,
  page,
)
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import feedback, jobs, reinforced, reward, rewards, sft, trained


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages: imitation, one reward model and its controls, a policy for each list."""
  c = config.salmon
  written = (("epochs", (1 + c.instructed) * config.sft.epochs),)  # so many rows of each prompt
  imitation = kinds.Stage("sft", "sft", kept=("initial",), values=written)
  planned = [imitation] if c.writer else []
  kept = ("language",)
  section, network = ("dpo", "language") if _is_implicit(config) else ("reward", "reward")
  for name in _rewards(config):
    # Every pair makes so many rows.
    rows = (("epochs", c.passes * config[section].epochs),)
    planned.append(kinds.Stage(name, section, kept=kept, values=rows))
    kept = (*kept, network)
  for system in banks.lists(config):
    # Of likelihoods the reward's networks are among those that are kept.
    rewarding = kinds.NONE if _is_implicit(config) else "reward"
    planned.append(kinds.Stage(system, "rl", reward=rewarding, kept=kept))
    kept = (*kept, "language")
  return [*planned, *(improving.stages(config, kept) if c.improver else ())]


def _is_implicit(config: ml_collections.ConfigDict) -> bool:
  return config.salmon.form == banks.IMPLICIT


def _rewards(config: ml_collections.ConfigDict) -> list[str]:
  controls = ("reward_shuffled", "reward_plain")
  return ["reward", *controls] if config.salmon.controls else ["reward"]


def train(context: contexts.Context) -> measures.Study:
  """Trains everything; what is finished is read back."""
  c = context.config
  rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), ["reward"])
  folds = preferences.JOINED.join((c.reward.fold, c.rl.fold))
  questions = context.rows.fold(folds).prompts
  bank, context = banks.of_run(context)
  bank = conditioned.check_lengths(context, bank, questions)
  policy, followed, context = _sampled(context, bank)
  labelled = labelling.labelled(context, bank, policy.params)
  context = made_rows.depending(context, *(one.made for one in labelled.samples), labelled.made)

  seed = context.seed("reward_shuffled")
  changes = {
    "reward": list,
    "reward_shuffled": functools.partial(labelling.shuffled, seed=seed),
    "reward_plain": labelling.plain,
  }
  models: dict[str, conditioned.Model] = {}
  read_by = conditioned.reading(context, bank)
  for name in _rewards(c):
    rows = labelled.fold(changes[name])
    if _is_implicit(c):
      models[name] = implicit.run(context, name, rows, policy=policy.params, job=c.dpo)
      continue
    # The responses of the validation part set the unit: they are samples of this policy.
    how = {"start": policy.params, "job": c.reward, "sampler": None}
    models[name] = reward.run(read_by, name, rows, **how)

  study = measures.Study(labelled, policy, models, {})
  for system, listed in banks.lists(c).items():
    shown = banks.shown(bank, listed)
    under = conditioned.under(read_by, system, models["reward"], bank, shown, policy.params)
    study.policies[system] = _reinforced(context, system, policy, under)
  if not c.salmon.improver:
    return study
  chain = improving.train(context, labelled, followed, policy, models["reward"])
  return dataclasses.replace(study, chain=chain)


def _sampled(
  context: contexts.Context, bank: principles.Bank
) -> tuple[trained.Trained, preferences.Fold | None, contexts.Context]:
  """Returns the policy that is sampled, `labelling.rewritten`, and the context of what follows.

  Where nobody is imitated under principles, nothing is rewritten.
  """
  c = context.config
  start = context.initial_policy()
  if not c.salmon.writer:
    return trained.Trained(start, {}), None, context
  prompts = demonstrations.prompts(context, c.sft.fold)
  fold = labelling.instructed(context, bank, prompts)
  writer = named.build(context, "writers", c.salmon.writer)
  written = feedback.completions(
    context, "demonstrations", fold, writer, most_failed=c.salmon.most_failed
  )
  context = made_rows.depending(context, written.made)
  policy = sft.run(context, "sft", written.demonstrations, start=start, job=c.sft)
  if not c.salmon.instructed:
    return policy, None, context
  return policy, labelling.rewritten(context, bank, prompts, written), context


def _reinforced(
  context: contexts.Context, name: str, policy: trained.Trained, rewarding: conditioned.Conditioned
) -> trained.Trained:
  """Maximises the reward under a list, from the policy that was sampled and near it."""
  job = context.config.rl
  fold = demonstrations.prompts(context, job.fold)
  own = {"reward": rewarding.signal(fold.prompts)}
  maximised = rewards.chosen(context, job, own, fold.prompts)
  how = {"start": policy.params, "value": rewarding.value, "job": job}
  return reinforced.optimised(context, name, context.rows.prompts(fold), maximised, **how)


def exported(study: measures.Study) -> dict:
  """Returns what is exported: the policy of the run's list, what rewards, the principles.

  A reward of likelihoods is that of the gap, too.
  """
  models = {"policy": study.policies[banks.SALMON].params}
  rewarding = study.rewards["reward"]
  if isinstance(rewarding, reward.RewardModel):
    models["reward"] = rewarding.params
  else:
    models |= zip(export.IMPLICIT, (rewarding.params, rewarding.reference), strict=True)
  zero_point = None
  if chain := study.chain:
    models["improver"] = chain.improver.params
    if isinstance(chain.gap_reward, reward.RewardModel):
      models["gap_reward"] = chain.gap_reward.params
      zero_point = chain.gap_reward.facts["zero_point"]
  return {"models": models, "zero_point": zero_point, "bank": study.labelled.bank}


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with principles and rewards."""
  yield from banks.problems(config)
  own = ("reward", "gap") if config.salmon.improver else ("reward",)
  yield from rewards.problems("rl", config.rl, own)


RECIPE = recipe.Recipe(
  name="salmon",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "gap", "rl")}
  | {"dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=stages,
  train=train,
  exported=exported,
  subject=measures.of_run,
  problems=problems,
  asks=banks.asks,
  allowed=banks.ALLOWED,
  own_texts=True,
  headline=(banks.SALMON, "sft"),
  page=page.PAGE,
  pooled={
    "principles": seeds.rows("model", "principle", "shown"),
    "conflicts": seeds.rows("model"),
    "conditioning": measures.pool_conditioning,
    "policies": seeds.rows("system", "list"),
    "steering": seeds.rows("principle"),
    "improved": measures.pool_improved,
    "improved_steering": seeds.rows("principle", "version"),
  },
  experiments={
    "main": main.measure,
    "length": length.measure,
    "principles": measures.measure_rewards,
    "policies": measures.measure_policies,
    "improving": measures.measure_improver,
  },
  needs={
    "improving": ("--config.salmon.improver=True", lambda config: config["salmon"]["improver"])
  },
)
