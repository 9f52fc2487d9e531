"""One device ≡ eight, for every train step, over several steps.

With plain gradient descent: Adam would turn rounding into steps as large as the learning rate.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from pit_jax import layout, parallel
from pit_jax.models import architecture, pure
from pit_jax.rollout import decode, prefill, scoring
from pit_jax.rollout import rewards as rollout_rewards
from pit_jax.stages import objectives, ppo, supervised
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations, GapPreferences, Preferences

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")

ONE, MESHES = (1, 1, 1), [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)]
SGD = optax.identity()  # the step itself multiplies by the learning rate
STEPS, B, P, R = 3, 16, 4, 5
SHAPE = {"layers": 1, "heads": 16, "kv_heads": 8, "vocabulary": 16}  # eight divides all
UNEVEN = SHAPE | {"kv_heads": 2, "vocabulary": 12}  # these stay whole where eight devices share


# Batches


def prompts(seed, length=P):
  lengths = np.random.default_rng(seed).integers(1, length + 1, B)
  return tiny.prompts(seed, lengths, length)


def responses(seed):
  return tiny.responses(seed, np.random.default_rng(seed).integers(1, R + 1, B), R)


def demonstrations(seed):
  return Demonstrations(prompts=prompts(seed), responses=responses(seed + 1))


def preferences(seed):
  asked, (chosen, rejected) = prompts(seed), (responses(seed + n) for n in (1, 2))
  return Preferences(prompts=asked, chosen=chosen, rejected=rejected)


def gap_preferences(seed):
  return GapPreferences(
    given_chosen=prompts(seed, P + R),
    given_rejected=prompts(seed + 1, P + R),
    chosen=responses(seed + 2),
    rejected=responses(seed + 3),
  )


# Imitation and reward models


def adapted(**shape):
  return tiny.scalar(**shape, adapter=architecture.Adapter(rank=2, alpha=2.0))


SUPERVISED = {
  "imitation": (tiny.language, objectives.imitation, demonstrations),
  "reward": (tiny.scalar, objectives.preference_pairs(), preferences),
  "gap reward": (tiny.scalar, objectives.gap_order(), gap_preferences),
  "adapters": (adapted, objectives.preference_pairs(), preferences),
}


FREE = {kind: () if kind == "imitation" else ("bias",) for kind in SUPERVISED}  # cancels


@functools.cache
def train(kind, shape, accumulation=1, is_even=True):
  """Returns the parameters after a few steps on a mesh, on the devices, and the metrics."""
  network, objective, make_batch = SUPERVISED[kind]
  model, mesh = network(**(SHAPE if is_even else UNEVEN)), parallel.make_mesh(shape)
  loss_fn = pure.on_trained(objective(model))
  step = training_step.make_train_step(loss_fn, SGD, accumulation=accumulation)
  step = jax.jit(layout.on(mesh, step))
  trained, base = pure.split(model, tiny.parameters(model, seed=0))
  state = supervised.place(trained, pure.split(model, model.axes)[0], SGD, mesh)
  homes = parallel.partition(base, pure.split(model, model.axes)[1], mesh)
  frozen, path = {"base": jax.device_put(base, homes)}, []
  frozen["term_weights"] = jnp.array([1.0, 2.0, 1.0, 0.5, 1.0])
  for index in range(STEPS):
    batch = parallel.put_batch(make_batch(10 * index), mesh)
    key = jax.random.fold_in(jax.random.key(0), index)
    state, metrics = step(state, frozen, batch, key, jnp.float32(0.1))
    path.append(jax.device_get(metrics))
  return state, path


def start(kind, is_even=True):
  model = SUPERVISED[kind][0](**(SHAPE if is_even else UNEVEN))
  return pure.split(model, tiny.parameters(model, seed=0))[0]


def assert_same(actual, expected, before, free=(), tolerance=1e-5):
  """Compares leaf by leaf, relative to the leaf's size and to how far it was moved."""

  def compare(path, a, b, old):
    # An update may cancel most of what was there; rounding is that of what was added.
    name, size = jax.tree_util.keystr(path), max(np.abs(b).max(), np.abs(old).max())
    error, moved = np.abs(a - b).max(), np.abs(b - old).max()
    if path[-1].key in free:  # what is left of its gradient is rounding of summands near 1
      assert error <= tolerance, name
      return
    assert error <= tolerance * size, name
    assert moved > 100 * tolerance * size, name  # training did something
    assert error < 1e-3 * moved, name

  jax.tree_util.tree_map_with_path(compare, *jax.device_get((actual, expected, before)))


