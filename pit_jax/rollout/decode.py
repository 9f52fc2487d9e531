"""Sampling: one prefill, then a forward per step until all rows have ended.

A step takes one token of every row, or, where there are drafts, as many as are kept of those that
`speculation` proposes. A row that has ended costs as much as one that goes on. Where lengths
differ, `shrinking` leaves the ended rows behind whenever they are half of the batch: every size is
a program of its own, so compiling takes longer, and sampling follows the tokens there are rather
than the longest response.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from pit_jax import layout, types
from pit_jax.models import attention, pure
from pit_jax.rollout import drawing, prefill, speculation
from pit_jax.types import Params, Prompts, Responses

FEWEST_ROWS = 8  # no smaller batch is made: its step would take as long, reading the weights


@struct.dataclass
class Guesses:
  """Where proposals come from, for N rows in each of G parts of the batch."""

  sources: jax.Array  # Int[G N L], the texts; see `speculation.sources`
  pointer: jax.Array  # Int[G N], the place of the next proposal in sources and response
  pace: jax.Array  # Float[], tokens that a row takes in a forward of a whole window, as last seen
  patience: jax.Array  # Int[], steps of one token until a window is tried again


@struct.dataclass
class DecodeState:
  """The state of sampling between two steps, for N rows in each of G parts of the batch.

  The first rows of every part are at work; the cache holds those alone.
  """

  step: jax.Array  # Int[], steps so far: without guesses, the tokens of each row at work
  cache: attention.Cache  # the prompt, and the response but for its last token
  rows: jax.Array  # Int[G N], the place in its part of the prompt that each row answers
  keys: jax.Array  # Key[G N], the source of each row's noise
  tokens: jax.Array  # Int[G N R], sampled so far, padding elsewhere
  mask: jax.Array  # Bool[G N R], True on sampled tokens up to and including the end of sequence
  logprobs: jax.Array  # Float[G N R], of the sampled tokens under the sampled distribution
  taken: jax.Array  # Int[G N], how many tokens each row has
  left: jax.Array  # Int[G N], how many more tokens each row may take; 0 once it has ended
  passes: jax.Array  # Int[G N], forwards that each row was at work in, the prompt's included
  guesses: Guesses | None  # None: each step takes one token


@struct.dataclass
class Sampled:
  """Responses, and what is known of how they were sampled."""

  responses: Responses
  logprobs: types.Array  # Float[B R], of each token in nats, 0 on padding
  passes: types.Array  # Int[B], forwards that each row took part in, its prompt's included


def sample(
  model: pure.PureModel,
  params: Params,
  prompts: Prompts,
  key: Key[Array, ""],
  temperature: Float[Array, ""],
  limits: Int[Array, " B"] | None = None,
  top_p: Float[Array, ""] | None = None,
  numbers: Int[Array, " B"] | None = None,
  drafts: Responses | None = None,
  *,
  length: int,
  eos_id: int | tuple[int, ...],
  pad_id: int,
  shrinking: bool = False,
  tile: int | None = None,
  parts: int = 1,
  samples: int = 1,
  platform: str = "cpu",
  window: int | None = None,
) -> Sampled:
  """Samples a language model's responses to every prompt from softmax(logits / temperature).

  Without `top_p` nothing is cut from the distribution: a trainer at the same temperature computes
  the log-probabilities that are returned. With it no trainer does, so it is not for RL.

  Drafts change how long it takes and not what is sampled from: the distribution is the same, and at
  temperature 0 the tokens are. Nor does anything depend on the window, or on the other rows.

  Args:
    prompts: left-padded prompts; of several responses to one, it is read once.
    key: source of the noise; the same key gives the same responses.
    temperature: divides the logits; 0 takes the most likely token.
    limits: the most tokens of each response, from 1 to `length`; None is `length` for all.
    top_p: the probability of the most likely tokens that are drawn from, more than 0; see
      `drawing.nucleus`. None draws from all.
    numbers: of the rows among all that draw from this key, each with noise of its own; None is 0,
      1, … in the batch.
    drafts: what each response is likely to repeat, right-padded, of any length; it is read from in
      place of one token at a time, as are the prompts. Of several responses to one prompt there is
      one. None: one token at a time.
    length: R, the most tokens a response may have, its end of sequence included.
    eos_id: the token that ends a response, or several of which any does.
    pad_id: what fills a row after its end.
    shrinking: whether ended rows are left behind.
    tile: the most positions on each device that prompts are read by; see `prefill.in_tiles`. None
      reads all at once.
    parts: G, over how many devices the rows are spread; B is a multiple of it. Rows change places
      within a part alone, so no cache moves from one device to another.
    samples: responses to each prompt; they follow one another, and B counts them.
    platform: of the devices, by which a window is chosen: "cpu", "gpu" or "tpu".
    window: how many tokens of each row a forward reads at most; None chooses by platform and rows.
  """
  prompt_count, prompt_length = prompts.tokens.shape
  if prompt_count % parts:
    problem = f"{prompt_count} prompts do not divide over {parts} devices"
    raise ValueError(f"{problem}; give a multiple of it")

  def advance(state):
    few = state.cache.visible.shape[0] // parts
    if state.guesses is None:
      return _one_token(model, params, prompt_length, finish, state)

    widest = window or speculation.window(few, platform, length)
    cost = speculation.price(few, widest, platform)
    read = functools.partial(_proposed, model, params, prompt_length, finish)
    if widest == 1:
      return read(1, cost, state)
    is_wide = (state.guesses.pace >= cost) | (state.guesses.patience == 0)
    ways = (functools.partial(read, count, cost) for count in (widest, 1))
    return jax.lax.cond(is_wide, *ways, state)

  params = pure.for_sampling(model, params)
  finish = functools.partial(_append, temperature, top_p, eos_id, pad_id)
  room = length - 1  # the last token is never read
  if drafts is not None:
    # A window may begin at the last token, and reads as many more.
    room += window or max(speculation.WINDOWS)
  inputs = (model, params, prompts, room, parts)
  cache, logits, rows = prefill.in_tiles(*inputs, tile) if tile else prefill.whole(*inputs)
  if samples > 1:
    cache, logits, rows = prefill.repeated(cache, logits, rows, samples)

  state = _begin(key, rows, cache, limits, numbers, length, pad_id)
  if drafts is not None:
    state = state.replace(guesses=_guesses(prompts, drafts, rows, samples))
  proposals = None if drafts is None else _next(state, 1)
  state = finish(state, logits[:, None], proposals)
  count = rows.shape[1]

  # By halves, so that few sizes are compiled and each serves many steps.
  while shrinking and count > 1 and count * parts >= 2 * FEWEST_ROWS:
    count //= 2
    state = _leave(_run(advance, state, count), count)

  return _finish(_run(advance, state, 0))


def _begin(
  key: Key[Array, ""],
  rows: Int[Array, "G N"],
  cache: attention.Cache,
  limits: Int[Array, " B"] | None,
  numbers: Int[Array, " B"] | None,
  length: int,
  pad_id: int,
) -> DecodeState:
  """Returns the state before the first token; rows say which of their part each row is of."""
  parts = len(rows)
  limits = jnp.full(rows.size, length) if limits is None else limits
  numbers = jnp.arange(rows.size) if numbers is None else numbers
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
  shape = (*rows.shape, length)
  nothing = jnp.zeros(rows.shape, jnp.int32)
  by_row = {
    "rows": rows,
    # Reading in tiles sorts rows by length; limits and noise follow them.
    "left": prefill.pick(limits.astype(jnp.int32).reshape(parts, -1), rows),
    "keys": prefill.pick(keys.reshape(parts, -1), rows),
    "taken": nothing,
    "passes": nothing,
    "tokens": jnp.full(shape, pad_id, jnp.int32),
    "mask": jnp.zeros(shape, bool),
    "logprobs": jnp.zeros(shape),
  }
  return DecodeState(step=jnp.int32(0), cache=cache, guesses=None, **layout.spread(by_row, "batch"))


def _guesses(prompts: Prompts, drafts: Responses, rows: Int[Array, "G N"], samples: int) -> Guesses:
  """Returns where proposals come from at first: a draft's beginning."""
  parts = len(rows)
  texts = speculation.sources(prompts, drafts)
  texts = jnp.repeat(texts, samples, axis=0).reshape(parts, -1, texts.shape[1])
  by_row = (prefill.pick(texts, rows), jnp.zeros(rows.shape, jnp.int32))
  sources, pointer = layout.spread(by_row, "batch")
  # The first step tries a window.
  return Guesses(sources, pointer, pace=jnp.float32(0), patience=jnp.int32(0))


