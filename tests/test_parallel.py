"""The mesh, the table from logical to mesh axes, and where train states and batches live."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax.sharding import PartitionSpec

from pit_jax import parallel
from pit_jax.training import optimizers
from pit_jax.training import step as training_step

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")


# The mesh


@pytest.mark.parametrize(
  "shape, expected",
  [
    ((8, 1, 1), (8, 1, 1)),
    ((2, 2, 2), (2, 2, 2)),
    ((-1, 1, 1), (8, 1, 1)),
    ((2, -1, 1), (2, 4, 1)),
    ((1, 2, -1), (1, 2, 4)),
    ((1, 1, 1), (1, 1, 1)),  # fewer devices than there are
    ((3, 2, 1), (3, 2, 1)),
  ],
)
def test_the_mesh_has_the_wanted_sizes(shape, expected):
  mesh = parallel.make_mesh(shape)
  assert tuple(mesh.shape[axis] for axis in ("data", "fsdp", "tensor")) == expected
  assert mesh.axis_names == ("data", "fsdp", "tensor")
  assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


@pytest.mark.parametrize(
  "shape, words",
  [
    ((16, 1, 1), ["(16, 1, 1)", "8 devices"]),
    ((3, 3, 1), ["(3, 3, 1)", "8 devices", "at most 8"]),
    ((-1, 3, 1), ["(-1, 3, 1)", "8 devices"]),
    ((-1, 16, 1), ["(-1, 16, 1)", "8 devices"]),
    ((-1, -1, 1), ["(-1, -1, 1)", "one of them at most"]),
    ((0, 1, 1), ["(0, 1, 1)", "positive"]),
    ((-2, 1, 1), ["(-2, 1, 1)", "positive"]),
    ((8, 1), ["(8, 1)", "data", "fsdp", "tensor"]),
  ],
)
def test_sizes_that_do_not_fit_are_refused(shape, words):
  with pytest.raises(ValueError) as error:
    parallel.make_mesh(shape)
  for word in words:
    assert word in str(error.value)


GIB = 2**30


@pytest.mark.parametrize(
  "count, memory, shape, expected",
  [
    # 8 billion parameters: 15 GiB in bfloat16, and RL keeps 40 bytes of each.
    (256, 16 * GIB, {}, (1, 64, 4)),
    (64, 32 * GIB, {}, (1, 32, 2)),
    (64, 95 * GIB, {}, (1, 64, 1)),
    (6, 16 * GIB, {}, (1, 3, 2)),  # six devices have no fours
    (256, 16 * GIB, {"kv_heads": 2}, (1, 128, 2)),  # no head is cut
    (256, None, {}, (256, 1, 1)),
    (
      8,
      16 * GIB,
      {"layers": 1, "vocabulary": 2_000, "hidden": 4096},
      (8, 1, 1),
    ),  # every device keeps it whole
  ],
)
def test_a_mesh_is_chosen_by_the_devices_and_the_model(count, memory, shape, expected):
  llama = {"vocabulary": 128_256, "width": 4096, "layers": 32, "heads": 32, "kv_heads": 8}
  llama |= {"head_width": 128, "hidden": 14_336, "tied": False, "dtype": "bfloat16"}
  model = tiny.language(**(llama | shape))
  assert parallel.choose(count, model, memory) == expected


def test_auto_takes_all_devices():
  mesh = parallel.make_mesh(("auto",), tiny.language())
  assert tuple(mesh.shape.values()) == (8, 1, 1)  # CPUs do not say what they have
  with pytest.raises(ValueError, match="auto"):
    parallel.make_mesh(("some",), tiny.language())


# Parameters


def shapes(model):
  return jax.eval_shape(model.init, jax.random.key(0))


def specs(model, mesh):
  tree = parallel.partition(shapes(model), model.axes, parallel.make_mesh(mesh))
  return jax.tree.map(lambda sharding: sharding.spec, tree)


def test_every_parameter_is_placed_by_the_table():
  tree = specs(tiny.language(tied=False), (2, 2, 2))
  blocks = tree["trunk"]["blocks"]
  expected = {
    "query": (None, "fsdp", "tensor", None),
    "key": (None, "fsdp", "tensor", None),
    "value": (None, "fsdp", "tensor", None),
    "output": (None, "tensor", None, "fsdp"),
    "gate": (None, "fsdp", "tensor"),
    "up": (None, "fsdp", "tensor"),
    "down": (None, "tensor", "fsdp"),
  }
  for name, spec in expected.items():
    assert blocks[name] == PartitionSpec(*spec), name
  assert blocks["attention_norm"]["scale"] == PartitionSpec(None, None)
  # Eleven tokens do not divide over two devices, so they stay together.
  assert tree["trunk"]["embedding"] == PartitionSpec(None, "fsdp")
  assert tree["head"] == PartitionSpec("fsdp", None)
  assert specs(tiny.language(vocabulary=12), (2, 2, 2))["trunk"]["embedding"] == PartitionSpec(
    "tensor", "fsdp"
  )


def test_sizes_that_do_not_divide_stay_whole():
  blocks = specs(tiny.language(), (1, 2, 4))["trunk"]["blocks"]
  assert blocks["query"] == PartitionSpec(None, "fsdp", "tensor", None)
  assert blocks["key"] == PartitionSpec(None, "fsdp", None, None)  # two heads, four devices
  tree = specs(tiny.scalar(), (1, 1, 8))
  assert tree["bias"] == PartitionSpec()
  assert tree["trunk"]["blocks"]["query"] == PartitionSpec(None, "fsdp", None, None)


# Train states


def state_shapes(params, optimizer):
  return jax.eval_shape(lambda params: training_step.init_state(params, optimizer), params)


def moments(sharding):
  """Returns {path: spec} for every leaf of an optimiser's state."""
  leaves = jax.tree_util.tree_leaves_with_path(sharding.opt_state)
  return {jax.tree_util.keystr(path): leaf.spec for path, leaf in leaves}


