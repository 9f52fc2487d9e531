"""Scores of an answer's sentences by a teacher: what it is asked, and what is read in its reply.

A request numbers the sentences, and a reply has a line for each with its number and a score from 0
to 1, or is one list of scores. What has not is a failure, which is counted by its kind.
"""

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
_PIECE = 5  # words without which a piece of a request may stand in any text

# A sign belongs to the score, and a point is one of decimals, however it is written: what could
# also be the end of another number is no score.
_DASHES = r"\-−–—"
_SCORE = rf"(?<![\w.+{_DASHES}])[+{_DASHES}]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?"
_WHOLE = r"\s*(?:/\s*1(?:\.0*)?)?[^\w%\n]*$"  # of how much, and no share in percent
_LINE = re.compile(
  rf"^[^\w\n]*(?:sentence\s+)?(\d+)\W*?[:.)\]={_DASHES}]\W*?({_SCORE}){_WHOLE}",
  re.IGNORECASE | re.MULTILINE,
)
# A score alone; a number that is written as those of lines are has none after it.
_ALONE = re.compile(rf"(?!\W*\d+\W*[:.)\]=]\W*$)[^\w.+{_DASHES}]*({_SCORE}){_WHOLE}", re.IGNORECASE)
_ITEM = re.compile(_SCORE, re.IGNORECASE)
_LIST = re.compile(r"\[([^\[\]]*)\]")
# Before a list from 0 to 1 that says between what scores lie.
_OF_SCALE = re.compile(
  r"\b(?:out of|(?:scale|range|interval)(?: of| from)?|within|between|in|from)\W*\Z", re.IGNORECASE
)


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


def wordings(words: str) -> list[str]:
  """Returns what a request says whatever it is about, in pieces of several words."""
  pieces = [literal.strip() for literal, *_ in string.Formatter().parse(words)]
  return [piece for piece in pieces if len(piece.split()) >= _PIECE]


def unfit(words: str) -> str:
  """Returns what is wrong with the words of a request; "" where nothing is."""
  needed = "use {prompt} and {sentences}, each once"
  try:
    # A slot with a format is none of these.
    slots = sorted(f"{name}{spec or ''}{how or ''}" for _, name, spec, how in
                   string.Formatter().parse(words) if name is not None)  # fmt: skip
  except ValueError as error:
    return f"{error}; {needed}"
  return "" if slots == [*SLOTS] else needed


def read(reply: str | None, count: int) -> Reading:
  """Returns the scores in a reply about so many sentences, in their order.

  Numbered lines go before a list. Every sentence has to have one score, which is a number from 0
  to 1. Of one sentence a reply may be the score alone.
  """
  if not reply or not reply.strip():
    return Reading((), SILENT)
  lines = _LINE.findall(reply)
  alone = _ALONE.fullmatch(reply.strip()) if count == 1 else None
  if lines:
    numbers = [int(number) for number, _ in lines]
    scores = [_number(score) for _, score in lines]
    if numbers != [*range(1, count + 1)]:
      return Reading((), COUNT)
  elif alone:
    scores = [_number(alone[1])]
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
  """Returns the numbers of the last list of scores in a reply; None where there is none."""
  for found in reversed([*_LIST.finditer(reply)]):
    items = [item.strip() for item in found[1].split(",")]
    if not all(_ITEM.fullmatch(item) for item in items):
      continue
    values = [_number(item) for item in items]
    spans_all = (values[0], values[-1]) == (0, 1) and values == sorted(values)
    if not (spans_all and _OF_SCALE.search(reply[: found.start()])):
      return values
  return None


def _number(text: str) -> float:
  """Returns a number in words, whichever dash its sign is."""
  return float(re.sub(f"[{_DASHES}]", "-", text))
