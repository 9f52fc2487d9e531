"""Reinforcement learning of policy or improver: sample, score, learn, in a host-side loop."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from pit_jax import parallel
from pit_jax.data import batches
from pit_jax.models import pure
from pit_jax.stages import context as contexts
from pit_jax.stages import ppo, supervised
from pit_jax.training import loop
from pit_jax.training import step as training_step
from pit_jax.types import Params, Prompts, Responses

RewardFn = Callable[[Prompts, Responses], jax.Array]  # → Float[B], higher is better
SAMPLES_SHOWN = 4


def model_reward(context: contexts.Context, params: Params) -> RewardFn:
  """Returns the reward of a scalar model; for a gap model the prompts show the reference."""
  return functools.partial(context.inference.scorer, params)


def run(
  context: contexts.Context,
  name: str,
  prompts: Prompts,
  reward_fn: RewardFn,
  *,
  start: Params,
  reference: Params,
  steps: int,
  job: ml_collections.ConfigDict,
) -> Params:
  """Maximises E[reward] − β KL(policy ‖ reference) with PPO.

  Args:
    context: the run's surroundings.
    name: the stage's name; also seeds its prompts' order and its noise.
    prompts: every prompt of the stage, NumPy arrays; for the improver they show the reference
      response.
    reward_fn: scores a batch of responses on the devices.
    start: {"policy", "value"}, the language model and the value model to start from.
    reference: the language model whose distance is penalised.
    steps: PPO iterations.
    job: the config's `rl` section; see `configs/common.py`.

  Returns:
    {"policy", "value"} after the last iteration.
  """
  settings = _settings(job)
  optimizer = _optimizer(job.clip_norm, job.epsilon, job.value_scale)
  iterate = _compiled(
    context.language, context.scalar, optimizer, settings, context.settings.tokenizer.eos_id
  )
  rate = training_step.warmup_linear(job.learning_rate, steps, int(job.warmup * steps))
  axes = {"policy": context.language.axes, "value": context.scalar.axes}
  state = ppo.State(
    train=supervised.place(start, axes, optimizer, context.mesh),
    kl_coefficient=jax.device_put(
      jnp.float32(job.kl_coefficient), parallel.replicated(context.mesh)
    ),
  )
  order = batches.Batches(prompts, job.batch_size, context.seed(name))
  key, sample = context.key(name), context.inference.sampler

  def advance(state, index):
    noise = functools.partial(jax.random.fold_in, jax.random.fold_in(key, index))
    batch = parallel.put_batch(order[index], context.mesh)
    policy = state.train.params["policy"]
    responses, logprobs = sample(policy, batch, noise(0), jnp.float32(job.temperature))
    scores = reward_fn(batch, responses)
    is_warm = jnp.float32(index >= job.value_warmup)
    frozen = {"reference": reference, "policy_weight": is_warm}
    arguments = (batch, responses, logprobs, scores, noise(1), jnp.float32(rate(index)))
    return iterate(state, frozen, *arguments)

  def samples(state, index):
    batch = parallel.put_batch(order[index], context.mesh)
    noise = jax.random.fold_in(key, index)
    responses, _ = sample(state.train.params["policy"], batch, noise, jnp.float32(job.temperature))
    return _rows(context, batch, responses, reward_fn(batch, responses))

  with context.timed(name):
    state = loop.fit(
      name,
      advance,
      state,
      steps=steps,
      workdir=context.workdir,
      metadata=context.metadata,
      log_every=context.config.log_every,
      save_every=context.config.save_every_rl,
      samples=samples,
    )
  return state.train.params


def _rows(context: contexts.Context, prompts: Prompts, responses: Responses, scores) -> list[dict]:
  """Returns a few responses in words, for people to read."""
  prompts, responses, scores = jax.tree.map(
    lambda x: x[:SAMPLES_SHOWN], jax.device_get((prompts, responses, scores))
  )
  asked = context.inference.words(Responses(tokens=prompts.tokens, mask=prompts.mask))
  rows = zip(asked, context.inference.words(responses), scores.tolist(), strict=True)
  return [{"prompt": x, "response": y, "score": score} for x, y, score in rows]


def _settings(job: ml_collections.ConfigDict) -> ppo.Settings:
  return ppo.Settings(**{field.name: job[field.name] for field in dataclasses.fields(ppo.Settings)})


@functools.cache
def _optimizer(clip_norm: float, epsilon: float, value_scale: float):
  return ppo.optimizer(clip_norm=clip_norm, epsilon=epsilon, value_scale=value_scale)


@functools.cache
def _compiled(
  policy: pure.PureModel, value: pure.PureModel, optimizer, settings: ppo.Settings, eos_id: int
):
  iterate = ppo.make_iteration(policy, value, optimizer, settings, eos_id)
  return jax.jit(iterate, donate_argnums=0)
