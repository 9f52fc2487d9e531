"""What supervised fine-tuning and reward modelling share: shuffled batches, one train step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from pit_jax import hosts, layout, parallel
from pit_jax.data import batches, packing, tables
from pit_jax.models import pure
from pit_jax.run import context as contexts
from pit_jax.stages import objectives, speed, trained
from pit_jax.training import optimizers, timing
from pit_jax.training import step as training_step
from pit_jax.types import Params

# In stages of up to so many steps a small network's rows are not put together by length: compiling
# for further widths takes longer than what the padding costs.
FEW_STEPS = 64


def run(
  context: contexts.Context,
  name: str,
  model: pure.PureModel,
  objective: Callable[[pure.PureModel], Callable],
  params: Params,
  table: tables.Table,
  job: ml_collections.ConfigDict,
  *,
  frozen: Params | None = None,
  evaluate: Callable[[Params], Mapping[str, float]] | None = None,
  score: tuple[str, str] | None = None,
) -> trained.Trained:
  """Trains a model on a data set for a number of epochs.

  Args:
    name: the stage's name; also seeds the order of its batches.
    model: what to train.
    objective: model → loss function; see `objectives`.
    params: where to start; what is frozen of them is not copied.
    table: the encoded data set.
    job: the config's section for this stage; see `supervised` in configs/common.py.
    frozen: arrays the loss reads and nobody trains.
    evaluate: parameters → metrics, called now and then and after the last step.
    score: which of these metrics says how good a step is, and whether the "lowest" or the
      "highest" is best.

  Returns:
    The parameters, on the mesh, of the last step or as the job selects, and what was logged of it.

  Raises:
    ValueError: the job selects the best step, and the stage has no score; or selects otherwise.
  """
  context.models.release()
  order = batches_of(context, name, model, table, job)
  steps = job.steps or order.steps(job.epochs)
  rate = training_step.warmup_linear(job.learning_rate, steps, int(job.warmup * steps))
  optimizer = optimizers.supervised(job)
  step = program(model, objective, job, context.mesh)

  # With adapters the base is an argument apart: it has no gradient, no moments and no copy.
  learning, base = pure.split(model, params)
  state = place(learning, pure.split(model, model.axes)[0], optimizer, context.mesh)
  frozen = {**(frozen or {}), "base": base}
  key = context.key(name)
  phases = timing.Phases(speed.supervised(model, params, context.mesh))

  def advance(state, index):
    # By the number of the step, so that a run which goes on draws what it would have drawn.
    inputs = {"batch": order[index], "key": jax.random.fold_in(key, index)}
    batch = parallel.put_batch(inputs["batch"], context.mesh)
    learning_rate = jnp.float32(rate(index))
    state, metrics = phases.time("train", step, state, frozen, batch, inputs["key"], learning_rate)
    progress = objectives.reading(inputs["batch"]) | {"epoch": (index + 1) / order.steps(1)}

    return state, {**metrics, "learning_rate": learning_rate, **progress}, inputs

  best, metric = _selection(name, job, score)
  state = context.fit(
    name,
    advance,
    state,
    steps=steps,
    log_every=context.config.log_every,
    save_every=context.config.save_every,
    evaluate=(lambda state, _: evaluate(pure.join(state.params, base))) if evaluate else None,
    evaluate_every=job.evaluate_every,
    best=best,
    score=metric,
    phases=phases,
  )

  # The state counts its steps, so it is known by itself which one was kept.
  facts = trained.measured(context, name, steps=steps, step=int(hosts.fetch(state.step)))
  return trained.Trained(pure.join(state.params, base), facts)


def program(
  model: pure.PureModel,
  objective: Callable[[pure.PureModel], Callable],
  job: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> Callable:
  """Returns the compiled step(state, frozen, batch, key, rate) of a job."""
  return _compiled(model, objective, optimizers.supervised(job), job.accumulation, mesh)


def _selection(
  name: str, job: ml_collections.ConfigDict, score: tuple[str, str] | None
) -> tuple[str, str]:
  """Returns which checkpoint of a stage is the best, and by which metric; "" where none is."""
  if job.select == "last":
    return "", ""
  if job.select != "best" or score is None:
    rest = ' or "best"' if score else ", it has no score"
    raise ValueError(f'{name}: select={job.select!r}; use "last"{rest}')

  metric, best = score
  return best, metric


def batches_of(
  context: contexts.Context,
  name: str,
  model: pure.PureModel,
  table: tables.Table,
  job: ml_collections.ConfigDict,
) -> batches.Batches | packing.Batches:
  """Returns a stage's batches: of packed rows, of rows of like length, or of any rows."""
  seed = context.seed(name)
  if not job.get("packing"):
    steps = job.steps or batches.count_steps(len(table), job.batch_size, job.epochs)
    is_worth_it = steps > FEW_STEPS or not model.is_small
    by_length = context.config.data.length_buckets and is_worth_it
    return batches.Batches(table, job.batch_size, seed, by_length)
  limits = context.rows.settings
  length = max(limits.max_prompt_length + limits.max_response_length, table.longest_row)

  return packing.Batches(table, job.batch_size, seed, job.packed_length or length)


def place(
  params: Params, axes: Any, optimizer, mesh: jax.sharding.Mesh
) -> training_step.TrainState:
  """Returns the first state of a stage, sharded; the given parameters stay valid."""
  params = layout.to_devices(params)
  leaves, structure = jax.tree.flatten(params)
  shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
  names = tuple(structure.flatten_up_to(axes))
  return _placing(structure, shapes, names, optimizer, mesh)(params)


@functools.cache  # stages of one shape share theirs, as below
def _placing(structure, shapes: tuple, names: tuple, optimizer, mesh) -> Callable:
  """Returns parameters → first state, for leaves of these shapes, whose axes have these names."""
  params, axes = (jax.tree.unflatten(structure, leaves) for leaves in (shapes, names))

  def init(params):
    # The step donates its state; the copy keeps the parameters that were given.
    return training_step.init_state(jax.tree.map(jnp.copy, params), optimizer)

  return jax.jit(init, out_shardings=_homes(params, axes, optimizer, mesh))


def homes(
  models: Mapping[str, pure.PureModel], optimizer, mesh: jax.sharding.Mesh
) -> training_step.TrainState:
  """Returns where a state lives that trains models of these names, as `place` puts it there.

  Each step has to leave it there by name. A compiler that may choose calls the same place by
  another, without mesh axes of size 1, and for that the next step would be compiled anew.
  """
  parts = {name: _trained(model) for name, model in models.items()}
  params, axes = ({name: part[i] for name, part in parts.items()} for i in (0, 1))
  return _homes(params, axes, optimizer, mesh)


def _trained(model: pure.PureModel) -> tuple[Params, Any]:
  """Returns the shapes of the parameters that are trained, and the names of their axes."""
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return pure.split(model, shapes)[0], pure.split(model, model.axes)[0]


def _homes(
  params: Params, axes: Any, optimizer, mesh: jax.sharding.Mesh
) -> training_step.TrainState:
  shapes = jax.eval_shape(lambda tree: training_step.init_state(tree, optimizer), params)
  return parallel.state_sharding(shapes, axes, mesh)


# To jit every function made anew is another program; so equal jobs share theirs.
@functools.cache
def _compiled(model, objective: Callable, optimizer, accumulation: int, mesh):
  loss = pure.on_trained(objective(model))
  step = training_step.make_train_step(loss, optimizer, accumulation=accumulation)
  left = (_homes(*_trained(model), optimizer, mesh), None)
  return jax.jit(layout.on(mesh, step), donate_argnums=0, out_shardings=left)
