"""Reading prompts in tiles: what it leaves in the cache, and what it does not read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import pure
from pit_jax.rollout import prefill

ROWS, P, ROOM = 16, 7, 3
LENGTHS = np.random.default_rng(0).permutation([1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  monkeypatch.setattr(prefill, "TILE", 8)
  monkeypatch.setattr(prefill, "FEWEST_ROWS", 4)


def prompts(lengths=LENGTHS):
  return jax.tree.map(jnp.array, tiny.prompts(1, list(lengths), P))


def both(model, params, asked, parts):
  """What both ways of reading give."""
  return [
    jax.jit(functools.partial(read, model, room=ROOM, parts=parts))(params, asked)
    for read in (prefill.whole, prefill.in_tiles)
  ]


SHAPES = {
  "unrolled": {},
  "scanned": {"unroll": False},
  "windowed": {"layers": 3, "windowed": (True, False, True), "window": 3},
  "untied": {"tied": False},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_tiles_leave_what_reading_everything_leaves(shape, parts):
  """Seven columns, in tiles of four rows and two columns; in four parts each has four rows."""
  model = tiny.language(**shape)
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=0))
  (cache, logits, same), (other, others, rows) = both(model, params, prompts(), parts)
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
  both(counted(calls), {}, prompts(), parts=1)[1][1].block_until_ready()
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
  assert len(expected) == 4 + 3 + 2 + 1
  read = [call for call in calls if call[2] == 2]  # the others read all of it, or a last token
  assert sorted(read) == sorted(expected)


def test_every_part_reads_as_many_tiles_as_the_one_that_needs_most():
  """Two parts, one of short prompts: its rows wait while the other's are read."""
  calls = []
  both(counted(calls), {}, prompts([1] * 8 + [7] * 8), parts=2)[1][1].block_until_ready()
  jax.effects_barrier()
  read = sorted(call for call in calls if call[2] == 2)
  assert read == sorted(2 * [(0, 8, 2, 4), (2, 8, 2, 8), (4, 8, 2, 8), (6, 8, 2, 12)])


def test_a_batch_that_is_one_tile_is_read_whole(monkeypatch):
  monkeypatch.setattr(prefill, "TILE", ROWS * P)
  monkeypatch.setattr(prefill, "FEWEST_ROWS", ROWS)
  calls = []
  _, (_, _, rows) = both(counted(calls), {}, prompts(), parts=1)
  jax.effects_barrier()
  assert calls == 2 * [(0, ROWS, P, LENGTHS.sum())]
  np.testing.assert_array_equal(rows, np.arange(ROWS)[None])


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7, 8, 12, 13, 64])
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 100])
def test_tiles_cover_the_batch(rows, columns):
  few, wide = prefill.tile(rows, columns)
  assert rows % few == 0 and few >= min(rows, prefill.FEWEST_ROWS)
  assert few * wide <= max(prefill.TILE, few)
  blocks = -(-columns // wide)
  assert blocks * wide - columns < blocks  # less than a column more for each block
