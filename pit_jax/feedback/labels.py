"""Preference rows that a rater labels, and what was left out of them."""

import collections
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pit_jax.data import conversations
from pit_jax.data import rows as data_rows
from pit_jax.feedback import annotations, judges

# Which pairs are kept where both orders were asked: those in which they agree on a winner, or all
# in which their mean has one.
KEEP = ("agreed", "mean")
KEPT = "kept"
TIES = "ties"
DISAGREEING = "disagreeing orders"
ENOUGH = 20  # pairs of which a rater that says the same of all is no chance
LOG = logging.getLogger(__name__)
SAID = (KEPT, TIES, DISAGREEING)  # outcomes of pairs of which the rater said something


class Pair(NamedTuple):
  """Two answers to one prompt, in the order in which a rater is shown them first."""

  prompt: conversations.Prompt
  a: str
  b: str
  written_by: tuple[str, str] = ("", "")  # writers of a and b


class Label(NamedTuple):
  """What a rater says of one pair."""

  outcome: str  # "kept", TIES, DISAGREEING, or of a pair that failed one of few phrases
  difference: float | None  # by how much a is better, on the rater's own scale; None of a failure
  said_by: str  # who of several raters says so, or the rater
  # How likely the preferred answer is the better one, from ½ on, of a rater that says so.
  probability: float | None = None


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Pairs and what a rater says of each: preference rows, and counts of what was left out."""

  pairs: Sequence[Pair]
  labels: Sequence[Label]  # one of each pair
  labelled_by: str  # the rater's name

  @functools.cached_property
  def rows(self) -> list[dict[str, Any]]:
    """The pairs that are kept, as JSON can hold them.

    Of each `prompt`, `chosen`, `rejected`, `margin` (on the rater's own scale), `chosen_position`
    (1 where a won), `written_by` (of chosen and rejected) and `labelled_by`; of a rater that says
    how likely it is right also `label_probability`.
    """
    both = zip(self.pairs, self.labels, strict=True)
    return [
      _row(pair, label.difference, label)
      for pair, label in both
      if label.outcome == KEPT and label.difference is not None
    ]

  @property
  def counts(self) -> dict[str, int]:
    """How many pairs are "kept", "ties", "disagreeing orders", or failed, by their phrases.

    Every pair is counted once.
    """
    outcomes = collections.Counter(label.outcome for label in self.labels)
    return {KEPT: 0, TIES: 0, DISAGREEING: 0, **outcomes}

  @property
  def kept_of(self) -> dict[str, int]:
    """How many of the pairs that are kept each rater labelled, by name."""
    return dict(collections.Counter(one.said_by for one in self.labels if one.outcome == KEPT))

  @property
  def failures(self) -> dict[str, int]:
    """Of `counts` the pairs about which the rater could say nothing."""
    return {name: count for name, count in self.counts.items() if name not in SAID}

  @property
  def preferences(self) -> list[data_rows.Preference]:
    """The rows as what models are trained on; their writers are known there too."""
    checked = [
      data_rows.check(row, f"label {number}") for number, row in enumerate(self.rows, start=1)
    ]
    writers = [tuple(row["written_by"]) if all(row["written_by"]) else None for row in self.rows]
    both = zip(checked, writers, strict=True)
    return [dataclasses.replace(row, writers=names) for row, names in both]

  @property
  def annotations(self) -> list[dict[str, Any]]:
    """All pairs as rows of AlpacaEval's files, which `annotations` reads; see `labelled`."""
    return [
      annotations.row(
        (pair.prompt, pair.a, pair.b), _preferred(label), label.said_by,
        generators=pair.written_by, outcome=label.outcome, difference=label.difference,
        **_probability(label),
      )
      for pair, label in zip(self.pairs, self.labels, strict=True)
    ]  # fmt: skip


def labelled(pairs: Sequence[Pair], written: Sequence[Mapping[str, Any]], name: str) -> Labelled:
  """Returns pairs with the labels that a rater gave them, from `Labelled.annotations`.

  Raises:
    ValueError: the labels are of other pairs.
  """
  same = [pair.a == row["output_1"] and pair.b == row["output_2"]
          for pair, row in zip(pairs, written, strict=False)]  # fmt: skip
  if len(pairs) != len(written) or not all(same):
    raise ValueError(
      f"{len(written)} labels are not those of {len(pairs)} pairs; remove their file, and they are "
      "made again"
    )
  made = [
    Label(row["outcome"], row["difference"], row["annotator"], row.get("label_probability"))
    for row in written
  ]
  return Labelled(pairs, made, name)


def labels(
  pairs: Sequence[Pair], rater: judges.Judge, *, orders: int = 2, keep: str = "agreed"
) -> Labelled:
  """Returns preference rows of the pairs of which a rater prefers one answer.

  Args:
    orders: 2 shows every pair in both orders, whose mean decides, so that a preference for a place
      cancels; 1 shows a first alone, at half the price. Raters of single answers are shown none.
    keep: "agreed" leaves out pairs whose orders prefer different answers, "mean" only those whose
      mean prefers none.

  Raises:
    ValueError: `orders` or `keep` is none of these; or, of ENOUGH pairs or more, a rater prefers
      the same place in all, or the raters together see nothing but ties.
  """
  if orders not in (1, 2):
    raise ValueError(f"orders={orders}; use 1 or 2")
  if keep not in KEEP:
    raise ValueError(f"keep={keep!r}; use one of {', '.join(KEEP)}")
  ask = rater.in_order if orders == 1 and rater.in_order else rater.verdicts
  verdicts = ask(*([pair[column] for pair in pairs] for column in range(3)))
  outcomes = rater.outcomes(verdicts)
  _refuse_same(pairs, rater, verdicts)

  if verdicts.orders is not None and keep == "agreed":
    # Of opposite signs: each order prefers another answer.
    for place in np.flatnonzero(verdicts.is_judged & (verdicts.orders.prod(axis=1) < 0)):
      outcomes[place] = DISAGREEING

  made = []
  for place, outcome in enumerate(outcomes):
    difference = float(verdicts.difference[place])
    told = {"tie": TIES, "win": KEPT, "lose": KEPT, "failed": verdicts.failures.get(place)}
    has_failed = outcome == "failed"
    said_by = verdicts.raters[place] if verdicts.raters else ""
    kept = None if has_failed else difference
    probability = (1 + abs(difference)) / 2 if rater.is_chance and not has_failed else None
    made.append(Label(told.get(outcome, outcome), kept, said_by or rater.name, probability))

  return Labelled(pairs, made, rater.name)


def _refuse_same(pairs: Sequence[Pair], rater: judges.Judge, verdicts: judges.Verdicts) -> None:
  """Refuses a rater that says the same of all pairs, whatever the answers are; see `labels`.

  Of several raters one that sees ties alone is logged: all answers to its prompts may be alike.
  """
  differ = np.array([pair.a.strip() != pair.b.strip() for pair in pairs], bool)
  asked = differ & verdicts.is_judged
  who = np.array(judges.said_by(rater, verdicts), object)
  tied = np.array(rater.outcomes(verdicts), object) == "tie"

  for name in dict.fromkeys(who[asked]):
    own = asked & (who == name)
    count = int(own.sum())
    if count < ENOUGH:
      continue
    if place := "" if verdicts.orders is None else _place(verdicts.orders[own]):
      raise ValueError(
        f"rater {name} prefers what is shown {place} in all {count} pairs, whichever answer that "
        "is: its labels would say nothing of the answers; mend it, or ask another"
      )
    if tied[own].all():
      said = f"rater {name} sees a tie in all {count} pairs"
      if own.sum() == asked.sum():
        raise ValueError(f"{said}, so that nothing is left to learn from; mend it, or ask another")
      LOG.warning("%s, which leaves none of them to learn from", said)


def _place(orders: np.ndarray) -> str:
  """Returns the place that both orders of all pairs prefer, Float[N 2]; "" where there is none."""
  if np.all((orders[:, 0] > 0) & (orders[:, 1] < 0)):
    return "first"
  return "second" if np.all((orders[:, 0] < 0) & (orders[:, 1] > 0)) else ""


def _preferred(label: Label) -> int | None:
  """Returns which output a label prefers, 1 or 2; None where it is left out."""
  if label.outcome != KEPT or label.difference is None:
    return None
  return 1 if label.difference > 0 else 2


def agreement(preferences: Sequence[data_rows.Preference], judge: judges.Judge) -> dict[str, Any]:
  """Returns how many labels a judge agrees with; it is for reports, and never chooses among rows.

  Returns:
    `judge`, how many labels are `agreed`, `disagreed`, `ties` or `failed`, and the `accuracy`, the
    share of agreed ones among those on which it prefers an answer; None where there are none.
  """
  texts = ([getattr(row, name) for row in preferences] for name in ("prompt", "chosen", "rejected"))
  outcomes = collections.Counter(judge.outcomes(judge.verdicts(*texts)))
  names = {"agreed": "win", "disagreed": "lose", "ties": "tie", "failed": "failed"}
  counts = {name: outcomes[outcome] for name, outcome in names.items()}
  preferred = counts["agreed"] + counts["disagreed"]
  accuracy = counts["agreed"] / preferred if preferred else None

  return {"judge": judge.name, **counts, "accuracy": accuracy}


def _probability(label: Label) -> dict[str, float]:
  return {} if label.probability is None else {"label_probability": label.probability}


def _row(pair: Pair, difference: float, label: Label) -> dict[str, Any]:
  """Returns the row of a pair of which one answer is preferred."""
  order = (0, 1) if difference > 0 else (1, 0)
  answers, writers = ([both[i] for i in order] for both in ((pair.a, pair.b), pair.written_by))
  prompt = pair.prompt
  return {
    "prompt": prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt],
    "chosen": answers[0],
    "rejected": answers[1],
    "margin": abs(difference),
    "chosen_position": 1 + order[0],
    "written_by": writers,
    "labelled_by": label.said_by,
    **_probability(label),
  }
