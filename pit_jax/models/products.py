"""Products of activations with matrices, and the form in which sampling reads the matrices.

A CPU's kernels bring the right operand of a product into an order of their own, every time. With
the few rows of a step of sampling that is much of the work, if the weights stand there. So layers
that stand apart for sampling have their matrices with outputs first, and on CPUs the weights are
the left operand. Other platforms choose an order themselves.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Shaped

from pit_jax.models import architecture

# A layer's matrices → how many of their leading axes are inputs.
INPUTS = dict.fromkeys(architecture.MATRICES, 1) | {"output": 2}
FEW = 128  # rows; with more, both orders take as long


@struct.dataclass
class Transposed:
  """A matrix with its outputs before its inputs."""

  matrix: Any  # Shaped[*out *in]: an array, or its shape and type
  inputs: int = struct.field(pytree_node=False)  # how many of its last axes are inputs


def transpose(weight: Shaped[Array, "*in_out"], inputs: int) -> Transposed:
  """Returns a matrix whose first `inputs` axes are inputs with its outputs first."""
  return Transposed(jnp.moveaxis(weight, range(inputs), range(-inputs, 0)), inputs)


def project(
  x: Float[Array, "B T In"], weight: Shaped[Array, "..."] | Transposed, inputs: int = 1
) -> Float[Array, "B T *out"]:
  """Returns x · weight, positions flattened: so its gradient is twice as fast on CPU.

  The first `inputs` axes of the weight are x's features, or its last ones; it is of any type.
  """
  flat = x.reshape(-1, x.shape[-1])
  if isinstance(weight, Transposed):
    matrix = weight.matrix.reshape(-1, x.shape[-1]).astype(x.dtype)
    product = project_transposed(flat, matrix)
    outputs = weight.matrix.shape[:-inputs]
  else:
    product = flat @ weight.reshape(x.shape[-1], -1).astype(x.dtype)
    outputs = weight.shape[inputs:]

  return product.reshape(*x.shape[:-1], *outputs)


def project_transposed(
  x: Float[Array, "N In"], matrix: Float[Array, "Out In"], dtype: Any = None
) -> Float[Array, "N Out"]:
  """Returns x · matrixᵀ, of the given type or of the operands'."""

  def multiply(left, right):
    features = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(left, right, features, preferred_element_type=dtype)

  def weights_first(x, matrix):
    # The compiler would make x · matrixᵀ of (matrix · xᵀ)ᵀ again, but for the barrier.
    return jax.lax.optimization_barrier(multiply(matrix, x)).T

  if x.shape[0] > FEW:
    return multiply(x, matrix)
  return jax.lax.platform_dependent(x, matrix, cpu=weights_first, default=multiply)
