"""Raters and judges: who says which of two answers is better, or how good one is.

The gold score, critics, reward models, gap models and Python functions are here, language models in
language_judge.py. A rater that evaluates a run is called its judge, and one that makes labels a
labeller (labels.py); each is a `Judge`, and configurations name them by named.py.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax import configurations
from pit_jax.data import conversations
from pit_jax.improve import gains
from pit_jax.statistics import metrics
from pit_jax.tasks import classes, critics

Prompts = Sequence[conversations.Prompt]
# A gold score moves in whole checks, a model's in small steps: below this a reward is noise.
MODEL_TIE = 1e-3
EXACT_TIE = 1e-9  # of scores that move in whole steps
NO_NUMBER = "no number of the function"
GOLD = "gold"  # what results.json calls the embedded task's own judge
# What results.json calls the reward models of a run.
REWARD = "R_P"
GAP = "R_PIT"
TRAINERS = frozenset({REWARD, GAP})  # judges that also trained the models


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """Verdicts of a judge on N pairs of answers."""

  # How much better each a is than its b, Float[N]; NaN where the pair failed.
  difference: np.ndarray
  reasons: Sequence[str] | None = None  # why, one per pair; None from a judge that gives none
  # The pairs that could not be judged: place → one of few phrases that says why.
  failures: Mapping[int, str] = dataclasses.field(default_factory=dict)
  # Of a judge that was shown both orders, the same with a first and with b first, whose mean the
  # difference is, Float[N 2]; None of others.
  orders: np.ndarray | None = None
  # Who of several raters says so, one per pair; None of a judge that is one.
  raters: Sequence[str] | None = None

  @property
  def is_judged(self) -> np.ndarray:
    """Which pairs have a verdict, Bool[N]."""
    return ~np.isin(np.arange(len(self.difference)), list(self.failures))


# (questions, answers a, answers b) → what is said of each pair.
Compare = Callable[[Prompts, Sequence[str], Sequence[str]], Verdicts]


@dataclasses.dataclass(frozen=True)
class Judge:
  """Compares answers to the same questions."""

  name: str  # as in results.json
  verdicts: Compare
  # (questions, answers) → score of each answer; None where the judge only compares.
  score: Callable[[Prompts, Sequence[str]], np.ndarray] | None
  tie: float  # differences up to this are a tie
  # Whether a difference is P(a is better) − P(b is better), so that a label has a probability.
  is_chance: bool = dataclasses.field(default=False, kw_only=True)
  prompts: int | None = None  # the most on which it is to compare two systems; None for all
  facts: Callable[[], dict[str, Any]] = dict  # what the report says of the judge itself, by name
  # (questions, answers) → the shares of answers that pass each check of a task, and of malformed
  # ones, by name; None where the judge is of no task with checks.
  checks: Callable[[Prompts, Sequence[str]], dict[str, float]] | None = None
  # Of (questions, shown first, shown second): how much better the first is, as the judge says in
  # this one order; None where the order makes no difference.
  in_order: Compare | None = None
  # Of verifiers, (questions, answers) → 1 for every answer that passes them all, 0 for one that
  # does not, NaN where nothing is known of its prompt, Float[N]; None of others.
  passes: Callable[[Prompts, Sequence[str]], np.ndarray] | None = None

  def compare(self, questions: Prompts, a: Sequence[str], b: Sequence[str]) -> metrics.Comparison:
    """Returns the comparison of a against b, with a bootstrap interval."""
    return self.count(self.verdicts(questions, a, b))

  def count(self, verdicts: Verdicts) -> metrics.Comparison:
    """Returns the comparison of a against b; pairs that failed are counted apart."""
    differences = verdicts.difference[verdicts.is_judged]
    failed = len(verdicts.failures)
    counted = metrics.compare(differences, np.zeros_like(differences), tie=self.tie, failed=failed)
    letters = "".join(outcome[0] for outcome in self.outcomes(verdicts))
    return dataclasses.replace(counted, outcomes=letters)

  def outcomes(self, verdicts: Verdicts) -> list[str]:
    """Returns "win", "tie" or "lose" of every a, or "failed"."""
    difference = verdicts.difference
    cases = [~verdicts.is_judged, difference > self.tie, difference < -self.tie]
    return np.select(cases, ["failed", "win", "lose"], "tie").tolist()


def gold() -> Judge:
  """Returns the embedded task's own judge, which training never sees."""

  def score(questions, answers):
    pairs = zip(questions, answers, strict=True)
    return np.array([classes.gold(question, answer) for question, answer in pairs])

  judge = _pointwise(GOLD, remembering(score), tie=EXACT_TIE)
  return dataclasses.replace(judge, checks=classes.shares)


