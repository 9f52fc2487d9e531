"""The decoder against one written with loops, row by row, without padding, batch or cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import architecture, attention, transformer

LENGTH = 8
LENGTHS = [8, 5, 1, 3]


# The slow decoder


def slow_norm(x, scale, epsilon=1e-6):
  return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * scale


def slow_rotate(vector, position, theta=10_000.0):
  """Turns the plane (i, i + half) by its own angle, as a product of complex numbers."""
  half = len(vector) // 2
  angle = position * theta ** (-np.arange(half) / half)
  turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angle)
  return np.concatenate([turned.real, turned.imag])


def slow_attention(x, block, heads, kv_heads):
  """Every head and every query in turn; x is [T D], normalised."""
  found = []
  for head in range(heads):
    group = head // (heads // kv_heads)
    query, key = x @ block["query"][:, head], x @ block["key"][:, group]
    value = x @ block["value"][:, group]
    query, key = (
      np.array([slow_rotate(v, t) for t, v in enumerate(vectors)]) for vectors in (query, key)
    )
    rows = []
    for t in range(len(x)):
      weights = tiny.softmax(key[: t + 1] @ query[t] / np.sqrt(query.shape[1]))
      rows.append(weights @ value[: t + 1])
    found.append(np.array(rows) @ block["output"][head])
  return sum(found)


def slow_logits(params, config, ids):
  """Returns the logits of one row of real tokens, Float[T V], in double precision."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  trunk = params["trunk"]
  x = trunk["embedding"][ids]
  for layer in range(config.layers):
    block = jax.tree.map(lambda leaf: leaf[layer], trunk["blocks"])  # noqa: B023
    normed = slow_norm(x, block["attention_norm"]["scale"])
    x = x + slow_attention(normed, block, config.heads, config.kv_heads)
    normed = slow_norm(x, block["mlp_norm"]["scale"])
    gate = normed @ block["gate"]
    x = x + (gate / (1 + np.exp(-gate)) * (normed @ block["up"])) @ block["down"]
  x = slow_norm(x, trunk["norm"]["scale"])
  return x @ (trunk["embedding"].T if config.tied else params["head"])


def assert_equals_slow(model, params, tokens, mask):
  actual = np.asarray(jax.jit(model.apply)(params, tokens, mask))
  for row, ids, real in zip(actual, tokens, mask):
    expected = slow_logits(params, model.config, ids[real])
    np.testing.assert_allclose(row[real], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("network", [tiny.language, tiny.scalar])
def test_no_parameter_has_a_weak_type(network):
  # A step's output has none, so the second step would be traced and compiled anew.
  for norm_offset in (0.0, 1.0):
    model = network(norm_offset=norm_offset, qk_norm=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(shapes))


# Masks and positions


@pytest.mark.parametrize(
  "mask, expected",
  [
    # queries down, keys across
    ([0, 1, 1], [[0, 0, 0], [0, 1, 0], [0, 1, 1]]),  # left padding
    ([1, 1, 0], [[1, 0, 0], [1, 1, 0], [1, 1, 0]]),  # right padding
    ([1, 0, 1], [[1, 0, 0], [1, 0, 0], [1, 0, 1]]),  # an empty slot inside
    ([1, 1, 1], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
    ([0, 0, 0], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
  ],
)
def test_a_query_sees_real_tokens_up_to_itself(mask, expected):
  actual = attention.causal(jnp.array([mask], bool))
  np.testing.assert_array_equal(actual, np.array([expected], bool))


def test_a_token_is_seen_up_to_its_end():
  mask = jnp.array([[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]], bool)
  ends = jnp.array([[6, 6, 3, 6, 6, 6], [2, 2, 4, 4, 6, 6]])
  continued = [
    [0, 0, 0, 0, 0, 0],
    [0, 1, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0],
    [0, 1, 0, 1, 0, 0],
    [0, 1, 0, 1, 1, 0],
    [0, 1, 0, 1, 1, 0],
  ]
  packed = [
    [1, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0],
    [0, 0, 1, 0, 0, 0],
    [0, 0, 1, 1, 0, 0],
    [0, 0, 0, 0, 1, 0],
    [0, 0, 0, 0, 1, 0],
  ]
  actual = attention.causal(mask, ends)
  np.testing.assert_array_equal(actual, np.array([continued, packed], bool))


def test_positions_count_real_tokens():
  mask = jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]], bool)
  expected = [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 1, 1, 2]]
  np.testing.assert_array_equal(attention.positions(mask), expected)


