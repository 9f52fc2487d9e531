"""The seam between Flax modules and everything else: a module becomes three pure values.

This is the only file that splits and merges modules. Outside, a model is `init`, `apply` and
`axes`, and its parameters are a plain nested dict: the fastest form to pass through `jax.jit`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pit_jax import layout
from pit_jax.models import architecture, heads, products
from pit_jax.types import Params

SMALL = 50_000_000  # parameters


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: a key of compiled programs
class PureModel:
  """A network without state."""

  init: Callable[[jax.Array], Params]  # key → nested dict of arrays: float32 whatever is trained
  apply: Callable[..., Any]  # (parameters, *arguments, method="__call__") → the module's result
  axes: dict[str, Any]  # the parameters' tree, of each array the logical names of its axes
  config: architecture.ModelConfig  # the shape of the trunk

  @functools.cached_property
  def size(self) -> int:
    """The number of parameters."""
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(self.init, jax.random.key(0))))

  @property
  def is_small(self) -> bool:
    """Whether it is so small that programs of it take longer to compile than to run for a while."""
    return self.size < SMALL


def pure(
  module: Callable[..., nnx.Module], config: architecture.ModelConfig, **how: Any
) -> PureModel:
  """Returns the pure form of `module(config, rngs, **how)`."""

  def build(key):
    return module(config, nnx.Rngs(params=key), **how)

  graph, abstract = nnx.split(nnx.eval_shape(build, jax.random.key(0)), nnx.Param)

  def init(key):
    return nnx.to_pure_dict(nnx.split(build(key), nnx.Param)[1])

  def apply(params, *arguments, method="__call__", **keywords):
    # A copy: replacing works in place, and `abstract` serves every call.
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


@functools.cache
def ensemble(config: architecture.ModelConfig, members: int) -> PureModel:
  """Returns the pure scalar model of this shape with 2 or more heads on its trunk."""
  return pure(heads.ScalarModel, config, members=members)


def complete(
  model: PureModel, key: jax.Array, known: Params, places: Params | None = None
) -> Params:
  """Returns parameters of `model`: the known ones, and fresh ones of the key under all other names.

  Each parameter lives in its place; None is the first device.
  """
  missing = tuple(sorted(named(model.axes).keys() - named(known).keys()))
  if not missing:
    return known

  homes = tuple(named(places)[name] for name in missing) if places else None
  return join(_drawing(model, missing, homes)(key), known)


@functools.cache  # of one program are all that lack the same
def _drawing(model: PureModel, names: tuple[str, ...], homes: tuple | None) -> Callable:
  """Returns key → fresh parameters of these names; others of the model are not drawn."""

  def fresh(key):
    leaves = named(model.init(key))
    return nested({name: leaves[name] for name in names})

  places = nested(dict(zip(names, homes, strict=True))) if homes else None
  return jax.jit(fresh, out_shardings=places)


def split(model: PureModel, tree: Params) -> tuple[Params, Params]:
  """Returns the trained parameters of a model and the frozen ones; `join` puts them together again.

  Without adapters everything is trained. With them, the adapters are, and a scalar model's head. A
  tree may have other leaves in the parameters' places.
  """
  trained: Params = {}
  frozen: Params = {}
  for name, leaf in named(tree).items():
    is_head = is_scalar(model) and not name.startswith("trunk.")
    is_trained = model.config.adapter is None or is_head or ".adapters." in name
    (trained if is_trained else frozen)[name] = leaf

  return nested(trained), nested(frozen)


def join(first: Params, second: Params) -> Params:
  """Returns the nested dict with the leaves of both, which have no leaf in common."""
  joined = dict(first)
  for name, node in second.items():
    joined[name] = join(first[name], node) if name in first else node
  return joined


def on_trained(loss_fn: Callable) -> Callable:
  """Returns the loss as a function of what is trained; `frozen["base"]` holds the rest."""

  def loss(trained, frozen, batch, rng):
    return loss_fn(join(trained, frozen["base"]), frozen, batch, rng)

  return loss


def for_sampling(model: PureModel, params: Params) -> Params:
  """Returns the parameters as every step of sampling reads them.

  They are in the type of the products, and whole on every device but for the axes that `tensor`
  cuts: what the mesh spreads over `fsdp` is gathered once, and not for every token. Layers that are
  unrolled are taken out of their stack, into tuples: a loop that slices it copies it in every step.
  Their matrices have outputs first; see `products`. Parameters that are so already, or a part of
  them, come back as they are.
  """
  axes = named(model.axes)

  def gather(name, leaf):
    if isinstance(leaf, tuple):  # layers that stand apart
      return leaf
    names = axes[name]
    if leaf.dtype == jnp.float32 and "norm" not in names:  # norms multiply in float32
      leaf = leaf.astype(model.config.dtype)
    leaf = layout.spread(leaf, *names)  # cast where it lives, so that half as much travels
    leaf = layout.spread(leaf, *names, rules=layout.SAMPLING_RULES)
    if names[0] != "layer" or not model.config.unroll:
      return leaf

    # Norms, biases and adapters have no row there, and are not transposed.
    inputs = products.INPUTS.get(name.removeprefix("trunk.blocks."))
    return tuple(products.transpose(one, inputs) if inputs else one for one in leaf)

  return nested({name: gather(name, leaf) for name, leaf in named(params).items()})


def gathered(model: PureModel, params: Params, mesh: jax.sharding.Mesh) -> Params:
  """Returns shapes, types and shardings of the parameters that `for_sampling` makes on a mesh.

  The parameters are arrays with places, which need not exist.
  """
  axes = named(model.axes)

  def place(leaf, names):
    if isinstance(leaf, tuple):
      return tuple(place(one, names[1:]) for one in leaf)
    if isinstance(leaf, products.Transposed):
      outputs = (*names[leaf.inputs :], *names[: leaf.inputs])
      return leaf.replace(matrix=place(leaf.matrix, outputs))

    home = layout.sharding(mesh, leaf.shape, names, layout.SAMPLING_RULES)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home)

  abstract = named(jax.eval_shape(_read(model), params))
  return nested({name: place(leaf, axes[name]) for name, leaf in abstract.items()})


def copied(model: PureModel, params: Params, mesh: jax.sharding.Mesh) -> Params:
  """Returns those of `gathered` that exist beside the parameters; others are read as they are."""
  stored, sampled = (named(tree) for tree in (params, gathered(model, params, mesh)))
  return nested({name: leaf for name, leaf in sampled.items() if _is_other(leaf, stored[name])})


@functools.cache  # traced once for all parameters of the same shapes
def _read(model: PureModel) -> Callable:
  return jax.jit(functools.partial(for_sampling, model))


def _is_other(read: Any, kept: Any) -> bool:
  """Returns whether sampling reads a parameter as another array than the one that is stored."""
  if isinstance(kept, tuple) or isinstance(read, tuple):  # layers that stand apart
    return not isinstance(kept, tuple)
  if not hasattr(kept, "sharding"):  # NumPy's
    return True

  # Alike in type and in what each device holds, one array serves both.
  places = {leaf.sharding.shard_shape(leaf.shape) for leaf in (read, kept)}
  return read.dtype != kept.dtype or len(places) > 1


def with_whole_head(model: PureModel, params: Params) -> Params:
  """Returns the parameters with what `logits` reads gathered, for logits made in several parts."""
  name = "trunk.embedding" if model.config.tied else "head"
  leaves = named(params)
  axes = named(model.axes)[name]
  whole = layout.spread(leaves[name], *axes, rules=layout.SAMPLING_RULES)
  return nested(leaves | {name: whole})


def is_scalar(model: PureModel) -> bool:
  """Returns whether a model is a scalar model: a reward, gap reward or value model."""
  return "bias" in model.axes


def named(tree: Params) -> dict[str, Any]:
  """Returns the leaves of a nested dict, tuples among them, under their dotted names."""
  # A tuple is one leaf: layers that stand apart are one parameter.
  leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda node: not isinstance(node, dict))
  return {".".join(key.key for key in path): leaf for path, leaf in leaves}


def nested(leaves: dict[str, Any]) -> Params:
  """Returns the nested dict of leaves under dotted names."""
  tree: Params = {}
  for name, leaf in leaves.items():
    *parents, last = name.split(".")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf

  return tree


def _axes(abstract) -> dict[str, Any]:
  # Stacked layers carry one more leading axis than the block they were made from.
  names = jax.tree.map(
    lambda leaf: ("layer",) * (leaf.ndim - len(leaf.axes)) + leaf.axes,
    abstract,
    is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
  )

  return nnx.to_pure_dict(names)
