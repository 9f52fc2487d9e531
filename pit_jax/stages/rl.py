"""Reinforcement learning of policy or improver: sample, score, learn, in a host-side loop."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float

from pit_jax import hosts, layout, parallel
from pit_jax.data import batches, tables
from pit_jax.models import pure
from pit_jax.stages import context as contexts
from pit_jax.stages import optimizers, ppo, supervised
from pit_jax.training import loop
from pit_jax.training import step as training_step
from pit_jax.types import Params, Prompts, Responses

RewardFn = Callable[[Prompts, Responses], jax.Array]  # → Float[B], higher is better
SAMPLES_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Learner:
  """Policy and value model on their way.

  Attributes:
    train: what changes; its parameters are {"policy", "value"}, what is trained of each.
    base: what is frozen of each.
  """

  train: training_step.TrainState
  base: Params

  @property
  def policy(self) -> Params:
    """The policy's parameters, all of them."""
    return pure.join(self.train.params, self.base)["policy"]


def model_reward(context: contexts.Context, params: Params) -> RewardFn:
  """Returns the reward of a scalar model; for a gap model the prompts show the reference."""
  return functools.partial(context.inference.scorer, params)


def run(
  context: contexts.Context,
  name: str,
  prompts: tables.Table,
  reward_fn: RewardFn,
  *,
  start: Learner,
  reference: Params,
  steps: int,
  rate: Callable[[int], Float[Array, ""]],
  job: ml_collections.ConfigDict,
) -> Learner:
  """Maximises E[reward] − β KL(policy ‖ reference) with PPO.

  Args:
    context: the run's surroundings.
    name: the stage's name; also seeds its prompts' order and its noise.
    prompts: every prompt of the stage (types.Prompts); for the improver they show the reference
      response. Batches are random and of one width: by length they would differ in what they are
      about from step to step, and the longest of many random prompts is as long as any.
    reward_fn: scores a batch of responses on the devices.
    start: where to start, from `begin` or from an earlier stage with the same job; it is used up.
    reference: the language model whose distance is penalised.
    steps: PPO iterations.
    rate: learning rate of each iteration, counted from 0; see `schedule`.
    job: the config's `rl` section; see `configs/common.py`.

  Returns:
    Policy and value model after the last iteration.
  """
  iterate, state = _iteration(context, start.train, job)
  order, key = batches.Batches(prompts, job.batch_size, context.seed(name)), context.key(name)
  fixed = {"base": start.base, "reference": reference}

  def rollout(state, index):
    batch = parallel.put_batch(order[index], context.mesh)
    policy, noise = Learner(state.train, start.base).policy, jax.random.fold_in(key, 2 * index)
    sampled = context.inference.sampler(policy, batch, noise, jnp.float32(job.temperature))
    return batch, *sampled, reward_fn(batch, sampled[0])

  def advance(state, index):
    frozen = fixed | {"policy_weight": jnp.float32(index >= job.value_warmup)}
    noise = jax.random.fold_in(key, 2 * index + 1)
    return iterate(state, frozen, *rollout(state, index), noise, jnp.float32(rate(index)))

  with context.timed(name):
    state = loop.fit(
      name,
      advance,
      state,
      steps=steps,
      workdir=context.workdir,
      metadata=context.metadata,
      log_every=context.config.log_every_rl,
      save_every=context.config.save_every_rl,
      samples=lambda state, index: _rows(context, *rollout(state, index)),
    )
  return Learner(state.train, start.base)


def begin(context: contexts.Context, start: Params, job: ml_collections.ConfigDict) -> Learner:
  """Returns policy and value model before the first iteration, on the mesh.

  Args:
    context: the run's surroundings.
    start: {"policy", "value"}, the language model and the value model to start from.
    job: the config's `rl` section.
  """
  models = {"policy": context.language, "value": context.scalar}
  parts = {kind: pure.split(model, start[kind]) for kind, model in models.items()}
  trained, base = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
  axes = {kind: pure.split(model, model.axes)[0] for kind, model in models.items()}
  return Learner(supervised.place(trained, axes, optimizers.reinforcement(job), context.mesh), base)


def schedule(job: ml_collections.ConfigDict, steps: int) -> Callable[[int], Float[Array, ""]]:
  """Returns the job's learning rate over so many iterations."""
  return training_step.warmup_linear(job.learning_rate, steps, int(job.warmup * steps))


def _iteration(
  context: contexts.Context, start: training_step.TrainState, job: ml_collections.ConfigDict
) -> tuple[Callable, ppo.State]:
  """Returns the compiled iteration, and the state that the first one is given."""
  stop_ids = context.settings.tokenizer.stop_ids
  iterate = program(context.language, context.scalar, job, stop_ids, context.mesh)
  coefficient = jax.device_put(jnp.float32(job.kl_coefficient), parallel.replicated(context.mesh))
  return iterate, ppo.State(train=start, kl_coefficient=coefficient)


def program(
  policy: pure.PureModel,
  value: pure.PureModel,
  job: ml_collections.ConfigDict,
  stop_ids: tuple[int, ...],
  mesh: jax.sharding.Mesh,
) -> Callable:
  """Returns the compiled iteration of a job; see `ppo.make_iteration`."""
  settings = ppo.Settings(
    **{field.name: job[field.name] for field in dataclasses.fields(ppo.Settings)}
  )
  return _compiled(policy, value, optimizers.reinforcement(job), settings, stop_ids, mesh)


def _rows(
  context: contexts.Context, prompts: Prompts, responses: Responses, _, scores
) -> list[dict]:
  """Returns a few responses in words, for people to read."""
  prompts, responses, scores = jax.tree.map(
    lambda x: x[:SAMPLES_SHOWN], hosts.fetch((prompts, responses, scores))
  )
  asked = context.inference.words(Responses(tokens=prompts.tokens, mask=prompts.mask))
  rows = zip(asked, context.inference.words(responses), scores.tolist(), strict=True)
  return [{"prompt": x, "response": y, "score": score} for x, y, score in rows]


@functools.cache
def _compiled(
  policy: pure.PureModel,
  value: pure.PureModel,
  optimizer,
  settings: ppo.Settings,
  stop_ids: tuple[int, ...],
  mesh: jax.sharding.Mesh,
):
  iterate = ppo.make_iteration(policy, value, optimizer, settings, stop_ids)
  return jax.jit(layout.on(mesh, iterate), donate_argnums=0)
