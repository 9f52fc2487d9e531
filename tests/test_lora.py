"""Adapters over a frozen base: what they compute, what is trained, what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from pit_jax.exchange import hf
from pit_jax.models import architecture, lora, products, pure
from pit_jax.stages import objectives, supervised
from pit_jax.types import Demonstrations

ADAPTER = architecture.Adapter(rank=3, alpha=5.0)
SOME = architecture.Adapter(rank=2, alpha=2.0, targets=("query", "output", "down"))
TOKENS, MASK = tiny.ids(7, 3, 6), tiny.left([6, 4, 1], 6)


def logits(model, params):
  return np.asarray(jax.jit(model.apply)(params, TOKENS, MASK))[MASK]


def merged(params, adapter):
  """Returns the parameters without adapters, W + A·B·alpha/rank in their place, layer by layer."""
  leaves = {name: np.asarray(leaf, np.float64) for name, leaf in pure.named(params).items()}
  plain = {name: leaf for name, leaf in leaves.items() if ".adapters." not in name}
  for target in adapter.targets:
    name = f"trunk.blocks.{target}"
    for layer in range(len(plain[name])):
      a, b = (leaves[f"trunk.blocks.adapters.{target}.{part}"][layer] for part in "ab")
      product = a.reshape(-1, adapter.rank) @ b.reshape(adapter.rank, -1)
      added = product.reshape(plain[name][layer].shape) * adapter.alpha / adapter.rank
      plain[name][layer] = plain[name][layer] + added
  return pure.nested({name: leaf.astype(np.float32) for name, leaf in plain.items()})


# What they compute


@pytest.mark.parametrize("adapter", [ADAPTER, SOME], ids=["all", "some"])
@pytest.mark.parametrize("network", [tiny.language, tiny.scalar])
def test_an_adapted_matrix_is_the_sum(network, adapter):
  model = network(adapter=adapter)
  params = tiny.parameters(model, seed=1)
  expected = logits(network(), merged(params, adapter))
  np.testing.assert_allclose(logits(model, params), expected, rtol=1e-4, atol=1e-5)


def test_adapters_begin_as_nothing():
  base = tiny.parameters(tiny.language(), seed=2)
  model = tiny.language(adapter=ADAPTER)
  params = pure.complete(model, jax.random.key(0), base)
  np.testing.assert_array_equal(logits(model, params), logits(tiny.language(), base))
  adapters = params["trunk"]["blocks"]["adapters"]
  assert set(adapters) == set(products.INPUTS)
  for adapter in adapters.values():
    assert np.any(adapter["a"]) and not np.any(adapter["b"])


def test_the_base_is_shared_and_not_copied():
  base = tiny.parameters(tiny.language(), seed=2)
  policy = pure.complete(tiny.language(adapter=ADAPTER), jax.random.key(0), base)
  reward = pure.complete(
    tiny.scalar(adapter=ADAPTER), jax.random.key(1), {"trunk": policy["trunk"]}
  )
  for name, leaf in pure.named(base["trunk"]["blocks"]).items():
    for params in (policy, reward):
      assert pure.named(params["trunk"]["blocks"])[name] is leaf


def test_every_axis_has_a_place():
  model = tiny.language(adapter=ADAPTER, stored="int8")
  shapes = pure.named(jax.eval_shape(model.init, jax.random.key(0)))
  axes = pure.named(model.axes)
  assert shapes.keys() == axes.keys()
  for name, leaf in shapes.items():
    assert len(axes[name]) == leaf.ndim, name
  assert axes["trunk.blocks.adapters.output.a"] == ("layer", "heads", "head_dim", "rank")
  assert axes["trunk.blocks.adapters.output.b"] == ("layer", "rank", "embed")
  assert axes["trunk.blocks.query_scale"] == ("layer", "heads", "head_dim")


# What is trained


def test_what_is_trained_and_what_is_frozen():
  for network, heads in ((tiny.language, set()), (tiny.scalar, {"head", "bias"})):
    model = network(adapter=ADAPTER, tied=False)
    params = tiny.parameters(model, seed=3)
    trained, frozen = pure.split(model, params)
    names = pure.named(trained).keys()
    assert {name for name in names if ".adapters." not in name} == heads
    assert not any(".adapters." in name for name in pure.named(frozen))
    jax.tree.map(np.testing.assert_array_equal, pure.join(trained, frozen), params)
    plain = tiny.parameters(network(), seed=3)
    everything, nothing = pure.split(network(), plain)
    assert nothing == {} and pure.named(everything).keys() == pure.named(plain).keys()


def test_the_gradient_of_an_adapter_is_that_of_the_merged_matrix():
  """dL/dA = dL/dW · Bᵀ · s and dL/dB = Aᵀ · dL/dW · s, with W's gradient from the plain model."""
  model = tiny.language(adapter=ADAPTER)
  params = tiny.parameters(model, seed=4)
  batch = Demonstrations(tiny.prompts(1, [4, 2], 4), tiny.responses(2, [3, 5], 5))
  trained, base = pure.split(model, params)
  loss = pure.on_trained(objectives.imitation(model))
  found = jax.jit(jax.grad(lambda *given: loss(*given, None)[0]))(trained, {"base": base}, batch)
  plain = objectives.imitation(tiny.language())
  whole = jax.jit(jax.grad(lambda *given: plain(*given, None)[0]))(
    merged(params, ADAPTER), {}, batch
  )
  for target, inputs in products.INPUTS.items():
    weight = np.asarray(whole["trunk"]["blocks"][target])[0]
    weight = weight.reshape(int(np.prod(weight.shape[:inputs])), -1)
    a, b = (params["trunk"]["blocks"]["adapters"][target][part][0] for part in "ab")
    a, b = a.reshape(-1, ADAPTER.rank), b.reshape(ADAPTER.rank, -1)
    actual = found["trunk"]["blocks"]["adapters"][target]
    scale = ADAPTER.alpha / ADAPTER.rank
    for part, expected in (("a", weight @ b.T * scale), ("b", a.T @ weight * scale)):
      ours = np.asarray(actual[part][0]).reshape(expected.shape)
      # An entry is a sum of products as large as the largest entry, each rounded.
    room = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=room, err_msg=f"{target} {part}")


