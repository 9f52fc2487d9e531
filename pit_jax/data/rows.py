"""What one preference row must be: the checks every source passes through."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


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
    prompt: x, without outer white space.
    chosen: y_w.
    rejected: y_l.
    response: a third answer to the prompt, not compared with the two; None when absent.
    margin: how much better `chosen` is than `rejected`, on the annotators' scale; None when absent.
    place: where the row came from, for messages.
  """

  prompt: str
  chosen: str
  rejected: str
  response: str | None = None
  margin: float | None = None
  place: str = dataclasses.field(default="", compare=False)


def check(fields: Any, place: str) -> Preference:
  """Returns the preference that a row's fields hold.

  Args:
    fields: a mapping with `prompt`, `chosen`, `rejected` and optionally `response`, `margin`;
      further fields are ignored.
    place: where the row came from.

  Raises:
    RowError: a field is missing, empty, of the wrong type or not valid Unicode, or the two
      responses are the same text.
  """
  if not isinstance(fields, Mapping):
    raise RowError("wrong type", f"a row must be an object with fields, not {_kind(fields)}")
  prompt, chosen, rejected = (read_text(fields, name) for name in ("prompt", "chosen", "rejected"))
  if chosen == rejected:
    raise RowError("chosen equals rejected", f"both are {_short(chosen)}")
  response = None if fields.get("response") is None else read_text(fields, "response")
  return Preference(prompt, chosen, rejected, response, _read_margin(fields), place)


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


def _kind(value: Any) -> str:
  return f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
  shown = repr(value)
  return shown if len(shown) <= 60 else shown[:57] + "..."
