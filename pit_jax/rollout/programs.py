"""The compiled programs of models at work, one for each network, mesh and setting."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pit_jax import layout, parallel
from pit_jax.models import pure
from pit_jax.rollout import decode, prefill, scoring
from pit_jax.types import Params


@functools.cache
def sampling(
  model: pure.PureModel, mesh: jax.sharding.Mesh, *, is_ragged: bool = False, **settings
) -> Callable:
  """Returns the compiled sample(params, prompts, key, temperature) of `decode.sample`'s settings.

  Where lengths differ (`is_ragged`), ended rows are left behind and prompts read in tiles.
  """
  ways = {**ways_on(model, mesh, is_ragged=is_ragged), **settings}
  return jax.jit(layout.on(mesh, functools.partial(decode.sample, model, **ways)))


def ways_on(model: pure.PureModel, mesh: jax.sharding.Mesh, *, is_ragged: bool) -> dict[str, Any]:
  """Returns the settings of sampling that follow from network, mesh, and whether lengths differ."""
  platform = mesh.devices.flat[0].platform
  tile = prefill.tile_size(platform) if is_ragged else None
  parts = parallel.parts(mesh)
  fewest = decode.FEWEST_OF_SMALL if model.is_small else decode.FEWEST_ROWS
  ragged = {"shrinking": is_ragged, "fewest": fewest, "tile": tile}
  return {**ragged, "parts": parts, "platform": platform}


def laid_out(model: pure.PureModel, mesh: jax.sharding.Mesh, params: Params) -> Params:
  """Returns a language model's parameters as sampling reads them; see `pure.for_sampling`.

  Sampling is given them where several batches are sampled from: it would lay them out for each.
  Those that lie so already are not copied.
  """
  stored = pure.named(params)
  # Only what lies otherwise goes through the program; the rest is shared.
  moved = pure.named(pure.copied(model, params, mesh))
  converted = _laying_out(model, mesh)(pure.nested({name: stored[name] for name in moved}))
  return pure.nested(stored | pure.named(converted))


@functools.cache
def _laying_out(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  return jax.jit(layout.on(mesh, functools.partial(pure.for_sampling, model)))


@functools.cache
def scoring_of(
  model: pure.PureModel, mesh: jax.sharding.Mesh, stop_ids: tuple[int, ...] = ()
) -> Callable:
  """Returns the compiled score(params, prompts, responses); see `scoring.sequence_scores`.

  Stop ids are of sampled responses the tokens that may have ended them; the first one is read in
  the place of each. None of them: responses are read as they are.
  """

  def score(params, prompts, responses):
    if stop_ids:
      responses = scoring.with_trained_end(responses, stop_ids)
    return scoring.sequence_scores(model, params, prompts, responses)[0]

  return jax.jit(layout.on(mesh, score))


@functools.cache
def logprobs_of(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  """Returns the compiled log-probability of every token; see `scoring.response_logprobs`."""
  return jax.jit(layout.on(mesh, lambda *asked: scoring.response_logprobs(model, *asked)[0]))


@functools.cache
def choosing(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  """Returns the compiled log-probability of each of a few responses to every prompt."""

  def weigh(params, prompts, choices):
    rows = prompts.tokens.shape[0]
    several = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), choices)
    logprobs = scoring.shared_logprobs(model, params, prompts, *several)
    return jnp.stack([one.sum(axis=1) for one in logprobs], axis=1)

  return jax.jit(layout.on(mesh, weigh))
