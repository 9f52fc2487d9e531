"""Pairs whose answers a judge compares by one principle at a time, and what they are labelled then.

See statistics/principles.py for the scores, and `rows` for what is drawn.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, principles
from pit_jax.data import rows as data_rows
from pit_jax.feedback import labels
from pit_jax.statistics import principles as aggregation

# Fates of rows.
KEPT = labels.KEPT
ZERO = "score 0"


@dataclasses.dataclass(frozen=True)
class Drawing:
  """How rows are made of pairs that were compared; the defaults are the paper's."""

  passes: int = 4  # rows of each pair
  stop: float | int = 0.2  # a row shows k principles with probability (1 − p)^(k − 1) p
  flip: float | int = 0.1  # share of the labels that are turned round
  negated: float | int = 0.5  # share of the principles that are shown negated


def drawing(section: Any) -> Drawing:
  """Returns the drawing that the attributes of a section of a configuration ask for."""
  names = [field.name for field in dataclasses.fields(Drawing)]
  return Drawing(**{name: getattr(section, name) for name in names})


def draw(
  rng: random.Random, drawing: Drawing, bank: principles.Bank, prompt: conversations.Prompt
) -> list[principles.Shown]:
  """Draws what a row of a prompt shows: how many principles, which ones, which of them negated."""
  drawn = bank.draw(rng, prompt, _count(rng, drawing, bank, prompt))
  return [principles.Shown(one, rng.random() < drawing.negated) for one in drawn]


def rows(
  pairs: Sequence[labels.Pair],
  scores: np.ndarray,
  bank: principles.Bank,
  drawing: Drawing,
  *,
  seed: int,
  labelled_by: str,
) -> Iterator[dict[str, Any]]:
  """Yields rows of pairs: principles drawn for each, and the label that these make; as JSON has it.

  Each pass draws for each pair how many principles it shows, those by their weights, and which are
  negated; which answer stands first; and whether the label is turned round. Row i of a pass is a
  function of (seed, pass, i), of the prompt and of the bank. Of a row that is left out, since its
  score is 0, `preference` is None.

  Args:
    pairs: N of them.
    scores: by how much a is better than b by each principle of the bank, Float[N K]; see
      `aggregation.standardised`.
    bank: the principles.
    drawing: how many rows, and their noise.
    seed: of the noise.
    labelled_by: the judge's name.
  """
  places = {one.name: place for place, one in enumerate(bank.principles)}
  draws = []
  for number in range(drawing.passes):
    for i, pair in enumerate(pairs):
      rng = random.Random(f"principles {seed} {number} {i}")
      shown = draw(rng, drawing, bank, pair.prompt)
      draws.append((i, shown, rng.random() < 0.5, rng.random() < drawing.flip))

  is_shown, is_negated = (np.zeros((len(draws), len(places)), bool) for _ in range(2))
  for row, (_, shown, *_) in enumerate(draws):
    for one in shown:
      is_shown[row, places[one.principle.name]] = True
      is_negated[row, places[one.principle.name]] = one.is_negated
  by_row = scores[[i for i, *_ in draws]]
  decided, values = aggregation.dominant(by_row, is_shown, is_negated)

  for row, (i, shown, is_swapped, is_flipped) in enumerate(draws):
    pair = pairs[i]
    sign = -1 if is_swapped else 1  # of scores, where b stands first
    value = sign * float(values[row]) * (-1 if is_flipped else 1)
    own = [sign * float(by_row[row, places[one.principle.name]]) for one in shown]
    yield {
      "prompt": conversations.write(pair.prompt),
      "output_1": pair.b if is_swapped else pair.a,
      "output_2": pair.a if is_swapped else pair.b,
      "preference": (1 if value > 0 else 2) if value else None,
      "principles": [one.name for one in shown],
      # Of each its score as it is shown: above 0 for the first output.
      "scores": [
        None if np.isnan(score) else (-score if one.is_negated else score) + 0.0
        for one, score in zip(shown, own, strict=True)
      ],
      "decided_by": bank.principles[decided[row]].name if value else None,
      "is_flipped": is_flipped,
      "pair": i,
      "written_by": list(pair.written_by[::-1] if is_swapped else pair.written_by),
      "labelled_by": labelled_by,
    }


def _count(rng: random.Random, drawing: Drawing, bank: principles.Bank, prompt: Any) -> int:
  """Draws how many principles a row shows: again where that is more than there can be."""
  most = min(principles.MOST, len(bank.fitting(prompt)))
  while most:
    count = 1
    while rng.random() >= drawing.stop:
      count += 1
    if count <= most:
      return count
  return 0


def preferences(
  rows: Sequence[Mapping[str, Any]],
  pairs: Sequence[labels.Pair],
  bank: principles.Bank,
  *,
  is_read: bool = True,
) -> list[data_rows.Preference]:
  """Returns the labelled rows as what models are trained on, with their principles.

  They are shown as a reward model reads them (`is_read`), or in the prompts, as an improver is.
  """
  made = []
  for row in rows:
    if row["preference"] is None:
      continue
    outputs = (row["output_1"], row["output_2"])
    order = (0, 1) if row["preference"] == 1 else (1, 0)
    shown = bank.chosen(row["principles"])
    prompt = pairs[row["pair"]].prompt
    how = {"position": 1 + order[0], "writers": tuple(row["written_by"][i] for i in order)}
    texts = [outputs[i] for i in order]
    if is_read:
      (prompt, texts[0]), (_, texts[1]) = (bank.read(prompt, text, shown) for text in texts)
    else:
      prompt = bank.show(prompt, shown)
    made.append(data_rows.Preference(prompt, *texts, **how))
  return made


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """Returns how many rows are "kept", and how many left out since their score is 0."""
  kept = sum(row["preference"] is not None for row in rows)
  return {KEPT: kept, ZERO: len(rows) - kept}
