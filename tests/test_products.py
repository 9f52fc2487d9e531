"""Products with matrices in both of their forms, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.models import lora, products


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3, products.FEW, products.FEW + 1])
@pytest.mark.parametrize("shape, inputs", [((6, 5), 1), ((6, 2, 5), 1), ((3, 2, 7), 2)], ids=str)
def test_both_forms_give_the_product(shape, inputs, rows):
  x, weight = draw(0, rows, 1, 6), draw(1, *shape)
  expected = x.reshape(rows, 6) @ weight.reshape(6, -1)
  turned = products.transpose(jnp.array(weight), inputs)
  assert turned.matrix.shape == (*shape[inputs:], *shape[:inputs])
  for form in (jnp.array(weight), turned):
    made = jax.jit(products.project, static_argnums=2)(x, form, inputs)
    assert made.shape == (rows, 1, *shape[inputs:]) and made.dtype == np.float32
    np.testing.assert_allclose(made.reshape(rows, -1), expected, rtol=1e-5, atol=1e-5)


def test_a_matrix_in_int8_is_multiplied_in_the_type_of_the_activations():
  x, weight = jnp.array(draw(0, 2, 1, 6), jnp.bfloat16), draw(1, 6, 5)
  kept, _ = lora.quantise(jnp.array(weight), 1)
  made = products.project(x, products.transpose(kept, 1))
  assert made.dtype == jnp.bfloat16
  expected = np.asarray(x, np.float32).reshape(2, 6) @ np.asarray(kept, np.float32)
  np.testing.assert_allclose(made.reshape(2, 5).astype(np.float32), expected, rtol=0.02, atol=0.5)


def test_the_weights_stand_first_on_cpus_and_for_few_rows():
  for rows, platform, is_first in [
    (4, "cpu", True),
    (4, "tpu", False),
    (4, "cuda", False),
    (products.FEW + 1, "cpu", False),
  ]:
    operands = draw(0, rows, 6), draw(1, 5, 6)
    traced = jax.jit(products.project_transposed).trace(*operands)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("optimization_barrier" in text) == is_first, (rows, platform)
    assert text.count("stablehlo.dot_general") == 1