def test_a_state_holds_nothing_of_the_base():
  model = tiny.language(adapter=ADAPTER)
  trained, _ = pure.split(model, tiny.parameters(model, seed=5))
  state = jax.eval_shape(lambda p: supervised.training_step.init_state(p, optax.adam(1.0)), trained)
  shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
  frozen = {leaf.shape for leaf in jax.tree.leaves(tiny.parameters(tiny.language(), seed=5))}
  assert not shapes & frozen


# How the base is kept


def test_int8_is_the_nearest_multiple_of_each_outputs_scale():
  weight = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32)
  for inputs in (1, 2):
    kept, scale = (np.asarray(part) for part in lora.quantise(jnp.asarray(weight), inputs))
    axes = tuple(range(inputs))
    np.testing.assert_allclose(scale, np.abs(weight).max(axis=axes) / 127, rtol=1e-6)
    assert kept.dtype == np.int8 and np.abs(kept).max() == 127
    assert (np.abs(kept * scale - weight) <= scale / 2 + 1e-6).all()


@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
def test_a_base_kept_in_less_computes_what_its_matrices_say(tmp_path, stored):
  hf.save(tmp_path, tiny.language(), tiny.parameters(tiny.language(), seed=6))
  model = tiny.language(stored=stored)
  params = hf.load(tmp_path, model)
  leaves = pure.named(params)
  assert str(leaves["trunk.embedding"].dtype) == "bfloat16"
  assert str(leaves["trunk.blocks.down"].dtype) == stored
  assert leaves["trunk.norm.scale"].dtype == np.float32
  hf.save(tmp_path / "again", model, params)  # in float32, scales multiplied in
  same = hf.load(tmp_path / "again", tiny.language())
  np.testing.assert_allclose(
    logits(model, params), logits(tiny.language(), same), rtol=1e-4, atol=1e-5
  )
  exact = logits(tiny.language(), hf.load(tmp_path, tiny.language()))
  error = np.abs(logits(model, params) - exact).max()
  assert 0 < error < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("network", [tiny.language, tiny.scalar])
def test_a_whole_model_is_saved_with_its_adapters_merged(tmp_path, network):
  """W + A·B·alpha/rank of every matrix: the plain model then says what the adapted one says."""
  model = network(adapter=ADAPTER)
  params = tiny.parameters(model, seed=8)
  hf.save(tmp_path, model, params)
  same = hf.load(tmp_path, network())
  np.testing.assert_allclose(logits(network(), same), logits(model, params), rtol=1e-4, atol=1e-5)


def test_settings_that_make_no_sense_are_refused():
  with pytest.raises(ValueError, match="rank=0"):
    architecture.Adapter(rank=0)
  with pytest.raises(ValueError, match="name one or more of"):
    architecture.Adapter(rank=1, targets=("q_proj",))
  with pytest.raises(ValueError, match="stored='int4' is not supported"):
    tiny.config(stored="int4")
