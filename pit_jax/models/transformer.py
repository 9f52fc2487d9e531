"""The decoder every model shares: RMSNorm, rotary positions, grouped queries, gated MLP.

One forward serves training, scoring and cached generation. Which keys a query may see is decided
by `visible`, positions count real tokens only, so left and right padding give the same numbers.
Layers are stacked along a leading axis. Training scans them, which keeps programs small; cached
generation unrolls them, because a scan would copy every layer's keys, values and weights at every
token. Keys lie with time last and values with time before last, as the products that read them
want them: on CPU a token costs half of what it does with the heads inside.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30  # finite, so that a row without a single visible key stays finite


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The shape of a decoder; every field is a count unless it says otherwise."""

  vocabulary: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_width: int
  hidden: int
  rope_theta: float = 10_000.0  # base of the rotary wavelengths
  norm_epsilon: float = 1e-6
  tied: bool = True  # the head is the transposed embedding
  dtype: str = "float32"  # of matrix products; parameters, norms and softmax are float32

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if field.type is int and getattr(self, field.name) < 1:
        raise ValueError(f"{field.name}={getattr(self, field.name)} is not a positive count")
    if self.heads % self.kv_heads:
      raise ValueError(
        f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}; "
        "every key/value head serves the same number of query heads"
      )
    if self.head_width % 2:
      raise ValueError(f"head_width={self.head_width} is odd; rotary positions need pairs")
    if self.dtype not in ("float32", "bfloat16"):
      raise ValueError(f"dtype={self.dtype!r} is not supported; use 'float32' or 'bfloat16'")


@struct.dataclass
class Cache:
  """Keys and values of the tokens read so far, in `slots` fixed places."""

  keys: tuple[jax.Array, ...]  # Float[B K H S] per layer, rotated
  values: tuple[jax.Array, ...]  # Float[B K S H] per layer
  visible: jax.Array  # Bool[B S], True where a slot holds a real token


def empty_cache(config: ModelConfig, batch: int, slots: int) -> Cache:
  """Returns a cache of `slots` places per sequence with nothing in it."""
  keys, values = (
    tuple(jnp.zeros((batch, config.kv_heads, *shape), config.dtype) for _ in range(config.layers))
    for shape in ((config.head_width, slots), (slots, config.head_width))
  )
  return Cache(
    keys=keys,
    values=values,
    visible=jnp.zeros((batch, slots), bool),
  )


def lengthen(cache: Cache, slots: int) -> Cache:
  """Returns the cache with so many empty places after the ones it has."""

  def pad(x, axis):
    return jnp.pad(x, [(0, slots if dim == axis else 0) for dim in range(x.ndim)])

  return Cache(
    keys=tuple(pad(x, 3) for x in cache.keys),
    values=tuple(pad(x, 2) for x in cache.values),
    visible=pad(cache.visible, 1),
  )


def positions(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
  """Returns the index of each real token among the real tokens of its row; padding gets 0."""
  return jnp.maximum(jnp.cumsum(mask, axis=-1) - 1, 0)


def causal(
  mask: Bool[Array, "B T"], segments: Int[Array, " T"] | None = None
) -> Bool[Array, "B T T"]:
  """Returns which keys each query sees: real tokens at or before it, of its segment or segment 0.

  For the left-padded row `. a b c` (mask 0 1 1 1), queries down, keys across, without segments and
  with the segments 0 0 1 2, where b and c both continue a:

      0 0 0 0      0 0 0 0
      0 1 0 0      0 1 0 0
      0 1 1 0      0 1 1 0
      0 1 1 1      0 1 0 1
  """
  time = mask.shape[-1]
  order = jnp.tril(jnp.ones((time, time), bool))
  if segments is not None:
    order &= (segments[None, :] == 0) | (segments[None, :] == segments[:, None])
  return order & mask[:, None, :]


def rotation(
  position: Int[Array, "B T"], head_width: int, theta: float
) -> tuple[Float[Array, "B T 1 H2"], Float[Array, "B T 1 H2"]]:
  """Returns cosine and sine of position · theta^(−2i/H) for each pair i of a head."""
  half = head_width // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = position[..., None, None].astype(jnp.float32) * frequency
  return jnp.cos(angle), jnp.sin(angle)


def rotate(
  x: Float[Array, "B T N H"],
  turn: tuple[Float[Array, "B T 1 H2"], Float[Array, "B T 1 H2"]],
) -> Float[Array, "B T N H"]:
  """Rotates each pair (x_i, x_{i+H/2}) by the angle of its position   (Su et al. 2021, eq. 34)."""
  cosine, sine = turn
  low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=-1)
  return rotated.astype(x.dtype)


