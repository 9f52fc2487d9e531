"""A run's arrays without their content: shapes, dtypes and shardings, as its programs take them."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from pit_jax import layout, parallel
from pit_jax.data import padding
from pit_jax.models import attention, pure
from pit_jax.run import kinds, origin, published_models
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Prompts, Responses

TEMPLATE_TOKENS = 16  # of an improver prompt beside x and the reference: its template, about


@dataclasses.dataclass(frozen=True)
class Arrays:
  """The models and rows of a run as abstract arrays."""

  config: ml_collections.ConfigDict
  mesh: jax.sharding.Mesh  # of devices, which need not exist
  language: pure.PureModel  # of policy and improver
  scalar: pure.PureModel  # of reward, gap reward and value models
  published: published_models.Published | None = None  # that is R_P; None: R_P is trained here

  @property
  def reward(self) -> pure.PureModel | None:
    """The network that is R_P; None of one that transformers computes in PyTorch."""
    return self.published.scalar if self.published else self.scalar

  @property
  def prompt(self) -> int:
    """Tokens of the longest policy prompt, padded."""
    return padding.bucket(self.config.data.max_prompt_length)

  @property
  def improver_prompt(self) -> int:
    """Tokens of the longest improver prompt, padded: x, a reference, the template."""
    c = self.config.data
    return padding.bucket(c.max_prompt_length + c.max_response_length + TEMPLATE_TOKENS)

  def prompt_of(self, prompts: str) -> int:
    """Returns the tokens of the longest prompt of a stage, POLICY's or IMPROVER's, padded."""
    return self.improver_prompt if prompts == kinds.IMPROVER else self.prompt

  def network(self, name: str) -> pure.PureModel | None:
    """Returns a network by its name: language, scalar, reward for that of R_P; or none."""
    own = {"language": self.language, "scalar": self.scalar, "reward": self.reward}
    return own[name] if name != kinds.NONE else None

  @property
  def response(self) -> int:
    """Tokens of the longest response, padded."""
    return padding.bucket(self.config.data.max_response_length)

  def rows(self, kind: type[Prompts] | type[Responses], count: int, length: int) -> Any:
    """Returns prompts or responses, spread as a batch is."""
    shape = (count, length)
    tokens = self.array(shape, jnp.int32, "batch", None)
    return kind(tokens=tokens, mask=self.array(shape, jnp.bool_, "batch", None))

  def array(self, shape: tuple[int, ...], dtype: Any, *names: str | None) -> jax.ShapeDtypeStruct:
    """Returns an abstract array with its sharding."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.sharding(self.mesh, shape, names))

  @property
  def key(self) -> jax.ShapeDtypeStruct:
    """A random key."""
    return self.array((), jax.eval_shape(lambda: jax.random.key(0)).dtype)

  @property
  def number(self) -> jax.ShapeDtypeStruct:
    """A number, as rates and temperatures are."""
    return self.array((), jnp.float32)

  def params(self, model: pure.PureModel) -> Any:
    """Returns the parameters of a model, sharded as a run keeps them."""
    abstract = _shapes(model)
    return _placed(abstract, parallel.partition(abstract, model.axes, self.mesh))

  def waiting(self, params: Any) -> Any:
    """Returns the parameters of a model that is not trained now, where it waits to be asked."""
    if not self.config.model.offload:
      return params
    return _placed(params, jax.tree.map(lambda x: x.sharding.with_memory_kind(layout.HOST), params))

  def parts(self, model: pure.PureModel) -> tuple[Any, Any]:
    """Returns the trained and the frozen parameters of a model."""
    return pure.split(model, self.params(model))

  def own(self, model: pure.PureModel | None) -> Any:
    """Returns what a model shares with no other, where it waits; adapters share their base."""
    if model is None:
      return {}
    # A published R_P shares no base with the models of the run.
    is_whole = self.published is not None and model == self.published.scalar
    return self.waiting(self.params(model) if is_whole else self.parts(model)[0])

  def kept(self, names: Sequence[str]) -> list[Any]:
    """Returns the models of a stage that wait meanwhile; "initial" is what all are made of."""
    # The first model is the base itself, which `base` counts, or one of random weights.
    initial = {} if self.base() else self.own(self.language)
    return [initial if name == "initial" else self.own(self.network(name)) for name in names]

  def base(self) -> Any:
    """Returns what a run keeps of the model that it starts from, beside the models made of it."""
    is_kept = origin.directory(self.config) and self.language.config.adapter is None
    return self.waiting(self.params(self.language)) if is_kept else {}

  def state(self, model: pure.PureModel, job: ml_collections.ConfigDict) -> Any:
    """Returns the train state of supervised fine-tuning or reward modelling."""
    axes = pure.split(model, model.axes)[0]
    return self._state(self.parts(model)[0], axes, optimizers.supervised(job))

  def actors(self, job: ml_collections.ConfigDict) -> training_step.TrainState:
    """Returns the train state of a job of RL: of policy and, where there is one, value model."""
    own = {"policy": self.language, "value": self.scalar}
    models = {kind: own[kind] for kind in optimizers.kinds(job.estimator)}
    axes = {kind: pure.split(model, model.axes)[0] for kind, model in models.items()}
    params = {kind: self.parts(model)[0] for kind, model in models.items()}
    return self._state(params, axes, optimizers.reinforcement(job))

  def _state(self, params: Any, axes: Any, optimizer) -> training_step.TrainState:
    # Nothing is allocated, so the devices need not exist.
    abstract = jax.eval_shape(lambda tree: training_step.init_state(tree, optimizer), params)
    return _placed(abstract, parallel.state_sharding(abstract, axes, self.mesh))

  def cache(self, count: int, slots: int) -> Any:
    """Returns the keys and values of so many rows."""

    def empty():  # the parts: a cache itself holds arrays alone
      made = attention.empty_cache(self.language.config, count, slots)
      return made.keys, made.values

    # Layers that are unrolled have an array each; scanned ones share one with an axis for them.
    heads = ("kv_heads",) if self.language.config.unroll else (None, "kv_heads")
    return jax.tree.map(
      lambda leaf: self.array(leaf.shape, leaf.dtype, "batch", *heads, None, None),
      jax.eval_shape(empty),
    )


def device_bytes(tree: Any) -> int:
  """Returns the bytes that one device holds of arrays with places; its host's memory is not its."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
    if leaf.sharding.memory_kind != layout.HOST
  )


@functools.cache  # a search asks for the same model on many meshes
def _shapes(model: pure.PureModel) -> Any:
  return jax.eval_shape(model.init, jax.random.key(0))


def _placed(tree: Any, places: Any) -> Any:
  return jax.tree.map(
    lambda leaf, home: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home), tree, places
  )
