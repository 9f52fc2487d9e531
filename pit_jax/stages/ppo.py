"""One PPO iteration as a pure function: judge the responses, then several epochs of minibatches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Key

from pit_jax import layout
from pit_jax.losses import ppo
from pit_jax.losses import tokens as token_losses
from pit_jax.models import pure
from pit_jax.rollout import experience as experiences
from pit_jax.rollout import scoring
from pit_jax.training import step as training_step
from pit_jax.types import Metrics, Params, Prompts, Responses


@dataclasses.dataclass(frozen=True)
class Settings:
  """The constants of PPO that are compiled in; their reasons are in the configs."""

  epochs: int  # passes over each batch of experience
  minibatches: int  # updates per pass
  clip: float  # ε of the policy's ratio
  value_clip: float  # ε of the value's change
  value_coefficient: float  # weight of the value loss
  entropy_coefficient: float  # weight of the entropy bonus, per nat
  loss_kl_coefficient: float  # weight of k3 in the loss, per nat and token; 0 leaves it out
  discount: float  # γ
  trace: float  # λ
  target_kl: float  # nats per token between old and new policy that end an iteration; 0 is never
  missing_eos_penalty: float  # taken off the score of a response cut at the length limit
  whiten_rewards: bool
  kl_target: float  # nats per response the adaptive controller steers to; 0 keeps β fixed
  kl_horizon: float  # episodes
  temperature: float  # of rollouts, and so of every log-probability


@struct.dataclass
class State:
  """What an iteration changes."""

  train: training_step.TrainState  # {"policy", "value"}, what is trained of each
  kl_coefficient: Any  # Float[], β


def optimizer(*, clip_norm: float, epsilon: float, value_scale: float):
  """Returns Adam for policy and value apart, each with its own gradient clip.

  Args:
    clip_norm: largest gradient norm, for each of the two.
    epsilon: Adam's ε.
    value_scale: learning rate of the value model as a multiple of the policy's.
  """
  kinds = {
    "policy": training_step.adam(clip_norm=clip_norm, epsilon=epsilon),
    "value": training_step.adam(clip_norm=clip_norm, epsilon=epsilon, scale=value_scale),
  }
  return optax.partition(kinds, {kind: kind for kind in kinds})


def objective(policy: pure.PureModel, value: pure.PureModel, settings: Settings) -> Callable:
  """Returns the loss of policy and value together; the batch is an `Experience`.

  `frozen["policy_weight"]` is 0 while only the value learns (value warm-up), else 1.
  """

  def loss_fn(params, frozen, batch: experiences.Experience, rng):
    mask = batch.responses.mask
    logprobs, entropy = scoring.response_logprobs(
      policy, params["policy"], batch.prompts, batch.responses, settings.temperature
    )
    values = scoring.token_values(value, params["value"], batch.prompts, batch.responses)
    policy_loss, policy_metrics = ppo.policy_loss(
      logprobs, batch.logprobs, batch.advantages, mask, settings.clip
    )
    value_loss, value_metrics = ppo.value_loss(
      values, batch.values, batch.returns, mask, settings.value_clip
    )
    mean_entropy = token_losses.masked_mean(entropy, mask)
    _, _, k3 = token_losses.kl_estimates(logprobs, batch.reference_logprobs)
    kl = token_losses.masked_mean(k3, mask)
    total = policy_loss - settings.entropy_coefficient * mean_entropy
    total = total + settings.loss_kl_coefficient * kl
    total = frozen["policy_weight"] * total + settings.value_coefficient * value_loss
    metrics = {f"policy/{name}": metric for name, metric in policy_metrics.items()}
    metrics |= {f"value/{name}": metric for name, metric in value_metrics.items()}
    metrics |= {"policy/loss": policy_loss, "value/loss": value_loss}
    metrics |= {"policy/entropy": mean_entropy, "weight": mask.sum().astype(jnp.float32)}
    return total, metrics

  return loss_fn


def make_iteration(
  policy: pure.PureModel,
  value: pure.PureModel,
  optimizer: optax.GradientTransformation,
  settings: Settings,
  eos_id: int | tuple[int, ...],
) -> Callable[..., tuple[State, Metrics]]:
  """Returns iterate(state, frozen, prompts, responses, sampled_logprobs, scores, key, rate).

  `frozen` holds the parameters of the "reference", the "policy_weight", and as "base" what is
  frozen of "policy" and "value". The iteration
  recomputes the log-probabilities with the graph it trains with, judges, updates the policy and
  the value, and moves β. Its metrics have the names of this library's RL logs.
  """
  loss = pure.on_trained(objective(policy, value, settings))
  step = training_step.make_train_step(loss, optimizer, kinds=("policy", "value"))
  assess = _make_assessment(policy, value, settings, eos_id)

  def iterate(
    state: State,
    frozen: Params,
    prompts: Prompts,
    responses: Responses,
    sampled_logprobs: Float[Array, "B R"],
    scores: Float[Array, " B"],
    key: Key[Array, ""],
    rate: Float[Array, ""],
  ) -> tuple[State, Metrics]:
    batch, metrics = assess(state, frozen, prompts, responses, scores)
    metrics["val/sampler_difference"] = jnp.abs(sampled_logprobs - batch.logprobs).max()
    train, learnt = _learn(step, state.train, frozen, batch, key, rate, settings)
    coefficient = _controlled(state.kl_coefficient, metrics["objective/kl"], scores, settings)
    coefficient = jnp.where(frozen["policy_weight"] > 0, coefficient, state.kl_coefficient)
    return State(train=train, kl_coefficient=coefficient), metrics | learnt

  return iterate


def _make_assessment(policy, value, settings, eos_id):
  """Returns assess(state, frozen, prompts, responses, scores) → (experience, metrics)."""

  def assess(state, frozen, prompts, responses, scores):
    params = pure.join(state.train.params, frozen["base"])
    ask = (prompts, responses, settings.temperature)
    logprobs, entropy = scoring.response_logprobs(policy, params["policy"], *ask)
    reference = layout.to_devices(frozen["reference"])
    reference_logprobs, _ = scoring.response_logprobs(policy, reference, *ask)
    has_eos = experiences.ends(responses, eos_id)
    given = ppo.penalise_missing_eos(scores, has_eos, settings.missing_eos_penalty)
    batch = experiences.judge(
      prompts,
      responses,
      given,
      logprobs,
      reference_logprobs,
      scoring.token_values(value, params["value"], prompts, responses),
      kl_coefficient=state.kl_coefficient,
      discount=settings.discount,
      trace=settings.trace,
      whiten_rewards=settings.whiten_rewards,
    )
    metrics = experiences.measure(batch, scores, entropy, has_eos, state.kl_coefficient)
    maximised = given.mean() - state.kl_coefficient * metrics["objective/kl"]
    return batch, metrics | {"objective/rlhf_reward": maximised}

  return assess


def _learn(step, train, frozen, batch, key, rate, settings):
  """Runs every minibatch of every epoch, each epoch in an order of its own."""
  rows = batch.responses.mask.shape[0]
  if rows % settings.minibatches:
    raise ValueError(
      f"batch of {rows} does not divide into minibatches={settings.minibatches}; "
      f"use a batch size that is a multiple of {settings.minibatches}"
    )
  order = jnp.concatenate(
    [
      jax.random.permutation(jax.random.fold_in(key, epoch), rows)
      for epoch in range(settings.epochs)
    ]
  ).reshape(settings.epochs * settings.minibatches, -1)

  def update(carry, numbered):
    train, is_active = carry
    index, chosen = numbered
    minibatch = layout.spread(jax.tree.map(lambda x: x[chosen], batch), "batch")
    rng = jax.random.fold_in(key, settings.epochs + index)
    train, metrics = step(train, frozen, minibatch, rng, rate, is_active)
    goes_on = is_active
    if settings.target_kl > 0:
      goes_on &= metrics["policy/approx_kl"] <= settings.target_kl
    return (train, goes_on), (metrics, is_active)

  numbers = jnp.arange(order.shape[0])
  (train, _), (metrics, active) = jax.lax.scan(update, (train, jnp.bool_(True)), (numbers, order))
  summary = {name: token_losses.masked_mean(metric, active) for name, metric in metrics.items()}
  return train, {
    **{name: summary[name] for name in summary if "/" in name and "ratio" not in name},
    "policy/updates": active.sum(),
    "val/skipped": metrics["skipped"].sum(),
    "val/ratio_first": metrics["policy/ratio_mean"][0],
    "val/ratio_mean": summary["policy/ratio_mean"],
    "val/ratio_var": summary["policy/ratio_var"],
  }


def _controlled(coefficient, kl, scores, settings):
  if not settings.kl_target:
    return coefficient
  episodes = scores.shape[0]
  return ppo.update_kl_coefficient(
    coefficient, kl, settings.kl_target, settings.kl_horizon, episodes
  )
