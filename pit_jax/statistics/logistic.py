"""Logistic regression with normal priors, of many weightings of the same rows at once."""

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float

ITERATIONS = 100  # at most; a handful is usual
STEP = 2.0  # of a coefficient, at most: far from the maximum a full step overshoots
PRECISE = 1e-10  # change of a coefficient at which the fit ends


def fit(
  features: Float[np.ndarray, "B F"],
  targets: Float[np.ndarray, " B"],
  weights: Float[np.ndarray, "S B"],
  precisions: Float[np.ndarray, " F"],
) -> Float[np.ndarray, "S F"]:
  """Returns the coefficients that maximise a penalised likelihood, by Newton's method.

  β_s = argmax Σ_b w_sb (y_b log σ(x_b · β) + (1 − y_b) log σ(−x_b · β)) − ½ Σ_f p_f β_f²

  A bootstrap asks for hundreds of fits to the same rows, which libraries make one after the other.

  Args:
    features: x, one row per observation.
    targets: y, in [0, 1]; ½ is half of either.
    weights: w, how often each observation counts, a row per fit.
    precisions: p of the normal priors around 0. Coefficients without one (0) must have a maximum.
  """
  coefficients = np.zeros((len(weights), features.shape[1]))
  for _ in range(ITERATIONS):
    rates = scipy.special.expit(coefficients @ features.T)
    slopes = (weights * (targets - rates)) @ features - precisions * coefficients
    spread = (weights * rates * (1 - rates))[:, :, None] * features
    curvatures = spread.swapaxes(1, 2) @ features + np.diag(precisions)

    steps = np.linalg.solve(curvatures, slopes[:, :, None])[:, :, 0]
    largest = np.abs(steps).max(axis=1, keepdims=True, initial=PRECISE)
    coefficients = coefficients + steps * np.minimum(1.0, STEP / largest)
    if largest.max(initial=0.0) <= PRECISE:
      break

  return coefficients