def attend(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B K H S"],
  value: Float[Array, "B K S H"],
  visible: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
  """Returns softmax(q·k/√H) v over the visible keys, each key head serving N/K query heads."""
  batch, time, heads, width = query.shape
  kv_heads, slots = key.shape[1], key.shape[3]
  # One matrix per key head: rows are the positions of its query heads, one head after the other.
  grouped = query.swapaxes(1, 2).reshape(batch, kv_heads, -1, width)
  scores = jnp.einsum("BKQH,BKHS->BKQS", grouped, key, preferred_element_type=jnp.float32)
  scores = scores.reshape(batch, heads, time, slots) * width**-0.5
  weights = jax.nn.softmax(jnp.where(visible[:, None], scores, MASKED), axis=-1)
  weights = weights.astype(value.dtype).reshape(batch, kv_heads, -1, slots)
  found = jnp.einsum("BKQS,BKSH->BKQH", weights, value)
  return found.reshape(batch, heads, time, width).swapaxes(1, 2)


class RMSNorm(nnx.Module):
  """x / rms(x) · scale, in float32   (Zhang & Sennrich 2019)."""

  def __init__(self, width: int, epsilon: float):
    self.scale = nnx.Param(jnp.ones((width,)), axes=("norm",))
    self.epsilon = epsilon

  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.epsilon)
    return (wide * self.scale[...]).astype(x.dtype)


def _matrix(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int, axes: tuple[str, ...]):
  """A weight drawn from N(0, 1/fan_in), carrying the logical names of its axes."""
  return nnx.Param(jax.random.normal(rngs.params(), shape) * fan_in**-0.5, axes=axes)


