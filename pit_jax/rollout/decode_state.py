"""What sampling knows of its rows between two steps, and how they change places."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int, Key, Shaped

from pit_jax import layout, types
from pit_jax.models import attention
from pit_jax.rollout import prefill
from pit_jax.types import Responses


@struct.dataclass
class Rows:
  """All that there is of each of N rows in each of G parts of a batch."""

  place: jax.Array  # Int[G N], among the prompts of its part
  key: jax.Array  # Key[G N], the source of the row's noise
  tokens: jax.Array  # Int[G N R], sampled so far, padding elsewhere
  mask: jax.Array  # Bool[G N R], True on sampled tokens up to and including the end of sequence
  logprobs: jax.Array  # Float[G N R], of the sampled tokens under the sampled distribution
  taken: jax.Array  # Int[G N], how many tokens the row has
  left: jax.Array  # Int[G N], how many more it may take; 0 once it has ended
  passes: jax.Array  # Int[G N], forwards that it was at work in, the prompt's included
  sources: jax.Array  # Int[G N L], what is proposed; see `speculation.sources`. L is 0 without
  pointer: jax.Array  # Int[G N], the place of the next proposal in sources and response


@struct.dataclass
class DecodeState:
  """The state of sampling between two steps.

  The first rows of every part are at work; the cache holds those alone.
  """

  step: jax.Array  # Int[], steps so far: without proposals, the tokens of each row at work
  cache: attention.Cache  # the prompt, and the response but for its last token
  rows: Rows
  pace: jax.Array  # Float[], tokens that a row takes in a forward of a whole window, as last seen
  patience: jax.Array  # Int[], steps of one token until a window is tried again


@struct.dataclass
class Sampled:
  """Responses, and what is known of how they were sampled."""

  responses: Responses
  logprobs: types.Array  # Float[B R], of each token in nats, 0 on padding
  passes: types.Array  # Int[B], forwards that each row took part in, its prompt's included


def begin(
  cache: attention.Cache,
  place: Int[Array, "G N"],
  keys: Key[Array, " B"],
  limits: Int[Array, " B"],
  sources: Int[Array, "B L"],
  length: int,
  pad_id: int,
) -> DecodeState:
  """Returns the state before the first token.

  Args:
    cache: the prompts.
    place: of each row among those of its part.
    keys: the source of each row's noise.
    limits: the most tokens of each row.
    sources: what is proposed to each row.
    length: R.
    pad_id: what fills a row after its end.
  """

  # Reading in tiles sorts rows by length.
  def sorted_as_read(x):
    return prefill.pick(x.reshape(*place.shape, *x.shape[1:]), place)

  shape = (*place.shape, length)
  nothing = jnp.zeros(place.shape, jnp.int32)
  rows = Rows(
    place=place,
    key=sorted_as_read(keys),
    tokens=jnp.full(shape, pad_id, jnp.int32),
    mask=jnp.zeros(shape, bool),
    logprobs=jnp.zeros(shape),
    taken=nothing,
    left=sorted_as_read(limits.astype(jnp.int32)),
    passes=nothing,
    sources=sorted_as_read(sources),
    pointer=nothing,
  )
  # Nothing has been seen: the first step tries a window.
  rows = layout.spread(rows, "batch")
  return DecodeState(jnp.int32(0), cache, rows, pace=jnp.float32(0), patience=jnp.int32(0))


def empty(
  cache: attention.Cache, key: Key[Array, ""], parts: int, width: int, length: int, pad_id: int
) -> DecodeState:
  """Returns a state whose rows have all ended, in each of so many parts: room for others.

  Args:
    cache: with nothing in it, of as many rows as there are.
    key: any.
    parts: G.
    width: L, of the sources.
    length: R.
    pad_id: what fills a row after its end.
  """
  batch = len(cache.visible)
  place = jnp.broadcast_to(jnp.arange(batch // parts), (parts, batch // parts))
  nothing = jnp.zeros(batch, jnp.int32)
  sources = jnp.zeros((batch, width), jnp.int32)
  keys = jnp.broadcast_to(key, (batch,))
  return begin(cache, place, keys, nothing, sources, length, pad_id)


def put(state: DecodeState, new: DecodeState, places: Int[Array, "G M"]) -> DecodeState:
  """Returns the state with new rows in the given places of each part; none where there is no such.

  The cache of the new rows may be narrower: its slots are the last ones.
  """
  parts = len(places)
  places = prefill.pick(places, new.rows.place)

  def write(every, own):
    return jax.vmap(lambda old, some, at: old.at[at].set(some, mode="drop"))(every, own, places)

  def by_part(x):
    return x.reshape(parts, -1, *x.shape[1:])

  missing = state.cache.visible.shape[1] - new.cache.visible.shape[1]
  caches = (
    jax.tree.map(by_part, one) for one in (state.cache, attention.resize(new.cache, missing, 0))
  )
  cache = jax.tree.map(write, *caches)
  cache = attention.spread(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), cache))
  rows = jax.tree.map(write, state.rows, dataclasses.replace(new.rows, place=places))
  return dataclasses.replace(state, cache=cache, rows=layout.spread(rows, "batch"))


def at_work(state: DecodeState) -> Rows:
  """Returns the rows at work, those of all parts one after the other."""
  few = state.cache.visible.shape[0]
  parts = len(state.rows.place)
  return jax.tree.map(lambda x: x[:, : few // parts].reshape(few, *x.shape[2:]), state.rows)


def changed(state: DecodeState, **columns: Shaped[Array, "B ..."]) -> DecodeState:
  """Returns the state with other columns of the rows at work."""
  parts = len(state.rows.place)

  def put(every, own):
    own = own.reshape(parts, -1, *own.shape[1:])
    return jax.lax.dynamic_update_slice(every, own, (0,) * every.ndim)

  updated: dict[str, Any] = {
    name: put(getattr(state.rows, name), own) for name, own in columns.items()
  }
  return dataclasses.replace(state, rows=dataclasses.replace(state.rows, **updated))


def is_going(state: DecodeState) -> Bool[Array, "G N"]:
  """Returns which rows have not ended."""
  return state.rows.left > 0


def leave(state: DecodeState, count: int) -> DecodeState:
  """Moves the rows that go on to the front, and drops the cache of all after the first `count`."""
  order = jnp.argsort(state.rows.left == 0, axis=1, stable=True)

  def keep(x):
    parts = x.reshape(order.shape[0], -1, *x.shape[1:])
    return prefill.pick(parts, order[:, :count]).reshape(-1, *x.shape[1:])

  cache = attention.spread(jax.tree.map(keep, state.cache))
  return dataclasses.replace(state, rows=_reorder(state.rows, order), cache=cache)


def finish(state: DecodeState) -> Sampled:
  """Returns what was sampled, in the order of the prompts."""
  # `prefill.in_tiles` and `leave` moved rows within their part.
  rows = _reorder(state.rows, jnp.argsort(state.rows.place, axis=1))
  return of_rows(jax.tree.map(lambda x: x.reshape(rows.place.size, *x.shape[2:]), rows))


def of_rows(rows: Rows) -> Sampled:
  """Returns what was sampled in some rows, as they lie."""
  return Sampled(Responses(tokens=rows.tokens, mask=rows.mask), rows.logprobs, rows.passes)


def _reorder(rows: Rows, order: Int[Array, "G N"]) -> Rows:
  return jax.tree.map(lambda x: prefill.pick(x, order), rows)
