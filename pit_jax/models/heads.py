"""Heads on the trunk: next-token logits, or one number per position.

Reward, gap reward and value models are the same network: a scalar head on the trunk. They differ
in what they read (a response, a response after a reference, a prefix) and in their training.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from pit_jax import layout
from pit_jax.models import architecture, attention, products, transformer

Tokens = Int[Array, "B T"]
Mask = Bool[Array, "B T"]


class LanguageModel(nnx.Module):
  """The policy and the improver: log-odds of the next token at every position."""

  def __init__(self, config: architecture.ModelConfig, rngs: nnx.Rngs):
    self.trunk = transformer.Transformer(config, rngs)
    if not config.tied:
      weight = jax.random.normal(rngs.params(), (config.width, config.vocabulary))
      weight = (weight * config.width**-0.5).astype(config.wide)
      self.head = nnx.Param(weight, axes=("embed", "vocab"))

  def __call__(
    self, tokens: Tokens, mask: Mask, last: int | None = None, segments: attention.Segments = None
  ) -> Float[Array, "B T2 V"]:
    """Returns float32 logits of the token after each position; see `transformer.Transformer`."""
    return self.logits(self.hidden(tokens, mask, last, segments))

  def hidden(
    self, tokens: Tokens, mask: Mask, last: int | None = None, segments: attention.Segments = None
  ) -> Float[Array, "B T2 D"]:
    """Returns the hidden states that `logits` makes the logits of."""
    return self.trunk(tokens, mask, segments, last)

  def extend(
    self, tokens: Tokens, mask: Mask, cache: attention.Cache, slot: attention.Slot
  ) -> tuple[Float[Array, "B V"], attention.Cache]:
    """Reads tokens into the cache and returns the logits after the last of them."""
    hidden, cache = self.read(tokens, mask, cache, slot)
    return self.logits(hidden)[:, 0], cache

  def extend_all(
    self, tokens: Tokens, mask: Mask, cache: attention.Cache, slot: attention.Slot
  ) -> tuple[Float[Array, "B T V"], attention.Cache]:
    """Reads a few tokens into the cache and returns the logits after each of them."""
    hidden, cache = self.trunk.extend(tokens, mask, cache, slot)
    # As if each were a row of its own: so few are multiplied as one token of every row is.
    logits = self.logits(hidden.reshape(-1, 1, hidden.shape[-1]))
    return logits.reshape(*tokens.shape, -1), cache

  def read(
    self, tokens: Tokens, mask: Mask, cache: attention.Cache, slot: attention.Slot
  ) -> tuple[Float[Array, "B 1 D"], attention.Cache]:
    """Reads tokens into the cache and returns the last hidden state, for `logits`."""
    hidden, cache = self.trunk.extend(tokens, mask, cache, slot)
    return hidden[:, -1:], cache

  def logits(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
    """Returns the float32 logits of the token after each hidden state."""
    is_tied = self.trunk.config.tied
    weight = (self.trunk.embedding if is_tied else self.head)[...].astype(hidden.dtype)
    if is_tied and hidden.shape[1] == 1:  # as in every step of sampling
      logits = products.project_transposed(hidden[:, 0], weight, jnp.float32)[:, None]
    else:
      equation = "BTD,VD->BTV" if is_tied else "BTD,DV->BTV"
      logits = jnp.einsum(equation, hidden, weight, preferred_element_type=jnp.float32)

    logits = layout.spread(logits, "batch", None, "vocab")
    return attention.capped(logits, self.trunk.config.logit_cap)


class ScalarModel(nnx.Module):
  """One number per position: the reward of the text so far, or the value of a state.

  An ensemble of members has a number of each.
  """

  def __init__(self, config: architecture.ModelConfig, rngs: nnx.Rngs, members: int = 1):
    self.trunk = transformer.Transformer(config, rngs)
    shape = (config.width,) if members == 1 else (members, config.width)
    # N(0, 1/(D+1)) starts the scores near zero with unit scale (Stiennon et al. 2020, app. B).
    weight = jax.random.normal(rngs.params(), shape) * (config.width + 1) ** -0.5
    self.head = nnx.Param(weight, axes=(None, "embed")[-len(shape) :])
    self.bias = nnx.Param(jnp.zeros(()), axes=())

  def __call__(
    self, tokens: Tokens, mask: Mask, last: int | None = None, segments: attention.Segments = None
  ) -> Float[Array, "B T2 *members"]:
    """Returns the float32 score at each position; see `transformer.Transformer`."""
    # In float32: scores are read as differences, which bfloat16 would round away.
    hidden = self.trunk(tokens, mask, segments, last).astype(jnp.float32)
    return hidden @ self.head[...].T + self.bias[...]
