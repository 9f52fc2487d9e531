"""Prompt formats as data: which conversation a model is shown before it answers.

A format says what is shown of a row (the prompt, and texts such as a reference), once as plain text
and once as the turns of a chat; `template.Form.encode` turns its conversations into ids, whatever
the format. A critic, say, is one more value:

  Format("critic", ("answer",), "Question: {prompt}\\nAnswer: {answer}\\nCritique:",
         (Text("assistant", "answer"), Turn("user", "What is weak in it?")))
"""

import dataclasses
import functools
import hashlib
import string
from collections.abc import Sequence
from typing import NamedTuple

from pit_jax.data import conversations


class Text(NamedTuple):
  """A turn whose content is a text of the row."""

  role: str  # one of conversations.LABELS
  name: str  # of the text


class Slot(NamedTuple):
  """A place in a plain format that a text fills."""

  before: str  # the format's text in front of it, without the space that belongs to the slot
  name: str
  space: str  # " " or "", encoded with the text that fills the slot


@dataclasses.dataclass(frozen=True)
class Format:
  """What a model is shown of a row before it answers."""

  name: str  # in the names of encoded sets and in messages
  texts: tuple[str, ...] = ()  # names of what is shown beside the prompt, in the order shown
  # Text with the slot {prompt} and, each after a space, one of every text; "" where the format is
  # for chat templates alone.
  plain: str = ""
  # What follows the prompt in a chat; the user's last. None of them: the prompt ends it.
  turns: tuple[Text | conversations.Turn, ...] = ()

  @functools.cached_property
  def hash(self) -> str:
    """A sha256 (16 hex digits) of what the format shows."""
    content = repr((self.texts, self.plain, [tuple(turn) for turn in self.turns]))
    return hashlib.sha256(content.encode()).hexdigest()[:16]

  @functools.cached_property
  def slots(self) -> tuple[list[Slot], str]:
    """The slots of the plain text, and what it says after the last one.

    A space in front of a slot is encoded with the slot's text, as tokenizers expect of a word.
    """
    slots = []
    before = ""
    for literal, name, _, _ in string.Formatter().parse(self.plain):
      before += literal
      if name is not None:
        space = " " if before.endswith(" ") else ""
        slots.append(Slot(before.removesuffix(" "), name, space))
        before = ""

    return slots, before

  def conversations(
    self, prompts: Sequence[conversations.Prompt], *columns: Sequence[str]
  ) -> list["Conversation"]:
    """Returns the conversation of every row, from x and a column for each of `texts`.

    Raises a ValueError where a column is longer or shorter than the prompts.
    """
    for name, column in zip(self.texts, columns, strict=True):
      if len(column) != len(prompts):
        raise ValueError(
          f"{len(prompts)} prompts but {len(column)} {name}s; give one {name} per prompt"
        )

    rows = zip(prompts, *columns, strict=True)
    return [Conversation(prompt, self, tuple(texts)) for prompt, *texts in rows]

  def __post_init__(self):
    """Raises a ValueError when a plain text cannot do its work."""
    if not self.plain:
      return
    shown = f"the {self.name} template {self.plain!r}"
    try:
      parsed = list(string.Formatter().parse(self.plain))
    except ValueError as error:
      raise ValueError(f"{shown}: {error}; write {{{{ and }}}} for braces of the text") from error
    if written := [name for _, name, spec, how in parsed if spec or how]:
      raise ValueError(f"{shown}: a text is shown as it is; write {{{written[0]}}} alone")

    slots, tail = self.slots
    needed = ["prompt", *self.texts]
    if (names := [slot.name for slot in slots]) != needed:
      raise ValueError(f"{shown} has the slots {names}; it needs exactly {needed}, in this order")

    for slot in slots[1:]:
      if slot.space != " ":
        raise ValueError(
          f"{shown} needs a space before {{{slot.name}}}: a {slot.name} is read as the response it "
          "was, and that begins with a space"
        )

    if tail.endswith(" "):
      raise ValueError(f"{shown} ends in a space, but a response begins with one")


class Conversation(NamedTuple):
  """What a model is shown before it answers: a prompt and texts, in a format."""

  prompt: conversations.Prompt
  format: Format
  texts: tuple[str, ...] = ()

  @property
  def further(self) -> tuple[conversations.Turn, ...]:
    """The turns that follow the prompt in a chat, without outer white space."""
    texts = dict(zip(self.format.texts, self.texts, strict=True))
    turns = self.format.turns
    contents = [texts[turn.name] if isinstance(turn, Text) else turn.content for turn in turns]
    roles = (turn.role for turn in turns)
    return tuple(map(conversations.Turn, roles, map(str.strip, contents)))

  @property
  def turns(self) -> tuple[conversations.Turn, ...]:
    """All turns: those of the prompt, and what follows."""
    return (*conversations.turns(self.prompt), *self.further)
