"""Who says which of two answers is better: the gold score, the reward model, the gap model."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from pit_jax.data import conversations, synthetic
from pit_jax.evaluate import metrics
from pit_jax.rollout import inference
from pit_jax.types import Params

Prompts = Sequence[conversations.Prompt]
# A gold score moves in whole checks, a model's in small steps: below this a reward is noise.
MODEL_TIE = 1e-3


@dataclasses.dataclass(frozen=True)
class Judge:
  """Compares answers to the same questions.

  Attributes:
    name: as in results.json.
    difference: (questions, answers a, answers b) → how much better each a is than its b, Float[N].
    score: (questions, answers) → score of each answer; None where the judge only compares.
    tie: differences up to this are a tie.
  """

  name: str
  difference: Callable[[Prompts, Sequence[str], Sequence[str]], np.ndarray]
  score: Callable[[Prompts, Sequence[str]], np.ndarray] | None
  tie: float

  def compare(self, questions: Prompts, a: Sequence[str], b: Sequence[str]) -> metrics.Comparison:
    """Returns how often a beats b, with a bootstrap interval."""
    difference = self.difference(questions, a, b)
    return metrics.compare(difference, np.zeros_like(difference), tie=self.tie)


def gold() -> Judge:
  """Returns the embedded task's own judge, which training never sees."""

  def score(questions, answers):
    pairs = zip(questions, answers, strict=True)
    return np.array([synthetic.gold(question, answer) for question, answer in pairs])

  return _pointwise("gold", _remembering(score), tie=1e-9)


def reward_model(ask: inference.Inference, params: Params, name: str = "R_P") -> Judge:
  """Returns a reward model as a judge; R_P is not independent of models trained on it."""

  return _pointwise(name, _remembering(functools.partial(ask.rate, params)), tie=MODEL_TIE)


def gap_model(ask: inference.Inference, params: Params) -> Judge:
  """Returns R_PIT as a judge, asked in both orders: (r(a, b) − r(b, a)) / 2."""

  gaps = _remembering(functools.partial(ask.gaps, params))

  def difference(questions, a, b):
    return (gaps(questions, a, b) - gaps(questions, b, a)) / 2

  return Judge("R_PIT", difference, None, MODEL_TIE)


def _remembering(rate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
  """Returns `rate` over columns of text, which is asked about each row only once."""
  known: dict[tuple, float] = {}

  def remembered(*columns: Sequence) -> np.ndarray:
    rows = list(zip(*columns, strict=True))
    new = list(dict.fromkeys(row for row in rows if row not in known))
    if new:
      known.update(zip(new, rate(*map(list, zip(*new, strict=True))).tolist(), strict=True))
    return np.array([known[row] for row in rows])

  return remembered


def _pointwise(name: str, score: Callable, tie: float) -> Judge:
  def difference(questions, a, b):
    return score(questions, a) - score(questions, b)

  return Judge(name, difference, score, tie)
