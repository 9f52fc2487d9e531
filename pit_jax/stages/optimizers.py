"""The optimisers of a run's jobs, each made once, so that programs are compiled once."""

import functools

import ml_collections
import optax

from pit_jax.stages import ppo
from pit_jax.training import step as training_step


def supervised(job: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """Returns the optimiser of imitation or reward modelling."""
  return _supervised(job.clip_norm, job.epsilon, job.weight_decay)


def reinforcement(job: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """Returns the optimiser of policy and value model."""
  return _reinforcement(job.clip_norm, job.epsilon, job.value_scale)


@functools.cache
def _supervised(clip_norm: float, epsilon: float, weight_decay: float):
  return training_step.adam(clip_norm=clip_norm, epsilon=epsilon, weight_decay=weight_decay)


@functools.cache
def _reinforcement(clip_norm: float, epsilon: float, value_scale: float):
  return ppo.optimizer(clip_norm=clip_norm, epsilon=epsilon, value_scale=value_scale)
