"""The decoder every model shares: RMSNorm, rotary positions, grouped queries, gated MLP.

One forward serves training, scoring and cached generation, for every family of models: what
differs between them is a switch in `architecture.ModelConfig`. Layers are stacked along a leading
axis. Training scans them, which keeps programs small. Cached generation unrolls them, because a
scan may copy every layer's keys, values and weights at every token; `unroll=False` scans them all
the same, since of many layers unrolled programs take too long to compile.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import ad_checkpoint
from jaxtyping import Array, Bool, Float, Int

from pit_jax import layout
from pit_jax.models import architecture, attention, kernels, lora, products, remat, splash

Tokens = Int[Array, "B T"]
Mask = Bool[Array, "B T"]
ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": jax.nn.gelu}


class RMSNorm(nnx.Module):
  """x / rms(x) · (offset + scale), in float32   (Zhang & Sennrich 2019)."""

  def __init__(self, width: int, config: architecture.ModelConfig):
    # Its type is said: one that is weak is another to a program, which a step's output is not.
    scale = jnp.full((width,), 1.0 - config.norm_offset, jnp.float32)
    self.scale = nnx.Param(scale, axes=("norm",))
    self.epsilon = config.norm_epsilon
    self.offset = config.norm_offset

  def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.epsilon)
    return (wide * (self.offset + self.scale[...])).astype(x.dtype)


def _bias(shape: tuple[int, ...], axes: tuple[str, ...]):
  return nnx.Param(jnp.zeros(shape), axes=axes)


class Block(nnx.Module):
  """One layer: attention and gated MLP, each behind a norm and added to the residual stream."""

  def __init__(self, config: architecture.ModelConfig, rngs: nnx.Rngs):
    c = self.config = config
    self.attention_norm = RMSNorm(c.width, c)
    query = (c.heads, c.head_width)
    kv = (c.kv_heads, c.head_width)
    query_axes = ("heads", "head_dim")
    kv_axes = ("kv_heads", "head_dim")

    matrices = {
      "query": ((c.width, *query), ("embed", *query_axes)),
      "key": ((c.width, *kv), ("embed", *kv_axes)),
      "value": ((c.width, *kv), ("embed", *kv_axes)),
      "output": ((*query, c.width), (*query_axes, "embed")),
      "gate": ((c.width, c.hidden), ("embed", "mlp")),
      "up": ((c.width, c.hidden), ("embed", "mlp")),
      "down": ((c.hidden, c.width), ("mlp", "embed")),
    }
    self._add_matrices(matrices, rngs)

    if c.qkv_bias:
      self.query_bias = _bias(query, query_axes)
      self.key_bias = _bias(kv, kv_axes)
      self.value_bias = _bias(kv, kv_axes)

    if c.output_bias:
      self.output_bias = _bias((c.width,), ("embed",))
    if c.qk_norm:
      self.query_norm = RMSNorm(c.head_width, c)
      self.key_norm = RMSNorm(c.head_width, c)

    if c.post_norms:
      self.post_attention_norm = RMSNorm(c.width, c)
      self.post_mlp_norm = RMSNorm(c.width, c)

    self.mlp_norm = RMSNorm(c.width, c)

  def _add_matrices(self, described: dict[str, tuple], rngs: nnx.Rngs) -> None:
    """Makes this layer's matrices of N(0, 1/inputs), and their adapters."""
    c = self.config
    if c.adapter:
      self.adapters = lora.Adapters()

    for name, (shape, axes) in described.items():
      inputs = products.INPUTS[name]
      # What is added to the residual stream is kept small, so that its variance stays near 1.
      spread = math.prod(shape[:inputs]) * (2 * c.layers if name in ("output", "down") else 1)
      weight = jax.random.normal(rngs.params(), shape) * spread**-0.5

      if c.stored == "int8":
        weight, scale = lora.quantise(weight, inputs)
        setattr(self, f"{name}_scale", nnx.Param(scale, axes=axes[inputs:]))
      elif c.stored == "bfloat16":
        weight = weight.astype(jnp.bfloat16)

      setattr(self, name, nnx.Param(weight, axes=axes))
      if c.adapter and name in c.adapter.targets:
        setattr(self.adapters, name, lora.Adapter(name, shape, axes, c.adapter.rank, rngs))

  def _through(self, name: str, x: Float[Array, "B T In"]) -> Float[Array, "B T *out"]:
    """Returns x through one of the layer's matrices and its adapter."""
    c = self.config
    output = products.project(x, getattr(self, name).get_value(), products.INPUTS[name])
    if c.stored == "int8":
      output = output * getattr(self, f"{name}_scale")[...].astype(x.dtype)
    if c.adapter and name in c.adapter.targets:
      output = output + lora.change(x, getattr(self.adapters, name), c.adapter)

    return output

  def project(
    self, x: Float[Array, "B T D"], sight: attention.Sight
  ) -> tuple[Float[Array, "B T N H"], Float[Array, "B K H T"], Float[Array, "B K T H"]]:
    """Returns the rotated queries and keys, and the values, of these positions."""
    c = self.config
    normed = self.attention_norm(x)
    query, key, value = (self._through(name, normed) for name in ("query", "key", "value"))

    if c.qkv_bias:
      query = query + self.query_bias[...].astype(x.dtype)
      key = key + self.key_bias[...].astype(x.dtype)
      value = value + self.value_bias[...].astype(x.dtype)

    if c.qk_norm:
      query = self.query_norm(query)
      key = self.key_norm(key)

    query = layout.spread(attention.rotate(query, sight), "batch", None, "heads")
    # Keys lie with time last, as the cache and the products that read it want them.
    key = attention.rotate(key, sight).transpose(0, 2, 3, 1)
    value = value.swapaxes(1, 2)
    return query, *layout.spread((key, value), "batch", "kv_heads")

  def mix(
    self,
    x: Float[Array, "B T D"],
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    visible: Bool[Array, "B T S"] | splash.Rows,
  ) -> Float[Array, "B T D"]:
    """Adds what the queries find among the visible keys, then the gated MLP."""
    c = self.config
    attended = kernels.attend(c, query, key, value, visible)
    attended = ad_checkpoint.checkpoint_name(attended, remat.ATTENDED)
    attended = self._through("output", attended.reshape(*attended.shape[:2], -1))
    if c.output_bias:
      attended = attended + self.output_bias[...].astype(x.dtype)
    attended = self.post_attention_norm(attended) if c.post_norms else attended
    x = layout.spread(x + attended, "batch")

    normed = self.mlp_norm(x)
    gated = ACTIVATIONS[c.activation](self._through("gate", normed)) * self._through("up", normed)
    mlp = self._through("down", layout.spread(gated, "batch", None, "mlp"))
    return layout.spread(x + (self.post_mlp_norm(mlp) if c.post_norms else mlp), "batch")


