"""The seam between Flax modules and everything else: a module becomes three pure values.

This is the only file that splits and merges modules. Outside, a model is `init`, `apply` and
`axes`, and its parameters are a plain nested dict: the fastest form to pass through `jax.jit`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from pit_jax.models import architecture, heads
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: a key of compiled programs
class PureModel:
  """A network without state.

  Attributes:
    init: key → parameters, a nested dict of float32 arrays.
    apply: (parameters, *arguments, method="__call__") → the module's result.
    axes: the parameters' tree with each array replaced by the logical names of its axes.
    config: the shape of the trunk.
  """

  init: Callable[[jax.Array], Params]
  apply: Callable[..., Any]
  axes: dict[str, Any]
  config: architecture.ModelConfig


def pure(module: type[nnx.Module], config: architecture.ModelConfig) -> PureModel:
  """Returns the pure form of `module(config, rngs)`."""

  def build(key):
    return module(config, nnx.Rngs(params=key))

  graph, abstract = nnx.split(nnx.eval_shape(build, jax.random.key(0)), nnx.Param)

  def init(key):
    return nnx.to_pure_dict(nnx.split(build(key), nnx.Param)[1])

  def apply(params, *arguments, method="__call__", **keywords):
    state = jax.tree.map(lambda leaf: leaf, abstract)
    nnx.replace_by_pure_dict(state, params)
    return getattr(nnx.merge(graph, state), method)(*arguments, **keywords)

  return PureModel(init=init, apply=apply, axes=_axes(abstract), config=config)


@functools.cache  # one model per shape, so that a second run in the process compiles nothing again
def language_model(config: architecture.ModelConfig) -> PureModel:
  """Returns the pure language model (policy, improver) of this shape."""
  return pure(heads.LanguageModel, config)


@functools.cache
def scalar_model(config: architecture.ModelConfig) -> PureModel:
  """Returns the pure scalar model (reward, gap reward, value) of this shape."""
  return pure(heads.ScalarModel, config)


def on_trunk(model: PureModel, key: jax.Array, source: Params) -> Params:
  """Returns fresh parameters of `model` on the trunk of another model of the same shape."""

  def rest(key):
    return {name: leaf for name, leaf in model.init(key).items() if name != "trunk"}

  return {**jax.jit(rest)(key), "trunk": source["trunk"]}


def _axes(abstract) -> dict[str, Any]:
  # Stacked layers carry one more leading axis than the block they were made from.
  names = jax.tree.map(
    lambda leaf: ("layer",) * (leaf.ndim - len(leaf.axes)) + leaf.axes,
    abstract,
    is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
  )
  return nnx.to_pure_dict(names)
