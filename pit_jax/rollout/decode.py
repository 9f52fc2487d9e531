"""Sampling: one prefill, then one token for every row per step until all rows have ended.

A row that has ended costs as much as one that goes on. Where lengths differ, `shrinking` leaves
the ended rows behind whenever they are half of the batch: every size is a program of its own, so
compiling takes longer, and sampling follows the tokens there are rather than the longest response.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from pit_jax import layout
from pit_jax.models import attention, pure
from pit_jax.rollout import prefill
from pit_jax.types import Params, Prompts, Responses

FEWEST_ROWS = 8  # no smaller batch is made: its step would take as long, reading the weights


@struct.dataclass
class DecodeState:
  """The state of sampling between two steps, for N rows in each of G parts of the batch.

  The first rows of every part are at work; the cache holds those alone.
  """

  step: jax.Array  # Int[], tokens sampled so far
  cache: attention.Cache  # the prompt, and the response but for its last token
  rows: jax.Array  # Int[G N], the place in its part of the prompt that each row answers
  tokens: jax.Array  # Int[G N R], sampled so far, padding elsewhere
  mask: jax.Array  # Bool[G N R], True on sampled tokens up to and including the end of sequence
  logprobs: jax.Array  # Float[G N R], of the sampled tokens under the sampled distribution
  left: jax.Array  # Int[G N], how many more tokens each row may take; 0 once it has ended


def sample(
  model: pure.PureModel,
  params: Params,
  prompts: Prompts,
  key: Key[Array, ""],
  temperature: Float[Array, ""],
  limits: Int[Array, " B"] | None = None,
  top_p: Float[Array, ""] | None = None,
  *,
  length: int,
  eos_id: int | tuple[int, ...],
  pad_id: int,
  shrinking: bool = False,
  tile: int | None = None,
  parts: int = 1,
  samples: int = 1,
) -> tuple[Responses, Float[Array, "B R"]]:
  """Samples a language model's responses to every prompt from softmax(logits / temperature).

  Without `top_p` nothing is cut from the distribution: a trainer at the same temperature computes
  the log-probabilities that are returned. With it no trainer does, so it is not for RL.

  Args:
    prompts: left-padded prompts; of several responses to one, it is read once.
    key: source of the noise; the same key gives the same responses.
    temperature: divides the logits; 0 takes the most likely token.
    limits: the most tokens of each response, from 1 to `length`; None is `length` for all.
    top_p: the probability of the most likely tokens that are drawn from, more than 0; see
      `nucleus`. None draws from all.
    length: R, the most tokens a response may have, its end of sequence included.
    eos_id: the token that ends a response, or several of which any does.
    pad_id: what fills a row after its end.
    shrinking: whether ended rows are left behind.
    tile: the most positions on each device that prompts are read by; see `prefill.in_tiles`. None
      reads all at once.
    parts: G, over how many devices the rows are spread; B is a multiple of it. Rows change places
      within a part alone, so no cache moves from one device to another.
    samples: responses to each prompt; they follow one another, and B counts them.

  Returns:
    The responses, and the log-probability of each of their tokens in nats, 0 on padding.
  """
  prompt_count, prompt_length = prompts.tokens.shape
  if prompt_count % parts:
    problem = f"{prompt_count} prompts do not divide over {parts} devices"
    raise ValueError(f"{problem}; give a multiple of it")

  append = functools.partial(_append, key, temperature, top_p, eos_id, pad_id)
  params = pure.for_sampling(model, params)

  def advance(state):
    few = state.cache.visible.shape[0]
    last = state.step - 1
    # Rows at work come first in every part; the others have no cache any more.
    at_work = (x[:, : few // parts] for x in (state.tokens, state.mask))
    ids = (jax.lax.dynamic_slice_in_dim(x, last, 1, axis=2).reshape(few, 1) for x in at_work)
    logits, cache = model.apply(params, *ids, state.cache, prompt_length + last, method="extend")

    return append(state.replace(cache=cache), logits)

  batch = prompt_count * samples
  limits = jnp.full(batch, length) if limits is None else limits
  inputs = (model, params, prompts, length - 1, parts)  # the last token is never read
  cache, logits, rows = prefill.in_tiles(*inputs, tile) if tile else prefill.whole(*inputs)
  if samples > 1:
    cache, logits, rows = prefill.repeated(cache, logits, rows, samples)

  # Reading in tiles sorts rows by length, and their limits follow them.
  limits = prefill.pick(limits.reshape(parts, -1), rows)
  shape = (*limits.shape, length)
  by_row = {"rows": rows, "left": limits.astype(jnp.int32), "mask": jnp.zeros(shape, bool)}
  by_row |= {"tokens": jnp.full(shape, pad_id, jnp.int32), "logprobs": jnp.zeros(shape)}
  start = DecodeState(step=jnp.int32(0), cache=cache, **layout.spread(by_row, "batch"))
  state = append(start, logits)
  count = batch // parts

  # By halves, so that few sizes are compiled and each serves many steps.
  while shrinking and count > 1 and count * parts >= 2 * FEWEST_ROWS:
    count //= 2
    state = _leave(_run(advance, state, count), count)

  return _finish(_run(advance, state, 0))


def _append(
  key: Key[Array, ""],
  temperature: Float[Array, ""],
  top_p: Float[Array, ""] | None,
  eos_id: int | tuple[int, ...],
  pad_id: int,
  state: DecodeState,
  logits: Float[Array, "B V"],
) -> DecodeState:
  """Draws the next token of every row at work that has not ended."""
  shape = (state.rows.shape[0], -1)
  sampled = draw(logits, temperature, jax.random.fold_in(key, state.step), top_p)
  token, logprob = (x.reshape(shape) for x in sampled)
  left = state.left[:, : token.shape[1]]
  real = left > 0

  # Ended rows are computed all the same, since shapes are fixed, and write padding.
  token = jnp.where(real, token, pad_id)
  columns = {"tokens": token, "mask": real, "logprobs": jnp.where(real, logprob, 0.0)}
  updated: dict[str, Any] = {
    name: jax.lax.dynamic_update_slice(getattr(state, name), column[:, :, None], (0, 0, state.step))
    for name, column in columns.items()
  }
  has_ended = jnp.isin(token, jnp.asarray(eos_id))
  left = jnp.where(has_ended, 0, jnp.maximum(left - 1, 0))

  remaining = jax.lax.dynamic_update_slice(state.left, left, (0, 0))
  return dataclasses.replace(state, step=state.step + 1, left=remaining, **updated)


def _run(advance: Callable, state: DecodeState, count: int) -> DecodeState:
  """Takes steps until at most `count` rows of any part go on."""
  return jax.lax.while_loop(lambda s: (s.left > 0).sum(axis=1).max() > count, advance, state)


def _leave(state: DecodeState, count: int) -> DecodeState:
  """Moves the rows that go on to the front, and drops the cache of all after the first `count`."""
  order = jnp.argsort(state.left == 0, axis=1, stable=True)

  def keep(x):
    parts = x.reshape(order.shape[0], -1, *x.shape[1:])
    return prefill.pick(parts, order[:, :count]).reshape(-1, *x.shape[1:])

  cache = attention.spread(jax.tree.map(keep, state.cache))
  return dataclasses.replace(_reorder(state, order), cache=cache)


def _finish(state: DecodeState) -> tuple[Responses, Float[Array, "B R"]]:
  """Returns the sampled responses and their log-probabilities, in the order of the prompts."""
  # `prefill.in_tiles` and `_leave` moved rows within their part.
  state = _reorder(state, jnp.argsort(state.rows, axis=1))
  by_part = (state.tokens, state.mask, state.logprobs)
  tokens, mask, logprobs = (x.reshape(-1, x.shape[2]) for x in by_part)
  return Responses(tokens=tokens, mask=mask), logprobs


def _reorder(state: DecodeState, order: Int[Array, "G N"]) -> DecodeState:
  """Returns the state with the rows of every part in another order; the cache stays as it is."""
  names = ("rows", "tokens", "mask", "logprobs", "left")
  moved: dict[str, Any] = {name: prefill.pick(getattr(state, name), order) for name in names}
  return dataclasses.replace(state, **moved)


def draw(
  logits: Float[Array, "B V"],
  temperature: Float[Array, ""],
  key: Key[Array, ""],
  top_p: Float[Array, ""] | None = None,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
  """Draws a token per row from softmax(logits / temperature) and returns its log-probability.

  With `top_p` the distribution is the `nucleus` of that one, and so is the log-probability.

  The largest of log-probabilities with Gumbel noise is a draw (Gumbel 1954; Maddison et al. 2014).
  The noise is of 46 random bits: float32's 23 alone end at 16.6, and a token of less than about
  1e-8 would never be drawn, though vocabularies have many of them.
  """
  # At temperature 0 the log-probabilities are those of temperature 1, not NaN.
  logprobs = jax.nn.log_softmax(logits / jnp.where(temperature > 0, temperature, 1.0))
  if top_p is not None:
    logprobs = nucleus(logprobs, top_p)
  noisy = jax.lax.cond(
    temperature > 0,
    lambda: logprobs + jax.random.gumbel(key, logprobs.shape, logprobs.dtype, mode="high"),
    lambda: logits,
  )
  token = _first_largest(noisy)

  return token, jnp.take_along_axis(logprobs, token[:, None], axis=-1)[:, 0]


def nucleus(logprobs: Float[Array, "B V"], top_p: Float[Array, ""]) -> Float[Array, "B V"]:
  """Returns the log-probabilities of top-p sampling, −inf of what is cut (Holtzman et al. 2020).

  Kept are the fewest most likely tokens whose probability is at least top_p, at least one, and what
  is as likely as the last of them.

  Args:
    logprobs: log-probabilities of all tokens, in nats.
    top_p: more than 0; 1 or more keeps all.
  """
  descending = -jnp.sort(-logprobs, axis=-1)
  likely = jnp.exp(descending)
  before = jnp.cumsum(likely, axis=-1) - likely
  # The first is always kept: nothing comes before it.
  last = jnp.where(before < top_p, descending, jnp.inf).min(axis=-1, keepdims=True)
  is_kept = (logprobs >= last) | (top_p >= 1)

  return jax.nn.log_softmax(jnp.where(is_kept, logprobs, -jnp.inf), axis=-1)


def _first_largest(x: Float[Array, "B V"]) -> Int[Array, " B"]:
  """Returns argmax(x, axis=1), in two passes that a CPU can vectorise, which takes a quarter."""
  places = jnp.arange(x.shape[1], dtype=jnp.int32)
  is_largest = x == x.max(axis=1, keepdims=True)
  return jnp.where(is_largest, places, x.shape[1] - 1).min(axis=1)
