"""Attention by the TPU's kernel against XLA's own: values and gradients.

The kernel is imitated here by XLA, which runs the same program block by block.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax import layout, parallel
from pit_jax.models import attention, splash
from pit_jax.rollout import scoring

LENGTHS, LENGTH = [9, 5, 1, 3], 9
TOLERANCE = 1e-5  # in float32, relative to the largest number: sums are taken in another order


def assert_close(actual, expected, tolerance=TOLERANCE):
  def compare(path, a, b):
    assert np.abs(b).max() > 0, "nothing was compared"
    error = np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()
    assert error < tolerance, (jax.tree_util.keystr(path), error)

  jax.tree_util.tree_map_with_path(compare, actual, expected)


# The kernel


def drawn(rows, time, heads=4, kv_heads=2, width=8):
  """Queries, keys and values, and what the loss weighs the result by."""
  draw = np.random.default_rng(0)
  shapes = [
    (rows, time, heads, width),
    (rows, kv_heads, width, time),
    (rows, kv_heads, time, width),
  ]
  return [draw.normal(size=shape).astype(np.float32) for shape in (*shapes, shapes[0])]


def compared(given, mask, segments=None, window=0, cap=0.0, scale=0.6):
  """Returns (result at real tokens, gradients) of the kernel and of XLA."""
  *arrays, weights = given
  mask = jnp.array(mask)
  visible = attention.causal(mask, attention.spelled(segments, mask.shape))
  place = visible.sum(axis=-1)
  if window:
    visible &= place[:, :, None] - place[:, None, :] < window
  seen = splash.rows(mask, segments).replace(is_near=window > 0)

  def loss(attend, *arrays):
    found = jnp.where(mask[:, :, None, None], attend(*arrays), 0.0)
    return (found * weights).sum(), found

  def kernel(*arrays):
    return splash.attend(*arrays, seen, scale, cap, window, is_interpreted=True)

  def own(*arrays):
    return attention.attend(*arrays, visible, scale, cap)

  made = []
  for attend in (kernel, own):
    run = jax.jit(jax.grad(functools.partial(loss, attend), argnums=(0, 1, 2), has_aux=True))
    made.append(run(*arrays))
  return made


PROMPTS = tiny.left([2, 1, 3, 3], 3)
FORKED = np.concatenate([PROMPTS, tiny.right([3, 0, 1, 2], 3), tiny.right([0, 3, 1, 2], 3)], 1)
CASES = {
  "left padding": {"mask": tiny.left(LENGTHS, LENGTH)},
  "right padding, a window, a cap": {
    "mask": tiny.right(LENGTHS, LENGTH),
    "window": 3,
    "cap": 1.5,
  },
  "responses that share a prompt, a window": {
    "mask": FORKED,
    "segments": (3, 3, 3),
    "window": 3,
  },
}


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_computes_what_xla_computes(case):
  assert_close(*compared(drawn(4, LENGTH), **CASES[case]))


@pytest.mark.parametrize("heads, kv_heads", [(3, 3), (6, 1)])
def test_the_kernel_serves_every_ratio_of_heads(heads, kv_heads):
  mask = np.concatenate([tiny.left([4, 2], 4), tiny.right([1, 5], 5)], axis=1)
  assert_close(*compared(drawn(2, 9, heads, kv_heads, width=6), mask))


def test_rows_of_several_blocks_and_odd_length():
  """The mask leaves some blocks out, and others it leaves whole."""
  assert splash.blocks(515) == (256, 768)
  mask = np.concatenate([tiny.left([150, 200], 200), tiny.right([315, 140], 315)], axis=1)
  assert_close(*compared(drawn(2, 515, 2, 1), mask, window=100))
  lengths = (200, 165, 150)
  mask = np.concatenate([mask[:, :365], tiny.right([150, 3], 150)], axis=1)
  assert_close(*compared(drawn(2, 515, 2, 1), mask, segments=lengths))


@pytest.mark.parametrize(
  "time, expected",
  [(1, (128, 128)), (128, (128, 128)), (129, (256, 256)), (512, (512, 512)), (1536, (512, 1536))],
)
def test_blocks_are_the_largest_with_the_least_padding(time, expected):
  assert splash.blocks(time) == expected


def test_what_parts_of_a_row_see():
  """A prompt of two tokens and two responses of two, and one place that is left over."""
  wide = [
    [1, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 0, 0, 0],
    [1, 1, 0, 0, 1, 0, 0],
    [1, 1, 0, 0, 1, 1, 0],
    [1, 1, 0, 0, 1, 1, 1],
  ]
  near = [
    [1, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 0, 0, 0],
    [0, 1, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 1, 1, 0],
    [0, 0, 0, 0, 0, 1, 1],
  ]
  np.testing.assert_array_equal(splash.visible((2, 2, 2), 7, 0), np.array(wide, bool))
  np.testing.assert_array_equal(splash.visible((2, 2, 2), 7, 2), np.array(near, bool))


# Models

MIXED = {"window": 3, "windowed": (True, False), "attention_cap": 2.0, "attention_scale": 0.7}
PACKED = np.array([[4, 4, 4, 4, 6, 6, 9, 9, 9], [1, 7, 7, 7, 7, 7, 7, 0, 0]] * 4)  # ends


@functools.cache
def own_gradients():
  return gradients(tiny.language(**MIXED), PACKED)


def gradients(model, segments, mesh=(1, 1, 1)):
  """Returns gradients of a loss of packed rows, and the logits of real tokens, on a mesh."""
  tokens, mask = tiny.ids(2, *segments.shape), segments > 0
  weights = np.random.default_rng(0).normal(size=(*mask.shape, tiny.VOCABULARY))
  devices, params = parallel.make_mesh(mesh), tiny.parameters(model, seed=1)

  def loss(params, tokens, mask, segments, weights):
    logits = model.apply(params, tokens, mask, segments=segments)
    logits = jnp.where(mask[..., None], logits, 0.0)
    return (logits * weights).sum(), logits

  run = jax.jit(layout.on(devices, jax.grad(loss, has_aux=True)))
  params = jax.device_put(params, parallel.partition(params, model.axes, devices))
  given = parallel.put_batch((tokens, mask, segments, weights.astype(np.float32)), devices)
  return jax.device_get(run(params, *given))


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 2, 2), (1, 2, 4)], ids=str)
def test_a_model_computes_the_same_by_the_kernel_on_every_mesh(mesh):
  """Packed rows, and layers with and without a window that are scanned and computed again.

  Four devices of `tensor` share two heads of keys: each gets those of its queries.
  """
  model = tiny.language(**MIXED, attention="splash_interpreted", remat="full")
  assert_close(gradients(model, PACKED, mesh), own_gradients())


def test_scores_of_responses_that_share_a_prompt_are_the_same():
  models = (tiny.scalar(), tiny.scalar(attention="splash_interpreted"))
  asked, params = tiny.prompts(0, [4, 2, 3, 1], 4), tiny.parameters(models[0], seed=1)
  said = tiny.responses(1, [5, 0, 3, 4], 5), tiny.responses(2, [1, 2, 5, 3], 5)
  expected, actual = (
    jax.jit(functools.partial(scoring.sequence_scores, model))(params, asked, *said)
    for model in models
  )
  assert_close(actual, expected)


@pytest.mark.parametrize("unroll", [True, False])
def test_prompts_are_read_into_the_cache_by_the_kernel(unroll):
  shape = MIXED | {"unroll": unroll}
  own, by_kernel = (
    tiny.language(**shape, attention=name) for name in ("xla", "splash_interpreted")
  )
  params, asked = tiny.parameters(own, seed=1), tiny.prompts(0, [4, 2, 3, 1], 4)
  asked, found = jax.tree.map(jnp.asarray, asked), []
  for model in (own, by_kernel):
    cache = attention.empty_cache(model.config, 4, 4)
    given = params, asked.tokens, asked.mask, cache, jnp.int32(0)
    extend = jax.jit(functools.partial(model.apply, method="extend"))
    assert ("pallas_call" in str(jax.make_jaxpr(extend)(*given))) == (model is by_kernel)
    found.append(extend(*given)[0])
  assert_close(found[1], found[0])
