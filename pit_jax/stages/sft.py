"""Supervised fine-tuning of policy or improver on chosen responses."""

import ml_collections

from pit_jax.data import encode, preferences
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import objectives, supervised, trained
from pit_jax.types import Params


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
  train, validation = (
    encode.demonstrations(part, settings.formats[prompts], settings, context.rows.tokens)
    for part in (fold.rows, fold.validation)
  )

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
