"""One PPO iteration as a pure function: judge the responses, then several epochs of minibatches."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
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
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Metrics, Params, Prompts, Responses

KINDS = optimizers.kinds("gae")  # of models that learn


@dataclasses.dataclass(frozen=True)
class Settings:
  """The constants of PPO that are compiled in; their reasons are in the configs."""

  epochs: int  # passes over each batch of experience
  minibatches: int  # updates per pass
  clip: float  # ε of the policy's ratio
  value_clip: float  # ε of the value's change
  value_coefficient: float  # weight of the value loss
  entropy_coefficient: float  # weight of the entropy bonus, per nat
  loss_kl_coefficient: float  # weight of the KL in the loss, per nat and token; 0 leaves it out
  discount: float  # γ
  trace: float  # λ
  target_kl: float  # nats per token between old and new policy that end an iteration; 0 is never
  missing_eos_penalty: float  # taken off the score of a response cut at the length limit
  whiten_rewards: bool
  kl_target: float  # nats per response the adaptive controller steers to; 0 keeps β fixed
  temperature: float  # of rollouts, and so of every log-probability
  estimator: str = "gae"  # of advantages; see losses/advantages.py
  samples: int = 1  # responses to each prompt, which follow one another
  accumulation: int = 1  # micro-batches of each update, one at a time in memory
  scale_rewards: bool = True  # whether grpo divides by the deviation of each group

  @property
  def kinds(self) -> tuple[str, ...]:
    """The models that learn once any warm-up is over."""
    return optimizers.kinds(self.estimator)


@struct.dataclass
class State:
  """Train state and KL coefficient, which an iteration changes."""

  train: training_step.TrainState  # {"policy", "value"}, what is trained of each
  kl_coefficient: Any  # Float[], β


def objective(
  policy: pure.PureModel,
  value: pure.PureModel,
  settings: Settings,
  learning: tuple[str, ...] = KINDS,
) -> Callable:
  """Returns the loss of what is learning of policy and value; the batch is an `Experience`."""

  def policy_part(params, batch):
    mask = batch.responses.mask
    logprobs, entropy = scoring.response_logprobs(
      policy, params, batch.prompts, batch.responses, settings.temperature
    )
    loss, metrics = ppo.policy_loss(logprobs, batch.logprobs, batch.advantages, mask, settings.clip)
    mean_entropy = token_losses.masked_mean(entropy, mask)
    kl = ppo.kl_loss(logprobs, batch.logprobs, batch.reference_logprobs, mask)
    total = loss - settings.entropy_coefficient * mean_entropy + settings.loss_kl_coefficient * kl
    return total, metrics | {"entropy": mean_entropy}

  def value_part(params, batch):
    values = scoring.token_values(value, params, batch.prompts, batch.responses)
    loss, metrics = ppo.value_loss(
      values, batch.values, batch.returns, batch.responses.mask, settings.value_clip
    )
    return settings.value_coefficient * loss, metrics

  parts = {"policy": policy_part, "value": value_part}

  def loss_fn(params, frozen, batch: experiences.Experience, rng):
    total = jnp.float32(0)
    # The train step asks of every loss over how many tokens it is a mean.
    metrics = {"weight": batch.responses.mask.sum().astype(jnp.float32)}
    for kind in learning:
      loss, measured = parts[kind](params[kind], batch)
      total = total + loss
      metrics |= {f"{kind}/{name}": metric for name, metric in measured.items()}

    return total, metrics

  return loss_fn


def make_iteration(
  policy: pure.PureModel,
  value: pure.PureModel,
  optimizer: optax.GradientTransformation,
  settings: Settings,
  eos_id: int | tuple[int, ...],
  learning: tuple[str, ...] | None = None,
) -> Callable[..., tuple[State, Metrics]]:
  """Returns iterate(state, frozen, *rollout, key, rates, horizon) → (state, metrics).

  The rollout is prompts, responses, the sampler's log-probabilities, and rewards; the rates are of
  policy and value model; the horizon is that of the KL controller, in episodes. `frozen` holds the
  parameters of the "reference", and as "base" what is frozen of "policy" and "value". The iteration
  recomputes the log-probabilities with the graph it trains with, judges, updates what is learning,
  and moves β. Its metrics have the names of this library's RL logs.

  With rloo or grpo there is no value model, neither in the state nor in what is computed. The KL of
  gae and rloo is in the reward, times β; that of grpo in the loss alone, times
  `loss_kl_coefficient` (Shao et al. 2024, eq. 3). Deviations from that paper: its gradient is that
  of the KL to the reference, by k2 (`losses.ppo.kl_loss`), where k3 would be that of the other
  direction; and the loss is a mean over all tokens of a minibatch, where a mean of each response's
  mean makes the tokens of long ones count less (Liu et al. 2025, arXiv 2503.20783).

  While the policy waits for the value model (value warm-up), nothing is computed to learn of it:
  its parameters, its optimiser's moments and count, and β stay as they are.

  The optimiser is of both models, also where only one learns, and `eos_id` what ends a response.
  `learning` are those of KINDS that learn; None: all that the estimator has.
  """
  learning = learning or settings.kinds
  loss = objective(policy, value, settings, learning)
  step = _make_step(loss, optimizer, learning, settings)
  assess = _make_assessment(policy, value, settings, eos_id)

  def iterate(
    state: State,
    frozen: Params,
    prompts: Prompts,
    responses: Responses,
    sampled_logprobs: Float[Array, "B R"],
    rewards: Float[Array, "B R"],
    key: Key[Array, ""],
    rates: Mapping[str, Float[Array, ""]],
    horizon: Float[Array, ""],
  ) -> tuple[State, Metrics]:
    batch, metrics = assess(state, frozen, prompts, responses, rewards)
    # Above rounding, the decode loop and the training graph disagree about the model.
    metrics["val/sampler_difference"] = jnp.abs(sampled_logprobs - batch.logprobs).max()
    rates = {kind: rates[kind] for kind in settings.kinds}
    train, learnt = _learn(step, state.train, frozen, batch, key, rates, settings)
    coefficient = state.kl_coefficient

    if settings.kl_target and "policy" in learning:
      moved = (metrics["objective/kl"], settings.kl_target, horizon, rewards.shape[0])
      coefficient = ppo.update_kl_coefficient(coefficient, *moved)

    return State(train=train, kl_coefficient=coefficient), metrics | learnt

  return iterate


def _make_step(loss: Callable, optimizer, learning: tuple[str, ...], settings: Settings):
  """Returns a train step that leaves alone what is not learning."""
  how = {"accumulation": settings.accumulation, "kinds": learning}
  step = training_step.make_train_step(pure.on_trained(loss), optimizer, **how)
  if learning == settings.kinds:
    return step

  def part(train, frozen, batch, rng, rates, is_active):
    # Only what learns goes in: of the rest no gradient and no moment is computed.
    params, opt_state, rates = (
      {kind: tree[kind] for kind in learning} for tree in (train.params, train.opt_state, rates)
    )
    state = training_step.TrainState(train.step, params, opt_state)
    learnt, metrics = step(state, frozen, batch, rng, rates, is_active)
    whole = (train.params | learnt.params, train.opt_state | learnt.opt_state)
    return training_step.TrainState(learnt.step, *whole), metrics

  return part


def _make_assessment(policy, value, settings, eos_id):
  """Returns assess(state, frozen, prompts, responses, rewards) → (experience, metrics)."""

  # Micro-batches are of one size throughout: more rows at once would want their memory here.
  parts = settings.minibatches * settings.accumulation if settings.accumulation > 1 else 1

  def assess(state, frozen, prompts, responses, rewards):
    params = pure.join(state.train.params, frozen["base"])
    sampled = (prompts, responses)

    def spoken(params):
      def of_rows(rows):
        return scoring.response_logprobs(policy, params, *rows, settings.temperature)

      return training_step.by_parts(of_rows, sampled, parts)

    # Not the sampler's: by the graph that trains, the first ratios are 1.
    logprobs, entropy = spoken(params["policy"])

    # With model.offload it waits in the host's memory, and is here only while it is read.
    reference_logprobs, _ = spoken(layout.to_devices(frozen["reference"]))
    has_eos = experiences.ends(responses, eos_id)
    mask = responses.mask
    penalised = ppo.penalise_missing_eos(rewards, mask, has_eos, settings.missing_eos_penalty)
    values = None
    if "value" in settings.kinds:
      valued = functools.partial(scoring.token_values, value, params["value"])
      values = training_step.by_parts(lambda rows: valued(*rows), sampled, parts)

    # grpo has its KL in the loss; in the reward it would count twice.
    beta = 0.0 if settings.estimator == "grpo" else state.kl_coefficient
    judged = (prompts, responses, penalised, logprobs, reference_logprobs, values)
    batch = experiences.judge(
      *judged,
      estimator=settings.estimator,
      samples=settings.samples,
      scale_rewards=settings.scale_rewards,
      kl_coefficient=beta,
      discount=settings.discount,
      trace=settings.trace,
      whiten_rewards=settings.whiten_rewards,
    )

    # What is logged as the score is without the penalty; what is maximised is with it.
    scores = rewards.sum(axis=1)
    metrics = experiences.measure(batch, scores, entropy, has_eos, beta)
    maximised = penalised.sum(axis=1).mean() - beta * metrics["objective/kl"]
    return batch, metrics | {"objective/rlhf_reward": maximised}

  return assess


def _learn(step, train, frozen, batch, key, rates, settings):
  """Runs every minibatch of every epoch, each epoch in an order of its own."""
  rows = batch.responses.mask.shape[0]
  if rows % settings.minibatches:
    raise ValueError(
      f"batch of {rows} does not divide into minibatches={settings.minibatches}; "
      f"use a batch size that is a multiple of {settings.minibatches}"
    )

  order = [
    jax.random.permutation(jax.random.fold_in(key, epoch), rows) for epoch in range(settings.epochs)
  ]
  order = jnp.concatenate(order).reshape(settings.epochs * settings.minibatches, -1)

  def update(carry, numbered):
    train, is_active = carry
    index, places = numbered
    minibatch = layout.spread(jax.tree.map(lambda x: x[places], batch), "batch")

    # The numbers below `epochs` made the orders.
    rng = jax.random.fold_in(key, settings.epochs + index)
    train, metrics = step(train, frozen, minibatch, rng, rates, is_active)
    # A scan cannot end early: once the KL is past its target, updates change nothing.
    goes_on = is_active
    if settings.target_kl > 0 and "policy/approx_kl" in metrics:
      goes_on &= metrics["policy/approx_kl"] <= settings.target_kl

    return (train, goes_on), (metrics, is_active)

  numbers = jnp.arange(order.shape[0])
  (train, _), (metrics, active) = jax.lax.scan(update, (train, jnp.bool_(True)), (numbers, order))
  summary = {name: token_losses.masked_mean(metric, active) for name, metric in metrics.items()}
  logged = {name: summary[name] for name in summary if "/" in name and "ratio" not in name}
  for kind in settings.kinds:
    logged[f"{kind}/updates"] = active.sum() if f"{kind}/loss" in metrics else 0
  logged["val/skipped"] = metrics["skipped"].sum()

  if "policy/ratio_mean" in metrics:
    # Before any update the policy is the one that was assessed: other than 1 is a fault.
    logged["val/ratio_first"] = metrics["policy/ratio_mean"][0]
    logged |= {f"val/{name}": summary[f"policy/{name}"] for name in ("ratio_mean", "ratio_var")}

  return train, logged
