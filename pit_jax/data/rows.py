"""What one preference row must be: the checks every source passes through."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pit_jax.data import conversations


class RowError(ValueError):
  """A row that cannot be used.

  Attributes:
    reason: one of few fixed phrases, under which such rows are counted.
  """

  def __init__(self, reason: str, detail: str):
    super().__init__(f"{reason}: {detail}")
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Preference:
  """A prompt with a preferred and a dispreferred response.

  Attributes:
    prompt: x, a text without outer white space or a conversation that ends with the user's turn.
    chosen: y_w.
    rejected: y_l.
    response: a third answer to the prompt, not compared with the two; None when absent.
    margin: how much better `chosen` is than `rejected`, on the annotators' scale; None when absent.
    position: where `chosen` stood when the two were judged, 1 or 2; None when absent.
    writers: who wrote `chosen` and `rejected`; None when absent.
    place: where the row came from, for messages.
  """

  prompt: conversations.Prompt
  chosen: str
  rejected: str
  response: str | None = None
  margin: float | None = None
  position: int | None = None
  writers: tuple[str, str] | None = None
  place: str = dataclasses.field(default="", compare=False)


def check(fields: Any, place: str) -> Preference:
  """Returns the preference that a row's fields hold.

  Args:
    fields: a mapping with `prompt` (a text, or a conversation as `read_prompt` reads it), `chosen`,
      `rejected` and optionally `response`, `margin`, `chosen_position`, `chosen_generator` with
      `rejected_generator`; further fields are ignored.
    place: where the row came from.

  Raises:
    RowError: a field is missing, empty, of the wrong type or not valid Unicode, or the two
      responses are the same text.
  """
  if not isinstance(fields, Mapping):
    raise RowError("wrong type", f"a row must be an object with fields, not {_kind(fields)}")
  prompt = read_prompt(fields, "prompt")
  chosen, rejected = read_text(fields, "chosen"), read_text(fields, "rejected")
  if chosen == rejected:
    raise RowError("chosen equals rejected", f"both are {_short(chosen)}")
  response = None if fields.get("response") is None else read_text(fields, "response")
  return Preference(
    prompt,
    chosen,
    rejected,
    response,
    _read_margin(fields),
    _read_position(fields),
    _read_writers(fields),
    place,
  )


def read_prompt(fields: Mapping, name: str) -> conversations.Prompt:
  """Returns a text field, or a field that is a list of messages {"role", "content"}.

  Raises:
    RowError: as `read_text` and `read_turns`, or the last message is not the user's.
  """
  if not is_messages(fields.get(name)):
    return read_text(fields, name)
  turns = read_turns(fields, name)
  if not turns or turns[-1].role != "user":
    found = ", ".join(turn.role for turn in turns) or "none"
    raise RowError(
      "not a conversation", f"{name!r} must end with a message of the user; its roles are: {found}"
    )
  return turns


def is_messages(value: Any) -> bool:
  """Returns whether a field is a list, of records or, from tensorflow-datasets, of columns."""
  if isinstance(value, Mapping):
    return {"role", "content"} <= value.keys() and all(map(is_messages, value.values()))
  return not isinstance(value, str | bytes) and hasattr(value, "__len__")


def as_list(value: Any) -> list:
  """Returns a list of records; tensorflow-datasets gives it as a record of columns.

  Raises:
    RowError: the columns are no lists, or not of one length.
  """
  if not isinstance(value, Mapping):
    return list(value)
  names = list(value)
  lengths = [len(column) if is_messages(column) else None for column in value.values()]
  if None in lengths or len(set(lengths)) > 1:
    sizes = ", ".join(f"{name}: {length}" for name, length in zip(names, lengths, strict=True))
    raise RowError("wrong type", f"columns of records must be lists of one length, not {sizes}")
  return [dict(zip(names, row, strict=True)) for row in zip(*value.values(), strict=True)]


def read_turns(fields: Mapping, name: str) -> tuple[conversations.Turn, ...]:
  """Returns the messages of a field, each content without its outer white space.

  Raises:
    RowError: a message is no object with a known role and a text, a system's is not the first, or
      columns of messages differ in length.
  """
  turns = []
  for i, message in enumerate(as_list(fields[name])):
    if not isinstance(message, Mapping):
      detail = f"{name!r}[{i}] must be an object with role and content, not {_kind(message)}"
      raise RowError("wrong type", detail)
    inside = {f"{name}[{i}].{part}": message.get(part) for part in ("role", "content")}
    role, content = (read_text(inside, part) for part in inside)
    if role not in conversations.LABELS or (role == "system" and i > 0):
      raise RowError(
        "not a conversation",
        f"{name!r}[{i}] has the role {role!r}; known are user, assistant and, at the beginning, "
        "system",
      )
    turns.append(conversations.Turn(role, content))
  return tuple(turns)


def read_text(fields: Mapping, name: str) -> str:
  """Returns a text field without its outer white space.

  Raises:
    RowError: the field is missing, empty, of the wrong type or not valid Unicode.
  """
  if fields.get(name) is None:
    present = ", ".join(map(str, fields)) or "none"
    raise RowError("missing field", f"{name!r} is absent or null; the fields are: {present}")
  value = fields[name]
  if isinstance(value, bytes):  # tensorflow-datasets gives text as bytes
    try:
      value = value.decode("utf-8")
    except UnicodeDecodeError as error:
      raise RowError("invalid UTF-8", f"{name!r}: {error}") from error
  if not isinstance(value, str):
    raise RowError("wrong type", f"{name!r} must be a text, not {_kind(value)}")
  try:
    value.encode("utf-8")  # JSON can spell half a surrogate pair, which no tokenizer accepts
  except UnicodeEncodeError as error:
    raise RowError("invalid UTF-8", f"{name!r}: {error}") from error
  value = value.strip()
  if not value:
    raise RowError("empty field", f"{name!r} holds no text")
  return value


def _read_margin(fields: Mapping) -> float | None:
  margin = fields.get("margin")
  if margin is None:
    return None
  if isinstance(margin, bool) or not hasattr(margin, "__float__"):
    raise RowError("wrong type", f"'margin' must be a number, not {_kind(margin)}")
  try:
    value = float(margin)
  except OverflowError:
    value = math.inf
  if not math.isfinite(value):
    raise RowError("wrong type", f"'margin' must be a finite number, not {value}")
  return value


def _read_position(fields: Mapping) -> int | None:
  position = fields.get("chosen_position")
  if position is None:
    return None
  if isinstance(position, bool) or position not in (1, 2):
    raise RowError("wrong type", f"'chosen_position' must be 1 or 2, not {_kind(position)}")
  return int(position)


def _read_writers(fields: Mapping) -> tuple[str, str] | None:
  names = ("chosen_generator", "rejected_generator")
  if any(fields.get(name) is None for name in names):
    return None
  return read_text(fields, names[0]), read_text(fields, names[1])


def _kind(value: Any) -> str:
  return f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
  shown = repr(value)
  return shown if len(shown) <= 60 else shown[:57] + "..."
