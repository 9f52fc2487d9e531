"""Continuous batching: any number of prompts in a fixed number of places, none of which waits.

In a batch, places whose rows have ended stand empty until the longest response has ended. Here they
are given to the next prompts as soon as some are free (Yu et al. 2022, "Orca", OSDI 2022), so that
sampling follows the tokens there are. What is sampled does not depend on it: of every response the
noise is its own, and its row reads nothing of the others.

Longest prompts go first: those that are read together are of like length, and the cache becomes
narrower as prompts do.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from pit_jax import hosts, layout, parallel, progress
from pit_jax.data import padding
from pit_jax.models import attention, pure
from pit_jax.rollout import decode, decode_state
from pit_jax.types import Params, Prompts, Responses

FILLED = 8  # what part of the places is filled at a time: the eighth
# Up to so many batches are asked as batches: places that are given on take twice the programs, for
# which few prompts do not pay. `pit bench --cases=many` compares the two once they are compiled.
FEW_BATCHES = 4


class Programs(NamedTuple):
  """What is compiled. Filling and running use the memory of the state that they are given."""

  empty: Callable  # (key, rows, width of prompts, of sources) → a state without rows
  fill: Callable  # (state, params, places, given, width) → with prompts read, and a token of each
  run: Callable  # (state, params, temperature, top_p, rows) → until so few rows of each part go on
  narrow: Callable  # (state, slots) → with so many slots fewer before the prompts
  finish: Callable  # (state, params, temperature, top_p) → Sampled, in the order of places


@functools.cache
def programs(model: pure.PureModel, mesh: jax.sharding.Mesh, s: decode.Settings) -> Programs:
  """Returns the programs of sampling on a mesh."""

  def empty(key, rows, width, sources):
    slots = width + s.room(is_drafted=sources > 0)
    cache = attention.empty_cache(model.config, rows, slots)
    return decode_state.empty(cache, key, s.parts, sources, s.length, s.pad_id)

  def fill(state, params, places, given, width):
    new = decode.begin(model, pure.for_sampling(model, params), s, **given, width=width)
    return decode_state.put(state, new, places)

  def advancing(params, temperature, top_p):
    return decode.advancing(model, pure.for_sampling(model, params), s, temperature, top_p)

  def run(state, params, temperature, top_p, rows):
    return decode.run(advancing(params, temperature, top_p), state, rows)

  def narrow(state, slots):
    return dataclasses.replace(state, cache=attention.resize(state.cache, -slots, 0))

  def finish(state, params, temperature, top_p):
    return decode.finish(advancing(params, temperature, top_p), state, s)

  def compiled(function, *static, **how):
    return jax.jit(layout.on(mesh, function), static_argnames=static, **how)

  return Programs(
    compiled(empty, "rows", "width", "sources"),
    compiled(fill, "width", donate_argnums=0),
    compiled(run, "rows", donate_argnums=0),
    compiled(narrow, "slots"),
    compiled(finish),
  )


def sample(
  model: pure.PureModel,
  mesh: jax.sharding.Mesh,
  s: decode.Settings,
  params: Params,
  prompts: Prompts,
  key: jax.Array,
  temperature: float | int,
  rows: int,
  *,
  limits: np.ndarray | None = None,
  top_p: float | int | None = None,
  drafts: Responses | None = None,
) -> decode_state.Sampled:
  """Returns what `decode.sample` does of any number of prompts, as NumPy arrays.

  Args:
    model: a language model.
    mesh: the devices; as many parts of it as the settings say share the rows.
    s: settings of sampling.
    params: on the mesh; as sampling reads them, or every program lays them out.
    prompts: N prompts.
    key: source of the noise; response i has that of row i of a batch.
    temperature: as for `decode.sample`, as are `limits`, `top_p` and `drafts`.
    rows: places, of all devices together; there are no more than responses, and on each device
      enough for the samples of one prompt.
  """
  queue = Queue(prompts, rows, s)
  total = len(prompts.tokens) * s.samples
  limits = np.full(total, s.length) if limits is None else np.asarray(limits)
  drawn: dict[str, Any] = {"temperature": np.float32(temperature)}
  drawn["top_p"] = None if top_p is None else np.float32(top_p)
  own = programs(model, mesh, s)
  sources = drafts.tokens.shape[1] + prompts.tokens.shape[1] + 2 if drafts else 0
  state = own.empty(key, rows=queue.owners.size, width=queue.width, sources=sources)
  count = progress.Count("sampling", total, "rows")
  owners = []
  made = []

  while True:
    for chosen, places, width in queue.fill():
      numbers = responses_of(chosen, s.samples)
      given = {"numbers": numbers.astype(np.int32), "limits": limits[numbers].astype(np.int32)}
      given |= jax.tree.map(lambda x, some=chosen: x[some], {"prompts": prompts, "drafts": drafts})
      places, given = parallel.put_batch((places, given), mesh)
      state = own.fill(state, params, places, {"key": key, **drawn, **given}, width=width)
    if not queue.is_waiting:
      break

    state = own.run(state, params, **drawn, rows=queue.busy)
    left, sampled = hosts.fetch((state.rows.left, decode_state.of_rows(state.rows)))
    has_ended = (left == 0) & (queue.owners >= 0)
    made.append(jax.tree.map(lambda x, some=has_ended: x[some], sampled))
    owners.append(queue.leave(has_ended))
    count.add(len(owners[-1]))
    if slots := queue.narrow():
      state = own.narrow(state, slots=slots)

  # Those that are still at work, by place.
  is_owned = queue.owners.ravel() >= 0
  sampled = hosts.fetch(own.finish(state, params, **drawn))
  made.append(jax.tree.map(lambda x: x[is_owned], sampled))
  owners.append(queue.leave(queue.owners >= 0))
  back = np.argsort(np.concatenate(owners))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[back], *made)


def responses_of(chosen: np.ndarray, samples: int) -> np.ndarray:
  """Returns the numbers of the responses to some prompts, Int[N · samples]."""
  return (chosen[:, None] * samples + np.arange(samples)).ravel()


class Queue:
  """Which prompts wait, and whose response is at work in which place."""

  def __init__(self, prompts: Prompts, rows: int, s: decode.Settings):
    """Puts all prompts in a queue; see `sample`."""
    lengths = np.asarray(prompts.mask).sum(axis=1)
    widest = prompts.tokens.shape[1]
    places = max(min(rows, len(lengths) * s.samples) // s.parts, s.samples)
    self._order = np.argsort(-lengths, kind="stable")
    self._widths = np.array([padding.level(length, widest) for length in lengths.tolist()])
    self._samples = s.samples
    self._begun = 0
    self._few = max(places // FILLED // s.samples, 1)  # prompts of each part, read together

    self.owners = np.full((s.parts, places), -1)  # the response in each place; −1: it is free
    self.width = int(self._widths.max())  # of the prompts in the cache

  @property
  def is_waiting(self) -> bool:
    """Whether a prompt has not been read yet."""
    return self._begun < len(self._order)

  @property
  def busy(self) -> int:
    """How many rows of any part may go on when the next prompts are read."""
    return self.owners.shape[1] - self._few * self._samples

  def fill(self) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yields prompts to be read next, as long as every part has places for them.

    Yields:
      The prompts' numbers, those of all parts one after the other, and the last one again where
      none is left; the places of their samples, Int[G M], one that there is not for the latter; and
      the columns that the longest of them needs.
    """
    parts, places = self.owners.shape
    wanted = self._few * self._samples
    while self.is_waiting and (self.owners < 0).sum(axis=1).min() >= wanted:
      numbers = np.arange(self._begun, self._begun + parts * self._few)
      chosen = self._order[np.minimum(numbers, len(self._order) - 1)]
      self._begun += len(numbers)
      responses = responses_of(chosen, self._samples).reshape(parts, wanted)
      is_new = np.repeat(numbers < len(self._order), self._samples).reshape(parts, wanted)
      free = np.argsort(self.owners >= 0, axis=1, kind="stable")[:, :wanted]
      part, at = is_new.nonzero()
      self.owners[part, free[part, at]] = responses[part, at]
      yield chosen, np.where(is_new, free, places).astype(np.int32), int(self._widths[chosen].max())

  def leave(self, has_ended: np.ndarray) -> np.ndarray:
    """Frees places, Bool[G N], and returns the responses that were there."""
    ended = self.owners[has_ended]
    self.owners[has_ended] = -1
    return ended

  def narrow(self) -> int:
    """Returns how many columns before the prompts nobody needs any more, and counts them out."""
    needed = np.append(
      self._order[self._begun :][:1], self.owners[self.owners >= 0] // self._samples
    )
    spare = self.width - int(self._widths[needed].max())
    self.width -= spare
    return spare
