"""Scores of many texts that share rows: nothing is read twice, and hardly any padding."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from pit_jax import hosts, layout, parallel, progress
from pit_jax.data import padding, prefixes
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.types import Params

ROOM = 2  # times the longest text: tokens of a row of texts, where lengths differ


@functools.cache
def _scorer(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  return jax.jit(layout.on(mesh, functools.partial(scoring.packed_scores, model)))


def scores(
  model: pure.PureModel,
  mesh: jax.sharding.Mesh,
  params: Params,
  texts: Sequence[np.ndarray],
  most: int,
  *,
  batch_size: int,
  by_length: bool,
) -> np.ndarray:
  """Returns a scalar model's score after the last token of every text, Float[N].

  Of an ensemble of k members it is Float[N k].

  Args:
    model: the scalar model.
    mesh: its devices.
    params: of the model, on the devices.
    texts: token ids of each, Int[n]; none is empty.
    most: tokens of a row, which is room for the longest text.
    batch_size: rows per compiled call.
    by_length: whether lengths differ: then rows have about ROOM times the tokens of the longest
      text, in quarters of `most`, and the last batch is filled up to a quarter alone.
  """
  length = most
  if by_length and texts:
    length = padding.level(ROOM * max(map(len, texts)), most)
  # A kernel for whole rows is told no more than where texts end.
  shares = not model.config.attention.startswith("splash")
  rows = prefixes.pack(texts, length, shares=shares)

  devices = parallel.parts(mesh)
  size = max(batch_size // devices, 1) * devices
  count = progress.Count("scoring", len(texts), "rows")
  found = []

  for start in range(0, len(rows.tokens), size):
    parts = [column[start : start + size] for column in (rows.tokens, rows.ends)]
    real = len(parts[0])
    whole = padding.rows_of_batch(real, size, devices) if by_length else size
    batch = tuple(np.pad(part, ((0, whole - real), (0, 0))) for part in parts)
    every = hosts.fetch(_scorer(model, mesh)(params, *parallel.put_batch(batch, mesh)))
    found.append(every[:real])
    count.add(int(((rows.row >= start) & (rows.row < start + size)).sum()))

  return np.concatenate(found)[rows.row, rows.last]