class Transformer(nnx.Module):
  """Token ids to hidden states, with or without a cache."""

  def __init__(self, config: architecture.ModelConfig, rngs: nnx.Rngs):
    self.config = config
    # Of N(0, 1/width), so that the logits of a tied head begin with a variance near 1.
    table = jax.random.normal(rngs.params(), (config.vocabulary, config.width))
    table = (table * config.width**-0.5).astype(config.wide)
    self.embedding = nnx.Param(table, axes=("vocab", "embed"))

    # Every layer draws from a key of its own, and its arrays are stacked from the start.
    stack = nnx.vmap(lambda rngs: Block(config, rngs), in_axes=0, out_axes=0)
    self.blocks = nnx.split_rngs(splits=config.layers)(stack)(rngs)
    self.norm = RMSNorm(config.width, config)

  def __call__(
    self, tokens: Tokens, mask: Mask, segments: attention.Segments = None, last: int | None = None
  ) -> Float[Array, "B T2 D"]:
    """Returns the normalised hidden states of whole sequences, padded on either side.

    Args:
      tokens: token ids.
      mask: which of them are real.
      segments: of rows with several texts. Either the lengths of the parts that all rows have, of
        what all tokens after it may see, and of each text that continues it as if the others were
        not there; or the end of each token, the first place that does not see it. None is one text.
      last: when given, only the states of the last that many positions.
    """
    ends = attention.spelled(segments, tokens.shape)
    tokens, mask = layout.spread((tokens, mask), "batch")
    visible = attention.causal(mask, ends)

    # A real token stands after all that it sees.
    place = attention.positions(mask, segments)
    seen = kernels.seen(self.config, mask, visible, segments)
    wide, near = attention.sights(self.config, seen, place, place)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
    @functools.partial(remat.layer, kind=self.config.remat)
    def layer(x, block, is_near):
      sight = self._sight(is_near, wide, near)
      return block.mix(x, *block.project(x, sight), sight.visible)

    x = layer(self._embed(tokens), self.blocks, jnp.array(self.config.windows))
    return self.norm(x if last is None else x[:, -last:])

  def extend(
    self, tokens: Tokens, mask: Mask, cache: attention.Cache, slot: attention.Slot
  ) -> tuple[Float[Array, "B T D"], attention.Cache]:
    """Reads T more tokens into the cache; returns their hidden states and the new cache.

    Args:
      tokens: the next tokens of every row.
      mask: which of them are real; padding is never seen by later queries.
      cache: what was read before, in slots below `slot`; what later ones hold is forgotten.
      slot: first slot to write, of all rows or of each; slot + T must not exceed the cache's size.
    """
    tokens, mask = layout.spread((tokens, mask), "batch")
    first = slot[..., None]
    slots = jnp.arange(cache.visible.shape[1])
    before = cache.visible & (slots < first)
    offset = before.sum(axis=-1, keepdims=True)
    filled = attention.write(before, mask, slot, 1)

    # Slots are in the order of time, so a query sees those up to its own.
    own = first + jnp.arange(tokens.shape[1])
    visible = filled[:, None, :] & (slots <= own[..., None])
    is_whole = tokens.shape[1] == filled.shape[1]  # rows from the first slot on
    seen = kernels.seen(self.config, mask, visible) if is_whole else visible
    places = (offset + attention.positions(mask), attention.positions(filled))
    wide, near = attention.sights(self.config, seen, *places)
    go = self._unrolled if self.config.unroll else self._scanned

    x, keys, values = go(self._embed(tokens), cache.keys, cache.values, slot, wide, near)
    return self.norm(x), attention.Cache(keys=keys, values=values, visible=filled)

  def _unrolled(self, x, keys, values, slot, wide, near):
    """Takes x through all layers, each with keys and values of its own."""
    keys = list(keys)
    values = list(values)
    for index, is_near in enumerate(self.config.windows):
      block = self._layer(index)
      sight = near if is_near else wide
      query, key, value = block.project(x, sight)
      keys[index] = attention.write(keys[index], key, slot, 3)
      values[index] = attention.write(values[index], value, slot, 2)
      x = block.mix(x, query, keys[index], values[index], sight.visible)

    return x, tuple(keys), tuple(values)

  def _scanned(self, x, keys, values, slot, wide, near):
    """Takes x through all layers, whose keys and values are stacked and written in place."""

    @nnx.scan(in_axes=(nnx.Carry, 0, 0, 0), out_axes=nnx.Carry)
    def layer(carry, block, index, is_near):
      # Keys and values are in the carry: as inputs of a scan they are copied at every token.
      x, keys, values = carry
      sight = self._sight(is_near, wide, near)
      query, key, value = block.project(x, sight)
      keys = attention.write(keys, key[:, None], slot, 4, index)
      values = attention.write(values, value[:, None], slot, 3, index)
      x = block.mix(x, query, keys[:, index], values[:, index], sight.visible)

      return x, keys, values

    layers = (self.blocks, jnp.arange(self.config.layers), jnp.array(self.config.windows))
    x, keys, values = layer((x, *keys, *values), *layers)
    return x, (keys,), (values,)

  def _sight(self, is_near, wide: attention.Sight, near: attention.Sight) -> attention.Sight:
    """Returns attention mask and rotary angles of a layer, which may have a window."""
    windows = self.config.windows
    # Where all layers are alike, nothing is left to choose while the program runs.
    if all(windows) or not any(windows):
      return near if all(windows) else wide
    return jax.tree.map(lambda a, b: jnp.where(is_near, a, b), near, wide)

  def _layer(self, which: int) -> Block:
    """Returns one layer, of layers that are stacked or that stand apart."""
    return jax.tree.map(
      lambda leaf: leaf[which], self.blocks, is_leaf=lambda node: isinstance(node, tuple)
    )

  def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    dtype = self.config.dtype
    # A table that is cut along its width would have all rows looked up by every device.
    table = layout.spread(self.embedding[...], "vocab", None)
    x = layout.spread(table[tokens].astype(dtype), "batch")
    scale = self.config.embedding_scale
    return x if scale == 1.0 else x * jnp.asarray(scale, dtype)
