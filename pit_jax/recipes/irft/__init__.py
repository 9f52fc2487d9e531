"""Implicit reward learning from demonstrations (Li et al. 2024, arXiv 2405.17888), and SPIN.

An expert's answers are imitated; then a policy learns to prefer them to its own samples, by the
loss of DPO, whose implicit reward tells the two apart. Prompts come in T blocks: each begins with
fresh samples, and the model of the block before is its start and its reference. SPIN (Chen et al.
2024, arXiv 2401.01335) has T = 1. The rounds end where samples cannot be told from demonstrations.

  sft         fine-tuned on the expert's answers
  sft_longer  the same for as many steps more as the blocks take: is it only more training?
  irft        T blocks
  spin        one block of all prompts, of as many steps
  irft_fixed  T blocks on samples of `sft` alone: is it the renewal?

Deviation: the published loops have no stop rule.
"""

import dataclasses
import math

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.recipes.irft import demonstrations, page
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import dpo, feedback, jobs, sft, trained

CONTROLS = ("sft", "sft_longer", "spin", "irft_fixed")  # what irft is compared with


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for each imitation and each block."""
  blocks = range(1, config.irft.blocks + 1)
  kept = ("initial", "language", "language")
  return [
    kinds.Stage("sft", "sft", kept=("initial",)),
    kinds.Stage("sft_longer", "sft", kept=kept),
    *(kinds.Stage(f"irft_{block}", "dpo", kept=kept) for block in blocks),
    kinds.Stage("spin", "dpo", kept=kept),
    *(kinds.Stage(f"irft_fixed_{block}", "dpo", kept=kept) for block in blocks),
  ]


def train(context: contexts.Context) -> dict[str, trained.Trained]:
  """Trains all arms; what is finished is read back."""
  c = context.config
  answers = demonstrations.completions(context)
  context = made_rows.depending(context, answers.made)
  fold = answers.demonstrations
  policy = sft.run(context, "sft", fold, start=context.initial_policy(), job=c.sft)
  longer = sft.run(context, "sft_longer", fold, start=policy.params, job=c.sft)

  prompts = demonstrations.prompts(context, c.sft.fold)
  blocks = _blocks(prompts, c.irft.blocks)
  return {
    "sft": policy,
    "sft_longer": longer,
    "irft": _rounds(context, "irft", blocks, answers, policy),
    "spin": _block(context, "spin", prompts, answers, policy, sampler=policy),
    "irft_fixed": _rounds(context, "irft_fixed", blocks, answers, policy, sampler=policy),
  }


def _blocks(fold: preferences.Fold, count: int) -> list[preferences.Fold]:
  """Returns the parts that prompts are divided into; all have the whole validation part."""
  size = math.ceil(len(fold.rows) / count)
  starts = range(0, len(fold.rows), size)
  return [dataclasses.replace(fold, rows=fold.rows[start : start + size]) for start in starts]


def _rounds(
  context: contexts.Context,
  name: str,
  blocks: list[preferences.Fold],
  answers: feedback.Completions,
  policy: trained.Trained,
  sampler: trained.Trained | None = None,
) -> trained.Trained:
  """Returns the policy after its blocks, or after the one in which nothing is told apart.

  Samples come from one sampler, or, where there is none, from the policy as each block finds it.
  """
  for number, block in enumerate(blocks, start=1):
    stage = f"{name}_{number}"
    policy = _block(context, stage, block, answers, policy, sampler=sampler or policy)
    if demonstrations.is_alike(policy.facts["validation/accuracy"], len(block.validation)):
      break
  return policy


def _block(
  context: contexts.Context,
  name: str,
  prompts: preferences.Fold,
  answers: feedback.Completions,
  policy: trained.Trained,
  *,
  sampler: trained.Trained,
) -> trained.Trained:
  """Returns the policy after DPO, from and against itself, of demonstrations over samples."""
  pairs, context = demonstrations.over_samples(context, name, prompts, answers, sampler.params)
  models = {"start": policy.params, "reference": policy.params}
  return dpo.run(context, name, pairs, job=context.config.dpo, **models)


def of_run(context: contexts.Context, policies: dict[str, trained.Trained]) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  models = {name: policies[name].params for name in ("irft", *CONTROLS)}
  suite = subject.suite_of(context, policy=models["irft"], sampler=models["sft"])
  pairs = [("irft", name) for name in CONTROLS] + [(name, "sft") for name in CONTROLS[1:]]
  return subject.Policies(context, suite, models=models, compared=pairs, control="irft_resampled")


RECIPE = recipe.Recipe(
  name="irft",
  kinds={"sft": jobs.SFT, "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=stages,
  train=train,
  own_texts=True,
  exported=lambda policies: {"models": {"policy": policies["irft"].params}, "zero_point": None},
  subject=of_run,
  problems=lambda config: demonstrations.problems(config, ("dpo",)),
  asks=demonstrations.asks,
  allowed=demonstrations.ALLOWED | {"irft.blocks": ranges.COUNT},
  headline=("irft", "sft"),
  page=page.PAGE,
  pooled={"demonstrations": seeds.rows("system")},
  experiments={
    "main": main.measure,
    "length": length.measure,
    "demonstrations": demonstrations.measure,
  },
)
