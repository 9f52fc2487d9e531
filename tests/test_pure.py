"""A module as three pure values; the heads on top of the trunk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax import layout, parallel
from pit_jax.models import heads, pure, transformer

KINDS = [heads.LanguageModel, heads.ScalarModel]
# Every count different, so that a wrong axis has a wrong size.
DISTINCT = {
  "vocabulary": 11,
  "width": 16,
  "layers": 3,
  "heads": 10,
  "kv_heads": 5,
  "head_width": 6,
  "hidden": 24,
}
SIZES = {
  "vocab": 11,
  "embed": 16,
  "norm": 16,
  "layer": 3,
  "heads": 10,
  "kv_heads": 5,
  "head_dim": 6,
  "mlp": 24,
}


def named(tree, is_leaf=None):
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
  return {".".join(entry.key for entry in path): leaf for path, leaf in leaves}


# Axes


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_axes_name_every_dimension_of_every_parameter(kind, tied):
  model = tiny.model(kind, tied=tied, **DISTINCT)
  shapes = named(jax.eval_shape(model.init, jax.random.key(0)))
  axes = named(model.axes, is_leaf=lambda node: isinstance(node, tuple))
  assert shapes.keys() == axes.keys()
  for name, shape in shapes.items():
    assert tuple(SIZES[axis] for axis in axes[name]) == shape.shape, name
    assert set(axes[name]) <= layout.RULES.keys(), name


def test_axes_of_a_block_carry_the_layer_first():
  blocks = tiny.language().axes["trunk"]["blocks"]
  assert blocks["query"] == ("layer", "embed", "heads", "head_dim")
  assert blocks["output"] == ("layer", "heads", "head_dim", "embed")
  assert blocks["mlp_norm"]["scale"] == ("layer", "norm")
  assert tiny.scalar().axes["bias"] == ()


# Initial parameters


@pytest.fixture(scope="module")
def drawn():
  """Parameters of a wide, shallow model under two keys: enough numbers to see their spread."""
  model = tiny.scalar(width=64, heads=8, kv_heads=8, head_width=8, hidden=128, vocabulary=200)
  init = jax.jit(model.init)
  return [init(jax.random.key(seed)) for seed in (0, 0, 1)]


def test_init_is_a_plain_dict_that_the_key_decides(drawn):
  first, again, other = drawn
  assert type(first) is dict and type(first["trunk"]["blocks"]) is dict
  for name, leaf in named(first).items():
    assert leaf.dtype == jnp.float32
    np.testing.assert_array_equal(leaf, named(again)[name])
    is_fixed = name == "bias" or name.endswith("scale")
    assert np.array_equal(leaf, named(other)[name]) == is_fixed, name


def test_layers_start_apart_and_with_the_stated_spread(drawn):
  trunk = drawn[0]["trunk"]
  query = np.asarray(trunk["blocks"]["query"])
  assert np.abs(query[0] - query[1]).max() > 0.1
  spread = {
    "query": 64**-0.5,
    "key": 64**-0.5,
    "value": 64**-0.5,
    "gate": 64**-0.5,
    "up": 64**-0.5,
    "output": (64 * 2 * 2) ** -0.5,  # two layers: the residual stream adds up four parts
    "down": (128 * 2 * 2) ** -0.5,
  }
  for name, expected in spread.items():
    leaf = np.asarray(trunk["blocks"][name])
    np.testing.assert_allclose(leaf.std(), expected, rtol=0.05, err_msg=name)
    assert abs(leaf.mean()) < 4 * expected * leaf.size**-0.5, name
  np.testing.assert_allclose(np.asarray(trunk["embedding"]).std(), 64**-0.5, rtol=0.05)


def test_scores_start_near_zero(drawn):
  heads_drawn = np.concatenate([params["head"] for params in (drawn[0], drawn[2])])
  np.testing.assert_allclose(heads_drawn.std(), 65**-0.5, rtol=0.2)
  assert drawn[0]["bias"] == 0


# Application


def test_apply_is_traced_once_and_knows_only_its_arguments():
  model, traces = tiny.language(), []

  @jax.jit
  def apply(params, tokens, mask):
    traces.append(None)
    return model.apply(params, tokens, mask)

  mask = jnp.ones((2, 5), bool)
  params = [tiny.parameters(model, seed) for seed in (0, 1)]
  inputs = [jnp.array(tiny.ids(seed, 2, 5)) for seed in (2, 3)]
  first = apply(params[0], inputs[0], mask)
  others = [apply(params[0], inputs[1], mask), apply(params[1], inputs[0], mask)]
  assert len(traces) == 1
  assert all(np.abs(first - other).max() > 0.1 for other in others)
  np.testing.assert_array_equal(first, apply(params[0], inputs[0], mask))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(kind):
  model = tiny.model(kind, tied=False)
  params, mask = tiny.parameters(model, seed=0), jnp.ones((2, 6), bool)
  weights = np.random.default_rng(1).normal(size=(2, 6, 1)).astype(np.float32)

  def total(params):
    outputs = model.apply(params, jnp.array(tiny.ids(2, 2, 6)), mask)
    return (outputs.reshape(2, 6, -1) ** 2 * weights).sum()

  gradient = jax.jit(jax.grad(total))(params)
  assert jax.tree.structure(gradient) == jax.tree.structure(params)
  for name, leaf in named(gradient).items():
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-6, name


def test_apply_refuses_parameters_of_another_shape():
  model, other = tiny.language(), tiny.language(tied=False)
  mask, tokens = jnp.ones((1, 3), bool), jnp.zeros((1, 3), jnp.int32)
  with pytest.raises(Exception):
    model.apply(tiny.parameters(other, seed=0), tokens, mask)


# Heads


@pytest.mark.parametrize("tied", [True, False])
def test_heads_read_the_hidden_states(tied):
  trunk, language = tiny.model(transformer.Transformer), tiny.language(tied=tied)
  params = tiny.parameters(language, seed=4)
  tokens, mask = jnp.array(tiny.ids(5, 3, 7)), jnp.array(tiny.left([7, 2, 4], 7))
  hidden = np.asarray(jax.jit(trunk.apply)(params["trunk"], tokens, mask))
  weight = params["trunk"]["embedding"].T if tied else params["head"]
  apply = jax.jit(language.apply, static_argnames="last")
  logits = apply(params, tokens, mask)
  np.testing.assert_allclose(logits, hidden @ weight, rtol=1e-4, atol=1e-5)
  tail = apply(params, tokens, mask, last=3)
  np.testing.assert_allclose(tail, logits[:, -3:], rtol=1e-5, atol=1e-6)


def test_the_scalar_head_is_an_affine_map_of_the_hidden_states():
  trunk, scalar = tiny.model(transformer.Transformer), tiny.scalar()
  params = tiny.parameters(scalar, seed=6) | {"bias": jnp.float32(0.25)}
  tokens, mask = jnp.array(tiny.ids(7, 3, 7)), jnp.array(tiny.right([7, 2, 4], 7))
  hidden = np.asarray(jax.jit(trunk.apply)(params["trunk"], tokens, mask))
  apply = jax.jit(scalar.apply, static_argnames="last")
  scores = apply(params, tokens, mask)
  assert scores.shape == (3, 7) and scores.dtype == jnp.float32
  expected = hidden @ params["head"] + params["bias"]
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(apply(params, tokens, mask, last=2), scores[:, -2:], rtol=1e-5)


def test_a_model_on_another_ones_trunk_has_a_fresh_head():
  source, fresh = (
    tiny.parameters(tiny.language(), seed=8),
    jax.jit(tiny.scalar().init)(jax.random.key(9)),
  )
  result = pure.complete(tiny.scalar(), jax.random.key(9), {"trunk": source["trunk"]})
  assert set(result) == {"trunk", "head", "bias"}
  assert all(result["trunk"][name] is leaf for name, leaf in source["trunk"].items())
  for name in ("head", "bias"):
    np.testing.assert_array_equal(result[name], fresh[name])


def test_what_lacks_the_same_is_drawn_by_one_program():
  model, keys = tiny.scalar(), []

  def init(key):  # which is called to trace it alone
    keys.append(key)
    return model.init(key)

  counted = dataclasses.replace(model, init=init)
  trunk = {"trunk": tiny.parameters(tiny.language(), seed=8)["trunk"]}
  first, second = (pure.complete(counted, jax.random.key(seed), trunk) for seed in (1, 2))
  assert len(keys) == 1
  assert (first["head"] != second["head"]).all()


@pytest.mark.parametrize("mesh", [None, (1, 1, 1)])
def test_a_model_that_lacks_nothing_stays_as_it_is(mesh):
  model = tiny.language()
  known = tiny.parameters(model, seed=8)
  places = mesh and parallel.homes(model, parallel.make_mesh(mesh))
  assert pure.complete(model, jax.random.key(9), known, places) is known