def test_moments_live_where_their_parameters_live():
  model, mesh = tiny.language(), parallel.make_mesh((2, 2, 2))
  optimizer = training_step.adam(clip_norm=1.0)
  abstract = state_shapes(shapes(model), optimizer)
  sharding = parallel.state_sharding(abstract, model.axes, mesh)
  homes = parallel.partition(shapes(model), model.axes, mesh)
  assert sharding.step.spec == PartitionSpec()
  assert sharding.params == homes
  adam = next(s for s in sharding.opt_state if isinstance(s, optax.ScaleByAdamState))
  assert adam.mu == homes and adam.nu == homes
  assert adam.count.spec == PartitionSpec()


def test_moments_of_policy_and_value_do_not_trade_places():
  # Policy and value have parameters of the same names; only the value model's mlp divides here.
  policy, value = tiny.language(hidden=23, width=12), tiny.scalar()
  axes = {"policy": policy.axes, "value": value.axes}
  params = {"policy": shapes(policy), "value": shapes(value)}
  optimizer = optimizers.policy_and_value(clip_norm=1.0, epsilon=1e-5, value_scale=1.0)
  abstract, mesh = state_shapes(params, optimizer), parallel.make_mesh((2, 2, 2))
  found = moments(parallel.state_sharding(abstract, axes, mesh))
  gates = {path: spec for path, spec in found.items() if path.endswith("['gate']")}
  assert len(gates) == 4
  for path, spec in gates.items():
    tensor = None if "['policy']['trunk']" in path else "tensor"
    assert spec == PartitionSpec(None, "fsdp", tensor), path
  assert all(spec == PartitionSpec() for path, spec in found.items() if "count" in path)


def test_a_moment_belongs_to_the_longest_path_it_ends_with():
  params = {"w": jnp.zeros(16), "part": {"w": jnp.zeros(16)}}
  axes = {"w": ("norm",), "part": {"w": ("embed",)}}
  optimizer, mesh = training_step.adam(clip_norm=1.0), parallel.make_mesh((1, 8, 1))
  found = moments(parallel.state_sharding(state_shapes(params, optimizer), axes, mesh))
  assert [spec for path, spec in found.items() if path.endswith("['w']")] == [
    PartitionSpec("fsdp"),  # part.w
    PartitionSpec(None),  # w
  ] * 2


def test_a_placed_state_is_really_spread():
  model, mesh = tiny.language(layers=1), parallel.make_mesh((1, 2, 4))
  optimizer = training_step.adam(clip_norm=1.0)
  params = tiny.parameters(model, seed=0)
  sharding = parallel.state_sharding(state_shapes(params, optimizer), model.axes, mesh)
  state = jax.device_put(training_step.init_state(params, optimizer), sharding)
  for tree in (state.params, state.opt_state[1].mu):
    gate = tree["trunk"]["blocks"]["gate"]
    assert gate.shape == (1, 16, 24)
    assert {shard.data.shape for shard in gate.addressable_shards} == {(1, 8, 6)}


# Batches


def test_rows_are_spread_over_data_and_fsdp():
  mesh = parallel.make_mesh((2, 2, 2))
  batch = parallel.put_batch(tiny.prompts(0, [2, 1, 3, 3, 1, 2, 2, 2], 3), mesh)
  np.testing.assert_array_equal(batch.tokens, tiny.ids(0, 8, 3))
  for leaf in (batch.tokens, batch.mask):
    assert leaf.sharding.spec == PartitionSpec(("data", "fsdp"))
    assert {shard.data.shape for shard in leaf.addressable_shards} == {(2, 3)}
  again = parallel.put_batch(batch, mesh)
  np.testing.assert_array_equal(again.mask, batch.mask)


def test_rows_that_do_not_divide_are_refused_with_advice():
  mesh = parallel.make_mesh((2, 4, 1))
  with pytest.raises(ValueError) as error:
    parallel.put_batch({"x": jnp.zeros((30, 2))}, mesh)
  assert str(error.value) == (
    "batch of 30 does not divide over 8 devices (data=2 × fsdp=4); use a multiple of 8"
  )


def test_replicated_arrays_are_whole_everywhere():
  mesh = parallel.make_mesh((2, 2, 2))
  whole = jax.device_put(jnp.arange(3), parallel.replicated(mesh))
  assert len(whole.addressable_shards) == 8
  assert all(shard.data.shape == (3,) for shard in whole.addressable_shards)


def test_a_host_asks_its_own_devices_for_their_memory(monkeypatch):
  class Device:
    platform = "tpu"

    def memory_stats(self):
      return {"bytes_limit": 7}

  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  monkeypatch.setattr(parallel.hosts, "agree", lambda value: 10 * value)
  assert parallel.device_memory() == 70
