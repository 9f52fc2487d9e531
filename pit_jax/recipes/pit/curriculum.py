"""The improver's RL as a list of stages, each with a source of references."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from pit_jax import hosts, ranges
from pit_jax.data import conversations, encode, preferences
from pit_jax.improve import gains
from pit_jax.recipes.pit import criticised, gap_rewards
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import frontier, jobs, rewards, rl, trained
from pit_jax.training import optimizers
from pit_jax.types import Params

SOURCES = ("dataset.rejected", "dataset.chosen", "policy", criticised.SOURCE)  # of references
# Keys of the section of RL that a stage may set for itself: how its advantages are estimated.
OWN = ("estimator", "samples", "scale_rewards", "loss_kl_coefficient")
ALLOWED = {
  "curriculum[].name": ranges.NAME,
  "curriculum[].references": ranges.some_of(*SOURCES),
  "curriculum[].steps": ranges.COUNT,
  "curriculum[].kl_coefficient": ranges.FROM_ZERO,
  "curriculum[].learning_rate": ranges.POSITIVE,
  **{f"curriculum[].{key}": ranges.or_none(jobs.REINFORCEMENT[key]) for key in OWN},
}


def problems(stages: Sequence[ml_collections.ConfigDict]) -> Iterator[str]:
  """Yields what is wrong with the stages of a curriculum together."""
  names = [stage.name for stage in stages]
  if not names or len(set(names)) < len(names):
    rule = "give at least one, each a name of its own, since checkpoints go by names"
    yield f"curriculum with the stages {names}: {rule}"


def values_of(stage: ml_collections.ConfigDict) -> tuple[tuple[str, Any], ...]:
  """Returns what a stage sets for itself of the section of RL, as pairs of a key and its value."""
  return tuple((key, stage[key]) for key in OWN if stage[key] is not None)


def estimator_problems(
  stages: Sequence[ml_collections.ConfigDict], job: ml_collections.ConfigDict
) -> Iterator[str]:
  """Yields which stages cannot estimate advantages by themselves, or not one after the other."""
  learners = {}
  for index, stage in enumerate(stages):
    own = kinds.changed(job, values_of(stage))
    named = functools.partial(_named, index)
    if own is not job:  # what is wrong with the section itself is told of it
      yield from jobs.group_problems(own, named)
    # The value model and its moments pass from stage to stage, and cannot be missing between.
    learners.setdefault(optimizers.kinds(own.estimator), f"{named('estimator')}={own.estimator!r}")

  if len(learners) > 1:
    yield (
      f"{' with '.join(learners.values())}: the stages are one optimisation, with one value model "
      "for all of them or with none; use 'gae' in each, or in none"
    )


def _named(index: int, key: str) -> str:
  return f"curriculum[{index}].{key}" if key in OWN else f"rl.{key}"


def warmup_problems(stages: Sequence[ml_collections.ConfigDict], warmup: int) -> Iterator[str]:
  """Yields which stages end before the improver learns: the value model is warmed up once."""
  within = [index for index in range(len(stages)) if steps(stages[: index + 1]) <= warmup]
  if not within:
    return
  named = f"the steps of the curriculum={steps(stages)}"
  if len(within) < len(stages):
    named = " + ".join(f"curriculum[{index}].steps={stages[index].steps}" for index in within)
  yield jobs.too_short(named, f"rl.value_warmup={warmup}")


def policy_references(
  context: contexts.Context, fold: preferences.Fold, policy: Params
) -> made_rows.MadeRows:
  """Samples a reference per prompt from M_P^RL into references/policy.jsonl, or reads them."""

  def sample():
    how = (context.key("policy references"), context.config.temperature)
    responses = context.models.inference.answer(policy, fold.prompts, *how)
    pairs = zip(map(conversations.write, fold.prompts), responses, strict=True)
    return ({"prompt": x, "response": y} for x, y in pairs)

  return made_rows.once(context, "references/policy", sample)


def texts(
  fold: preferences.Fold, sources: Sequence[str], from_policy: Sequence[str]
) -> tuple[list[conversations.Prompt], list[str]]:
  """Returns the questions and references of a stage: every prompt with each source's.

  What is said of a reference is no part of it; see `criticised`.
  """
  rows = fold.rows
  references = {
    "dataset.rejected": [row.rejected for row in rows],
    "dataset.chosen": [row.chosen for row in rows],
    "policy": from_policy,
    criticised.SOURCE: from_policy,
  }
  shown = [reference for source in sources for reference in references[source]]
  return fold.prompts * len(sources), shown


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  stages: Sequence[ml_collections.ConfigDict],
  *,
  job: ml_collections.ConfigDict,
  improver_sft: Params,
  gap_reward: gap_rewards.GapReward,
  from_policy: made_rows.MadeRows,
  said: Sequence[str] = (),
  watch: frontier.Watch | None = None,
) -> trained.Trained:
  """Trains M_PIT through the stages: one optimisation in which references and β change.

  Parameters, value model, Adam's moments and what the controller made of β pass from stage to
  stage, the value model is warmed up once, and the learning rates rise and fall once over all.

  Args:
    context: of the run.
    name: prefix of the stages' names.
    fold: the prompts.
    stages: each with `name`, `references` (sources), `steps`, `kl_coefficient` and
      `learning_rate` (the height of the schedule while it lasts); what it sets of `OWN` stands for
      the job's. Responses to one prompt are responses to one x and one reference.
    job: the section of RL, which says everything else.
    improver_sft: M_PIT^SFT, the start of the first stage and the KL reference of all.
    gap_reward: R_PIT or what stands for it: the reward of all stages and the first value model.
    from_policy: the references sampled from M_P^RL.
    said: what a critic says of each of them, "" where that is of no use; none of it where no stage
      shows any.
    watch: keeps samples along the stages.

  Returns:
    M_PIT^RL, with the facts of the last stage.
  """
  context = made_rows.depending(context, from_policy)
  start = {"policy": improver_sft, "value": gap_reward.value}
  before = stages[0]
  learner = rl.begin(context, start, kinds.changed(job, values_of(before)), before.kl_coefficient)
  total = steps(stages)
  begun = 0
  settings = context.rows.settings

  for number, stage in enumerate(stages, start=1):
    stage_job = kinds.changed(job, values_of(stage)).copy_and_resolve_references()
    # There is one schedule over all stages; a stage only sets how high it is meanwhile.
    stage_job.learning_rate = stage.learning_rate
    # Stages of one configured β hand it on as the controller left it, others in the proportion of
    # theirs. A β of 0 cannot have been moved.
    coefficient = stage.kl_coefficient
    if before.kl_coefficient:
      coefficient = learner.kl_coefficient * (coefficient / before.kl_coefficient)

    stage_texts = texts(fold, stage.references, from_policy.column("response"))
    silent = [""] * len(from_policy.rows)
    feedback = [text for source in stage.references
                for text in (said if source == criticised.SOURCE else silent)]  # fmt: skip
    shown = criticised.shown(settings, *stage_texts, feedback)
    signal = gap_reward.signal(*stage_texts)
    if any(feedback):  # of what is said R_PIT knows nothing: it is shown drafts alone
      alone = settings.formats["improver"].conversations(*stage_texts)
      signal = rewards.shown(context, signal, alone)

    # The KL is to M_PIT^SFT in every stage, and not to where the stage began.
    learner = rl.run(
      context,
      f"{name}_{stage.name}",
      encode.prompts(shown, settings, context.rows.tokens),
      rewards.chosen(context, stage_job, {"gap": signal}, *stage_texts),
      start=dataclasses.replace(learner, kl_coefficient=coefficient),
      reference=improver_sft,
      steps=stage.steps,
      job=stage_job,
      begun=begun,
      planned=total,
      watch=watch,
      extra_metrics=_extra_metrics(context, gap_reward, stage_texts, number, begun, total),
      drafts=context.models.inference.responses(stage_texts[1]),
    )

    begun += stage.steps
    before = stage

  return trained.ended(context, learner)


def _extra_metrics(
  context: contexts.Context, gap_reward, asked, number: int, begun: int, total: int
) -> rl.ExtraMetrics:
  """Returns metrics of an iteration: where in the curriculum it stands, and what it gains.

  `objective/gap_reward` is the mean reward over that of identical texts. How often a response beats
  its reference, `objective/win_vs_reference`, the gap reward says in both orders, as the stop rule
  asks it: of iterations that are logged, and of as many responses as one call of it has room for.
  The stage's texts are `asked`; `begun` of `total` iterations belong to the stages before it.
  """
  every = context.config.log_every_rl
  zero_point = gap_reward.facts["zero_point"]
  # Both orders are two readings of a response, which together fill one batch.
  most = max(1, context.config.inference_batch_size // 2)

  def metrics(index, rows, responses, scores):
    logged = {"curriculum/stage": number, "curriculum/fraction": (begun + index + 1) / total}
    if "gap" in scores:
      logged["objective/gap_reward"] = scores["gap"].mean() - gap_reward.unchanged
    if (index + 1) % every:
      return logged

    questions, references = ([column[row] for row in rows[:most]] for column in asked)
    versions = context.models.inference.words(hosts.fetch(responses))[:most]
    gained = gains.of(gap_reward.gaps, "both_orders", zero_point, questions, versions, references)
    return logged | {"objective/win_vs_reference": float((gained > 0).mean())}

  return metrics


def steps(stages: Sequence[ml_collections.ConfigDict]) -> int:
  """Returns the RL iterations of a curriculum."""
  return sum(stage.steps for stage in stages)


def uncriticised(stages: Sequence[ml_collections.ConfigDict]) -> list[ml_collections.ConfigDict]:
  """Returns the same stages with the drafts alone where critiques are shown beside them."""
  plain = [stage.copy_and_resolve_references() for stage in stages]
  for stage in plain:
    stage.references = tuple(
      "policy" if source == criticised.SOURCE else source for source in stage.references
    )
  return plain


def singles(stages: Sequence[ml_collections.ConfigDict]) -> dict[str, list]:
  """Returns curricula of a single stage, which has all the steps to itself, by ablation."""
  alone = {"pit_first_only": stages[0], "pit_second_only": stages[-1]}
  alone = {name: stage.copy_and_resolve_references() for name, stage in alone.items()}
  for stage in alone.values():
    stage.update({"steps": steps(stages)})

  return {name: [stage] for name, stage in alone.items()}