def critic(habits: critics.Critic, name: str, seed: int = 0) -> Judge:
  """Returns a critic of the embedded task as a rater, asked in both orders.

  What it says of two letters is a function of critic, seed, question and letters. How often it is
  right says `labels.agreement` with the gold score.
  """

  def in_order(questions, a, b):
    rows = zip(map(conversations.said, questions), a, b, strict=True)
    return Verdicts(np.array([habits.difference(*row, seed) for row in rows], float))

  both = functools.partial(in_both_orders, in_order)
  return Judge(name, both, None, EXACT_TIE, in_order=in_order)


def reader(reads: critics.Reader, name: str, seed: int = 0) -> Judge:
  """Returns a reader of one check of the embedded task as a rater, asked in both orders."""

  def in_order(questions, a, b):
    rows = zip(map(conversations.said, questions), a, b, strict=True)
    return Verdicts(np.array([reads.difference(*row, seed) for row in rows], float))

  both = functools.partial(in_both_orders, in_order)
  return Judge(name, both, None, EXACT_TIE, in_order=in_order)


def reward_model(rate: Callable[[Prompts, Sequence[str]], np.ndarray], name: str = REWARD) -> Judge:
  """Returns a reward model as a judge; it is not independent of models trained on it.

  Its scores are rate(questions, answers), Float[N].
  """
  return _pointwise(name, remembering(rate), tie=MODEL_TIE)


def gap_model(gaps: gains.Gaps) -> Judge:
  """Returns a gap reward model as a judge, asked in both orders; see `gains.of`.

  In one order alone it is asked for the gain over what it gives the second answer over itself.
  """

  def gained(rule, questions, a, b):
    return Verdicts(gains.of(gaps, rule, 0.0, questions, a, b))

  both, one = (functools.partial(gained, rule) for rule in ("both_orders", "draft_zero"))
  return Judge(GAP, both, None, MODEL_TIE, in_order=one)


def function(place: str, name: str = "", tie: float = EXACT_TIE) -> Judge:
  """Returns a Python function as a rater.

  Args:
    place: "package.module:function". One of (questions, answers) scores answers, more being better;
      one of (questions, a, b) says how much better each a is than its b, and is asked in both
      orders. Either returns N numbers; what is not finite is counted as a failure.
    name: of the rater; "" is the place.
    tie: differences up to this are a tie.

  Raises:
    ValueError: there is no such function, or it takes something else.
  """
  called = configurations.function(place)
  arity = len(inspect.signature(called).parameters)
  if arity not in (2, 3):
    todo = "give a function of (questions, answers) or of (questions, a, b)"
    raise ValueError(f"{place} takes {arity} arguments; {todo}")

  def asked(*columns):
    count = len(columns[0])
    numbers = np.asarray(called(*columns) if count else (), float)
    if numbers.shape != (count,):
      returned = f"{place} returned an array of shape {numbers.shape} for {count} rows"
      raise ValueError(f"{returned}; return one number per row")

    return numbers

  def in_order(questions, a, b):
    return _counted(asked(questions, a, b))

  def verdicts(questions, a, b):
    return _counted(asked(questions, a) - asked(questions, b))

  if arity == 2:
    return Judge(name or place, verdicts, asked, tie)
  both = functools.partial(in_both_orders, in_order)
  return Judge(name or place, both, None, tie, in_order=in_order)


def _counted(difference: np.ndarray) -> Verdicts:
  """Returns verdicts in which what is not finite failed."""
  failed = np.flatnonzero(~np.isfinite(difference)).tolist()
  finite = np.where(np.isfinite(difference), difference, np.nan)
  return Verdicts(finite, failures=dict.fromkeys(failed, NO_NUMBER))