class Block(nnx.Module):
  """One layer: attention and gated MLP, each behind a norm and added to the residual stream."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    c = self.config = config
    self.attention_norm = RMSNorm(c.width, c.norm_epsilon)
    self.query = _matrix(
      rngs, (c.width, c.heads, c.head_width), c.width, ("embed", "heads", "head_dim")
    )
    kv_shape, kv_axes = (c.width, c.kv_heads, c.head_width), ("embed", "kv_heads", "head_dim")
    self.key = _matrix(rngs, kv_shape, c.width, kv_axes)
    self.value = _matrix(rngs, kv_shape, c.width, kv_axes)
    self.output = _matrix(
      rngs,
      (c.heads, c.head_width, c.width),
      c.heads * c.head_width * 2 * c.layers,  # keeps the residual stream's variance near 1
      ("heads", "head_dim", "embed"),
    )
    self.mlp_norm = RMSNorm(c.width, c.norm_epsilon)
    self.gate = _matrix(rngs, (c.width, c.hidden), c.width, ("embed", "mlp"))
    self.up = _matrix(rngs, (c.width, c.hidden), c.width, ("embed", "mlp"))
    self.down = _matrix(rngs, (c.hidden, c.width), c.hidden * 2 * c.layers, ("mlp", "embed"))

  def project(
    self,
    x: Float[Array, "B T D"],
    turn: tuple[Float[Array, "B T 1 H2"], Float[Array, "B T 1 H2"]],
  ) -> tuple[Float[Array, "B T N H"], Float[Array, "B K H T"], Float[Array, "B K T H"]]:
    """Returns the rotated queries and keys, and the values, of these positions."""
    normed = self.attention_norm(x)
    query, key = _project(normed, self.query[...]), _project(normed, self.key[...])
    value = _project(normed, self.value[...])
    return rotate(query, turn), rotate(key, turn).transpose(0, 2, 3, 1), value.swapaxes(1, 2)

  def mix(
    self,
    x: Float[Array, "B T D"],
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    visible: Bool[Array, "B T S"],
  ) -> Float[Array, "B T D"]:
    """Adds what the queries find among the visible keys, then the gated MLP."""
    found = attend(query, key, value, visible)
    found = found.reshape(*found.shape[:2], -1)
    x = x + _project(found, self.output[...].reshape(-1, self.config.width))
    normed = self.mlp_norm(x)
    gated = jax.nn.silu(_project(normed, self.gate[...])) * _project(normed, self.up[...])
    return x + _project(gated, self.down[...])


def _project(
  x: Float[Array, "B T In"], weight: Float[Array, "In *out"]
) -> Float[Array, "B T *out"]:
  """Returns x · weight, positions flattened: so its gradient is twice as fast on CPU."""
  flat = x.reshape(-1, x.shape[-1]) @ weight.reshape(weight.shape[0], -1).astype(x.dtype)
  return flat.reshape(*x.shape[:-1], *weight.shape[1:])


class Transformer(nnx.Module):
  """Token ids to hidden states, with or without a cache."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.config = config
    self.embedding = nnx.Param(
      jax.random.normal(rngs.params(), (config.vocabulary, config.width)) * config.width**-0.5,
      axes=("vocab", "embed"),
    )
    stack = nnx.split_rngs(splits=config.layers)(
      nnx.vmap(lambda rngs: Block(config, rngs), in_axes=0, out_axes=0)
    )
    self.blocks = stack(rngs)
    self.norm = RMSNorm(config.width, config.norm_epsilon)

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    mask: Bool[Array, "B T"],
    segments: Int[Array, " T"] | None = None,
  ) -> Float[Array, "B T D"]:
    """Returns the normalised hidden states of whole sequences, padded on either side.

    Args:
      tokens: token ids.
      mask: which of them are real.
      segments: 0 for what all tokens after it may see, j > 0 for the j-th of several texts that
        continue it, each as if the others were not there. None is one text.
    """
    visible = causal(mask, segments)
    # A real token stands after all that it sees.
    turn = self._turn(jnp.maximum(visible.sum(axis=-1) - 1, 0))
    x = self._embed(tokens)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    @nnx.remat
    def layer(x, block):
      return block.mix(x, *block.project(x, turn), visible)

    return self.norm(layer(x, self.blocks))

  def extend(
    self,
    tokens: Int[Array, "B T"],
    mask: Bool[Array, "B T"],
    cache: Cache,
    slot: Int[Array, ""],
  ) -> tuple[Float[Array, "B T D"], Cache]:
    """Reads T more tokens into the cache, from `slot` on, and returns their hidden states.

    Args:
      tokens: the next tokens of every row.
      mask: which of them are real; padding is never seen by later queries.
      cache: what was read before, in slots below `slot`.
      slot: first slot to write; slot + T must not exceed the cache's size.

    Returns:
      Hidden states, and the cache with the tokens in it.
    """
    seen = cache.visible.sum(axis=-1, keepdims=True)
    turn = self._turn(seen + positions(mask))
    kept = jax.lax.dynamic_update_slice(cache.visible, mask, (0, slot))
    order = jnp.arange(kept.shape[1])[None, :] <= slot + jnp.arange(tokens.shape[1])[:, None]
    visible = kept[:, None, :] & order[None]

    x, keys, values = self._embed(tokens), list(cache.keys), list(cache.values)
    for index in range(self.config.layers):
      block = jax.tree.map(lambda leaf, index=index: leaf[index], self.blocks)
      query, key, value = block.project(x, turn)
      keys[index] = jax.lax.dynamic_update_slice(keys[index], key, (0, 0, 0, slot))
      values[index] = jax.lax.dynamic_update_slice(values[index], value, (0, 0, slot, 0))
      x = block.mix(x, query, keys[index], values[index], visible)
    return self.norm(x), Cache(keys=tuple(keys), values=tuple(values), visible=kept)

  def _turn(self, position: Int[Array, "B T"]):
    return rotation(position, self.config.head_width, self.config.rope_theta)

  def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return self.embedding[...][tokens].astype(self.config.dtype)
