"""The bootstrap over prompts: whatever belongs to one prompt is drawn together."""

import numpy as np
from jaxtyping import Float, Int

QUANTILES = (0.025, 0.975)
Z = 1.959963984540054  # the upper one of the normal distribution


def draws(prompts: int, resamples: int, seed: int) -> Int[np.ndarray, "S B"]:
  """Returns bootstrap counts: how often each prompt is in each resample, a row summing to B.

  There has to be at least 1 of either. The same seed gives the same draws.
  """
  generator = np.random.default_rng(seed)
  return generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)


def weights(prompts: int, resamples: int, seed: int) -> Float[np.ndarray, "R B"]:
  """Returns how often each prompt counts: once in the first row, the estimate's; then as drawn."""
  return np.concatenate([np.ones((1, prompts)), draws(prompts, resamples, seed)])


def estimate(values: Float[np.ndarray, " R"]) -> tuple[float, tuple[float, float] | None]:
  """Returns a figure of all prompts, the first value, and the interval that its resamples give."""
  return float(values[0]), interval(values[1:])


def interval(values: Float[np.ndarray, " S"]) -> tuple[float, float] | None:
  """Returns the middle 95% of a figure's resamples; None where no resample has the figure.

  Resamples in which the figure is undefined (NaN) are left out.
  """
  finite = values[np.isfinite(values)]
  return middle(finite) if finite.size else None


def middle(values: Float[np.ndarray, " S"]) -> tuple[float, float]:
  """Returns the middle 95% of a figure that each of at least 1 resample has."""
  low, high = np.quantile(values, QUANTILES).tolist()
  return low, high
