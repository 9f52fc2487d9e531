"""Critiques as lists of units, each of one flaw: where it is, what it is, how bad, what to change.

A unit is written on a line of its own by one template, whose parts are read back as those of other
critiques are:

  Place: {place}. Flaw: {flaw}. Severity: {severity}. Change: {suggestion}

Units that lack a part, or break one, are left out and counted by kind; a reply in which nothing can
be read is a failure by itself. Who finds no flaw says so.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import ml_collections

from pit_jax.data import conversations, critiques, prompt_formats, slots

PARTS = ("place", "flaw", "severity", "suggestion")

# Why a reply has no units, or lacks one.
NO_PLACE = "no place"
NO_FLAW = "no flaw"
NO_SEVERITY = "no severity"
NO_NUMBER = "the severity is no number"
OUT_OF_RANGE = "the severity is out of range"
NO_SUGGESTION = "no suggestion"
FAILURES = (
  *(critiques.TOO_LONG, critiques.NO_FEEDBACK, critiques.NO_FORM, critiques.COPIED_FEEDBACK),
  *(NO_PLACE, NO_FLAW, NO_SEVERITY, NO_NUMBER, OUT_OF_RANGE, NO_SUGGESTION),
)
_MISSING = dict(zip(PARTS, (NO_PLACE, NO_FLAW, NO_SEVERITY, NO_SUGGESTION), strict=True))
# What ends a unit: an empty line, or the fence of a block.
_REMARK = re.compile(r"\n[ \t]*(?=\n|```|\Z)")
_ASKED = "…"  # what stands in the slots where a form is shown


class Unit(NamedTuple):
  """One flaw of an answer; parts that a form has not are None."""

  place: str | None = None
  flaw: str | None = None
  severity: float | int | None = None
  suggestion: str | None = None

  @property
  def at(self) -> str:
    """The place as what tells units apart: without case and white space."""
    return critiques.plain(self.place or "")


class Classed(NamedTuple):
  """A unit, and what a meta-critic says of it."""

  unit: Unit
  quality: float | int | None  # None where nothing could be read
  is_accepted: bool


class Listed(NamedTuple):
  """What could be read of a reply."""

  units: tuple[Unit, ...]
  failures: tuple[str, ...] = ()  # of FAILURES, one for each unit that is lost, or for the reply

  @property
  def is_useful(self) -> bool:
    """Whether it lists units, or says that there are none."""
    return bool(self.units) or not self.failures


@dataclasses.dataclass(frozen=True)
class Form:
  """How lists of units are asked for, and written."""

  template: str  # of a unit: slots for {place} and others of PARTS, in their order
  none: str  # what is said where there is no flaw
  lowest: float | int = 1  # severity
  highest: float | int = 5
  # What the user of a chat says after the answer; {form} is the template, with … in its slots.
  request: str = ""
  # The same for models without a chat template, with the slots {prompt} and {reference}.
  plain: str = ""

  def __post_init__(self):
    """Raises a ValueError for what nobody can be asked, or can be read."""
    parts = self._parts
    if not re.search(r"\w", parts[0].label) or parts[0].name != "place":
      raise ValueError(
        f"the template of units {self.template!r} begins with no word before {{place}}; where "
        "would a unit begin?"
      )
    if not re.search(r"\w", self.none) or "\n" in self.none:
      raise ValueError(f"none={self.none!r} says nothing, in one line; use such as 'No flaws.'")
    if not self.lowest < self.highest:
      raise ValueError(
        f"severities from {self.lowest} to {self.highest}; use a lowest and a higher one"
      )

  @functools.cached_property
  def _parts(self) -> tuple[slots.Part, ...]:
    return slots.parse(self.template, PARTS, "units", ())

  @property
  def names(self) -> tuple[str, ...]:
    """The names of a unit's parts that are written, in order."""
    return tuple(part.name for part in self._parts)

  @property
  def asked(self) -> str:
    """What the user of a chat says after the answer."""
    return self.request.replace("{form}", self.template.format(**dict.fromkeys(PARTS, _ASKED)))

  @functools.cached_property
  def format(self) -> prompt_formats.Format:
    """What a critic is shown: the prompt, an answer, and what is asked of it."""
    turns = (prompt_formats.Text("assistant", "reference"), conversations.Turn("user", self.asked))
    return prompt_formats.Format("unit_critic", ("reference",), self.plain, turns)

  def write(self, units: Iterable[Unit]) -> str:
    """Returns units in words, the most severe first, one a line.

    Raises:
      ValueError: one lacks a part.
    """
    ordered = sorted(units, key=lambda unit: (-(unit.severity or 0), unit.at))
    return "\n".join(map(self.line, ordered)) or self.none

  def line(self, unit: Unit) -> str:
    """Returns a unit in words; raises a ValueError for one that lacks a part."""
    values = {name: getattr(unit, name) for name in self.names}
    if lacking := [name for name, value in values.items() if value is None]:
      raise ValueError(f"{unit} lacks {lacking[0]}, which the form has")
    return self.template.format(**values)

  def read(
    self,
    reply: str | None,
    shown: Sequence[conversations.Prompt] = (),
    requests: Sequence[str] = (),
  ) -> Listed:
    """Returns the units of a reply, and why others are lost; nothing is of one that is None.

    Args:
      reply: None where nobody could be asked, since the prompt was too long.
      shown: texts of which a copy is no reply: a prompt, an answer.
      requests: what was asked, of which copies are none either; see `critiques.is_copy`.
    """
    if reply is None:
      return Listed((), (critiques.TOO_LONG,))
    if not reply.strip():
      return Listed((), (critiques.NO_FEEDBACK,))
    if _bare(reply) == _bare(self.none):
      return Listed(())
    if critiques.is_copy(reply, shown, requests):
      return Listed((), (critiques.COPIED_FEEDBACK,))

    begins = [found.start() for found in self._beginning.finditer(reply)]
    if not begins:
      return Listed((), (critiques.NO_FORM,))
    pieces = [reply[i:j] for i, j in zip(begins, [*begins[1:], len(reply)], strict=True)]
    read = [self._unit(text) for piece in pieces for text in self._single(piece)]
    units = tuple(unit for unit, failure in read if not failure)
    return Listed(units, tuple(failure for _, failure in read if failure))

  @functools.cached_property
  def _beginning(self) -> re.Pattern:
    return slots.label(self._parts[0].label, is_first=True)

  @functools.cached_property
  def _within(self) -> re.Pattern:
    """What begins a unit in a line that has begun."""
    return slots.label(self._parts[0].label, is_first=False)

  @functools.cached_property
  def _others(self) -> re.Pattern:
    """The labels of all parts but the first, at the beginning of a line; of a single part none."""
    labels = [slots.label(part.label, is_first=True).pattern for part in self._parts[1:]]
    return re.compile("|".join(labels) or r"(?!)", re.IGNORECASE)

  def _single(self, piece: str) -> Iterator[str]:
    """Yields the units of a piece of a reply that begins with one, one by one."""
    while further := self._further(piece):
      yield from self._ended(piece[:further])
      piece = piece[further:]
    yield from self._ended(piece)

  def _further(self, piece: str) -> int:
    """Returns where a second whole unit begins in the line of the first one; 0: nowhere."""
    labels = slots.spans(self._parts, piece)
    if None in labels:
      return 0
    begins = (match.start() for match in self._within.finditer(piece, labels[-1][1]))
    return next((i for i in begins if None not in slots.spans(self._parts, piece[i:])), 0)

  def _ended(self, piece: str) -> Iterator[str]:
    """Yields a unit, and what follows it and is the rest of one that has lost its beginning.

    Remarks after it are left out.
    """
    labels = slots.spans(self._parts, piece)
    if None in labels:
      yield piece  # a part is missing, which is its failure
      return
    end = labels[-1][1]
    begin = end + len(piece[end:]) - len(piece[end:].lstrip())  # perhaps on the next line
    found = [pattern.search(piece, begin) for pattern in (_REMARK, self._others)]
    yield piece[: min((match.start() for match in found if match), default=len(piece))]
    if found[1]:
      yield piece[found[1].start() :]

  def _unit(self, text: str) -> tuple[Unit, str]:
    """Returns the unit that a text says, and what is wrong with it."""
    read = slots.texts(self._parts, text)
    for name, said in read.items():
      if not said:
        return Unit(), _MISSING[name]
    severity = None
    if "severity" in read:
      try:
        severity = slots.number(read["severity"], self.lowest, self.highest)
      except slots.NotANumber:
        return Unit(), NO_NUMBER
      except slots.OutOfRange:
        return Unit(), OUT_OF_RANGE
    return Unit(**{**read, "severity": severity}), ""


