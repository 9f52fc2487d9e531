"""Supervised fine-tuning of policy and improver on the chosen responses of fold 1."""

from pit_jax.data import encode
from pit_jax.run import context as contexts
from pit_jax.stages import objectives, supervised
from pit_jax.types import Params


def policy(context: contexts.Context) -> Params:
  """Returns M_P^SFT, trained on x → y_w."""
  return _run(context, "sft_policy", encode.policy_demonstrations, context.config.sft)


def improver(context: contexts.Context) -> Params:
  """Returns M_PIT^SFT, trained on (x, y_l) → y_w."""
  return _run(context, "sft_improver", encode.improver_demonstrations, context.config.sft)


def _run(context: contexts.Context, name: str, demonstrations, job) -> Params:
  train = demonstrations(context.folds["sft"], context.settings, context.tokens)
  validation = demonstrations(context.folds["sft_validation"], context.settings, context.tokens)

  def evaluate(params):
    held = validation[:]
    logprobs = context.inference.logprobs(params, held.prompts, held.responses)
    return {"validation/loss": -logprobs[held.responses.mask].mean()}

  trained = supervised.run(
    context,
    name,
    context.language,
    objectives.imitation,
    context.initial_policy(),
    train,
    job,
    evaluate=evaluate,
    score=("validation/loss", "lowest"),
  )
  return context.waiting(trained)
