"""Shares, flip rates and biases with 95% intervals that know which rows belong together."""

import dataclasses

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Int, Real

from pit_jax.statistics import logistic, margins, resampling

CHI_SQUARE = 3.841459  # of one degree of freedom, for 95%
STEPS = 5_000  # of the grid on which the flip rate is sought
CROSS = 5  # parts of the cross-validation
RIDGE = 0.01  # of the coefficients in units of their features; a separable fit stays finite

Groups = Int[np.ndarray, " n"]  # of each value the number of the prompt it belongs to


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value with its 95% interval, from `n` observations."""

  value: float
  low: float
  high: float
  n: int


def share(values: Real[np.ndarray, " n"] | Bool[np.ndarray, " n"], groups: Groups) -> Estimate:
  """Returns a mean of zeros and ones with Wilson's interval, at the effective number of values.

  Values of one group are not independent. The variance of the mean is Σ_g (Σ_{i∈g} x_i − p)² / n²;
  the effective number is that of independent values with this variance, p (1 − p) / variance, and
  n at most (Korn and Graubard 1998). Where all values agree it is the number of groups.

  Args:
    values: 0 or 1, or between for halves of an observation.
    groups: numbers from 0, some of which may be missing.

  Raises:
    ValueError: there is no value.
  """
  values = np.asarray(values, np.float64)
  if not values.size:
    raise ValueError("a share of no values: give at least one")
  mean = float(values.mean())
  n = values.size
  residuals = np.bincount(groups, weights=values - mean)
  variance = float((residuals**2).sum()) / n**2

  if 0 < mean < 1:
    effective = min(mean * (1 - mean) / variance, n) if variance > 0 else n
  else:
    effective = len(np.unique(groups))

  return Estimate(mean, *margins.wilson(mean, effective), n)


def flip_rate(for_first: Int[np.ndarray, " n"], for_second: Int[np.ndarray, " n"]) -> Estimate:
  """Estimates how often a label is flipped, from pairs that were judged more than once.

  Every judgement of a pair is the right one, flipped with probability ε and independently of the
  others. A pair with a judgements for one response and b for the other has the likelihood

    ½ ((1 − ε)^a ε^b + ε^a (1 − ε)^b),        ε in [0, ½]

  of which the maximum is taken, with the interval of its profile. For pairs judged twice this is
  the closed form ε = (1 − √(2A − 1)) / 2, with A the share of pairs whose judgements agree.

  Where pairs differ in how hard they are, ε is below the mean flip rate: ε (1 − ε) is concave.

  Args:
    for_first: judgements for the first response of each pair; `for_second` for the second.

  Raises:
    ValueError: no pair was judged more than once.
  """
  repeated = for_first + for_second > 1
  if not repeated.any():
    raise ValueError("no pair was judged more than once; the flip rate cannot be estimated")
  counts = np.stack([for_first, for_second], axis=1)[repeated]
  kinds, times = np.unique(counts, axis=0, return_counts=True)
  first, second = kinds.T[:, :, None]
  rates = np.linspace(0, 0.5, STEPS + 1)
  one = scipy.special.xlog1py(first, -rates) + scipy.special.xlogy(second, rates)

  other = scipy.special.xlogy(first, rates) + scipy.special.xlog1py(second, -rates)
  likelihood = times @ np.logaddexp(one, other)
  # The profile interval (Wilks): where 2 log L lies at most χ² below its maximum.
  inside = rates[2 * (likelihood.max() - likelihood) <= CHI_SQUARE]
  best = float(rates[likelihood.argmax()])
  return Estimate(best, float(inside[0]), float(inside[-1]), int(repeated.sum()))


@dataclasses.dataclass(frozen=True)
class Prediction:
  """How well some features of pairs tell which response was chosen, on pairs not fitted to."""

  accuracy: Estimate  # ½ where they tell nothing
  loss: float  # nats per pair; log 2 where they tell nothing
  weights: np.ndarray  # Float[features], of the fit to all pairs, per unit of the feature


def predict(
  features: Float[np.ndarray, "n features"], groups: Groups, seed: int = 0
) -> Prediction | None:
  """Cross-validates P(chosen over rejected) = σ(w · (f_chosen − f_rejected)).

  No pair of a group is in the part that the fit is tried on and in those it was made from. There is
  no constant: which response is called the first is nobody's choice. A pair whose features are the
  same counts as half right.

  Args:
    features: f_chosen − f_rejected.
    groups: numbers from 0.
    seed: which groups come together.

  Returns:
    None where there are fewer groups than parts, or a feature never differs.
  """
  scale = np.sqrt((features**2).mean(axis=0)) if len(features) else np.zeros(features.shape[1])
  several = groups.max(initial=-1) + 1
  if several < CROSS or not (scale > 0).all():
    return None
  scaled = features / scale
  part = np.random.default_rng(seed).permutation(several)[groups] % CROSS
  logits = np.zeros(len(scaled))
  for held in range(CROSS):
    logits[part == held] = scaled[part == held] @ fit(scaled[part != held])

  right = (1 + np.sign(logits)) / 2
  loss = float(np.logaddexp(0, -logits).mean())
  return Prediction(share(right, groups), loss, fit(scaled) / scale)


def fit(design: Float[np.ndarray, "n features"]) -> Float[np.ndarray, " features"]:
  """Minimises Σ_i −log σ(w · x_i) + ½ RIDGE |w|², with x for the response that was chosen."""
  ones = np.ones(len(design))
  return logistic.fit(design, ones, ones[None], np.full(design.shape[1], RIDGE))[0]


def first_place(
  won: Bool[np.ndarray, " n"], writers: Int[np.ndarray, "n 2"], groups: Groups
) -> Estimate | None:
  """Estimates what standing first adds to a response's chances, beside who wrote it.

  P(first wins) = σ(b + s_first − s_second), s the strength of a writer (Bradley–Terry with an order
  effect: Davidson and Beaver 1977). The interval is b's, by the sandwich over groups.

  Args:
    won: whether the response that stood first was chosen.
    writers: who wrote the first and the second, numbers from 0 as those of `groups`.

  Returns:
    b in nats; None where strengths and b cannot be told apart, as where one writer always stood
    first.
  """
  of_writer = np.eye(int(writers.max()) + 1)
  strengths = of_writer[writers[:, 0]] - of_writer[writers[:, 1]]
  design = np.concatenate([np.ones((len(won), 1)), strengths], axis=1)
  distinct = np.unique(design, axis=0)

  # b is told apart where the constant adds a direction to those of the strengths.
  if np.linalg.matrix_rank(distinct) == np.linalg.matrix_rank(distinct[:, 1:]):
    return None
  # A row that the first one lost becomes its mirror image, so that every row is a win.
  design *= np.where(won, 1.0, -1.0)[:, None]
  weights = fit(design)
  wrong = scipy.special.expit(-design @ weights)

  # The sandwich H⁻¹ (Σ_g s_g s_gᵀ) H⁻¹, s_g being the gradient summed over the rows of a group.
  curvature = (design * (wrong * (1 - wrong))[:, None]).T @ design + RIDGE * np.eye(len(weights))
  scores = np.zeros((int(groups.max()) + 1, design.shape[1]))
  np.add.at(scores, groups, design * wrong[:, None])
  inverse = np.linalg.inv(curvature)
  error = float(np.sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0]))
  bias = float(weights[0])

  return Estimate(bias, bias - resampling.Z * error, bias + resampling.Z * error, len(won))
