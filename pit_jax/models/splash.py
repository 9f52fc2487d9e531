"""Attention over whole rows by the Pallas kernel for TPUs, which never writes the scores down.

The kernel takes two masks. One is known when the program is compiled: order, windows, and parts
that do not see each other; blocks of which it leaves nothing are skipped. The other one compares
texts: a token sees those of its own alone. Padding is a text too, so that every query sees a key.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from pit_jax import layout

LANES = 128  # of a TPU's vector registers: the kernel cuts rows into multiples of it
BLOCKS = (512, 256)  # tokens of a block of queries or keys


@struct.dataclass
class Rows:
  """Attention mask of whole rows, in the form that the kernel takes.

  All rows are cut into parts of `lengths` tokens; a later part sees the first and itself.
  """

  texts: jax.Array  # Int[B T], which text of its row a token is of; 0 is padding
  is_near: Any  # has the layer a window? A Bool[] where layers that differ are scanned
  lengths: tuple[int, ...] = struct.field(pytree_node=False)


def rows(mask: Bool[Array, "B T"], segments: Int[Array, "B T"] | tuple[int, ...] | None) -> Rows:
  """Returns the attention mask of layers without a window; segments as in `Transformer`.

  Of the ends of tokens the kernel can be told those of texts that share nothing.
  """
  if isinstance(segments, tuple) or segments is None:
    return Rows(mask.astype(jnp.int32), False, segments or mask.shape[1:])
  return Rows(jnp.where(mask, segments, 0).astype(jnp.int32), False, mask.shape[1:])


def attend(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B K H T"],
  value: Float[Array, "B K T H"],
  seen: Rows,
  scale: float,
  cap: float,
  window: int,
  is_interpreted: bool,
) -> Float[Array, "B T N H"]:
  """Returns the outputs of `attention.attend` for real tokens, each device with its rows and heads.

  The real tokens of a text must lie side by side where layers have a window, which counts places.

  Args:
    query, key, value, scale, cap: see `attention.attend`.
    seen: which keys each query sees.
    window: tokens that a layer with a window sees, the query's own included.
    is_interpreted: whether XLA imitates the kernel, on devices that are no TPUs.
  """
  from jax.experimental.pallas.ops.tpu import splash_attention

  time = query.shape[1]
  block, room = blocks(time)
  # The kernel knows no scale.
  query = (query.astype(jnp.float32) * scale).astype(query.dtype).swapaxes(1, 2)
  key, value = (per_device(x, query.shape[1]) for x in (key.swapaxes(2, 3), value))
  query, key, value = (_lengthen(x, 2, room) for x in (query, key, value))
  texts = _lengthen(seen.texts, 1, room)

  def run(width, *given):
    kernel = _kernel(seen.lengths, room, width, block, cap, is_interpreted)

    def row(query, key, value, texts):
      return kernel(query, key, value, splash_attention.SegmentIds(texts, texts))

    names = ("batch", "heads"), ("batch", "kv_heads"), ("batch", "kv_heads"), ("batch",)
    return layout.each(jax.vmap(row), names, *given)

  given = query, key, value, texts
  if isinstance(seen.is_near, bool):
    outputs = run(window if seen.is_near else 0, *given)
  else:
    # Layers that differ are scanned: both kernels are compiled, and each layer runs one.
    kinds = (functools.partial(run, width) for width in (window, 0))
    outputs = jax.lax.cond(seen.is_near, *kinds, *given)

  return outputs[:, :, :time].swapaxes(1, 2)


def blocks(time: int) -> tuple[int, int]:
  """Returns the tokens of a block, and those of rows of so many that are filled up with padding."""
  if time <= LANES:
    return LANES, LANES
  rooms = ((block, -(-time // block) * block) for block in BLOCKS)

  # The least padding wins; of equals the larger block, which stands first.
  return min(rooms, key=lambda pair: pair[1])


def per_device(x: Float[Array, "B K T H"], heads: int) -> Float[Array, "B K2 T H"]:
  """Returns keys or values, with the heads that devices share repeated for each of them.

  The heads of queries are spread over the devices where those divide them.
  """
  kv_heads = x.shape[1]
  parts = layout.parts("heads")
  if heads % parts or kv_heads % parts == 0:  # no head is spread, or each goes with its queries
    return x

  # The smallest number of heads that all devices share evenly; it divides the queries' too.
  return jnp.repeat(x, math.lcm(kv_heads, parts) // kv_heads, axis=1)


def _lengthen(x: Array, axis: int, size: int) -> Array:
  widths = [(0, size - x.shape[axis] if dim == axis else 0) for dim in range(x.ndim)]
  return jnp.pad(x, widths) if size > x.shape[axis] else x


def visible(lengths: tuple[int, ...], room: int, window: int) -> np.ndarray:
  """Returns the attention mask of rows with several parts, Bool[T T].

  Args:
    lengths: of the first part, and of those that continue it.
    room: tokens of the rows; what is left over belongs to the last part.
    window: how many tokens a query sees, its own included; 0 is all.
  """
  first, *others = lengths
  sizes = [*lengths[:-1], room - sum(lengths[:-1])]
  part_of = np.repeat(np.arange(len(lengths)), sizes)
  order = np.arange(room)

  # Every later part begins where the first one ends.
  place = order - np.array([0, *itertools.accumulate(others[:-1], initial=0)])[part_of]
  mask = order[:, None] >= order
  mask &= (part_of == 0) | (part_of == part_of[:, None])
  return mask & (place[:, None] - place < window) if window else mask


@functools.cache  # looking at all blocks of a mask takes a while
def _kernel(
  lengths: tuple[int, ...], room: int, window: int, block: int, cap: float, is_interpreted: bool
) -> Any:
  """Returns the kernel for so many tokens and any number of heads."""
  from jax.experimental.pallas.ops.tpu import splash_attention

  mask: splash_attention.Mask
  if len(lengths) > 1:
    mask = splash_attention.NumpyMask(visible(lengths, room, window))
  elif window:
    # The kernel counts a window without the query itself.
    mask = splash_attention.LocalMask((room, room), (window - 1, 0), 0)
  else:
    mask = splash_attention.CausalMask((room, room))

  names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
  sizes: dict[str, Any] = {f"block_{name}": block for name in names}
  with jax.ensure_compile_time_eval():  # not tied to the program that is traced just now
    return splash_attention.make_splash_mha(
      splash_attention.MultiHeadMask([mask]),
      block_sizes=splash_attention.BlockSizes(**sizes),
      attn_logits_soft_cap=cap or None,
      head_shards=1,
      q_seq_shards=1,
      interpret=is_interpreted,
    )
