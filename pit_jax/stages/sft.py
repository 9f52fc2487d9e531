"""Supervised fine-tuning of policy or improver on chosen responses, or on replies to anything."""

from collections.abc import Mapping, Sequence

import ml_collections

from pit_jax.data import encode, preferences, prompt_formats, tables
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import objectives, supervised, trained
from pit_jax.types import Params

Lessons = Sequence[tuple[prompt_formats.Conversation, str]]  # what is asked, and the reply to it


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  start: Params,
  job: ml_collections.ConfigDict,
  prompts: str = kinds.POLICY,
) -> trained.Trained:
  """Returns a language model trained on x → y_w, or as an improver on (x, y_l) → y_w.

  Args:
    name: the stage's name.
    fold: the rows; its validation part tells the loss on rows that are not trained on.
    start: the model to start from.
    job: the section of the configuration.
    prompts: POLICY or IMPROVER.
  """
  settings = context.rows.settings
  encoded = [
    encode.demonstrations(part, settings.formats[prompts], settings, context.rows.tokens)
    for part in (fold.rows, fold.validation)
  ]
  return _trained(context, name, *encoded, start, job)


def learn(
  context: contexts.Context,
  name: str,
  lessons: Mapping[str, Lessons],
  *,
  start: Params,
  job: ml_collections.ConfigDict,
) -> trained.Trained:
  """Returns a language model trained to reply in conversations, of whatever formats.

  Args:
    name: the stage's name.
    lessons: the "rows", and those of "validation", which tell the loss alone.
    start: the model to start from.
    job: the section of the configuration.
  """
  settings = context.rows.settings
  encoded = [
    encode.replies(
      [asked for asked, _ in lessons[part]],
      [reply for _, reply in lessons[part]],
      settings,
      context.rows.tokens,
    )
    for part in ("rows", "validation")
  ]
  return _trained(context, name, *encoded, start, job)


def _trained(
  context: contexts.Context,
  name: str,
  train: tables.Table,
  validation: tables.Table,
  start: Params,
  job: ml_collections.ConfigDict,
) -> trained.Trained:
  """Returns a language model trained on a table, its loss told on another."""

  def evaluate(params):
    held = validation[:]
    logprobs = context.models.inference.logprobs(params, held.prompts, held.responses)
    # Per token, as the loss in training.
    return {"validation/loss": -logprobs[held.responses.mask].mean()}

  result = supervised.run(
    context,
    name,
    context.models.language,
    objectives.imitation,
    start,
    train,
    job,
    evaluate=evaluate,
    score=("validation/loss", "lowest"),
  )

  return trained.ended(context, result)
