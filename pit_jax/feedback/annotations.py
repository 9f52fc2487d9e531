"""Labels in AlpacaEval's files: which of two outputs to an instruction was preferred, 1 or 2.

  [{"instruction": …, "output_1": …, "output_2": …, "preference": 1, "annotator": …}, …]

A file is one JSON list, or JSON lines, CSV or Parquet of such rows. What is no preference (0, 1.5,
NaN, none at all) is no label: it is counted, and never taken for a preference of either output.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pit_jax.data import conversations, files
from pit_jax.feedback import judges

FIELDS = ("instruction", "output_1", "output_2", "preference")
TEXTS = FIELDS[:3]
ABSENT = "no label in the file"
NO_PREFERENCE = "a label that is no preference"

# (instruction, first output, second output) → 1 or 2; None of a label that is no preference.
Labels = dict[tuple[str, str, str], int | None]


def read(path: str | os.PathLike) -> Labels:
  """Returns the labels of a file; of a pair that has several the last one.

  Raises:
    ValueError: the file cannot be read, or a row lacks one of FIELDS or a text among them.
  """
  kind = files.KINDS.get(files.suffix(path), "jsonl")
  labels: Labels = {}
  for place, fields in files.READERS[kind](str(files.existing(str(path)))):
    if not isinstance(fields, Mapping):
      raise ValueError(f"{place}: {_wrong(fields)}; write an object with {', '.join(FIELDS)}")
    for name in TEXTS:
      if not isinstance(fields.get(name), str):
        said = repr(fields[name]) if name in fields else "missing"
        raise ValueError(f"{place}: {name!r} is {said}; it has to be a text")
    if "preference" not in fields:
      raise ValueError(f"{place}: 'preference' is missing; give 1 or 2, or null for no preference")

    key = tuple(fields[name].strip() for name in TEXTS)
    labels[key] = _preference(fields["preference"])

  return labels


def _wrong(fields: Any) -> str:
  return str(fields) if isinstance(fields, ValueError) else f"{type(fields).__name__} is no row"


def _preference(value: Any) -> int | None:
  """Returns the output that a label prefers, or None where it prefers neither."""
  try:
    number = float(value)
  except (TypeError, ValueError, OverflowError):
    return None
  # A bool is a number in Python and says nothing of which output is meant.
  is_label = not isinstance(value, bool) and math.isfinite(number) and number in (1.0, 2.0)
  return int(number) if is_label else None


def rater(name: str, path: str | os.PathLike) -> judges.Judge:
  """Returns a file of labels as a rater, who is asked about the pairs that it has alone.

  Others fail, as do those whose label is no preference. A pair counts whichever of its outputs was
  shown first; where both orders are there, the one that is asked for does.

  Raises:
    ValueError: as `read`, or the file has no rows.
  """
  labels = read(path)
  if not labels:
    raise ValueError(f"{path} has no rows; write some with {', '.join(FIELDS)}")

  def verdicts(questions, a, b):
    difference = np.full(len(a), np.nan)
    failures = {}
    for place, (question, *answers) in enumerate(zip(questions, a, b, strict=True)):
      said = _said(labels, conversations.write(question), *answers)
      if isinstance(said, str):
        failures[place] = said
      else:
        difference[place] = said

    return judges.Verdicts(difference, failures=failures)

  return judges.Judge(name, verdicts, None, judges.EXACT_TIE)


def _said(labels: Labels, prompt: str, a: str, b: str) -> float | str:
  """Returns 1 where a is preferred, −1 where b is, or why nothing is known of the pair."""
  shown = [text.strip() for text in (a, b)]
  for order, sign in ((shown, 1.0), (shown[::-1], -1.0)):
    key = (prompt.strip(), *order)
    if key in labels:
      preferred = labels[key]
      return NO_PREFERENCE if preferred is None else sign * (3 - 2 * preferred)
  return ABSENT


def row(
  shown: tuple[conversations.Prompt, str, str],
  preferred: int | None,
  annotator: str,
  *,
  generators: tuple[str, str],
  **facts: Any,
) -> dict[str, Any]:
  """Returns a pair as a row of a file.

  Args:
    shown: prompt, first and second output.
    preferred: which output, 1 or 2; None, of a tie or a failure, is null: `read` takes it for no
      label.
    annotator: who says so.
    generators: who wrote the outputs.
    facts: what else is said of the pair.
  """
  prompt, first, second = shown
  return {
    "instruction": conversations.write(prompt),
    "output_1": first,
    "output_2": second,
    "generator_1": generators[0],
    "generator_2": generators[1],
    "annotator": annotator,
    "preference": preferred,
    **facts,
  }
