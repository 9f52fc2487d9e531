"""Ragged batches for the tests: rows of any length, and padding that would be noticed."""

import hypothesis
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies

ROWS, LENGTH = 3, 6
ROW_LENGTHS = strategies.lists(strategies.integers(0, LENGTH), min_size=ROWS, max_size=ROWS)
QUICK = hypothesis.settings(deadline=None, max_examples=25)


def normal(seed, *shape, scale=1.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def mask_of(lengths):
  return np.arange(LENGTH) < np.array(lengths)[:, None]


def poison(values, mask, filler=np.nan):
  """What stands on padding must not matter, so it is made to hurt."""
  return jnp.array(np.where(mask, values, filler).astype(np.float32))
