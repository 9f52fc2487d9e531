"""PPO's optimiser, and the names under which an iteration reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.stages import ppo


def first_update(gradients, **changes):
  """Returns the update that Adam makes of the first gradients; ε is large, so size matters."""
  constants = {"clip_norm": 2.0, "epsilon": 10.0, "value_scale": 1.0} | changes
  optimizer = ppo.optimizer(**constants)
  params = jax.tree.map(jnp.zeros_like, gradients)
  return optimizer.update(gradients, optimizer.init(params), params)[0]


def gradients(policy, value):
  """Gradients of the given norms."""
  direction = jnp.array([0.6, 0.8])
  return {"policy": {"w": policy * direction}, "value": {"w": value * direction}}


def slow_update(norm, clip=2.0, epsilon=10.0):
  gradient = min(norm, clip) * np.array([0.6, 0.8])  # after one step, m / √v is g / |g|
  return gradient / (np.abs(gradient) + epsilon)


@pytest.mark.parametrize("policy, value", [(1.0, 100.0), (100.0, 1.0), (0.5, 0.5)])
def test_policy_and_value_are_clipped_apart(policy, value):
  update = first_update(gradients(policy, value))
  np.testing.assert_allclose(update["policy"]["w"], slow_update(policy), rtol=1e-5)
  np.testing.assert_allclose(update["value"]["w"], slow_update(value), rtol=1e-5)


def test_the_value_learns_at_a_multiple_of_the_rate():
  plain, scaled = (first_update(gradients(1.0, 1.0), value_scale=s) for s in (1.0, 3.0))
  np.testing.assert_array_equal(plain["policy"]["w"], scaled["policy"]["w"])
  np.testing.assert_allclose(scaled["value"]["w"], 3 * plain["value"]["w"], rtol=1e-6)
