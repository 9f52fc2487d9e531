"""The whole law is sampled, also what is rarer than noise of float32's own bits allows."""

import jax
import jax.numpy as jnp

from pit_jax.rollout import drawing

RARE, COUNT = 19.5, 2**22  # nats below the likely token; how many such tokens
KEYS = range(71, 471)  # the first draws one: it is among the first hundred that does


def test_tokens_rarer_than_one_in_a_hundred_million_are_drawn():
  """Each has 3.4e-9, all together 1.4%: of 400 keys none draws one with a chance of 0.3% alone.

  Noise of 23 bits ends at 16.6 and would have to meet one below −2.9 of the likely token: it draws
  none with 10^7 keys.
  """
  draw = jax.jit(drawing.draw)
  law = jnp.full((1, COUNT), -RARE).at[0, 0].set(0.0)
  for seed in KEYS:
    (token,), (logprob,) = draw(law, jnp.float32(1), jax.random.key(seed)[None])
    if token:
      break
  assert token > 0
  assert -RARE - 0.02 < logprob < -RARE
