"""Comparisons with the effect of length taken out.

Judges may like long answers for their length. Two figures say what is left without it: the win
rate that a regression predicts for answers of equal length, and the win rate on the prompts whose
answers happen to be of like length.
"""

import dataclasses

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Array, Bool, Num, Real

from pit_jax.statistics import logistic, resampling

Outcomes = Num[Array | np.ndarray, " B"]  # 1 where a wins, 0 a tie, −1 where b wins
Lengths = Real[Array | np.ndarray, " B"]  # tokens

DEVIATION = 10.0  # of the prior on γ
MATCHED = 0.1  # answers whose lengths differ by no more of the longer one are of like length


@dataclasses.dataclass(frozen=True)
class Controlled:
  """A comparison as though both systems wrote answers of the same length.

  Where that cannot be estimated, the figures are None and `reason` says why.
  """

  delta: float | None  # 100 · (2 σ(θ) − 1), in percent
  ci95: tuple[float, float] | None
  coefficient: float | None  # γ, in nats: what a much longer answer adds to the odds of winning
  coefficient_ci95: tuple[float, float] | None
  reason: str = ""


def controlled(
  outcomes: Outcomes, tokens_a: Lengths, tokens_b: Lengths, *, resamples: int = 500, seed: int = 0
) -> Controlled:
  """Returns Δ with the effect of the length difference taken out by a logistic regression.

  P(a is preferred) = σ(θ + γ tanh(d / s)),   d = tokens_a − tokens_b,   s its deviation

  After AlpacaEval 2 (Dubois et al. 2024): fit, set the length term to zero, read off σ(θ). Ties
  are halves. With lengths that do not differ this is the plain Δ. Where one system wins every
  prompt, no pair shows what length does against quality, and there is no estimate.

  Deviations: no term for the difficulty of an instruction, which needs many systems' answers to
  it. γ has a prior of mean 0 and deviation 10, so wide that it matters only where length alone
  separates wins from losses and the fit would otherwise have no end.

  Of each prompt it takes the outcome, and the lengths of a's and b's answer. The intervals are of
  at least one bootstrap sample over prompts.

  Raises:
    ValueError: if there is no prompt or the numbers of prompts differ.
  """
  preferred = (1 + np.sign(np.asarray(outcomes, np.float64))) / 2
  difference = _difference(preferred, tokens_a, tokens_b)
  if preferred.min() == preferred.max() != 0.5:
    winner = "the first" if preferred[0] else "the second"
    return Controlled(None, None, None, None, f"{winner} wins every prompt")

  spread = difference.std()
  feature = np.tanh(difference / spread) if spread else np.zeros_like(difference)
  weights = resampling.weights(preferred.size, resamples, seed)
  share = weights @ preferred / weights.sum(axis=1)

  # A resample in which one side wins every prompt has θ = ±∞ at its best; its rate is 0 or 1.
  is_open = (share > 0) & (share < 1)
  theta = np.where(share > 0, np.inf, -np.inf)
  gamma = np.zeros(len(weights))
  design = np.stack([np.ones_like(feature), feature], axis=1)
  precisions = np.array([0.0, 1 / DEVIATION**2])
  theta[is_open], gamma[is_open] = logistic.fit(design, preferred, weights[is_open], precisions).T

  deltas = 100 * (2 * scipy.special.expit(theta) - 1)
  return Controlled(*resampling.estimate(deltas), *resampling.estimate(gamma))


def is_matched(tokens_a: Lengths, tokens_b: Lengths) -> Bool[np.ndarray, " B"]:
  """Returns on which prompts both answers are of like length: within 10% of the longer one."""
  a, b = (np.asarray(tokens, np.float64) for tokens in (tokens_a, tokens_b))
  return np.abs(a - b) <= MATCHED * np.maximum(a, b)


def correlation(
  scores: Real[Array | np.ndarray, " B"], tokens: Lengths, *, resamples: int = 500, seed: int = 0
) -> tuple[float, tuple[float, float] | None] | None:
  """Returns Spearman's rank correlation, in [−1, 1], of responses' scores and lengths.

  With its interval, of at least 1 bootstrap sample; None where either is constant, and in place of
  the interval where either is in every sample.
  """
  columns = np.stack([scores, tokens]).astype(np.float64)
  index = np.arange(columns.shape[1])
  draws = resampling.draws(index.size, resamples, seed)
  resampled = np.stack([index, *(np.repeat(index, row) for row in draws)])

  # Spearman's is the correlation of ranks, which every resample has anew.
  ranks = scipy.stats.rankdata(columns[:, resampled], axis=-1)
  ranks -= ranks.mean(axis=-1, keepdims=True)
  scale = np.sqrt((ranks**2).sum(axis=-1).prod(axis=0))
  with np.errstate(invalid="ignore"):
    correlations = ranks.prod(axis=0).sum(axis=-1) / scale
  return resampling.estimate(correlations) if np.isfinite(correlations[0]) else None


def _difference(preferred: np.ndarray, tokens_a: Lengths, tokens_b: Lengths) -> np.ndarray:
  a, b = (np.asarray(tokens, np.float64) for tokens in (tokens_a, tokens_b))
  if not preferred.size or not preferred.size == a.size == b.size:
    raise ValueError(
      f"{preferred.size} outcomes with {a.size} and {b.size} lengths; give one of each per prompt, "
      "at least one prompt"
    )

  return a - b
