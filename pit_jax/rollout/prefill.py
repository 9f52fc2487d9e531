"""Reading the prompts before sampling: all at once, or only the tiles that hold tokens.

Prompts of different lengths are mostly padding, and a forward over all of them multiplies it. Tiles
are a few rows by a few columns. Rows of like length share tiles, and a tile whose columns none of
its rows has begun is not read. Their attention is XLA's own: the kernels are for whole rows.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from pit_jax import layout
from pit_jax.models import attention, pure
from pit_jax.types import Params, Prompts

FEWEST_ROWS = 8  # of a tile
FEWEST_BLOCKS = 4  # of columns: with fewer, most tiles would hold a token


def whole(
  model: pure.PureModel, params: Params, prompts: Prompts, room: int, parts: int = 1
) -> tuple[attention.Cache, Float[Array, "B V"], Int[Array, "G N"]]:
  """Reads every position of the prompts in one forward of a language model.

  The cache gets `room` places after the prompts. Rows are spread over G devices, `parts`.

  Returns:
    The cache with the prompts in it, the logits of the first token, and the place in its part of
    the prompts that each row of them is of.
  """
  batch, length = prompts.tokens.shape
  cache = attention.empty_cache(model.config, batch, length)
  inputs = (prompts.tokens, prompts.mask, cache, jnp.int32(0))
  logits, cache = model.apply(params, *inputs, method="extend")
  rows = jnp.broadcast_to(jnp.arange(batch // parts), (parts, batch // parts))

  return attention.resize(cache, 0, room), logits, rows


def in_tiles(
  model: pure.PureModel, params: Params, prompts: Prompts, room: int, parts: int, size: int
) -> tuple[attention.Cache, Float[Array, "B V"], Int[Array, "G N"]]:
  """Reads the tiles of the prompts that hold tokens, the longest prompts first; see `whole`.

  Each device reads a tile of its own at a time, and all as many as any. Where all rows of a device
  share their tiles, everything is read at once. A tile has at most `size` positions on each device;
  see `tile_size`.
  """
  batch, length = prompts.tokens.shape
  few, columns = tile(batch // parts, length, size)
  groups = batch // parts // few
  blocks = math.ceil(length / columns)
  if groups == 1:
    return whole(model, params, prompts, room, parts)
  spare = blocks * columns - length  # columns before the first, so that tiles cover all
  padded = jax.tree.map(lambda x: _by_part(jnp.pad(x, ((0, 0), (spare, 0))), parts), prompts)

  rows = jnp.argsort(-padded.mask.sum(axis=2), axis=1, stable=True)  # longest first

  def read(group, made):
    mine = jax.lax.dynamic_slice_in_dim(rows, group * few, few, axis=1)
    group_prompts = jax.tree.map(lambda x: pick(x, mine).reshape(parts * few, -1), padded)

    def read_block(state):
      number, cache, _ = state
      start = number * columns
      both = (group_prompts.tokens, group_prompts.mask)
      ids = (jax.lax.dynamic_slice_in_dim(x, start, columns, axis=1) for x in both)
      hidden, cache = model.apply(params, *ids, cache, start, method="read")

      return number + 1, cache, hidden

    # Padding is on the left: the first block that is read is where the longest prompt begins.
    first = jnp.argmax(group_prompts.mask.any(axis=0)) // columns
    state = (first, *_nothing(model, parts * few, blocks * columns))
    _, *results = jax.lax.while_loop(lambda state: state[0] < blocks, read_block, state)
    place = functools.partial(_place, group=group, parts=parts)
    cache, hidden = jax.tree.map(place, made, tuple(results))

    return attention.spread(cache), hidden

  made = _nothing(model, batch, blocks * columns)
  cache, hidden = jax.lax.fori_loop(0, groups, read, made)
  # Once for all rows: no tile holds an array over the vocabulary.
  logits = model.apply(params, hidden, method="logits")[:, 0]
  return attention.resize(cache, -spare, room), logits, rows


def repeated(
  cache: attention.Cache, logits: Float[Array, "B V"], rows: Int[Array, "G N"], samples: int
) -> tuple[attention.Cache, Float[Array, "B2 V"], Int[Array, "G N2"]]:
  """Returns what `whole` does once for each sample of a prompt; their places follow one another."""
  cache, logits = jax.tree.map(lambda x: jnp.repeat(x, samples, axis=0), (cache, logits))
  places = rows[:, :, None] * samples + jnp.arange(samples)
  return attention.spread(cache), layout.spread(logits, "batch"), places.reshape(len(rows), -1)


def tile_size(platform: str) -> int:
  """Returns how many positions a tile has at most on each device of a platform.

  The weights are read once for each tile, and the kernels of each layer started. On two CPU cores
  SmolLM2-135M reads 256 positions at a time as fast as more. For accelerators it is arithmetic and
  not measured: products of 4096 positions of that model take an H100 about 2 ms, as starting 600
  kernels does, and larger models wait less.
  """
  return 256 if platform == "cpu" else 4096


def tile(rows: int, columns: int, size: int) -> tuple[int, int]:
  """Returns how many rows and columns a tile has, of at most so many positions.

  The rows of the batch on one device are a multiple of the tile's.
  """
  fewest = min(rows, max(FEWEST_ROWS, math.ceil(FEWEST_BLOCKS * size / columns)))
  # Tiles divide the batch, so that one program serves all of them.
  few = next(count for count in range(fewest, rows + 1) if rows % count == 0)
  blocks = math.ceil(columns / max(size // few, 1))
  return few, math.ceil(columns / blocks)  # blocks of like width


@jax.vmap
def pick(rows: Shaped[Array, "..."], places: Int[Array, " M"]) -> Shaped[Array, "..."]:
  """Returns the rows at the given places, part by part."""
  return rows[places]


def _nothing(
  model: pure.PureModel, rows: int, slots: int
) -> tuple[attention.Cache, Float[Array, "B 1 D"]]:
  """Returns the cache, and the state after the last token, of rows that were not read yet."""
  c = model.config
  return attention.empty_cache(c, rows, slots), jnp.zeros((rows, 1, c.width), c.dtype)


def _by_part(x: Shaped[Array, "B ..."], parts: int) -> Shaped[Array, "G N ..."]:
  return x.reshape(parts, -1, *x.shape[1:])


def _place(
  every: Shaped[Array, "B ..."], own: Shaped[Array, "B2 ..."], group: Int[Array, ""], parts: int
) -> Shaped[Array, "B ..."]:
  """Returns the rows of the batch with those of one group of each part in their places."""
  own = _by_part(own, parts)
  place: tuple[int | Int[Array, ""], ...] = (0, group * own.shape[1], *(0,) * (own.ndim - 2))
  return jax.lax.dynamic_update_slice(_by_part(every, parts), own, place).reshape(every.shape)
