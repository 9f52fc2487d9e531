"""Texts that are conversations: what can be read as one without doubt becomes messages.

Tables without lists hold conversations as JSON, and copies of HH-RLHF have its dialogues beside a
prompt of their own. What is not certain stays the text that it is; `suspects` finds it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pit_jax.data import conversations, values

RESPONSES = ("chosen", "rejected")
# How HelpSteer marks the turns of a prompt; the user's first turn has no mark.
_STEERED = re.compile(r"(?:\A|\n)<extra_id_[01]>(System|User|Assistant)(?:\n|\Z)")


def read(fields: Mapping) -> dict[str, Any]:
  """Returns a row's fields, in which texts that are conversations for certain are messages.

  These are columns with message lists in JSON (both responses or neither), a prompt that is a whole
  dialogue as HH-RLHF or HelpSteer writes it, and both responses where they are dialogues of
  HH-RLHF, go on from the same turns, and a prompt beside them is one of these turns, or all. Texts
  may be bytes.
  """
  texts = {name: _text(value) for name, value in fields.items()}
  listed = {name: messages(text) for name, text in texts.items() if text is not None}
  # Both responses or neither: messages are not compared with a text.
  if not all(listed.get(name) for name in RESPONSES):
    listed |= dict.fromkeys(RESPONSES)
  row = {**fields, **{name: value for name, value in listed.items() if value}}

  dialogues = [dialogue(texts.get(name)) for name in RESPONSES]
  if all(dialogues) and _go_on(dialogues, texts.get("prompt")):
    del row["prompt"]  # they begin with it
    return row | dict(zip(RESPONSES, map(conversations.messages, dialogues), strict=True))

  prompt_turns = dialogue(texts.get("prompt")) or steered(texts.get("prompt"))
  if prompt_turns and prompt_turns[-1].role == "user":
    row["prompt"] = conversations.messages(prompt_turns)
  return row


def messages(text: str) -> list[dict[str, Any]] | None:
  """Returns the messages that a text holds in JSON, one or a list; None where it holds none."""
  if text[:1] not in ("[", "{"):
    return None
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    return None

  value = [value] if isinstance(value, dict) else value
  return value if value and all(map(values.is_message, value)) else None


def dialogue(text: str | None) -> list[conversations.Turn]:
  """Returns the turns of a text that is a dialogue as HH-RLHF writes it, from the user's on.

  User and assistant take turns and each says something, but for the assistant at the end, whose
  reply is asked for; else there are none. A system's turn may come first.
  """
  before, turns = conversations.split(text) if text else ("", [])
  return [] if before else _in_turn(turns)


def steered(text: str | None) -> list[conversations.Turn]:
  """Returns the turns of a text that is a dialogue as HelpSteer writes it; else there are none.

  As in `dialogue` the two take turns; a system that says nothing, as NeMo writes it, is left out.
  """
  first, *pieces = map(str.strip, _STEERED.split(text or ""))
  if not pieces:
    return []
  marked = zip(map(str.lower, pieces[::2]), pieces[1::2], strict=True)
  turns = [conversations.Turn("user", first)] if first else []
  turns += [conversations.Turn(*turn) for turn in marked if turn != ("system", "")]

  return [] if any(turn.role == "system" for turn in turns[1:]) else _in_turn(turns)


def _in_turn(turns: list[conversations.Turn]) -> list[conversations.Turn]:
  """Returns turns, without an assistant's last one that is empty; none that are no dialogue."""
  if turns and turns[-1] == ("assistant", ""):
    turns = turns[:-1]
  spoken = [turn.role for turn in turns if turn.role != "system"]
  in_turn = ["user", "assistant"] * len(spoken)
  is_dialogue = spoken == in_turn[: len(spoken)] and all(turn.content for turn in turns)

  return turns if spoken and is_dialogue else []


def _go_on(dialogues: list[list[conversations.Turn]], prompt: str | None) -> bool:
  """Returns whether two dialogues differ in their last reply alone and go on from a prompt."""
  first, second = (turns[:-1] for turns in dialogues)
  # A whole dialogue without a prompt is a schema of its own.
  if not prompt or first != second or any(turns[-1].role != "assistant" for turns in dialogues):
    return False
  return dialogue(prompt) == first or ("user", prompt) in first


def _text(value: Any) -> str | None:
  """Returns a text with "\\n" as line ends and without outer white space; None for what is none."""
  if isinstance(value, bytes):
    try:
      value = value.decode("utf-8")
    except UnicodeDecodeError:
      return None  # a row that is refused says so

  return value.replace("\r\n", "\n").strip() if isinstance(value, str) else None
