"""Who says which of two answers is better: the gold score, the reward model, the gap model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations
from pit_jax.improve import gains
from pit_jax.statistics import metrics
from pit_jax.tasks import synthetic

Prompts = Sequence[conversations.Prompt]
# A gold score moves in whole checks, a model's in small steps: below this a reward is noise.
MODEL_TIE = 1e-3
REWARD, GAP = "R_P", "R_PIT"  # what results.json calls the reward models of a run
TRAINERS = frozenset({REWARD, GAP})  # judges that also trained the models


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """What a judge says of N pairs of answers.

  Attributes:
    difference: how much better each a is than its b, Float[N]; NaN where the pair failed.
    reasons: why, one per pair; None from a judge that gives none.
    failures: the pairs that could not be judged: place → one of few phrases that says why.
  """

  difference: np.ndarray
  reasons: Sequence[str] | None = None
  failures: Mapping[int, str] = dataclasses.field(default_factory=dict)

  @property
  def is_judged(self) -> np.ndarray:
    """Which pairs have a verdict, Bool[N]."""
    return ~np.isin(np.arange(len(self.difference)), list(self.failures))


@dataclasses.dataclass(frozen=True)
class Judge:
  """Compares answers to the same questions.

  Attributes:
    name: as in results.json.
    verdicts: (questions, answers a, answers b) → what it says of each pair.
    score: (questions, answers) → score of each answer; None where the judge only compares.
    tie: differences up to this are a tie.
    prompts: the most prompts on which it is to compare two systems; None for all there are.
    facts: returns what the report says of the judge itself, by name.
  """

  name: str
  verdicts: Callable[[Prompts, Sequence[str], Sequence[str]], Verdicts]
  score: Callable[[Prompts, Sequence[str]], np.ndarray] | None
  tie: float
  prompts: int | None = None
  facts: Callable[[], dict[str, Any]] = dict

  def compare(self, questions: Prompts, a: Sequence[str], b: Sequence[str]) -> metrics.Comparison:
    """Returns how often a beats b, with a bootstrap interval."""
    return self.count(self.verdicts(questions, a, b))

  def count(self, verdicts: Verdicts) -> metrics.Comparison:
    """Returns how often a beats b; pairs that failed are counted apart and as nothing else."""
    found = verdicts.difference[verdicts.is_judged]
    failed = len(verdicts.failures)
    counted = metrics.compare(found, np.zeros_like(found), tie=self.tie, failed=failed)
    letters = "".join(outcome[0] for outcome in self.outcomes(verdicts))
    return dataclasses.replace(counted, outcomes=letters)

  def outcomes(self, verdicts: Verdicts) -> list[str]:
    """Returns "win", "tie" or "lose" of every a, or "failed"."""
    names = np.select(
      [~verdicts.is_judged, verdicts.difference > self.tie, verdicts.difference < -self.tie],
      ["failed", "win", "lose"],
      "tie",
    )
    return names.tolist()


def gold() -> Judge:
  """Returns the embedded task's own judge, which training never sees."""

  def score(questions, answers):
    pairs = zip(questions, answers, strict=True)
    return np.array([synthetic.gold(question, answer) for question, answer in pairs])

  return _pointwise("gold", remembering(score), tie=1e-9)


def reward_model(rate: Callable[[Prompts, Sequence[str]], np.ndarray], name: str = REWARD) -> Judge:
  """Returns a reward model as a judge; it is not independent of models trained on it.

  Args:
    rate: (questions, answers) → score of each answer, Float[N].
    name: as in results.json.
  """
  return _pointwise(name, remembering(rate), tie=MODEL_TIE)


def gap_model(gaps: gains.Gaps) -> Judge:
  """Returns a gap reward model as a judge, asked in both orders; see `gains.of`."""

  def verdicts(questions, a, b):
    return Verdicts(gains.of(gaps, "both_orders", 0.0, questions, a, b))

  return Judge(GAP, verdicts, None, MODEL_TIE)


def remembering(rate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
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
  def verdicts(questions, a, b):
    return Verdicts(score(questions, a) - score(questions, b))

  return Judge(name, verdicts, score, tie)
