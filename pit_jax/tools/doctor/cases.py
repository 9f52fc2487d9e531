"""The rows under examination, with everything that texts are compared by as numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from pit_jax.data import conversations, preferences, rows


@dataclasses.dataclass(frozen=True)
class Cases:
  """Rows, and which of them have prompts and responses in common.

  Attributes:
    rows: what can be trained on.
    skipped: how many rows cannot, by reason.
    prompts: the different prompts as plain text, in the order in which they appear.
    prompt: of each row the number of its prompt.
    first: of each prompt the first row with it.
    chosen: of each row the number of its chosen response; the same text has another number under
      another prompt.
    rejected: likewise of its rejected response.
    names: of the parts that training would make; none without folds.
    part: of each prompt the place of its part in `names`; None without folds.
    refusal: why there are no folds; "" where there are.
  """

  rows: tuple[rows.Preference, ...]
  skipped: dict[str, int]
  prompts: tuple[str, ...]
  prompt: Int[np.ndarray, " rows"]
  first: Int[np.ndarray, " prompts"]
  chosen: Int[np.ndarray, " rows"]
  rejected: Int[np.ndarray, " rows"]
  names: tuple[str, ...]
  part: Int[np.ndarray, " prompts"] | None
  refusal: str

  def named(self, part: int | np.integer) -> str:
    """Returns the name of a part in words."""
    return self.names[part].replace("_", " ")

  def places(self, *numbers: int | np.integer) -> tuple[str, ...]:
    """Returns where some rows came from."""
    return tuple(self.rows[number].place for number in numbers)


def gather(loaded: preferences.PreferenceSet, division: preferences.Division) -> Cases:
  """Numbers prompts and responses, and divides the rows as training would."""
  numbers: dict[str, int] = {}
  responses: dict[tuple[int, str], int] = {}
  prompt = []
  chosen = []
  rejected = []
  first = []

  for row, preference in enumerate(loaded.rows):
    number = numbers.setdefault(conversations.write(preference.prompt), len(numbers))
    if number == len(first):
      first.append(row)
    prompt.append(number)
    chosen.append(responses.setdefault((number, preference.chosen), len(responses)))
    rejected.append(responses.setdefault((number, preference.rejected), len(responses)))

  names = ()
  part = None
  refusal = ""

  try:
    folds = division.divide(loaded.rows)
    names = tuple(folds)
    part = _parts(numbers, folds)
  except ValueError as error:  # too few rows for folds are a finding, not the end
    refusal = str(error)

  return Cases(
    loaded.rows,
    loaded.skipped,
    tuple(numbers),
    np.array(prompt),
    np.array(first),
    np.array(chosen),
    np.array(rejected),
    names,
    part,
    refusal,
  )


def _parts(numbers: dict[str, int], folds: preferences.Folds) -> np.ndarray:
  part = np.zeros(len(numbers), int)
  for index, rows_of_part in enumerate(folds.values()):
    for row in rows_of_part:
      part[numbers[conversations.write(row.prompt)]] = index

  return part


def rows_of(labels: Sequence[int] | np.ndarray) -> list[np.ndarray]:
  """Returns, for every label in order, the positions that have it, in order."""
  labels = np.asarray(labels)
  # Stable, so that the positions of a label stay in order.
  order = np.argsort(labels, kind="stable")
  cuts = np.flatnonzero(np.diff(labels[order])) + 1
  return np.split(order, cuts)
