"""What a model is asked: a text, or a conversation whose last turn is the user's."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from pit_jax.data import marks

LABELS = {"system": "System", "user": "Human", "assistant": "Assistant"}  # role → in plain text
# What others call the roles → role.
OTHERS = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"}
ROLES = {role: role for role in LABELS} | OTHERS
_ROLES = {label: role for role, label in LABELS.items()}
_TURN = re.compile(r"(\A{system}|(?:\A|\n\n)(?:{user}|{assistant})):".format(**LABELS))


class Turn(NamedTuple):
  """One message of a conversation."""

  role: str  # one of LABELS
  content: str  # without outer white space


Prompt = str | tuple[Turn, ...]


def write(prompt: Prompt) -> str:
  """Returns a prompt as plain text, a conversation up to "Assistant:", whose turn it is."""
  if isinstance(prompt, str):
    return prompt
  paragraphs = [f"{LABELS[role]}: {content}" for role, content in prompt]
  return "\n\n".join([*paragraphs, f"{LABELS['assistant']}:"])


def said(prompt: Prompt) -> str:
  """Returns a prompt as a plain form shows it: what the user alone has said, else as by `write`."""
  (role, content), *rest = turns(prompt)
  return content if role == "user" and not rest else write(prompt)


def turns(prompt: Prompt) -> tuple[Turn, ...]:
  """Returns a prompt as a conversation; a text is what the user says first."""
  return (Turn("user", prompt.strip()),) if isinstance(prompt, str) else prompt


def later(turns: tuple[Turn, ...]) -> list[tuple[Turn, ...]]:
  """Returns a conversation with ever fewer of its oldest turns; the system's stays."""
  system = turns[: turns[0].role == "system"]
  starts = [i for i, turn in enumerate(turns) if turn.role == "user"]
  return [system + turns[start:] for start in starts]


def messages(turns: Iterable[Turn]) -> list[dict[str, str]]:
  """Returns turns as messages {role, content}."""
  return [turn._asdict() for turn in turns]


def split(text: str) -> tuple[str, list[Turn]]:
  """Returns what a text holds before its first turn, and its turns; it undoes `write`.

  A turn begins with the label of user or assistant at the text's beginning or after an empty line;
  the system's at the beginning only. Line ends of Windows are read as "\\n".
  """
  # The pattern has a group, so that labels and contents come in turns.
  before, *pieces = map(str.strip, _TURN.split(text.replace("\r\n", "\n")))
  labelled = zip(pieces[::2], pieces[1::2], strict=True)
  return before, [Turn(_ROLES[label], content) for label, content in labelled]


def opening(prompt: Prompt) -> str:
  """Returns what all turns of a conversation share: the user's first message.

  Of a text it is the user's first turn, in whichever style of `marks` it is written and whatever
  precedes it, or all of the text where it marks no turn of the user. A message is read likewise.
  """
  if not isinstance(prompt, str):
    prompt = next(content for role, content in prompt if role == "user")
  return marks.first_user_turn(prompt) or prompt
