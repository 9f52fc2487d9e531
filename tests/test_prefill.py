"""Reading prompts in tiles: what it leaves in the cache, and what it does not read."""

import functools

import chips
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import pure
from pit_jax.rollout import prefill

ROWS, P, ROOM, SIZE = 32, 7, 3, 8
LENGTHS = np.random.default_rng(0).permutation(
  [1, 2, 2, 2, 3, 3, 4, 4] * 3 + [5, 5, 6, 6, 6, 7, 7, 7]
)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  """Of four rows and two columns."""
  monkeypatch.setattr(prefill, "FEWEST_ROWS", 4)
  monkeypatch.setattr(prefill, "FEWEST_BLOCKS", 3)


def prompts(lengths=LENGTHS):
  return jax.tree.map(jnp.array, tiny.prompts(1, list(lengths), P))


def whole(model, params, asked, parts):
  return jax.jit(functools.partial(prefill.whole, model, room=ROOM, parts=parts))(params, asked)


def in_tiles(model, params, asked, parts, size=SIZE):
  read = functools.partial(prefill.in_tiles, model, room=ROOM, parts=parts, size=size)
  return jax.jit(read)(params, asked)


SHAPES = {
  "unrolled": {},
  "scanned": {"unroll": False},
  "windowed": {"layers": 3, "windowed": (True, False, True), "window": 3},
  "untied": {"tied": False},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_tiles_leave_what_reading_everything_leaves(shape, parts):
  model = tiny.language(**shape)
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=0))
  (cache, logits, same), (other, others, rows) = (
    read(model, params, prompts(), parts) for read in (whole, in_tiles)
  )
  np.testing.assert_array_equal(same, np.arange(ROWS).reshape(parts, -1) % (ROWS // parts))
  places = (rows + jnp.arange(parts)[:, None] * (ROWS // parts)).reshape(-1)
  assert sorted(places.tolist()) == list(range(ROWS))
  assert np.all(np.diff(LENGTHS[places].reshape(parts, -1), axis=1) <= 0)  # longest first
  np.testing.assert_allclose(others, logits[places], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(other.visible, cache.visible[places])
  assert other.visible.shape == (ROWS, P + ROOM)
  for names, axis in (("keys", -1), ("values", -2)):
    for one, two in zip(getattr(cache, names), getattr(other, names), strict=True):
      assert two.shape == one.shape
      real = np.asarray(other.visible)[:, None, None, :]  # [B, (layers,) K, H, S]
      real = real if one.ndim == 4 else real[:, None]
      ours, theirs = (np.where(real, np.moveaxis(x, axis, -1), 0) for x in (two, one[places]))
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def counted(calls):
  """A model that writes down (slot, rows, columns, tokens) of what it reads."""
  config = tiny.config(layers=1)

  def apply(params, *given, method):
    if method == "logits":
      return jnp.zeros((*given[0].shape[:2], tiny.VOCABULARY))
    tokens, mask, cache, slot = given
    jax.debug.callback(
      lambda slot, real: calls.append((int(slot), *tokens.shape, int(real))), slot, mask.sum()
    )
    made = jnp.zeros((len(tokens), 1, config.width))
    return (jnp.zeros((len(tokens), tiny.VOCABULARY)) if method == "extend" else made), cache

  return pure.PureModel(init=lambda key: {}, apply=apply, axes={}, config=config)


def test_a_tile_without_tokens_is_not_read():
  """Eight columns, one of which was added; four rows at a time, from where the longest begins."""
  calls = []
  in_tiles(counted(calls), {}, prompts(), parts=1)[1].block_until_ready()
  jax.effects_barrier()
  lengths = sorted(LENGTHS.tolist(), reverse=True)
  groups = [lengths[start : start + 4] for start in range(0, ROWS, 4)]
  expected = [
    (8 - end, 4, 2, sum(min(max(length - end + 2, 0), 2) for length in group))
    for group in groups
    for end in range(2, 9, 2)
    if group[0] > end - 2
  ]
  assert sum(tokens for *_, tokens in expected) == LENGTHS.sum()
  assert len(expected) == 4 + 3 + 3 * 2 + 3 * 1
  assert sorted(calls) == sorted(expected)


def test_every_part_reads_as_many_tiles_as_the_one_that_needs_most():
  """Two parts, one of short prompts: its rows wait while the other's are read."""
  calls = []
  in_tiles(counted(calls), {}, prompts([1] * 16 + [7] * 16), parts=2)[1].block_until_ready()
  jax.effects_barrier()
  assert sorted(calls) == sorted(4 * [(0, 8, 2, 4), (2, 8, 2, 8), (4, 8, 2, 8), (6, 8, 2, 12)])


@pytest.mark.parametrize("size", [ROWS * P, 100])
def test_rows_that_share_all_tiles_are_read_whole(size):
  calls = []
  rows = in_tiles(counted(calls), {}, prompts(), parts=1, size=size)[2]
  jax.effects_barrier()
  assert calls == [(0, ROWS, P, LENGTHS.sum())]
  np.testing.assert_array_equal(rows, np.arange(ROWS)[None])


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7, 8, 12, 13, 64])
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 100])
@pytest.mark.parametrize("size", [1, 8, 256])
def test_tiles_cover_the_batch(rows, columns, size):
  few, wide = prefill.tile(rows, columns, size)
  assert rows % few == 0 and few >= min(rows, prefill.FEWEST_ROWS)
  assert few * wide <= max(size, few)
  blocks = -(-columns // wide)
  assert blocks * wide - columns < blocks  # less than a column more for each block
  assert few == rows or blocks >= prefill.FEWEST_BLOCKS or columns < prefill.FEWEST_BLOCKS


COMPILED = """
from pit_jax.configs import pit
from pit_jax.recipes import recipe
from pit_jax.stages import programs
from pit_jax.tools.plan import compiled, hlo, planning
from pit_jax.rollout import prefill
config = pit.get_config("tiny").unlock()
config.model.base, config.model.layers, config.mesh.shape = "none", 2, (2, 2, 1)
config.data.max_prompt_length, config.data.length_buckets = 512, True
config.rl.batch_size = 256
run = planning.arrays(config, recipe.of(config), compiled.devices("v5e:2x2"), None)
rows = config.rl.batch_size // run.mesh.size
few, columns = prefill.tile(rows, run.prompt, prefill.tile_size("tpu"))
assert rows // few > 1 and run.prompt // columns > 1, (few, columns)
program = programs.sampling(run, "rl", run.prompt)
made = hlo.read(program.function.lower(*program.arguments).compile().as_text())
told = [one for each in made.computations.values() for one in each.values()
        if one.opcode.removesuffix("-start") in hlo.COLLECTIVES]
assert told
# Weights are gathered, and ends are agreed on; keys and values stay where they are.
largest = max(told, key=lambda one: one.shape.bytes)
assert 20 * largest.shape.bytes < program.made["cache"], largest
"""


@pytest.mark.slow
@chips.NEEDED
def test_tiles_are_compiled_for_real_chips():
  chips.passes(COMPILED)
