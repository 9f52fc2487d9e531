"""Scores of an answer's sentences by a teacher: what it is asked, and what is read in its reply.

A request numbers the sentences, and a reply has a line for each with its number and a score from 0
to 1, or is one list of scores. What has not is a failure, which is counted by its kind.
"""

import json
import math
import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from pit_jax.data import conversations

# Why a reply cannot be used, as metrics and counts call it.
SILENT = "silent"  # there is none
UNREADABLE = "unreadable"  # it holds no scores
COUNT = "count"  # it scores another number of sentences
RANGE = "range"  # a score is below 0 or above 1
FAILURES = (SILENT, UNREADABLE, COUNT, RANGE)
SLOTS = ("prompt", "sentences")  # of a request's words

_LINE = re.compile(
  r"^\W*(?:sentence\s+)?(\d+)\W*?[:.)\]=\-–]\W*?(-?\d+(?:\.\d+)?)\s*(?:/\s*1(?:\.0*)?)?\W*$",
  re.IGNORECASE | re.MULTILINE,
)
_LIST = re.compile(r"\[[^\[\]]*\]")


class Reading(NamedTuple):
  """The scores in a reply; or why there are none, one of FAILURES."""

  scores: tuple[float, ...]
  failure: str = ""


def request(words: str, prompt: conversations.Prompt, sentences: Sequence[str]) -> str:
  """Returns what a teacher is asked of an answer: words with {prompt} and {sentences}, numbered."""
  return words.format(prompt=conversations.said(prompt), sentences=numbered(sentences))


def numbered(sentences: Sequence[str]) -> str:
  """Returns sentences as lines "1. …"; line breaks within one are spaces."""
  lines = [" ".join(sentence.split()) for sentence in sentences]
  return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def unfit(words: str) -> str:
  """Returns what is wrong with the words of a request; "" where nothing is."""
  needed = "use {prompt} and {sentences}, each once"
  try:
    slots = sorted(name for _, name, _, _ in string.Formatter().parse(words) if name is not None)
  except ValueError as error:
    return f"{error}; {needed}"
  return "" if slots == [*SLOTS] else needed


def read(reply: str | None, count: int) -> Reading:
  """Returns the scores in a reply about so many sentences, in their order.

  Numbered lines go before a list. Every sentence has to have one score, which is a number from 0
  to 1.
  """
  if not reply or not reply.strip():
    return Reading((), SILENT)
  lines = _LINE.findall(reply)
  if lines:
    numbers = [int(number) for number, _ in lines]
    scores = [float(score) for _, score in lines]
    if numbers != [*range(1, count + 1)]:
      return Reading((), COUNT)
  else:
    found = _listed(reply)
    if found is None:
      return Reading((), UNREADABLE)
    scores = found
    if len(scores) != count:
      return Reading((), COUNT)
  if not all(0 <= score <= 1 for score in scores):
    return Reading((), RANGE)
  return Reading(tuple(scores))


def _listed(reply: str) -> list[float] | None:
  """Returns the numbers of the last JSON list of numbers in a reply; None where there is none."""
  for found in reversed(_LIST.findall(reply)):
    try:
      values = json.loads(found)
    except ValueError:
      continue
    if values and all(_is_number(value) for value in values):
      return [float(value) for value in values]
  return None


def _is_number(value: object) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
