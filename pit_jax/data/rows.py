"""What one preference row must be: the checks every source passes through."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from pit_jax.data import conversations

# What sources call the same two columns, of `chosen` and of `rejected`.
WRITERS = (
  ("chosen_generator", "rejected_generator"),
  ("chosen_model", "rejected_model"),
  ("chosen-model", "rejected-model"),
)
SCORES = (
  ("score_chosen", "score_rejected"),
  ("chosen_score", "rejected_score"),
  ("chosen_rating", "rejected_rating"),
  ("rating_chosen", "rating_rejected"),
  ("chosen-rating", "rejected-rating"),
  ("chosen_avg_rating", "rejected_avg_rating"),
)


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
    scores: what the annotators gave `chosen` and `rejected`, more being better; None when absent.
    place: where the row came from, for messages.
  """

  prompt: conversations.Prompt
  chosen: str
  rejected: str
  response: str | None = None
  margin: float | None = None
  position: int | None = None
  writers: tuple[str, str] | None = None
  scores: tuple[float, float] | None = None
  place: str = dataclasses.field(default="", compare=False)


def check(fields: Any, place: str) -> Preference:
  """Returns the preference that a row's fields hold.

  Args:
    fields: a mapping with `prompt` (a text, or a conversation as `read_prompt` reads it), `chosen`,
      `rejected` and optionally `response`, `margin`, `chosen_position`, and columns of WRITERS and
      SCORES; an optional field that is empty is absent, and further ones are ignored.
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
  return Preference(
    prompt,
    chosen,
    rejected,
    read_optional(fields, "response"),
    read_number(fields, "margin"),
    _read_position(fields),
    _read_writers(fields),
    _read_scores(fields),
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

  A system's message that says nothing is left out.

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
    role = read_text(inside, f"{name}[{i}].role")
    if i == 0 and role == "system" and is_empty(message.get("content")):
      continue
    content = read_text(inside, f"{name}[{i}].content")
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


def read_optional(fields: Mapping, name: str) -> str | None:
  """Returns a text field without its outer white space; None where it is absent or empty.

  Raises:
    RowError: the field is of the wrong type or not valid Unicode.
  """
  return None if is_empty(fields.get(name)) else read_text(fields, name)


def is_empty(value: Any) -> bool:
  """Returns whether a field holds nothing: null, white space, a number that is none, no element.

  Tables write what is absent as NaN, tensorflow-datasets as an empty text.
  """
  if value is None or (isinstance(value, str | bytes) and not value.strip()):
    return True
  if isinstance(value, numbers.Real):
    return value != value  # NaN alone; math.isnan has no answer for the largest integers
  return is_messages(value) and not len(value)


def read_number(fields: Mapping, name: str) -> float | None:
  """Returns a field that is a finite number, or spells one; None where it is absent or empty.

  Raises:
    RowError: the field is something else.
  """
  value = fields.get(name)
  if is_empty(value):
    return None
  if isinstance(value, bool) or not (hasattr(value, "__float__") or isinstance(value, str | bytes)):
    raise RowError("wrong type", f"{name!r} must be a number, not {_kind(value)}")
  try:
    number = float(value)
  except OverflowError:
    number = math.inf
  except (TypeError, ValueError) as error:
    raise RowError("wrong type", f"{name!r} must be a number, not {_kind(value)}") from error
  if not math.isfinite(number):
    raise RowError("wrong type", f"{name!r} must be a finite number, not {number}")
  return number


def _read_position(fields: Mapping) -> int | None:
  position = fields.get("chosen_position")
  if is_empty(position):
    return None
  if isinstance(position, bool) or position not in (1, 2, "1", "2"):
    raise RowError("wrong type", f"'chosen_position' must be 1 or 2, not {_kind(position)}")
  return int(position)


def _read_writers(fields: Mapping) -> tuple[str, str] | None:
  """Returns the first two writers that are both named."""
  for names in WRITERS:
    writers = [read_optional(fields, name) for name in names]
    if None not in writers:
      return tuple(writers)
  return None


def _read_scores(fields: Mapping) -> tuple[float, float] | None:
  """Returns the first two scores that are both numbers: what else stands there is no score."""
  for names in SCORES:
    try:
      scores = [read_number(fields, name) for name in names]
    except RowError:
      continue
    if None not in scores:
      return tuple(scores)
  return None


def _kind(value: Any) -> str:
  return f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
  shown = repr(value)
  return shown if len(shown) <= 60 else shown[:57] + "..."
