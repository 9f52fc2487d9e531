"""Preference rows that a rater labels, and what was left out of them."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pit_jax.data import conversations, rows
from pit_jax.feedback import judges

# Which pairs are kept where both orders were asked: those in which they agree on a winner, or all
# in which their mean has one.
KEEP = ("agreed", "mean")
TIES = "ties"
DISAGREEING = "disagreeing orders"


class Pair(NamedTuple):
  """Two answers to one prompt, in the order in which a rater is shown them first."""

  prompt: conversations.Prompt
  a: str
  b: str
  written_by: tuple[str, str] = ("", "")  # writers of a and b


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Preference rows that a rater made of pairs, and counts of what was left out."""

  # Of every pair that is kept `prompt`, `chosen`, `rejected`, `margin` (on the rater's own scale),
  # `chosen_position` (1 where a won), `written_by` (of chosen and rejected) and `labelled_by`, as
  # JSON can hold them.
  rows: list[dict[str, Any]]
  # "kept", "ties", "disagreeing orders", and of failed pairs their phrases, each with how many;
  # every pair is counted once.
  counts: dict[str, int]

  @property
  def preferences(self) -> list[rows.Preference]:
    """The rows as what models are trained on; their writers are known there too."""
    checked = [rows.check(row, f"label {number}") for number, row in enumerate(self.rows, start=1)]
    writers = [tuple(row["written_by"]) if all(row["written_by"]) else None for row in self.rows]
    both = zip(checked, writers, strict=True)
    return [dataclasses.replace(row, writers=names) for row, names in both]


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
    ValueError: `orders` or `keep` is none of these.
  """
  if orders not in (1, 2):
    raise ValueError(f"orders={orders}; use 1 or 2")
  if keep not in KEEP:
    raise ValueError(f"keep={keep!r}; use one of {', '.join(KEEP)}")
  ask = rater.in_order if orders == 1 and rater.in_order else rater.verdicts
  verdicts = ask(*([pair[column] for pair in pairs] for column in range(3)))
  outcomes = rater.outcomes(verdicts)

  if verdicts.orders is not None and keep == "agreed":
    # Of opposite signs: each order prefers another answer.
    for place in np.flatnonzero(verdicts.is_judged & (verdicts.orders.prod(axis=1) < 0)):
      outcomes[place] = DISAGREEING

  preferred = []
  counts = collections.Counter({"kept": 0, TIES: 0, DISAGREEING: 0})
  for place, (pair, outcome) in enumerate(zip(pairs, outcomes, strict=True)):
    is_kept = outcome in ("win", "lose")
    if is_kept:
      preferred.append(_row(pair, float(verdicts.difference[place]), rater.name))
    left_out = {"tie": TIES, "failed": verdicts.failures.get(place)}
    counts["kept" if is_kept else left_out.get(outcome, outcome)] += 1

  return Labelled(preferred, dict(counts))


def agreement(preferences: Sequence[rows.Preference], judge: judges.Judge) -> dict[str, Any]:
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


def _row(pair: Pair, difference: float, labelled_by: str) -> dict[str, Any]:
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
    "labelled_by": labelled_by,
  }
