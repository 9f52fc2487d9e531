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
from collections.abc import Iterator

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences
from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import named, writers
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.report import palette, presentation
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
  whole = context.rows.fold(c.sft.fold)
  prompts = preferences.Fold(*map(tuple, map(preferences.distinct, (whole.rows, whole.validation))))
  expert = named.build(context, "writers", c.irft.expert)
  most = c.irft.most_failed
  answers = feedback.completions(context, "demonstrations", prompts, expert, most_failed=most)

  context = made_rows.depending(context, answers.made)
  fold = answers.demonstrations
  policy = sft.run(context, "sft", fold, start=context.initial_policy(), job=c.sft)
  longer = sft.run(context, "sft_longer", fold, start=policy.params, job=c.sft)
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
    if is_alike(policy.facts["validation/accuracy"], len(block.validation)):
      break
  return policy


def is_alike(accuracy: float, pairs: int) -> bool:
  """Returns whether samples cannot be told from demonstrations: accuracy ≤ ½ + one standard error.

  It is the implicit reward's, on so many pairs of the validation part; the error is ½ / √pairs.
  """
  return accuracy <= 0.5 + 0.5 / math.sqrt(max(pairs, 1))


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
  c = context.config.irft
  student = writers.model(name, context.models.inference, sampler.params)
  how = {"temperature": c.temperature, "most_failed": 0.0}
  samples = feedback.completions(context, f"{name}_samples", prompts, student, **how)

  pairs = feedback.pairs(answers, samples)
  fold = preferences.Fold(*(
    tuple(preferences.Preference(pair.prompt, pair.a, pair.b) for pair in pairs[part])
    for part in feedback.PARTS
  ))  # fmt: skip
  context = made_rows.depending(context, samples.made)
  models = {"start": policy.params, "reference": policy.params}
  return dpo.run(context, name, fold, job=context.config.dpo, **models)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the expert, and who is missing to judge."""
  there = config.get("feedback", {}).get("writers", {})
  if config.irft.expert not in there:
    names = ", ".join(there) or "none"
    yield f"irft.expert={config.irft.expert!r}; use a name of feedback.writers, which has {names}"
  yield from subject.unjudged(config)


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
  exported=lambda policies: {"models": {"policy": policies["irft"].params}, "zero_point": None},
  subject=of_run,
  problems=problems,
  allowed={
    "irft.expert": ranges.SAID,
    "irft.blocks": ranges.COUNT,
    "irft.temperature": ranges.POSITIVE,
    "irft.most_failed": ranges.SHARE,
  },
  headline=("irft", "sft"),
  page=presentation.Presentation(
    title="Learning from demonstrations, arXiv 2405.17888",
    systems={
      "irft": presentation.System("preferring demonstrations to samples, in blocks", palette.TEAL),
      "sft": presentation.System("fine-tuned on the demonstrations", "#94a3ba"),
      "sft_longer": presentation.System("fine-tuned on them for longer", palette.PURPLE),
      "spin": presentation.System("the same in one block", palette.BLUE),
      "irft_fixed": presentation.System("the same on samples of sft alone", palette.RUST),
    },
    headlines={("irft", "sft"): ("Telling samples from demonstrations", "the imitating policy")},
  ),
  experiments={"main": main.measure, "length": length.measure},
)
