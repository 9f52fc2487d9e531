"""Adapters: low-rank changes of frozen matrices (LoRA, Hu et al. 2021, arXiv 2106.09685).

An adapted matrix maps x to x·W + (x·A)·B · alpha/rank. W is frozen, and one W serves every model of
a run; A and B are a model's own. B starts at zero, so that an adapted model starts as its base.

A frozen matrix may be kept in int8: per output, the largest weight becomes ±127, and a float32
scale undoes that after the product.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8

from pit_jax.models import architecture, products

LARGEST = 127  # of int8


class Adapter(nnx.Module):
  """A and B of one matrix."""

  def __init__(
    self, name: str, shape: tuple[int, ...], axes: tuple[str, ...], rank: int, rngs: nnx.Rngs
  ):
    inputs = products.INPUTS[name]
    normal = jax.random.normal(rngs.params(), (*shape[:inputs], rank))
    self.a = nnx.Param(normal * math.prod(shape[:inputs]) ** -0.5, axes=(*axes[:inputs], "rank"))
    self.b = nnx.Param(jnp.zeros((rank, *shape[inputs:])), axes=("rank", *axes[inputs:]))


class Adapters(nnx.Module):
  """The adapters of one layer, each under the name of its matrix."""


def change(
  x: Float[Array, "B T In"], adapter: Adapter, config: architecture.Adapter
) -> Float[Array, "B T *out"]:
  """Returns the LoRA term (x · A) · B · alpha / rank, which is added to x · W."""
  low = x @ adapter.a[...].reshape(x.shape[-1], -1).astype(x.dtype)
  # Scaled at the rank, where there are the fewest numbers.
  return products.project(low * config.scale, adapter.b[...])


def quantise(
  weight: Float[Array, "..."], inputs: int
) -> tuple[Int8[Array, "..."], Float[Array, "..."]]:
  """Returns a layer's matrix in int8 and the scale of each output: weight ≈ int8 · scale.

  Its first `inputs` axes are inputs.
  """
  reduced = tuple(range(inputs))
  # An output of zeros has a scale too, so that nothing is divided by 0.
  scale = jnp.maximum(jnp.abs(weight).max(axis=reduced), 1e-30) / LARGEST
  return jnp.round(weight / scale).astype(jnp.int8), scale.astype(jnp.float32)
