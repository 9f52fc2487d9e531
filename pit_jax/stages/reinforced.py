"""Whole optimisations by RL of one stage, which begin at a model and stay near it.

One that goes on over several stages is a recipe's own, of `stages.rl`.
"""

from collections.abc import Sequence

import ml_collections

from pit_jax.data import conversations, encode, preferences, prompt_formats, tables
from pit_jax.run import context as contexts
from pit_jax.stages import reward, rewards, rl, trained
from pit_jax.types import Params, Responses


def optimised(
  context: contexts.Context,
  name: str,
  prompts: tables.Table,
  maximised: rl.Rewards,
  *,
  start: Params,
  value: Params,
  job: ml_collections.ConfigDict,
  steps: int | None = None,
  drafts: Responses | None = None,
) -> trained.Trained:
  """Maximises E[reward] − β KL(π ‖ start), from the start.

  Args:
    context: of the run.
    name: the stage's name.
    prompts: every prompt of the stage (types.Prompts).
    maximised: what rewards a batch of responses.
    start: the language model to begin from and to stay near.
    value: the value model to begin from; an estimator that wants none does not read it.
    job: the config's `rl` section.
    steps: iterations; None: the job's.
    drafts: see `rl.run`.
  """
  begun = {"policy": start, "value": value}
  how = {"steps": job.steps if steps is None else steps, "job": job, "drafts": drafts}
  # No name holds the learner, which is used up.
  learner = rl.run(
    context, name, prompts, maximised,
    start=rl.begin(context, begun, job), reference=start, **how,
  )  # fmt: skip
  return trained.ended(context, learner)


def policy(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  model: reward.RewardModel,
  start: Params,
) -> trained.Trained:
  """Returns the policy after RL for a reward model, near where it began; section `rl` says how.

  Args:
    context: of the run.
    name: the stage's name.
    fold: the rows whose prompts are answered; nothing else of them is read.
    model: what rewards answers, and the value model to begin from.
    start: the policy to begin from.
  """
  job = context.config.rl
  own = {"reward": reward.signal(context, model, fold.prompts)}
  maximised = rewards.chosen(context, job, own, fold.prompts)
  how = {"start": start, "value": reward.centred(model), "job": job}
  return optimised(context, name, context.rows.prompts(fold), maximised, **how)


def improver(
  context: contexts.Context,
  name: str,
  prompts: Sequence[conversations.Prompt],
  references: Sequence[str],
  model: reward.RewardModel,
  start: Params,
  asked: Sequence[prompt_formats.Conversation] | None = None,
) -> trained.Trained:
  """Returns the improver after RL for R_PIT on one set of references; section `rl` says how.

  Args:
    context: of the run.
    name: the stage's name.
    prompts: x of each row.
    references: what each is to improve.
    model: R_PIT, and the value model to begin from.
    start: the improver to begin from.
    asked: what the improver is shown of each row; None: x and reference, as R_PIT is in any case.
  """
  signal = reward.scored(context, model)
  if asked is not None:
    formats = context.rows.settings.formats
    signal = rewards.shown(context, signal, formats["improver"].conversations(prompts, references))
  how = {"signal": signal, "value": reward.centred(model), "start": start, "asked": asked}
  return revised(context, name, prompts, references, **how)


def revised(
  context: contexts.Context,
  name: str,
  prompts: Sequence[conversations.Prompt],
  references: Sequence[str],
  *,
  signal: rl.RewardFn,
  value: Params,
  start: Params,
  asked: Sequence[prompt_formats.Conversation] | None = None,
) -> trained.Trained:
  """Returns the improver after RL for any reward of its versions; see `improver`.

  Args:
    context: of the run.
    name: the stage's name.
    prompts: x of each row.
    references: what each is to improve.
    signal: what rewards versions, called `gap`.
    value: the value model to begin from.
    start: the improver to begin from.
    asked: what the improver is shown of each row; None: x and reference.
  """
  job = context.config.rl
  settings = context.rows.settings
  if asked is None:
    asked = settings.formats["improver"].conversations(prompts, references)
  shown = encode.prompts(asked, settings, context.rows.tokens)
  return optimised(
    context, name, shown, rewards.chosen(context, job, {"gap": signal}, prompts, references),
    start=start, value=value, job=job, drafts=context.models.inference.responses(references),
  )  # fmt: skip
