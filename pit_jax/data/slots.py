"""Texts of labelled parts: a template says how they are written, and what was written is read back.

A template such as "Weak: {weaknesses}. Score {score}." has slots, each once and in a fixed order,
with a word before every one but perhaps the first. Labels are found whatever their case, white
space and Markdown; one that its template has on a line of its own begins a line.
"""

import functools
import re
import string
from collections.abc import Sequence
from typing import NamedTuple

_NUMBER = re.compile(
  r"[*_]*(?P<number>[-+]?\d+(?:\.\d+)?)[*_]*(?:\s*(?:/|out of)\s*(?P<most>\d+))?[\s.*_]*"
)
# What models put before a label that begins a line, and around it: headings, lists, emphasis.
_MARKS = r"(?:\A|\n)[ \t]*(?:(?:[#>*_•+–-]|\d+[.)]|[A-Za-z][.)])[ \t]*)*"
# Emphasis at a label within a line; an underscore counts as a letter elsewhere.
_EMPHASIS = r"[*_]*"


class Part(NamedTuple):
  """A part of a template: what stands before it, its name, and what closes it."""

  label: str  # with white space
  name: str
  closing: str  # punctuation, without white space


class NotANumber(ValueError):
  """A text that says no number."""


class OutOfRange(ValueError):
  """A number that a text says, and that is none of those asked for."""


@functools.cache
def parse(
  template: str, names: tuple[str, ...], of: str, free: tuple[str, ...]
) -> tuple[Part, ...]:
  """Returns the parts of a template.

  Args:
    template: with slots for some of the names.
    names: of the parts there may be, in order.
    of: what the template is of, in messages.
    free: names of parts after which, at the end, no punctuation may stand: they are whole texts.

  Raises:
    ValueError: what it writes cannot be read back.
  """
  shown = f"the template of {of} {template!r}"
  try:
    pieces = list(string.Formatter().parse(template))
  except ValueError as error:
    raise ValueError(f"{shown}: {error}; write {{{{ and }}}} for braces of the text") from error

  slots = [(literal, name) for literal, name, _, _ in pieces if name is not None]
  there = [name for _, name in slots]
  if not there or there != [name for name in names if name in there]:
    raise ValueError(
      f"{shown} has the slots {there}; use some of {names}, in this order, each once"
    )
  if any(spec or how for _, _, spec, how in pieces):
    raise ValueError(f"{shown}: a part is written as it is; leave out what follows its name")

  tail = pieces[-1][0] if pieces[-1][1] is None else ""
  literals = [literal for literal, _ in slots[1:]]
  if unlabelled := [name for literal, name in slots[1:] if not re.search(r"\w", literal)]:
    raise ValueError(f"{shown} has no word before {{{unlabelled[0]}}}; where would it begin?")
  if re.search(r"\w", tail) or (tail.strip() and there[-1] in free):
    raise ValueError(f"{shown} goes on after its last part; let that be the end")

  closings = [re.match(r"[^\w\s]*", text)[0] for text in (*literals, tail)]
  labels = [slots[0][0], *(text[len(end) :] for text, end in zip(literals, closings, strict=False))]
  return tuple(map(Part, labels, there, closings))


def spans(parts: Sequence[Part], reply: str) -> list[tuple[int, int] | None]:
  """Returns where the labels of a reply stand, None for one that is not found in its turn."""
  found: list[tuple[int, int] | None] = []
  end = 0
  for number, part in enumerate(parts):
    match = label(part.label, is_first=not number).search(reply, end)
    found.append(match.span() if match else None)
    end = match.end() if match else end
  return found


def texts(parts: Sequence[Part], reply: str) -> dict[str, str | None]:
  """Returns the text of each part of a reply, None of one whose label is not found in its turn."""
  there = spans(parts, reply)
  found = {}
  for number, (part, span) in enumerate(zip(parts, there, strict=True)):
    following = next((one[0] for one in there[number + 1 :] if one), len(reply))
    text = reply[span[1] : following].strip() if span else None
    found[part.name] = text and text.removesuffix(part.closing).rstrip()
  return found


@functools.cache
def label(text: str, *, is_first: bool) -> re.Pattern:
  """Returns what finds the label of a part, which stands in a template so; ends where it does."""
  words = r"\s+".join(map(re.escape, re.findall(r"\w+", text)))
  if not words:
    return re.compile(r"\A")
  begins_line = is_first or "\n" in text
  ends_in_colon = text.rstrip().endswith(":")
  before = _MARKS if begins_line else rf"(?<![^\W_]){_EMPHASIS}"
  after = rf"{_EMPHASIS}(?!\w)"
  if ends_in_colon:
    # A heading has its line to itself, and no colon.
    after = (
      rf"{_EMPHASIS}[ \t]*(?::{_EMPHASIS}|(?=\n))" if begins_line
      else rf"{_EMPHASIS}\s*:{_EMPHASIS}"
    )  # fmt: skip
  return re.compile(f"{before}{words}{after}", re.IGNORECASE)


def number(text: str, lowest: float | int, highest: float | int) -> float | int:
  """Returns the number that a text says, as "7", "7." or "7/10".

  Raises:
    NotANumber: it says none, or more.
    OutOfRange: it is none from the lowest to the highest, or out of another one than that.
  """
  match = _NUMBER.fullmatch(text)
  if match is None:
    raise NotANumber(text)
  said = float(match["number"])
  most = match["most"]
  if not lowest <= said <= highest or (most and float(most) != highest):
    raise OutOfRange(text)
  return int(said) if said.is_integer() else said
