"""The optimisers of a run's jobs, each made once for all programs, and the schedules of RL."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float

from pit_jax.training import step as training_step


def supervised(job: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """Returns the optimiser of supervised fine-tuning or reward modelling."""
  return _supervised(job.clip_norm, job.epsilon, job.weight_decay)


def kinds(estimator: str) -> tuple[str, ...]:
  """Returns the models that RL trains with an estimator of advantages: gae wants a value model."""
  return ("policy", "value") if estimator == "gae" else ("policy",)


def value_warmup(job: ml_collections.ConfigDict) -> int:
  """Returns the iterations in which only the value model learns; none where there is none."""
  return job.value_warmup if "value" in kinds(job.estimator) else 0


def reinforcement(job: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """Returns the optimiser of policy and value model; of the policy alone where that is alone."""
  return policy_and_value(clip_norm=job.clip_norm, epsilon=job.epsilon, value_scale=job.value_scale)


def schedule(
  job: ml_collections.ConfigDict, planned: int
) -> Callable[[int], dict[str, Float[Array, ""]]]:
  """Returns iteration → learning rates of policy and value model over so many iterations.

  Each rises and falls over the iterations in which it learns; the policy's waits for the end of the
  value warm-up. The optimiser multiplies the value model's by `job.value_scale`.
  """

  def over(steps):
    return training_step.warmup_linear(job.learning_rate, steps, int(job.warmup * steps))

  warmup = value_warmup(job)
  policy = over(planned - warmup)
  value = over(planned)

  def rates(index):
    # index − warmup is negative during the value warm-up, where `warmup_linear` gives 0.
    later = {"policy": policy(index - warmup), "value": value(index)}
    return {kind: jnp.float32(rate) for kind, rate in later.items()}

  return rates


def horizon(job: ml_collections.ConfigDict, planned: int) -> float:
  """Returns the horizon of the KL controller in episodes: a share of those that are planned.

  It is one batch at least, in which β changes by a fifth at most.
  """
  return job.batch_size * max(job.kl_horizon * planned, 1.0)


@functools.cache
def _supervised(clip_norm: float, epsilon: float, weight_decay: float):
  return training_step.adam(clip_norm=clip_norm, epsilon=epsilon, weight_decay=weight_decay)


@functools.cache
def policy_and_value(
  *, clip_norm: float, epsilon: float, value_scale: float
) -> optax.GradientTransformation:
  """Returns Adam for policy and value apart, each with its own gradient clip.

  Its state is {kind: Adam's of that kind}. Gradients may be of one kind alone; the other's moments
  and count are then as if there had been no step. The value model's learning rate is the policy's
  times `value_scale`.
  """
  optimizers = {
    "policy": training_step.adam(clip_norm=clip_norm, epsilon=epsilon),
    "value": training_step.adam(clip_norm=clip_norm, epsilon=epsilon, scale=value_scale),
  }

  # Each sees its own kind under its name, so that moments have the paths of their parameters.
  def init(params):
    return {kind: optimizers[kind].init({kind: params[kind]}) for kind in params}

  def update(gradients, state, params):
    updates = {}
    states = {}
    for kind in gradients:
      arguments = ({kind: gradients[kind]}, state[kind], {kind: params[kind]})
      update, states[kind] = optimizers[kind].update(*arguments)
      updates |= update

    return updates, state | states

  return optax.GradientTransformation(init, update)