def assert_sharded(params, shape):
  """A matrix is cut along width by fsdp and along heads or hidden by tensor, an adapter too."""
  _, fsdp, tensor = shape
  expected = {"gate": (1, 16 // fsdp, 24 // tensor), "query": (1, 16 // fsdp, 16 // tensor, 4)}
  expected["key"] = (1, 16 // fsdp, 8 // tensor, 4)
  if "adapters" in params["trunk"]["blocks"]:
    expected = {"gate.a": (1, 16 // fsdp, 2), "query.b": (1, 2, 16 // tensor, 4)}
    expected = {f"adapters.{name}": size for name, size in expected.items()}
  blocks = pure.named(params["trunk"]["blocks"])
  for name, size in expected.items():
    leaf = blocks[name]
    assert {shard.data.shape for shard in leaf.addressable_shards} == {size}
    assert len(leaf.sharding.device_set) == 8


# Every axis alone for one network; how losses and metrics of a batch add up, over all axes at once.
TRAINED = [("imitation", shape) for shape in MESHES]
TRAINED += [(kind, (2, 2, 2)) for kind in SUPERVISED if kind != "imitation"]


@pytest.mark.parametrize("kind, shape", TRAINED, ids=str)
def test_supervised_training_is_the_same_on_every_mesh(kind, shape):
  one, path = train(kind, ONE)
  many, paths = train(kind, shape)
  assert_sharded(many.params, shape)
  assert_same(many.params, one.params, start(kind), FREE[kind])
  for a, b in zip(paths, path):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", SUPERVISED)
def test_eight_micro_batches_on_one_device_are_one_batch_on_eight(kind):
  one, path = train(kind, ONE, accumulation=8)
  many, paths = train(kind, (8, 1, 1) if kind == "imitation" else (2, 2, 2))
  assert_same(many.params, one.params, start(kind), FREE[kind])
  for a, b in zip(paths, path):
    assert a["weight"] == b["weight"]
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


def test_accumulation_on_a_mesh_is_the_same():
  one, _ = train("imitation", ONE)
  many, _ = train("imitation", (2, 2, 2), accumulation=2)
  assert_same(many.params, one.params, start("imitation"))


def test_what_devices_cannot_share_stays_whole_and_the_same():
  one, _ = train("imitation", ONE, is_even=False)
  many, _ = train("imitation", (1, 1, 8), is_even=False)
  blocks = many.params["trunk"]["blocks"]
  cut = {name: blocks[name].addressable_shards[0].data.shape for name in ("query", "key")}
  assert cut == {"query": (1, 16, 2, 4), "key": (1, 16, 2, 4)}  # of 16 heads, and of 2
  assert_same(many.params, one.params, start("imitation", is_even=False))


# PPO

SETTINGS = ppo.Settings(
  epochs=2,
  minibatches=2,
  clip=0.2,
  value_clip=0.5,
  value_coefficient=0.5,
  entropy_coefficient=0.01,
  loss_kl_coefficient=0.02,
  discount=1.0,
  trace=0.95,
  target_kl=0.0,
  missing_eos_penalty=1.0,
  whiten_rewards=True,
  kl_target=1.0,
  temperature=0.9,
)


def actors():
  """Policy and value model with their names, and where they start."""
  networks = {"policy": tiny.language(**SHAPE), "value": tiny.scalar(**SHAPE)}
  return networks, {name: tiny.parameters(model, seed=1) for name, model in networks.items()}


@functools.cache
def reinforce(shape, estimator="gae", accumulation=1):
  networks, params = actors()
  params = {kind: params[kind] for kind in optimizers.kinds(estimator)}
  parts = {"samples": 4, "accumulation": accumulation}
  settings = dataclasses.replace(SETTINGS, estimator=estimator, **parts)
  mesh = parallel.make_mesh(shape)
  policy, value = networks["policy"], networks["value"]
  iterate = ppo.make_iteration(policy, value, SGD, settings, tiny.EOS)
  iterate = jax.jit(layout.on(mesh, iterate))
  axes = {name: networks[name].axes for name in params}
  state = ppo.State(
    train=supervised.place(params, axes, SGD, mesh),
    kl_coefficient=jax.device_put(jnp.float32(0.1), parallel.replicated(mesh)),
  )
  reference = tiny.parameters(policy, seed=2)
  shardings = parallel.partition(reference, policy.axes, mesh)
  frozen = {"base": {}}
  frozen["reference"] = jax.device_put(reference, shardings)
  path = []
  for index in range(STEPS):
    rows = (prompts(10 * index), responses(10 * index + 1))
    numbers = np.random.default_rng(index).normal(size=(B, R + 1)).astype(np.float32)
    rewards = rollout_rewards.at_end(jnp.array(numbers[:, R]), jnp.array(rows[1].mask))
    rows = (*rows, -np.abs(numbers[:, :R]), rewards)
    batch = parallel.put_batch(rows, mesh)
    key = jax.random.fold_in(jax.random.key(0), index)
    rates = dict.fromkeys(ppo.KINDS, jnp.float32(0.05))
    state, metrics = iterate(state, frozen, *batch, key, rates, jnp.float32(100))
    path.append(jax.device_get(metrics))
  return state, path


@pytest.mark.parametrize(
  "shape, estimator",
  [((1, 1, 8), "gae"), ((2, 2, 2), "gae"), ((8, 1, 1), "rloo"), ((1, 8, 1), "grpo")],
  ids=str,
)
def test_reinforcement_is_the_same_on_every_mesh(shape, estimator):
  (one, path), (many, paths) = reinforce(ONE, estimator), reinforce(shape, estimator)
  assert tuple(one.train.params) == optimizers.kinds(estimator)
  for name in one.train.params:
    before = actors()[1][name]
    assert_sharded(many.train.params[name], shape)
    assert_same(many.train.params[name], one.train.params[name], before)
  np.testing.assert_allclose(many.kl_coefficient, one.kl_coefficient, rtol=1e-5)
  for a, b in zip(paths, path):
    np.testing.assert_allclose(a["val/ratio_first"], 1.0, atol=1e-5)
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
  "shape, estimator", [(ONE, "gae"), ((2, 1, 4), "gae"), (ONE, "grpo")], ids=str
)
def test_micro_batches_change_nothing_that_reinforcement_does(shape, estimator):
  """Unlike minibatches they make no update of their own; four make one of a minibatch."""
  (one, path), (parts, paths) = reinforce(ONE, estimator), reinforce(shape, estimator, 4)
  for name in one.train.params:
    assert_same(parts.train.params[name], one.train.params[name], actors()[1][name])
  for a, b in zip(paths, path, strict=True):
    np.testing.assert_allclose(a["val/ratio_first"], 1.0, atol=1e-5)
    assert a.keys() == b.keys()
    # The deviation of ratios within micro-batches is not that within a minibatch.
    for name in a.keys() - {"val/ratio_var"}:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4, err_msg=name)


# Sampling


SAMPLED = [((1, 8, 1), SHAPE, None, 1), ((1, 1, 8), SHAPE, None, 1), ((1, 1, 8), UNEVEN, None, 1)]
SAMPLED += [((8, 1, 1), SHAPE, 1, 1), ((2, 2, 2), SHAPE, 1, 3)]


@functools.cache
def scorer(model):
  return jax.jit(functools.partial(scoring.response_logprobs, model))


@pytest.mark.parametrize("shape, sizes, tile, samples", SAMPLED, ids=str)
def test_sampling_follows_the_same_law_on_every_mesh(shape, sizes, tile, samples, monkeypatch):
  """Rounding may flip a draw, but what was drawn has the probability that one device gives it."""
  monkeypatch.setattr(prefill, "FEWEST_ROWS", 1)
  model, mesh = tiny.language(**sizes), parallel.make_mesh(shape)
  assert tile is None or prefill.tile(B // parallel.parts(mesh), P, tile) == (1, 1)
  params = tiny.parameters(model, seed=3)
  spread = jax.device_put(params, parallel.partition(params, model.axes, mesh))
  sample = functools.partial(
    decode.sample, model, length=R, eos_id=tiny.EOS, pad_id=tiny.PAD, shrinking=True,
    tile=tile, parts=parallel.parts(mesh), samples=samples,
  )  # fmt: skip
  asked, temperature = prompts(5), jnp.float32(0.8)
  batch = parallel.put_batch(asked, mesh)
  sample = jax.jit(layout.on(mesh, sample))
  sampled = sample(spread, batch, jax.random.key(4), temperature)
  drawn = jax.tree.map(jnp.asarray, jax.device_get(sampled.responses))
  repeated = jax.tree.map(lambda x: jnp.repeat(jnp.array(x), samples, axis=0), asked)
  expected, _ = scorer(model)(params, repeated, drawn, temperature)
  np.testing.assert_allclose(sampled.logprobs, expected, rtol=1e-4, atol=1e-5)


def test_stages_of_one_shape_are_placed_by_one_program():
  model, mesh = tiny.language(), parallel.make_mesh((1, 1, 1))
  traced = []

  def init(params):  # which is called to trace it alone
    traced.append(params)
    return SGD.init(params)

  optimizer = optax.GradientTransformation(init, SGD.update)
  for seed in (1, 2):
    start = tiny.parameters(model, seed=seed)
    state = supervised.place(start, model.axes, optimizer, mesh)
    jax.tree.map(np.testing.assert_array_equal, state.params, start)
  assert len(traced) == 2  # once for where it lives, once for what it is
