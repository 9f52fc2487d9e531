"""No step keeps whole what should be spread, and leaves its state where it was."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run

from pit_jax import layout, parallel
from pit_jax.models import pure
from pit_jax.rollout import decode, prefill
from pit_jax.run import abstract
from pit_jax.stages import objectives, ppo, programs, supervised
from pit_jax.tools.plan import hlo
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")

# Sizes that differ, so that an array's shape says what it is, and that all meshes divide.
SHAPE = {"vocabulary": 160, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 8}
SHAPE |= {"hidden": 48, "remat": "full"}
B, P, R = 32, 12, 8
MESHES = [(1, 8, 1), (2, 2, 2)]


def language():
  return tiny.language(**SHAPE)


def scalar():
  return tiny.scalar(**SHAPE)


def rows(mesh):
  lengths = np.random.default_rng(0).integers(1, 6, B)
  asked, answered = tiny.prompts(0, lengths, P), tiny.responses(1, lengths, R)
  return parallel.put_batch((asked, answered), mesh)


@functools.cache
def imitate(shape, accumulation=1):
  """A compiled step of imitation, and the state it takes."""
  model, mesh = language(), parallel.make_mesh(shape)
  optimizer = training_step.adam(clip_norm=1.0)
  loss = pure.on_trained(objectives.imitation(model))
  step = training_step.make_train_step(loss, optimizer, accumulation=accumulation)
  state = supervised.place(tiny.parameters(model, seed=0), model.axes, optimizer, mesh)
  batch = Demonstrations(*rows(mesh))
  given = (state, {"base": {}}, batch, jax.random.key(0), jnp.float32(0.1))
  return jax.jit(layout.on(mesh, step)).lower(*given).compile(), state


SETTINGS = ppo.Settings(
  epochs=1, minibatches=2, clip=0.2, value_clip=0.5, value_coefficient=0.5,
  entropy_coefficient=0.0, loss_kl_coefficient=0.0, discount=1.0, trace=0.95, target_kl=0.1,
  missing_eos_penalty=1.0, whiten_rewards=False, kl_target=1.0, temperature=1.0,
)  # fmt: skip


@functools.cache
def reinforce(shape):
  """A compiled iteration of PPO, and the state it takes."""
  models, mesh = {"policy": language(), "value": scalar()}, parallel.make_mesh(shape)
  optimizer = optimizers.policy_and_value(clip_norm=1.0, epsilon=1e-5, value_scale=1.0)
  iterate = ppo.make_iteration(*models.values(), optimizer, SETTINGS, tiny.EOS)
  params = {name: tiny.parameters(model, seed=1) for name, model in models.items()}
  axes = {name: model.axes for name, model in models.items()}
  train = supervised.place(params, axes, optimizer, mesh)
  one = jax.device_put(jnp.float32(0.1), parallel.replicated(mesh))
  state = ppo.State(train=train, kl_coefficient=one)
  reference = jax.device_put(params["policy"], parallel.homes(models["policy"], mesh))
  frozen = {"base": {}, "reference": reference}
  numbers = parallel.put_batch((np.zeros((B, R), np.float32),) * 2, mesh)
  rates = dict.fromkeys(ppo.KINDS, jnp.float32(0.1))
  given = (state, frozen, *rows(mesh), *numbers, jax.random.key(0), rates, jnp.float32(100))
  return jax.jit(layout.on(mesh, iterate)).lower(*given).compile(), state


def sample(shape, tile=None):
  """Compiled sampling."""
  model, mesh = language(), parallel.make_mesh(shape)
  params = jax.device_put(tiny.parameters(model, seed=0), parallel.homes(model, mesh))

  def draw(params, prompts, key):
    ends = {"eos_id": tiny.EOS, "pad_id": tiny.PAD}
    ways = {"shrinking": True, "tile": tile, "parts": parallel.parts(mesh)}
    return decode.sample(model, params, prompts, key, jnp.float32(1), length=R, **ends, **ways)

  given = (params, rows(mesh)[0], jax.random.key(0))
  return jax.jit(layout.on(mesh, draw)).lower(*given).compile()


def sample_in_tiles(shape):
  """Compiled sampling, whose prompts are read two rows and four columns at a time."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(prefill, "FEWEST_ROWS", 2)
    patch.setattr(prefill, "FEWEST_BLOCKS", 3)
    assert prefill.tile(B // parallel.parts(parallel.make_mesh(shape)), P, 8) == (2, 4)
    return sample(shape, tile=8)


PROGRAMS = {
  "imitation": lambda shape: imitate(shape)[0],
  "accumulated imitation": lambda shape: imitate(shape, accumulation=2)[0],
  "ppo": lambda shape: reinforce(shape)[0],
  "sampling": sample,
  "sampling, prompts in tiles": sample_in_tiles,
}


def allowed(mesh) -> int:
  """The largest array that a device may hold, in bytes: none has all rows, or all of a matrix."""
  tensor, c = mesh.shape["tensor"], language().config
  here = B // parallel.parts(mesh)
  return 4 * max(
    c.layers * here * (P + R) * c.width,  # what enters each layer, kept for the gradient
    here * (P + R) * c.vocabulary // tensor,  # logits
    here * (P + R) * c.hidden,
    here * c.heads * (P + R) ** 2,  # scores of one layer
    c.vocabulary * c.width // tensor,  # the head, gathered
    c.width * c.hidden // tensor * c.layers // (1 if mesh.shape["fsdp"] == 1 else 2),
  )


@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_largest_arrays_of_a_device_are_parts(name, shape):
  mesh = parallel.make_mesh(shape)
  largest = hlo.read(PROGRAMS[name](shape).as_text()).largest(5)
  listed = "\n".join(f"{size} {shown} {made}" for size, shown, made in largest)
  print(f"{name} {shape}: at most {allowed(mesh)}\n{listed}")
  assert largest[0][0] <= allowed(mesh), listed


@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("program", [imitate, reinforce])
def test_a_step_leaves_the_state_where_it_was(program, shape):
  """So the next step gets what the first one got, and nothing is moved or compiled again."""
  compiled, state = program(shape)
  after = compiled.output_shardings[0]
  for path, home in jax.tree_util.tree_leaves_with_path(after):
    name = jax.tree_util.keystr(path)
    before = dict(jax.tree_util.tree_leaves_with_path(state))[path]
    assert home.is_equivalent_to(before.sharding, before.ndim), name


def imitation(run):
  return programs.imitation(run, "sft", run.prompt)


def iteration(run):
  return programs.iteration(run, "rl", run.prompt)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 1), (2, 2, 2)])
@pytest.mark.parametrize(
  "program, estimator", [(imitation, "gae"), (iteration, "gae"), (iteration, "rloo")]
)
def test_a_state_is_left_where_the_next_step_wants_it(shape, program, estimator):
  """By the names of the mesh's axes: equal places of other names are another program."""
  changes = {"rl__estimator": estimator, "rl__samples": 2, "rl__batch_size": 16}
  changes |= {"sft__batch_size": 16}
  mesh = parallel.make_mesh(shape)
  run = abstract.Arrays(tiny_run.config(**changes), mesh, language(), scalar())
  made = program(run)
  left, _ = made.function.lower(*made.arguments).compile().output_shardings
  given = jax.tree.map(lambda leaf: leaf.sharding, made.arguments[0])
  assert jax.tree.leaves(left) == jax.tree.leaves(given)
