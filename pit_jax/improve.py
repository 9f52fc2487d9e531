"""Improves answers: y_0 → y_1 → … with the gap reward model deciding when to stop."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from pit_jax.rollout import inference
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Improver:
  """The trained models of a run, ready to answer and to improve.

  Attributes:
    inference: how models are asked.
    policy: M_P^RL, which writes the first answer where none is given.
    improver: M_PIT^RL.
    gap_reward: R_PIT.
    zero_point: mean R_PIT of identical pairs: what "no better" scores.
    margin: a new version is kept when R_PIT(x, y_k, y_{k−1}) > zero_point + margin.
  """

  inference: inference.Inference
  policy: Params
  improver: Params
  gap_reward: Params
  zero_point: float
  margin: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rounds:
  """Every version of N answers.

  Attributes:
    texts: texts[k][i] is answer i after k rounds; texts[0] are the first answers.
    gaps: Float[rounds, N], R_PIT of each version against the one before it, less the zero point.
    kept: Int[N], rounds kept by the stop rule: all before the first without enough gain.
  """

  texts: list[list[str]]
  gaps: np.ndarray
  kept: np.ndarray

  def with_stop(self, k: int) -> list[str]:
    """Returns the answers after k rounds when the stop rule ends each row's improvement."""
    return [self.texts[min(k, kept)][row] for row, kept in enumerate(self.kept.tolist())]

  def stopped(self, k: int) -> np.ndarray:
    """Returns which rows the stop rule has ended by round k, Bool[N]."""
    return self.kept < k


def improve(
  improver: Improver,
  questions: Sequence[str],
  answers: Sequence[str],
  *,
  rounds: int,
  key: jax.Array,
  temperature: float,
) -> Rounds:
  """Runs the improver `rounds` times on its own output.

  Stop rule (the paper leaves it open): the first version y_k with
  R_PIT(x, y_k, y_{k−1}) − zero point ≤ margin is dropped, and y_{k−1} is the answer. The later
  versions are still made, so that both ways can be compared.

  Args:
    improver: the models.
    questions: x, one per row.
    answers: y_0, one per row.
    rounds: versions to make, at least 1.
    key: source of the noise; round k uses fold_in(key, k).
    temperature: divides the logits; 0 takes the most likely tokens.

  Returns:
    Every version with its gap, and how many the stop rule keeps.
  """
  if rounds < 1:
    raise ValueError(f"rounds={rounds} improves nothing; use 1 or more")
  ask, texts, gaps = improver.inference, [list(answers)], []
  for k in range(1, rounds + 1):
    noise = jax.random.fold_in(key, k)
    texts.append(ask.revise(improver.improver, questions, texts[-1], noise, temperature))
    gap = ask.gaps(improver.gap_reward, questions, texts[-1], texts[-2])
    gaps.append(gap - improver.zero_point)
  gaps = np.stack(gaps)
  is_better = gaps > improver.margin
  return Rounds(texts=texts, gaps=gaps, kept=np.cumprod(is_better, axis=0).sum(axis=0))