@pytest.mark.parametrize("segments", [None, (9,), (5, 4), (3, 2, 4), (0, 4, 5), (2, 0, 3, 4)])
def test_positions_in_parts_count_what_a_token_sees(segments):
  mask = jnp.array(np.random.default_rng(0).random((6, 9)) < 0.6)
  visible = attention.causal(mask, attention.spelled(segments, mask.shape))
  expected = np.maximum(np.asarray(visible).sum(axis=-1) - 1, 0)
  np.testing.assert_array_equal(attention.positions(mask, segments), expected)

  # The same, where every token says its end; texts in one row share what they begin with.
  ends = attention.spelled(segments, mask.shape)
  np.testing.assert_array_equal(attention.positions(mask, ends), expected)


def test_positions_need_no_array_of_all_pairs_of_tokens():
  """Of 34,816 tokens that would be 1.1 GiB."""
  mask = jax.ShapeDtypeStruct((1, 34_816), bool)
  for segments in (None, (32_768, 1_024, 1_024)):
    made = jax.make_jaxpr(functools.partial(attention.positions, segments=segments))(mask)
    sizes = [np.prod(var.aval.shape) for one in made.jaxpr.eqns for var in one.outvars]
    assert max(sizes) <= 34_816


def test_rotation_turns_by_the_angle_of_the_position():
  vectors = np.random.default_rng(0).normal(size=(1, 5, 2, 6)).astype(np.float32)
  place = jnp.array([[0, 1, 2, 7, 500]])
  turn = attention.rotation(place, vectors.shape[-1], architecture.Rope())
  actual = attention.rotate(jnp.array(vectors), attention.Sight(jnp.ones((1, 5, 5), bool), *turn))
  for t, position in enumerate([0, 1, 2, 7, 500]):
    for head in range(2):
      expected = slow_rotate(vectors[0, t, head].astype(np.float64), position)
      np.testing.assert_allclose(actual[0, t, head], expected, rtol=1e-4, atol=1e-4)


# Logits


@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (4, 1), (3, 1), (6, 2), (5, 5)])
def test_logits_equal_the_slow_decoder_for_every_ratio_of_heads(heads, kv_heads):
  model = tiny.language(heads=heads, kv_heads=kv_heads)
  params = tiny.parameters(model, seed=heads)
  tokens = tiny.ids(1, len(LENGTHS), LENGTH)
  assert_equals_slow(model, params, tokens, tiny.left(LENGTHS, LENGTH))


def test_untied_head_odd_sizes_and_one_layer():
  model = tiny.language(tied=False, layers=1, heads=1, kv_heads=1, head_width=6, hidden=7)
  params = tiny.parameters(model, seed=2)
  assert params["head"].shape == (16, tiny.VOCABULARY)
  tokens = tiny.ids(3, len(LENGTHS), LENGTH)
  assert_equals_slow(model, params, tokens, tiny.right(LENGTHS, LENGTH))


def test_padding_side_and_what_stands_there_do_not_change_logits():
  model = tiny.language()
  params, apply = tiny.parameters(model, seed=4), jax.jit(model.apply)
  tokens, left, right = (
    tiny.ids(5, 4, LENGTH),
    *(s(LENGTHS, LENGTH) for s in (tiny.left, tiny.right)),
  )
  moved, garbage = tiny.ids(6, 4, LENGTH), np.where(left, tokens, tiny.ids(7, 4, LENGTH))
  moved[right] = tokens[left]
  on_left, with_garbage = apply(params, tokens, left), apply(params, garbage, left)
  on_right = apply(params, moved, right)
  np.testing.assert_array_equal(on_left[left], with_garbage[left])
  np.testing.assert_allclose(on_left[left], on_right[right], rtol=1e-4, atol=1e-5)


