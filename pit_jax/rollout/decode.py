"""Sampling: one prefill, then one token for every row per step until all rows have ended."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from pit_jax.models import attention, pure
from pit_jax.types import Params, Prompts, Responses


@struct.dataclass
class DecodeState:
  """What one step of sampling hands to the next."""

  step: jax.Array  # Int[], tokens sampled so far
  cache: attention.Cache  # the prompt, and the response but for its last token
  tokens: jax.Array  # Int[B R], sampled so far, padding elsewhere
  mask: jax.Array  # Bool[B R], True on sampled tokens up to and including the end of sequence
  logprobs: jax.Array  # Float[B R], of the sampled tokens under the sampled law
  ended: jax.Array  # Bool[B], True once the end-of-sequence token was sampled


def sample(
  model: pure.PureModel,
  params: Params,
  prompts: Prompts,
  key: Key[Array, ""],
  temperature: Float[Array, ""],
  *,
  length: int,
  eos_id: int | tuple[int, ...],
  pad_id: int,
) -> tuple[Responses, Float[Array, "B R"]]:
  """Samples a response to every prompt from softmax(logits / temperature).

  Nothing is cut from the law (no top-k, no top-p), so the returned log-probabilities are those of
  the law that was sampled, and a trainer at the same temperature computes the same numbers.

  Args:
    model: a language model.
    params: its parameters.
    prompts: left-padded prompts.
    key: source of the noise; the same key gives the same responses.
    temperature: divides the logits; 0 takes the most likely token.
    length: R, the most tokens a response may have, its end of sequence included.
    eos_id: the token that ends a response, or several of which any does.
    pad_id: what fills a row after its end.

  Returns:
    The responses, and the log-probability of each of their tokens in nats, 0 on padding.
  """
  prompt_length = prompts.tokens.shape[1]

  def unfinished(state):
    return (state.step < length) & ~jnp.all(state.ended)

  def append(state, logits):
    """Draws the next token of every row that has not ended."""
    token, logprob = draw(logits, temperature, jax.random.fold_in(key, state.step))
    token, real = jnp.where(state.ended, pad_id, token), ~state.ended
    return state.replace(
      step=state.step + 1,
      tokens=state.tokens.at[:, state.step].set(token),
      mask=state.mask.at[:, state.step].set(real),
      logprobs=state.logprobs.at[:, state.step].set(jnp.where(real, logprob, 0.0)),
      ended=state.ended | jnp.isin(token, jnp.asarray(eos_id)),
    )

  def advance(state):
    last = state.step - 1
    ids = tuple(
      jax.lax.dynamic_slice_in_dim(x, last, 1, axis=1) for x in (state.tokens, state.mask)
    )
    logits, cache = model.apply(params, *ids, state.cache, prompt_length + last, method="extend")
    return append(state.replace(cache=cache), logits)

  start = append(*_prefill(model, params, prompts, length, pad_id))
  state = jax.lax.while_loop(unfinished, advance, start)
  return Responses(tokens=state.tokens, mask=state.mask), state.logprobs


def _prefill(
  model: pure.PureModel, params: Params, prompts: Prompts, length: int, pad_id: int
) -> tuple[DecodeState, Float[Array, "B V"]]:
  """Returns the state after reading the prompts, and the logits of the first token."""
  batch, prompt_length = prompts.tokens.shape
  cache = attention.empty_cache(model.config, batch, prompt_length)
  logits, cache = model.apply(
    params, prompts.tokens, prompts.mask, cache, jnp.int32(0), method="extend"
  )
  state = DecodeState(
    step=jnp.int32(0),
    cache=attention.lengthen(cache, length - 1),  # the last token is never read
    tokens=jnp.full((batch, length), pad_id, jnp.int32),
    mask=jnp.zeros((batch, length), bool),
    logprobs=jnp.zeros((batch, length)),
    ended=jnp.zeros((batch,), bool),
  )
  return state, logits


def draw(
  logits: Float[Array, "B V"], temperature: Float[Array, ""], key: Key[Array, ""]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
  """Draws a token per row from softmax(logits / temperature) and returns its log-probability."""
  law = jax.nn.log_softmax(logits / jnp.where(temperature > 0, temperature, 1.0))
  greedy = jnp.argmax(logits, axis=-1)
  token = jnp.where(temperature > 0, jax.random.categorical(key, law), greedy)
  return token, jnp.take_along_axis(law, token[:, None], axis=-1)[:, 0]