def in_both_orders(
  in_order: Compare, questions: Prompts, a: Sequence[str], b: Sequence[str]
) -> Verdicts:
  """Returns verdicts whose difference no preference for a place can move.

  difference = (preference with a first − preference with b first) / 2

  Equal answers are a tie, and nobody is asked. A pair fails where either order does. `in_order`
  takes (questions, shown first, shown second), and says how much better each first one is.
  """
  pairs = list(zip(questions, a, b, strict=True))
  places = [i for i, (_, one, other) in enumerate(pairs) if one.strip() != other.strip()]
  # Both orders of a pair come together, so that what ends the asking leaves whole pairs behind.
  ordered = [row for i in places for row in (pairs[i], (pairs[i][0], pairs[i][2], pairs[i][1]))]
  orders = np.zeros((len(pairs), 2))
  failures = {}
  reasons = ["the answers are the same"] * len(pairs)
  verdicts = in_order(*([row[column] for row in ordered] for column in range(3)))

  for first, i in zip(range(0, len(ordered), 2), places, strict=True):
    second = first + 1
    # In both columns more than 0 is for a.
    orders[i] = verdicts.difference[first], -verdicts.difference[second]
    if verdicts.reasons is not None:
      reasons[i] = f"a first: {verdicts.reasons[first]} | b first: {verdicts.reasons[second]}"
    if failure := verdicts.failures.get(first) or verdicts.failures.get(second):
      failures[i] = failure

  explanations = None if verdicts.reasons is None else reasons
  return Verdicts(orders.mean(axis=1), explanations, failures, orders)


def in_turn(name: str, raters: Sequence[Judge], *, passes_ties: bool = False) -> Judge:
  """Returns several raters as one, each asked about the pairs of which those before know nothing.

  Every rater has its own tie: where it sees one, the difference is 0. A pair fails where it does
  for all, as the last one says.

  Args:
    name: of the rater.
    raters: in the order in which they are asked.
    passes_ties: whether pairs in which one sees a tie are asked of the next, too.
  """

  def asked(ask, questions, a, b):
    count = len(a)
    difference = np.full(count, np.nan)
    orders = np.full((count, 2), np.nan)
    who = [""] * count
    failures: dict[int, str] = {}
    places = np.arange(count)

    for rater in raters:
      verdicts = ask(rater)(*([column[i] for i in places] for column in (questions, a, b)))
      told, both = with_ties(rater, verdicts)
      names = said_by(rater, verdicts)
      reasons = {int(places[i]): reason for i, reason in verdicts.failures.items()}
      # A tie that an earlier one saw stays where a later one knows nothing.
      new = [i for i, place in enumerate(places) if place not in reasons or not who[place]]
      difference[places[new]], orders[places[new]] = told[new], both[new]
      for i in new:
        who[places[i]] = names[i]
      failures = {place: reason for place, reason in reasons.items() if not who[place]}
      tied = places[told == 0].tolist() if passes_ties else []
      places = np.array(sorted({*reasons, *tied}), int)

    return Verdicts(difference, None, failures, orders, who)

  return several(name, asked)


def with_ties(rater: Judge, verdicts: Verdicts) -> tuple[np.ndarray, np.ndarray]:
  """Returns difference and orders of verdicts in which what the rater sees as a tie is 0."""
  outcomes = np.array(rater.outcomes(verdicts), object)
  told = np.where(outcomes == "tie", 0.0, verdicts.difference)
  # One that knows no orders says the same in both.
  both = np.repeat(told[:, None], 2, axis=1) if verdicts.orders is None else verdicts.orders
  return told, both


def said_by(rater: Judge, verdicts: Verdicts) -> list[str]:
  """Returns who says so, of a rater or of those that it asks, one per pair; "" where it failed."""
  names = verdicts.raters or [rater.name] * len(verdicts.difference)
  return ["" if i in verdicts.failures else name for i, name in enumerate(names)]


def several(name: str, asked: Callable[..., Verdicts]) -> Judge:
  """Returns a rater that asks others.

  Args:
    name: of the rater.
    asked: (how a rater is asked, questions, a, b) → verdicts; the first is a function of a rater
      that returns its `Compare`, in both orders or in one.
  """
  both, one = (
    functools.partial(asked, ask)
    for ask in (lambda rater: rater.verdicts, lambda rater: rater.in_order or rater.verdicts)
  )
  return Judge(name, both, None, EXACT_TIE, in_order=one)


def remembering(rate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
  """Returns `rate` over columns of text, which is asked about each row only once."""
  scores: dict[tuple, float] = {}

  def remembered(*columns: Sequence) -> np.ndarray:
    rows = list(zip(*columns, strict=True))
    new = list(dict.fromkeys(row for row in rows if row not in scores))
    if new:
      scores.update(zip(new, rate(*map(list, zip(*new, strict=True))).tolist(), strict=True))
    return np.array([scores[row] for row in rows])

  return remembered


def _pointwise(name: str, score: Callable, tie: float) -> Judge:
  def verdicts(questions, a, b):
    return Verdicts(score(questions, a) - score(questions, b))

  return Judge(name, verdicts, score, tie)