def _one_token(
  model: pure.PureModel, params: Params, first: int, finish: Callable, state: DecodeState
) -> DecodeState:
  """Reads the last token of every row at work; the prompts end before slot `first`."""
  few = state.cache.visible.shape[0]
  parts = len(state.rows)
  last = state.step - 1
  # Rows at work come first in every part; the others have no cache any more.
  at_work = (x[:, : few // parts] for x in (state.tokens, state.mask))
  ids = (jax.lax.dynamic_slice_in_dim(x, last, 1, axis=2).reshape(few, 1) for x in at_work)
  logits, cache = model.apply(params, *ids, state.cache, first + last, method="extend")

  return finish(state.replace(cache=cache), logits[:, None], None)


def _proposed(
  model: pure.PureModel,
  params: Params,
  first: int,
  finish: Callable,
  count: int,
  cost: float,
  state: DecodeState,
) -> DecodeState:
  """Reads `count` tokens of every row at work: the last one, and what is proposed to follow it.

  The cost is how many times as long as a step of one token a step of the widest window takes.
  """
  few = state.cache.visible.shape[0]
  parts = len(state.rows)
  proposals = _next(state, count)
  last = state.taken[:, : few // parts].reshape(few) - 1
  tokens = state.tokens[:, : few // parts].reshape(few, -1)
  token = jnp.take_along_axis(tokens, last[:, None], axis=1)
  ids = jnp.concatenate([token, jnp.maximum(proposals[:, :-1], 0)], axis=1)
  given = (ids, jnp.ones(ids.shape, bool), state.cache, first + last)
  logits, cache = model.apply(params, *given, method="extend_all")
  before = state.taken
  is_going = state.left > 0
  state = finish(state.replace(cache=cache), logits, proposals)

  guesses = state.guesses
  if count == 1:
    guesses = guesses.replace(patience=guesses.patience - 1)
  else:
    pace = (state.taken - before).sum() / jnp.maximum(is_going.sum(), 1)
    # What was seen long ago says nothing.
    pace = jnp.where(guesses.patience == 0, pace, (guesses.pace + pace) / 2)
    patience = jnp.int32(speculation.patience(cost))
    guesses = guesses.replace(pace=pace, patience=patience)
  return state.replace(guesses=guesses)


def _texts(state: DecodeState, few: int) -> tuple[Int[Array, "B S"], Int[Array, " B"], int]:
  """Returns sources and responses so far of rows at work, their lengths, and where they begin."""
  parts = len(state.rows)
  sources, tokens, mask = (
    x[:, : few // parts].reshape(few, -1) for x in (state.guesses.sources, state.tokens, state.mask)
  )
  texts = jnp.concatenate([sources, jnp.where(mask, tokens, speculation.NOTHING)], axis=1)
  return texts, state.taken[:, : few // parts].reshape(few), sources.shape[1]


def _next(state: DecodeState, count: int) -> Int[Array, "B T"]:
  """Returns so many tokens that each row at work is guessed to go on with."""
  few = state.cache.visible.shape[0]
  texts, taken, start = _texts(state, few)
  pointer = state.guesses.pointer[:, : few // len(state.rows)].reshape(few)
  return speculation.propose(texts, taken, pointer, start, count)


def _append(
  temperature: Float[Array, ""],
  top_p: Float[Array, ""] | None,
  eos_id: int | tuple[int, ...],
  pad_id: int,
  state: DecodeState,
  logits: Float[Array, "B T V"],
  proposals: Int[Array, "B T"] | None,
) -> DecodeState:
  """Draws the next token, or with proposals the next few, of every row that has not ended."""
  few, count, _ = logits.shape
  at_work = (len(state.rows), few // len(state.rows))
  taken, left = (x[:, : at_work[1]].reshape(few) for x in (state.taken, state.left))
  ahead = jnp.arange(count)
  keys = state.keys[:, : at_work[1]].reshape(few)
  # Of every token its own, so that it does not matter in which step it is drawn.
  keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys, taken[:, None] + ahead)

  if proposals is None:
    drawn = drawing.draw(logits[:, 0], temperature, keys[:, 0], top_p)
    token, logprob = (x[:, None] for x in drawn)
    kept = jnp.zeros(few, jnp.int32)
  else:
    token, logprob, kept = drawing.draw_or_keep(logits, proposals, temperature, keys, top_p)

  # Ended rows are computed all the same, since shapes are fixed, and take nothing.
  is_end = jnp.isin(token, jnp.asarray(eos_id))
  is_after_end = jnp.cumsum(is_end, axis=1) > is_end
  is_real = (ahead < jnp.minimum(kept + 1, left)[:, None]) & ~is_after_end
  number = is_real.sum(axis=1)
  has_ended = (is_end & is_real).any(axis=1)

  rows = {
    "taken": taken + number,
    "left": jnp.where(has_ended, 0, left - number),
    "passes": state.passes[:, : at_work[1]].reshape(few) + (left > 0),
  }
  place = jnp.arange(state.tokens.shape[2]) - taken[:, None]
  is_new = (place >= 0) & (place < number[:, None])
  for name, new in (("tokens", token), ("mask", is_real), ("logprobs", logprob)):
    old = getattr(state, name)[:, : at_work[1]].reshape(few, -1)
    rows[name] = jnp.where(is_new, jnp.take_along_axis(new, place, axis=1, mode="clip"), old)

  updated = {
    name: _put(getattr(state, name), x.reshape(*at_work, *x.shape[1:])) for name, x in rows.items()
  }
  state = dataclasses.replace(state, step=state.step + 1, **updated)
  if proposals is None:
    return state
  texts, taken, start = _texts(state, few)
  pointer = state.guesses.pointer[:, : at_work[1]].reshape(few)
  pointer = speculation.follow(texts, taken, pointer, kept, kept < count, start)
  moved = _put(state.guesses.pointer, pointer.reshape(at_work))
  return state.replace(guesses=state.guesses.replace(pointer=moved))


def _put(every: jax.Array, first: jax.Array) -> jax.Array:
  """Returns the rows of every part with the first ones replaced."""
  return jax.lax.dynamic_update_slice(every, first, (0,) * every.ndim)


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


def _finish(state: DecodeState) -> Sampled:
  """Returns what was sampled, in the order of the prompts."""
  # `prefill.in_tiles` and `_leave` moved rows within their part.
  state = _reorder(state, jnp.argsort(state.rows, axis=1))
  by_part = (state.tokens, state.mask, state.logprobs)
  tokens, mask, logprobs = (x.reshape(-1, x.shape[2]) for x in by_part)
  responses = Responses(tokens=tokens, mask=mask)
  return Sampled(responses, logprobs, passes=state.passes.reshape(-1))


def _reorder(state: DecodeState, order: Int[Array, "G N"]) -> DecodeState:
  """Returns the state with the rows of every part in another order; the cache stays as it is."""
  names = ("rows", "keys", "tokens", "mask", "logprobs", "taken", "left", "passes")
  moved: dict[str, Any] = {name: prefill.pick(getattr(state, name), order) for name in names}
  if state.guesses:
    texts = (state.guesses.sources, state.guesses.pointer)
    sources, pointer = (prefill.pick(x, order) for x in texts)
    moved["guesses"] = state.guesses.replace(sources=sources, pointer=pointer)
  return dataclasses.replace(state, **moved)
