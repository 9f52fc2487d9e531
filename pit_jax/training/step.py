"""One optimiser step as a pure function, the same for every loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from pit_jax import layout
from pit_jax.types import Metrics, Params


@struct.dataclass
class TrainState:
  """Everything that a step changes."""

  step: Any  # Int[], steps taken, skipped ones included; Any: shapes and shardings pass here too
  params: Params
  opt_state: optax.OptState


def adam(
  *, clip_norm: float, epsilon: float = 1e-5, weight_decay: float = 0.0, scale: float = 1.0
) -> optax.GradientTransformation:
  """Returns AdamW behind a global-norm clip, for a learning rate of 1.

  Args:
    clip_norm: largest global norm of the gradient; larger ones are scaled down to it.
    epsilon: added to √v; frameworks differ, and RL is known to be sensitive to it.
    weight_decay: decoupled decay per step, as a multiple of the learning rate, of `is_decayed`.
    scale: multiplies the update, for parameters that learn faster or slower than the others.
  """
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.scale_by_adam(b1=0.9, b2=0.999, eps=epsilon),
    optax.add_decayed_weights(weight_decay, mask=is_decayed),
    optax.scale(scale),
  )


def is_decayed(params: Params) -> Params:
  """Returns of each parameter whether weight decay applies: to all but norms and biases.

  Pulled to 0, these would change what a layer is given and make no weight smaller. They are told by
  their names, as transformers' Trainer does: in stacked layers the scale of a norm has two axes,
  and the head of a scalar model, a matrix with one output, has one. Adapters decay.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not str(path[-1].key).endswith(("scale", "bias")), params
  )


def warmup_linear(peak: float, steps: int, warmup: int) -> optax.Schedule:
  """Returns a rate that climbs to `peak` over `warmup` steps and then falls linearly towards 0.

  No step has the rate 0: the first has peak / warmup, the last peak / (steps − warmup). From
  `steps` on it is 0. `warmup` is less than that.
  """

  def rate(step):
    climb = (step + 1) / max(warmup, 1)
    fall = (steps - step) / max(steps - warmup, 1)
    return peak * jnp.clip(jnp.minimum(climb, fall), 0.0, 1.0)

  return rate


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
  """Returns the state before the first step."""
  return TrainState(step=jnp.int32(0), params=params, opt_state=optimizer.init(params))


def make_train_step(
  loss_fn: Callable[..., tuple[Array, Metrics]],
  optimizer: optax.GradientTransformation,
  *,
  accumulation: int = 1,
  kinds: tuple[str, ...] = (),
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Returns step(state, frozen, batch, rng, learning_rate, is_active=True) → (state, metrics).

  The learning rate is an argument, so that one compiled step serves every schedule: a number, or
  one for each key of the parameters (any tree prefix of them). A step whose gradient is not finite,
  or that is told not to be active, changes nothing but the step count; the metric `skipped` is 1
  where the gradient was not finite.

  Args:
    loss_fn: (params, frozen, batch, rng) → (loss, metrics). The loss is a mean, and
      `metrics["weight"]` is how many tokens or rows it is a mean over.
    optimizer: turns gradients into ascent directions; the step subtracts learning_rate times them.
    accumulation: micro-batches a batch is cut into. Their gradients are averaged by weight, so
      the update equals that of the whole batch.
    kinds: keys of the parameters whose gradients have norms of their own, as <kind>/grad_norm.

  Raises:
    ValueError: by the step, when it is traced, if a batch does not divide into micro-batches.
  """
  gradient = _accumulated_gradient(jax.value_and_grad(loss_fn, has_aux=True), accumulation)

  def step(
    state: TrainState,
    frozen: Params,
    batch,
    rng: Key[Array, ""],
    learning_rate: Any,
    is_active: Bool[Array, ""] | bool = True,
  ) -> tuple[TrainState, Metrics]:
    gradients, metrics = gradient(state.params, frozen, batch, rng)
    norm = optax.tree.norm(gradients)
    # One NaN or overflow anywhere makes the norm of all not finite.
    is_finite = jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = jax.tree.map(_descended, learning_rate, state.params, updates)
    is_taken = is_finite & is_active

    # Chosen on the device: a branch on the host would wait for every step.
    params, opt_state = jax.tree.map(
      lambda new, old: jnp.where(is_taken, new, old),
      (params, opt_state),
      (state.params, state.opt_state),
    )
    metrics = metrics | {"grad_norm": norm, "skipped": (~is_finite).astype(jnp.float32)}
    metrics |= {f"{kind}/grad_norm": optax.tree.norm(gradients[kind]) for kind in kinds}

    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics

  return step


def by_parts(read: Callable[[Any], Any], batch: Any, count: int) -> Any:
  """Returns read(batch), read in so many micro-batches, one at a time in memory.

  What is read has a row for each of the batch's.

  Raises:
    ValueError: the batch does not divide into them.
  """
  if count == 1:
    return read(batch)
  results = jax.lax.map(read, _parts(batch, count))
  return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), results)


def _parts(batch: Any, count: int) -> Any:
  """Returns the micro-batches of a batch, along a new first axis."""
  rows = jax.tree.leaves(batch)[0].shape[0]
  if rows % count:
    raise ValueError(
      f"batch of {rows} does not divide into accumulation={count} micro-batches; "
      f"use a batch size that is a multiple of {count}"
    )

  # Row i goes to part i mod count, so that a batch sharded over devices stays balanced.
  parts = jax.tree.map(
    lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch
  )
  return layout.spread(parts, None, "batch")


def _descended(rate: Float[Array, ""] | float, params: Params, updates: Params) -> Params:
  return jax.tree.map(lambda p, u: p - rate * u, params, updates)


def _accumulated_gradient(value_and_gradient: Callable, count: int) -> Callable:
  def whole(params, frozen, batch, rng):
    (_, metrics), gradients = value_and_gradient(params, frozen, batch, rng)
    return gradients, metrics

  def in_parts(params, frozen, batch, rng):
    parts = _parts(batch, count)

    def add(total, numbered):
      index, micro_batch = numbered
      gradients, metrics = whole(params, frozen, micro_batch, jax.random.fold_in(rng, index))
      # Means weighted by what they are means over add up to the mean of the whole batch.
      weight = metrics["weight"]

      # The 1.0 times the weight is the sum of weights, which everything is divided by in the end.
      weighted = jax.tree.map(lambda x: x * weight, (gradients, metrics | {"weight": 1.0}))
      return jax.tree.map(jnp.add, total, weighted), None

    shapes = jax.eval_shape(whole, params, frozen, jax.tree.map(lambda x: x[0], parts), rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (gradients, metrics), _ = jax.lax.scan(add, zeros, (jnp.arange(count), parts))
    weight = metrics.pop("weight")
    gradients, metrics = jax.tree.map(lambda x: x / weight, (gradients, metrics))

    return gradients, metrics | {"weight": weight}

  return whole if count == 1 else in_parts
