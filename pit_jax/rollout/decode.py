"""Sampling: one prefill, then a forward per step until all rows have ended.

A step takes one token of every row, or, where there are drafts, as many as are kept of those that
`speculation` proposes. A row that has ended costs as much as one that goes on. Where lengths
differ, `shrinking` leaves the ended rows behind whenever they are half of the batch, down to
`fewest`: every size is a program of its own, so compiling takes longer, and sampling follows the
tokens there are rather than the longest response.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from pit_jax.models import pure
from pit_jax.rollout import decode_state, drawing, prefill, speculation
from pit_jax.types import Params, Prompts, Responses

FEWEST_ROWS = 8  # no smaller batch is made: its step would take as long, reading the weights
FEWEST_OF_SMALL = 32  # of a small network: compiling for fewer takes longer than it saves


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the programs of sampling are made for.

  Args:
    length: R, the most tokens a response may have, its end of sequence included.
    eos_id: the token that ends a response, or several of which any does.
    pad_id: what fills a row after its end.
    shrinking: whether ended rows are left behind.
    fewest: rows, on all devices together, below which no smaller batch is made.
    tile: the most positions on each device that prompts are read by; see `prefill.in_tiles`. None
      reads all at once.
    parts: G, over how many devices the rows are spread; B is a multiple of it. Rows change places
      within a part alone, so no cache moves from one device to another.
    samples: responses to each prompt; they follow one another, and B counts them.
    platform: of the devices, by which a window is chosen: "cpu", "gpu" or "tpu".
    window: how many tokens of each row a forward reads at most; None chooses by platform and rows.
  """

  length: int
  eos_id: int | tuple[int, ...]
  pad_id: int
  shrinking: bool = False
  fewest: int = FEWEST_ROWS
  tile: int | None = None
  parts: int = 1
  samples: int = 1
  platform: str = "cpu"
  window: int | None = None

  def room(self, *, is_drafted: bool) -> int:
    """Returns how many places of the cache come after the prompts."""
    most = self.length - 1  # the last token is never read
    # A window may begin at the last token, and reads as many more.
    return most + (self.window or max(speculation.WINDOWS)) if is_drafted else most


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
  **settings: Any,
) -> decode_state.Sampled:
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
    drafts: what the responses to each prompt are likely to repeat, one for each prompt,
      right-padded, of any length. Their tokens are proposed, or those of the prompts where a text
      goes on there. None: nothing is proposed, and a forward gives one token.
    settings: as for `Settings`.
  """
  s = Settings(**settings)
  params = pure.for_sampling(model, params)
  given = (prompts, key, temperature, limits, top_p, numbers, drafts)
  state = begin(model, params, s, *given)
  advance = advancing(model, params, s, temperature, top_p, are_level=True)
  return finish(advance, state, s)


def begin(
  model: pure.PureModel,
  params: Params,
  s: Settings,
  prompts: Prompts,
  key: Key[Array, ""],
  temperature: Float[Array, ""],
  limits: Int[Array, " B"] | None = None,
  top_p: Float[Array, ""] | None = None,
  numbers: Int[Array, " B"] | None = None,
  drafts: Responses | None = None,
  width: int | None = None,
) -> decode_state.DecodeState:
  """Reads the prompts and draws the first tokens; see `sample`.

  Args:
    params: laid out for sampling.
    width: how many columns of the prompts are read, the last ones; None is all. What stands before
      them is padding in all rows.
  """
  shown = jax.tree.map(lambda x: x[:, x.shape[1] - width :], prompts) if width else prompts
  prompt_count = len(shown.tokens)
  if prompt_count % s.parts:
    problem = f"{prompt_count} prompts do not divide over {s.parts} devices"
    raise ValueError(f"{problem}; give a multiple of it")

  inputs = (model, params, shown, s.room(is_drafted=drafts is not None), s.parts)
  cache, logits, places = prefill.in_tiles(*inputs, s.tile) if s.tile else prefill.whole(*inputs)
  if s.samples > 1:
    cache, logits, places = prefill.repeated(cache, logits, places, s.samples)

  batch = places.size
  limits = jnp.full(batch, s.length) if limits is None else limits
  numbers = jnp.arange(batch) if numbers is None else numbers
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
  sources = jnp.zeros((batch, 0), jnp.int32)
  if drafts is not None:
    sources = jnp.repeat(speculation.sources(prompts, drafts), s.samples, axis=0)

  state = decode_state.begin(cache, places, keys, limits, sources, s.length, s.pad_id)
  proposals = _proposals(state, 1) if drafts is not None else None
  return _draw(temperature, top_p, s.eos_id, state, logits[:, None], proposals)


def advancing(
  model: pure.PureModel,
  params: Params,
  s: Settings,
  temperature: Float[Array, ""],
  top_p: Float[Array, ""] | None = None,
  *,
  are_level: bool = False,
) -> Callable[[decode_state.DecodeState], decode_state.DecodeState]:
  """Returns what takes a step of sampling; see `sample`.

  Args:
    params: laid out for sampling.
    are_level: whether all rows at work have as many tokens, where there are no drafts.
  """
  draw = functools.partial(_draw, temperature, top_p, s.eos_id)

  def advance(state):
    is_drafted = _is_drafted(state)
    slots = state.cache.visible.shape[1]
    first = slots - s.room(is_drafted=is_drafted)
    if not is_drafted and are_level:
      return _read_one(model, params, first, draw, state)

    read = functools.partial(_read, model, params, first, draw)
    if not is_drafted:
      return read(1, 1.0, state)
    few = state.cache.visible.shape[0] // s.parts
    widest = s.window or speculation.window(few, s.platform, s.length)
    cost = speculation.price(few, widest, s.platform)
    if widest == 1:
      return read(1, cost, state)

    # While windows give less than they cost, single tokens are read.
    is_wide = (state.pace >= cost) | (state.patience == 0)
    ways = (functools.partial(read, count, cost) for count in (widest, 1))
    return jax.lax.cond(is_wide, *ways, state)

  return advance


def finish(advance: Callable, state: decode_state.DecodeState, s: Settings) -> decode_state.Sampled:
  """Takes steps until all rows have ended, and returns them in the order of their places."""
  # By halves, so that few sizes are compiled and each serves many steps.
  count = state.rows.place.shape[1]
  while s.shrinking and count > 1 and count * s.parts >= 2 * s.fewest:
    count //= 2
    state = decode_state.leave(run(advance, state, count), count)

  return decode_state.finish(run(advance, state, 0))


def run(advance: Callable, state: decode_state.DecodeState, count: int) -> decode_state.DecodeState:
  """Takes steps until at most `count` rows of any part go on."""

  def is_more(state):
    return decode_state.is_going(state).sum(axis=1).max() > count

  return jax.lax.while_loop(is_more, advance, state)


def _read_one(
  model: pure.PureModel, params: Params, first: int, draw: Callable, state: decode_state.DecodeState
) -> decode_state.DecodeState:
  """Reads the last token of every row at work; the prompts end before slot `first`."""
  rows = decode_state.at_work(state)
  last = state.step - 1  # all rows that go on have as many tokens, so that one slot serves all
  ids = (jax.lax.dynamic_slice_in_dim(x, last, 1, axis=1) for x in (rows.tokens, rows.mask))
  logits, cache = model.apply(params, *ids, state.cache, first + last, method="extend")

  return draw(dataclasses.replace(state, cache=cache), logits[:, None], None)


def _read(
  model: pure.PureModel,
  params: Params,
  first: int,
  draw: Callable,
  count: int,
  cost: float,
  state: decode_state.DecodeState,
) -> decode_state.DecodeState:
  """Reads `count` tokens of every row at work: the last one, and what is proposed to follow it.

  The cost is how many times as long as a step of one token a step of the widest window takes.
  Without drafts nothing is proposed.
  """
  rows = decode_state.at_work(state)
  # Rows that have taken nothing stand empty: what is read there means nothing.
  last = jnp.maximum(rows.taken - 1, 0)
  ids = jnp.take_along_axis(rows.tokens, last[:, None], axis=1)
  proposals = None
  if _is_drafted(state):
    proposals = _proposals(state, count)
    ids = jnp.concatenate([ids, jnp.maximum(proposals[:, :-1], 0)], axis=1)
  given = (ids, jnp.ones(ids.shape, bool), state.cache, first + last)
  logits, cache = model.apply(params, *given, method="extend_all")
  after = draw(dataclasses.replace(state, cache=cache), logits, proposals)

  if count == 1:
    return dataclasses.replace(after, patience=state.patience - 1)
  going = decode_state.is_going(state).sum()
  pace = (after.rows.taken - state.rows.taken).sum() / jnp.maximum(going, 1)
  # What was seen long ago says nothing.
  pace = jnp.where(state.patience == 0, pace, (state.pace + pace) / 2)
  return dataclasses.replace(after, pace=pace, patience=jnp.int32(speculation.patience(cost)))


def _is_drafted(state: decode_state.DecodeState) -> bool:
  """Returns whether there are texts that proposals are copied from."""
  return state.rows.sources.shape[2] > 0


def _texts(rows: decode_state.Rows) -> Int[Array, "B S"]:
  """Returns what proposals are copied from: the sources of rows at work, and their responses."""
  responses = jnp.where(rows.mask, rows.tokens, speculation.NOTHING)
  return jnp.concatenate([rows.sources, responses], axis=1)


def _proposals(state: decode_state.DecodeState, count: int) -> Int[Array, "B T"]:
  """Returns so many tokens that each row at work is guessed to go on with."""
  rows = decode_state.at_work(state)
  start = rows.sources.shape[1]
  return speculation.propose(_texts(rows), rows.taken, rows.pointer, start, count)


def _draw(
  temperature: Float[Array, ""],
  top_p: Float[Array, ""] | None,
  eos_id: int | tuple[int, ...],
  state: decode_state.DecodeState,
  logits: Float[Array, "B T V"],
  proposals: Int[Array, "B T"] | None,
) -> decode_state.DecodeState:
  """Draws the next token, or with proposals the next few, of every row that has not ended."""
  rows = decode_state.at_work(state)
  ahead = jnp.arange(logits.shape[1])
  # Of every token its own, so that it does not matter in which step it is drawn.
  keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(rows.key, rows.taken[:, None] + ahead)
  if proposals is None:
    drawn = drawing.draw(logits[:, 0], temperature, keys[:, 0], top_p)
    tokens, logprobs = (x[:, None] for x in drawn)
    kept = jnp.zeros_like(rows.taken)
  else:
    tokens, logprobs, kept = drawing.draw_or_keep(logits, proposals, temperature, keys, top_p)

  # Ended rows are computed all the same, since shapes are fixed, and take nothing.
  is_end = jnp.isin(tokens, jnp.asarray(eos_id))
  is_after_end = jnp.cumsum(is_end, axis=1) > is_end
  is_real = (ahead < jnp.minimum(kept + 1, rows.left)[:, None]) & ~is_after_end
  number = is_real.sum(axis=1)
  has_ended = (is_end & is_real).any(axis=1)

  place = jnp.arange(rows.tokens.shape[1]) - rows.taken[:, None]
  is_new = (place >= 0) & (place < number[:, None])

  def written(old, new):
    return jnp.where(is_new, jnp.take_along_axis(new, place, axis=1, mode="clip"), old)

  state = decode_state.changed(
    dataclasses.replace(state, step=state.step + 1),
    tokens=written(rows.tokens, tokens),
    mask=written(rows.mask, is_real),
    logprobs=written(rows.logprobs, logprobs),
    taken=rows.taken + number,
    left=jnp.where(has_ended, 0, rows.left - number),
    passes=rows.passes + (rows.left > 0),
  )
  if proposals is None:
    return state

  rows = decode_state.at_work(state)
  was_replaced = kept < logits.shape[1]
  given = (_texts(rows), rows.taken, rows.pointer, kept, was_replaced, rows.sources.shape[1])
  return decode_state.changed(state, pointer=speculation.follow(*given))