def form_of(c: ml_collections.ConfigDict) -> Form:
  """Returns the form that a section such as `units` of a configuration describes.

  Raises:
    ValueError: nobody can be asked so, or no reply be read.
  """
  return Form(**{field.name: c[field.name] for field in dataclasses.fields(Form)})


def merged(classed: Iterable[Classed]) -> tuple[Unit, ...]:
  """Returns the accepted units of several critiques of one answer as one critique.

  Of each place there is one: that of the best quality, of equal ones that whose suggestion most
  say, then the first; its severity is the mean of all that were accepted there, rounded to a whole
  number where all are whole (of two as near to the even one), else to two places.
  """
  by_place: dict[str, list[Classed]] = {}
  for one in classed:
    if one.is_accepted:
      by_place.setdefault(one.unit.at, []).append(one)

  units = []
  for there in by_place.values():
    best = max(one.quality or 0 for one in there)
    among = [one.unit for one in there if (one.quality or 0) == best]
    votes = collections.Counter(unit.suggestion for unit in among)
    chosen = max(among, key=lambda unit: votes[unit.suggestion])  # the first of equals
    said = [one.unit.severity for one in there if one.unit.severity is not None]
    mean = sum(said) / len(said) if said else None
    whole = all(isinstance(one, int) for one in said)
    severity = mean if mean is None else round(mean) if whole else round(mean, 2)
    units.append(chosen._replace(severity=severity))
  return tuple(units)


def worth(classed: Iterable[Classed], severities: Mapping[str, float | int]) -> float:
  """Returns what a critique is worth by severity.

  Σ over places of its accepted units of how severe all critics together find the flaw there, less Σ
  over its other units of how severe it finds what is none. A flaw that it misses hence costs as
  much, compared with another critique of the same answer, as it adds there.

  Args:
    classed: the units of the critique.
    severities: place, as `Unit.at` has it, → severity in the critique that is merged of all.
  """
  units = list(classed)
  named = {one.unit.at for one in units if one.is_accepted}
  wrong = {one.unit.at: one.unit.severity or 0 for one in units if not one.is_accepted}
  found = sum(severities.get(place, 0) for place in named)
  return float(found - sum(cost for place, cost in wrong.items() if place not in named))


def _bare(text: str) -> str:
  """Returns a text without case, white space, and the marks around it."""
  return critiques.plain(text).strip(".!*_-# ")
