"""Critiques of answers as text: what is weak, a score, what to change, and a better answer.

One template says how all of it is written, and replies are read back by it:

  Weaknesses: {weaknesses}
  Score: {score}
  Changes: {changes}
  Better answer: {answer}

What a reply lacks or breaks is a failure of one of few kinds, for the counts; whoever wanted a
better answer keeps the draft then. A template may have any of the parts, in this order: without
words a single one is the whole reply.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import ml_collections

from pit_jax.data import conversations, prompt_formats, slots

PARTS = ("weaknesses", "score", "changes", "answer")

# What becomes of a draft: a better answer, or the same one.
REFINED = "refined"
UNCHANGED = "unchanged"
# Why there is no better answer.
NO_FEEDBACK = "no feedback"
NO_FORM = "not in the form"
NO_WEAKNESSES = "no weaknesses"
NO_SCORE = "no score"
NO_NUMBER = "the score is no number"
OUT_OF_RANGE = "the score is out of range"
NO_CHANGES = "no changes"
COPIED_FEEDBACK = "feedback copies its prompt"
NO_ANSWER = "no answer"
COPIED_ANSWER = "answer copies its prompt"
TOO_LONG = "prompt too long"
FAILURES = (
  *(NO_FEEDBACK, NO_FORM, NO_WEAKNESSES, NO_SCORE, NO_NUMBER, OUT_OF_RANGE, NO_CHANGES),
  *(COPIED_FEEDBACK, NO_ANSWER, COPIED_ANSWER, TOO_LONG),
)
_MISSING = dict(zip(PARTS, (NO_WEAKNESSES, NO_SCORE, NO_CHANGES, NO_ANSWER), strict=True))


@dataclasses.dataclass(frozen=True)
class Critique:
  """What somebody says of an answer; parts that a form has not are None."""

  weaknesses: str | None = None
  score: float | int | None = None
  changes: str | None = None
  answer: str | None = None  # the better one


@dataclasses.dataclass(frozen=True)
class Form:
  """How critiques are asked for, and written."""

  template: str  # slots for some of PARTS, in their order
  lowest: float | int = 1  # score
  highest: float | int = 10
  # What the user of a chat says after the answer; {form} is the template, with … in its slots, and
  # {lowest} and {highest} are those.
  request: str = ""
  # The same for models without a chat template, with the slots {prompt} and {reference}.
  plain: str = ""

  def __post_init__(self):
    """Raises a ValueError for what nobody can be asked, or can be read."""
    _parse(self.template)
    if not self.lowest < self.highest:
      raise ValueError(
        f"scores from {self.lowest} to {self.highest}; use a lowest and a higher one"
      )

  @property
  def parts(self) -> tuple[str, ...]:
    """The names of what is written, in order."""
    return tuple(part.name for part in _parse(self.template))

  @property
  def asked(self) -> str:
    """What the user of a chat says after the answer."""
    shown = self.template.format(**dict.fromkeys(PARTS, "…"))
    said = {"{lowest}": str(self.lowest), "{highest}": str(self.highest), "{form}": shown}
    return functools.reduce(lambda text, slot: text.replace(slot, said[slot]), said, self.request)

  @functools.cached_property
  def format(self) -> prompt_formats.Format:
    """What a critic is shown: the prompt, an answer, and what is asked of it."""
    turns = (prompt_formats.Text("assistant", "reference"), conversations.Turn("user", self.asked))
    return prompt_formats.Format("critic", ("reference",), self.plain, turns)

  def of(self, *names: str) -> "Form":
    """Returns the form of some of the parts alone.

    Raises:
      ValueError: it has none of them.
    """
    kept = [part for part in _parse(self.template) if part.name in names]
    texts = [f"{part.label}{{{part.name}}}{part.closing}" for part in kept]
    return dataclasses.replace(self, template="".join(texts).lstrip())

  def write(self, critique: Critique) -> str:
    """Returns a critique in words.

    Raises:
      ValueError: it lacks a part.
    """
    values = {name: getattr(critique, name) for name in self.parts}
    if lacking := [name for name, value in values.items() if value is None]:
      raise ValueError(f"{critique} lacks {lacking[0]}, which the form has")
    return self.template.format(**values)

  def read(
    self,
    reply: str | None,
    shown: Sequence[conversations.Prompt] = (),
    requests: Sequence[str] = (),
  ) -> tuple[Critique, str]:
    """Returns what a reply says, and why it is of no use, one of FAILURES; "" where it is of use.

    Labels are found whatever their case, white space and Markdown; one whose template has it on a
    line of its own begins a line. Of a reply that is of no use what could be read is returned.

    Args:
      reply: None where nobody could be asked, since the prompt was too long.
      shown: texts of which a copy is no reply: a prompt, an answer.
      requests: what was asked, of which copies are none either; see `is_copy`.
    """
    if reply is None:
      return Critique(), TOO_LONG
    parts = _parse(self.template)
    if not reply.strip():
      return Critique(), NO_ANSWER if self.parts == ("answer",) else NO_FEEDBACK

    texts = slots.texts(parts, reply)
    read = {name: text for name, text in texts.items() if text}
    score, problem = _score(read.pop("score", None), self.lowest, self.highest)
    critique = Critique(score=score, **read)
    if all(text is None for text in texts.values()):
      return critique, NO_FORM
    for name, text in texts.items():
      if not text:
        return critique, _MISSING[name]
      if name == "score" and problem:
        return critique, problem
      if name != "score" and is_copy(text, shown, requests):
        return critique, COPIED_ANSWER if name == "answer" else COPIED_FEEDBACK
    return critique, ""

  def refine(
    self,
    draft: str,
    reply: str | None,
    shown: Sequence[conversations.Prompt] = (),
    requests: Sequence[str] = (),
  ) -> tuple[str, Critique, str]:
    """Returns what a reply makes of a draft: the answer, what it says, and the outcome.

    The outcome is REFINED, UNCHANGED, or one of FAILURES, after which the draft stays; arguments
    are as for `read`.
    """
    critique, failure = self.read(reply)
    if not failure and plain(critique.answer) == plain(draft):
      return draft, critique, UNCHANGED
    # What equals a draft is no copy but unchanged, so copies are looked for afterwards.
    _, failure = self.read(reply, shown, requests)
    return (draft, critique, failure) if failure else (critique.answer, critique, REFINED)


def form_of(c: ml_collections.ConfigDict) -> Form:
  """Returns the form that a section such as `critique` of a configuration describes.

  Raises:
    ValueError: nobody can be asked so, or no reply be read.
  """
  return Form(**{field.name: c[field.name] for field in dataclasses.fields(Form)})


def failures(outcomes: Iterable[str], kinds: Sequence[str] = FAILURES) -> dict[str, int]:
  """Returns how many outcomes are failures, by kind in the order of the kinds."""
  counts = collections.Counter(outcomes)
  return {kind: counts[kind] for kind in kinds if counts[kind]}


def is_copy(said: str, shown: Sequence[conversations.Prompt], requests: Sequence[str]) -> bool:
  """Returns whether a text is one that was shown, or a request is in it.

  A request that is repeated up to the end of the text, which may be cut there, is one too, if the
  text has a quarter of its words and five: "No" is an answer, though "Now write …" begins with it.
  """
  reply = plain(said)
  texts = [plain(conversations.turns(text)[-1].content) for text in shown]
  asked = [plain(turn) for turn in requests]
  long = [one for one in asked if len(reply.split()) >= max(5, len(one.split()) / 4)]
  is_request = any(one in reply for one in asked) or any(one.startswith(reply) for one in long)

  return is_request or reply in texts


def plain(text: str) -> str:
  """Returns a text without what does not tell it from a copy: case and white space."""
  return " ".join(text.casefold().split())


def _parse(template: str) -> tuple[slots.Part, ...]:
  """Returns the parts of a template; raises a ValueError for one that cannot be read back."""
  return slots.parse(template, PARTS, "critiques", ("answer",))


def _score(
  text: str | None, lowest: float | int, highest: float | int
) -> tuple[float | int | None, str]:
  """Returns the score that a text says, and what is wrong with it."""
  if not text:
    return None, NO_SCORE
  try:
    return slots.number(text, lowest, highest), ""
  except slots.NotANumber:
    return None, NO_NUMBER
  except slots.OutOfRange:
    return None, OUT_OF_RANGE
