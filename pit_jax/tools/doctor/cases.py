"""The rows under examination, with everything that texts are compared by as numbers."""

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from jaxtyping import Int

from pit_jax.data import conversations, preferences, rows
from pit_jax.tools.doctor import findings


@dataclasses.dataclass(frozen=True)
class Cases:
  """Rows, and which of them have prompts and responses in common."""

  rows: tuple[rows.Preference, ...]  # what can be trained on
  skipped: dict[str, int]  # how many rows cannot, by reason
  unusable: tuple[preferences.Skipped, ...]  # these rows
  prompts: tuple[str, ...]  # the different ones as plain text, in the order of appearance
  prompt: Int[np.ndarray, " rows"]  # of each row the number of its prompt
  first: Int[np.ndarray, " prompts"]  # of each prompt the first row with it
  # Of each row the numbers of its responses; under another prompt the same text has another one.
  chosen: Int[np.ndarray, " rows"]
  rejected: Int[np.ndarray, " rows"]
  names: tuple[str, ...]  # of the parts that training would make; none without folds
  part: Int[np.ndarray, " prompts"] | None  # of each prompt its part in `names`; None without folds
  refusal: str  # why there are no folds; "" where there are

  def counts(self) -> dict[str, int]:
    """Returns how many rows each part has."""
    counts = np.bincount(self.part[self.prompt], minlength=len(self.names)).tolist()
    return dict(zip(self.names, counts, strict=True))

  def places(self, *numbers: int | np.integer) -> tuple[str, ...]:
    """Returns where some rows came from."""
    return tuple(self.rows[number].place for number in numbers)

  def asked(self, row: int | np.integer, length: int = 90) -> str:
    """Returns the prompt of a row, shortened."""
    return findings.shorten(self.prompts[self.prompt[row]], length)

  def answers(self, row: int | np.integer) -> str:
    """Returns the two responses of a row, the chosen one first, shortened."""
    pair = self.rows[row]
    return " | ".join(findings.shorten_beside((pair.chosen, pair.rejected), 60))

  def beside(self, prompts: Sequence[int | np.integer] | np.ndarray) -> findings.Example:
    """Shows prompts side by side, each behind the name of its part where there are folds."""
    texts = findings.shorten_beside([self.prompts[prompt] for prompt in prompts], 90)
    if self.part is not None:
      names = [self.names[part].replace("_", " ") for part in self.part[prompts]]
      texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]

    return findings.Example(self.places(*self.first[prompts]), " | ".join(texts))


def gather(loaded: preferences.PreferenceSet, division: preferences.Division) -> Cases:
  """Numbers prompts and responses, and divides the rows as training would."""
  prompt, numbers = numbered(conversations.write(row.prompt) for row in loaded.rows)
  sides = [(row.chosen, row.rejected) for row in loaded.rows]
  named = zip(np.repeat(prompt, 2).tolist(), itertools.chain(*sides), strict=True)
  chosen, rejected = numbered(named)[0].reshape(-1, 2).T
  first = np.unique(prompt, return_index=True)[1]

  try:
    folds = division.divide(loaded.rows)
    divided = (tuple(folds), _parts(numbers, folds), "")
  except ValueError as error:  # too few rows for folds are a finding, not the end
    divided = ((), None, str(error))

  by_row = (prompt, first, chosen, rejected)
  unusable = (loaded.skipped, loaded.unusable)
  return Cases(loaded.rows, *unusable, tuple(numbers), *by_row, *divided)


def _parts(numbers: dict[str, int], folds: preferences.Folds) -> np.ndarray:
  part = np.zeros(len(numbers), int)
  for index, rows_of_part in enumerate(folds.values()):
    for row in rows_of_part:
      part[numbers[conversations.write(row.prompt)]] = index

  return part


def numbered(keys: Iterable[Hashable]) -> tuple[np.ndarray, dict]:
  """Returns of each key its number, by the order of appearance, and all numbers by their keys."""
  numbers = {}
  return np.array([numbers.setdefault(key, len(numbers)) for key in keys]), numbers


def rows_of(labels: Sequence[int] | np.ndarray) -> list[np.ndarray]:
  """Returns, for every label in order, the positions that have it, in order."""
  labels = np.asarray(labels)
  # Stable, so that the positions of a label stay in order.
  order = np.argsort(labels, kind="stable")
  cuts = np.flatnonzero(np.diff(labels[order])) + 1
  return np.split(order, cuts)
