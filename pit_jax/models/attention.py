"""Attention: which keys a query sees, how positions turn, and the cache of what was read.

Positions count real tokens only, so left and right padding give the same numbers. Keys lie with
time last and values with time before last, as the products that read them want them.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

from pit_jax import layout
from pit_jax.models import architecture, splash

MASKED = -1e30  # finite, so that a row without a single visible key stays finite


@struct.dataclass
class Cache:
  """Keys and values of the tokens read so far, in `slots` fixed places."""

  keys: tuple[jax.Array, ...]  # Float[B K H S] per layer, rotated; or one Float[B L K H S]
  values: tuple[jax.Array, ...]  # Float[B K S H] per layer; or one Float[B L K S H]
  visible: jax.Array  # Bool[B S], True where a slot holds a real token


def empty_cache(config: architecture.ModelConfig, batch: int, slots: int) -> Cache:
  """Returns a cache of `slots` places per sequence with nothing in it."""
  # Layers that are unrolled have an array each; scanned ones share a stacked one.
  layers, count = ((), config.layers) if config.unroll else ((config.layers,), 1)
  keys, values = (
    tuple(jnp.zeros((batch, *layers, config.kv_heads, *shape), config.dtype) for _ in range(count))
    for shape in ((config.head_width, slots), (slots, config.head_width))
  )

  return spread(Cache(keys=keys, values=values, visible=jnp.zeros((batch, slots), bool)))


def spread(cache: Cache) -> Cache:
  """Returns the cache, each row with the others of its batch and each head with its queries."""
  is_stacked = cache.keys[0].ndim == 5
  names = ("batch", None, "kv_heads") if is_stacked else ("batch", "kv_heads")
  keys, values = layout.spread((cache.keys, cache.values), *names)
  return Cache(keys=keys, values=values, visible=layout.spread(cache.visible, "batch"))


def resize(cache: Cache, before: int, after: int) -> Cache:
  """Returns the cache with so many empty places more at its ends; below 0, so many fewer."""

  def pad(x, axis):
    axis += x.ndim
    sizes = [(before, after, 0) if dim == axis else (0, 0, 0) for dim in range(x.ndim)]
    # lax.pad takes negative widths, which jnp.pad refuses.
    return jax.lax.pad(x, jnp.zeros((), x.dtype), sizes)

  keys = tuple(pad(x, -1) for x in cache.keys)
  values = tuple(pad(x, -2) for x in cache.values)
  return spread(Cache(keys=keys, values=values, visible=pad(cache.visible, -1)))


Segments = Int[Array, "B T"] | tuple[int, ...] | None  # see `transformer.Transformer`
Slot = Int[Array, ""] | Int[Array, " B"]  # a place in the cache, of all rows or of each


def write(
  cached: Shaped[Array, "B ..."],
  new: Shaped[Array, "B ..."],
  slot: Slot,
  axis: int,
  layer: Int[Array, ""] | None = None,
) -> Shaped[Array, "B ..."]:
  """Returns what is cached with new tokens from a slot of an axis on.

  Args:
    cached: of every row; with a layer, its second axis is the layers.
    new: the same of the new tokens, and of one layer.
    slot: of the first new token.
    axis: which one of `cached` has the slots.
    layer: which one is written, where they are stacked.
  """

  if slot.ndim == 0:
    start: list[int | Int[Array, ""]] = [0] * cached.ndim
    start[axis] = slot
    if layer is not None:
      start[1] = layer
    return jax.lax.dynamic_update_slice(cached, new, start)

  # Row by row, each of which is a batch of one.
  def put(cached, new, slot):
    return write(cached[None], new[None], slot, axis, layer)[0]

  return jax.vmap(put)(cached, new, slot)


@struct.dataclass
class Sight:
  """Attention mask and rotary angles of one layer."""

  visible: jax.Array | splash.Rows  # Bool[B T S], which keys each query sees
  cosine: jax.Array  # Float[B T 1 H2], of the queries' own positions
  sine: jax.Array  # Float[B T 1 H2]


def positions(mask: Bool[Array, "B T"], segments: Segments = None) -> Int[Array, "B T"]:
  """Returns the index of each real token among those of its row that it sees; see `Transformer`.

  That of padding is the last real token's before it, or 0.
  """
  if segments is not None and not isinstance(segments, tuple):
    return jnp.maximum(causal(mask, segments).sum(axis=-1) - 1, 0)

  # Of parts of known lengths those that have ended are taken off, and no array of all pairs of
  # tokens is made.
  counted = jnp.cumsum(mask, axis=-1)
  place = jnp.arange(mask.shape[-1])
  first, *later = segments or mask.shape[-1:]
  for start, end in itertools.pairwise(itertools.accumulate([first, *later])):
    ended = mask[:, start:end].sum(axis=-1, keepdims=True)
    counted -= jnp.where(place < end, 0, ended)
  return jnp.maximum(counted - 1, 0)


def spelled(segments: Segments, shape: tuple[int, ...]) -> Int[Array, "B T"] | None:
  """Returns the end of every token of rows of this shape; see `causal`."""
  if not isinstance(segments, tuple):
    return segments
  # All later parts see the first one, and each sees itself.
  _, *later = itertools.accumulate(segments)
  total = sum(segments)
  ends = jnp.repeat(jnp.array([total, *later]), jnp.array(segments), total_repeat_length=total)
  return jnp.broadcast_to(ends, shape)


def causal(mask: Bool[Array, "B T"], ends: Int[Array, "B T"] | None = None) -> Bool[Array, "B T T"]:
  """Returns the causal attention mask: real tokens up to each query, as far as each can be seen.

  The end of a token is the first place that does not see it, 1 to T. So a row can hold several
  texts, and of texts that begin alike the beginning once: what stands in one of them alone ends
  where it does, and what they share ends with the last of them.

  For the left-padded row `. a b c` (mask 0 1 1 1), queries down, keys across, without ends and with
  the ends 4 4 3 4, where b and c both continue a:

      0 0 0 0      0 0 0 0
      0 1 0 0      0 1 0 0
      0 1 1 0      0 1 1 0
      0 1 1 1      0 1 0 1
  """
  place = jnp.arange(mask.shape[-1])
  order = place[:, None] >= place
  if ends is not None:
    order = order & (place[:, None] < ends[:, None, :])

  return order & mask[:, None, :]


def sights(
  config: architecture.ModelConfig,
  visible: Bool[Array, "B T S"] | splash.Rows,
  query: Int[Array, "B T"],
  key: Int[Array, "B S"],
) -> tuple[Sight, Sight]:
  """Returns attention masks and rotary angles of layers without and with a window.

  `visible` says which keys each query would see without one; queries and keys have positions.
  """
  wide = Sight(visible, *rotation(query, config.head_width, config.rope))
  if not config.window:
    return wide, wide
  turn = (wide.cosine, wide.sine)
  if config.local_rope is not None:
    turn = rotation(query, config.head_width, config.local_rope)
  if isinstance(visible, splash.Rows):
    return wide, Sight(dataclasses.replace(visible, is_near=True), *turn)

  # Positions, not places: padding between two tokens uses up nothing of a window.
  near = query[:, :, None] - key[:, None, :] < config.window
  return wide, Sight(visible & near, *turn)


def rotation(
  position: Int[Array, "B T"], head_width: int, rope: architecture.Rope
) -> tuple[Float[Array, "B T 1 H2"], Float[Array, "B T 1 H2"]]:
  """Returns cosine and sine of position · frequency for each pair of a head."""
  frequency = jnp.asarray(rope.frequencies(head_width), jnp.float32)
  angle = position[..., None, None].astype(jnp.float32) * frequency
  turn = jnp.cos(angle) * rope.amplitude, jnp.sin(angle) * rope.amplitude

  # Else a compiler may put cosine and sine into every layer's own program, for every head.
  return jax.lax.optimization_barrier(turn)


def rotate(x: Float[Array, "B T N H"], sight: Sight) -> Float[Array, "B T N H"]:
  """Rotates each pair (x_i, x_{i+H/2}) by the angle of its position   (Su et al. 2021, eq. 34)."""
  # The two of a pair lie half a head apart, as in the checkpoints of transformers.
  low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cosine = sight.cosine
  sine = sight.sine
  rotated = jnp.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=-1)
  return rotated.astype(x.dtype)


def attend(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B K H S"],
  value: Float[Array, "B K S H"],
  visible: Bool[Array, "B T S"],
  scale: float,
  cap: float = 0.0,
) -> Float[Array, "B T N H"]:
  """Returns softmax(q·k · scale) v over the visible keys, each key head serving N/K query heads.

  Queries and keys are rotated. Before the softmax scores become cap · tanh(score / cap); a cap of 0
  leaves them.
  """
  batch, time, heads, width = query.shape
  kv_heads = key.shape[1]
  slots = key.shape[3]

  # One matrix per key head: rows are the positions of its query heads, one head after the other.
  grouped = query.swapaxes(1, 2).reshape(batch, kv_heads, -1, width)
  scores = jnp.einsum("BKQH,BKHS->BKQS", grouped, key, preferred_element_type=jnp.float32)
  scores = capped(scores.reshape(batch, heads, time, slots) * scale, cap)
  weights = jax.nn.softmax(jnp.where(visible[:, None], scores, MASKED), axis=-1)
  weights = weights.astype(value.dtype).reshape(batch, kv_heads, -1, slots)
  outputs = jnp.einsum("BKQS,BKSH->BKQH", weights, value)

  return outputs.reshape(batch, heads, time, width).swapaxes(1, 2)


def capped(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
  """Returns cap · tanh(x / cap), or x when the cap is 0   (Gemma 2, arXiv 2408.00118)."""
  return cap * jnp.tanh(x / cap) if cap else x
