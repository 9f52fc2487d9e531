"""Win rates as AlpacaEval defines them: a tie is half a win."""

import dataclasses

import numpy as np
from jaxtyping import Array, Num, Real

Preferences = Real[Array | np.ndarray, " B"]
Outcomes = Num[Array | np.ndarray, " B"]


@dataclasses.dataclass(frozen=True)
class WinRate:
  """The win rate of the second of two systems over the first."""

  win_rate: float  # percent; ties count one half
  standard_error: float  # of win_rate, in percent points
  n_wins: int
  n_wins_base: int  # wins of the first system
  n_draws: int
  n_total: int


def win_rate(preferences: Preferences) -> WinRate:
  """Returns win rate and standard error of annotations, as AlpacaEval does (Li et al. 2023).

  win_rate = 100 · mean(p − 1),   standard_error = 100 · s(p) / √n, with s² over n − 1

  Args:
    preferences: p, one per prompt, in [1, 2]: 1 where the first output is preferred, 2 where the
      second is, 1.5 (in old files 0) where neither is; values between are probabilities.

  Raises:
    ValueError: if fewer than two are given or one lies outside of the range.
  """
  annotations = np.asarray(preferences, np.float64)
  values = np.where(annotations == 0, 1.5, annotations)
  if values.size < 2:
    raise ValueError(f"a standard error needs at least 2 preferences, got {values.size}")

  wrong = annotations[~((values >= 1) & (values <= 2))]
  if wrong.size:
    raise ValueError(f"preference {wrong[0]} is not in [1, 2]; drop what was not annotated")

  return WinRate(
    win_rate=float(100 * (values - 1).mean()),
    standard_error=float(100 * values.std(ddof=1) / np.sqrt(values.size)),
    n_wins=int((values > 1.5).sum()),
    n_wins_base=int((values < 1.5).sum()),
    n_draws=int((values == 1.5).sum()),
    n_total=values.size,
  )


def preferences(outcomes: Outcomes) -> np.ndarray:
  """Returns outcomes (1 a win, 0 a tie, −1 a loss) as AlpacaEval's preferences, Float[B]."""
  return 1.5 + np.sign(np.asarray(outcomes, np.float64)) / 2


def from_percentages(n: int, win: float, lose: float) -> WinRate:
  """Returns the win rate of a comparison of n ≥ 2 prompts, which is known by its counts alone."""
  wins, losses = (round(n * percent / 100) for percent in (win, lose))
  return win_rate(np.repeat([2.0, 1.0, 1.5], [wins, losses, n - wins - losses]))