def test_batch_mates_and_later_tokens_do_not_change_logits():
  model = tiny.language()
  params, apply = tiny.parameters(model, seed=4), jax.jit(model.apply)
  tokens, mask = tiny.ids(8, 4, LENGTH), tiny.right(LENGTHS, LENGTH)
  others = tiny.ids(9, 4, LENGTH)
  others[0] = tokens[0]
  others[1, :3] = tokens[1, :3]
  before, after = apply(params, tokens, mask), apply(params, others, mask)
  np.testing.assert_array_equal(before[0], after[0])
  np.testing.assert_allclose(before[1, :3], after[1, :3], rtol=1e-5, atol=1e-6)
  assert np.abs(before[1, 3] - after[1, 3]).max() > 1e-2  # or nothing was compared


def test_a_row_without_real_tokens_is_finite_and_has_no_gradient():
  model = tiny.language()
  params, tokens = tiny.parameters(model, seed=4), tiny.ids(10, 2, LENGTH)
  others = np.where([[False], [True]], tiny.ids(15, 2, LENGTH), tokens)
  mask = jnp.array(tiny.left([LENGTH, 0], LENGTH))

  def total(params, tokens):
    logits = model.apply(params, tokens, mask)
    return jnp.where(mask[..., None], logits, 0.0).sum(), logits

  gradient = jax.jit(jax.grad(total, has_aux=True))
  first, logits = gradient(params, tokens)
  second, _ = gradient(params, others)
  assert np.isfinite(logits).all()
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
    assert np.isfinite(a).all() and np.abs(a).max() > 0
    np.testing.assert_array_equal(a, b)


# The cache


@pytest.mark.parametrize("chunks", [[6, 1, 1, 1, 1], [4, 3, 3], [10], [1] * 10], ids=str)
def test_cached_reading_equals_the_full_forward_under_left_padding(chunks):
  model = tiny.model(transformer.Transformer)
  params, tokens = tiny.parameters(model, seed=11), tiny.ids(12, 4, 10)
  # Rows: no padding, left padding past the first chunk's end, ended rows, an empty slot inside.
  mask = tiny.left([10, 3, 8, 10], 10)
  mask[2, 7:], mask[3, 5] = False, False
  expected = np.asarray(jax.jit(model.apply)(params, tokens, mask))
  extend = jax.jit(lambda *arguments: model.apply(*arguments, method="extend"))
  cache, parts, slot = attention.empty_cache(model.config, 4, 12), [], 0
  for size in chunks:
    here = slice(slot, slot + size)
    hidden, cache = extend(params, tokens[:, here], mask[:, here], cache, jnp.int32(slot))
    parts.append(hidden)
    slot += size
  actual = np.concatenate(parts, axis=1)
  np.testing.assert_allclose(actual[mask], expected[mask], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(cache.visible[:, :10], mask)
  assert not cache.visible[:, 10:].any()


# Precision


def test_bfloat16_is_close_to_float32_and_its_logits_are_float32():
  model, half = tiny.language(), tiny.language(dtype="bfloat16")
  params = tiny.parameters(model, seed=13)
  tokens, mask = tiny.ids(14, 4, LENGTH), tiny.right(LENGTHS, LENGTH)
  exact = np.asarray(jax.jit(model.apply)(params, tokens, mask))[mask]
  logits = jax.jit(half.apply)(params, tokens, mask)
  assert logits.dtype == jnp.float32
  error = np.abs(np.asarray(logits)[mask] - exact)
  assert 0 < error.max() < 0.1 * exact.std()  # 8 bits of mantissa: 0.4% per rounding
  assert error.mean() < 0.02 * exact.std()
  assert attention.empty_cache(half.config, 1, 2).keys[0].dtype == jnp.bfloat16


# Errors


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"heads": 4, "kv_heads": 3}, ["heads=4", "kv_heads=3", "multiple"]),
    ({"head_width": 5}, ["head_width=5", "odd"]),
    ({"dtype": "float16"}, ["float16", "float32", "bfloat16"]),
    ({"kv_heads": 0}, ["kv_heads=0"]),
    ({"layers": -1}, ["layers=-1"]),
  ],
)
def test_impossible_shapes_are_refused(changes, words):
  with pytest.raises(ValueError) as error:
    tiny.config(**changes)
  for word in words:
    assert word in str(error.value)
