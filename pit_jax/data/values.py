"""Reads single values of a row: texts, numbers, lists; what is wrong with one is a `RowError`."""

import datetime
import math
import numbers
from collections.abc import Mapping
from typing import Any

from pit_jax import utf8

MESSAGES = (("role", "content"), ("from", "value"))  # the fields of a message
# Labels that their rows' own scores contradict.
TIED = "label without a difference"
REVERSED = "label against its own scores"
# What is no fault of a file.
LEFT_OUT = ("no preference", "equal ratings", "only answer", TIED, REVERSED)


class RowError(ValueError):
  """A row that cannot be used."""

  def __init__(self, reason: str, detail: str):
    super().__init__(f"{reason}: {detail}")
    self.detail = detail
    self.reason = reason  # one of few fixed phrases, under which such rows are counted


class LeftOut(RowError):
  """A row in order that says nothing to learn from, as a tie: counted by a reason of LEFT_OUT."""


def wrong_type(name: str, needed: str, value: Any) -> RowError:
  """Returns the error of a field that is not what it must be."""
  return RowError("wrong type", f"{name!r} must be {needed}, not {describe(value)}")


def check_row(fields: Any) -> None:
  """Raises a RowError for what is no row: an object with fields."""
  if not isinstance(fields, Mapping):
    detail = f"a row must be an object with fields, not {describe(fields)}"
    raise RowError("wrong type", detail)


def read_text(fields: Mapping, name: str) -> str:
  """Returns a text field without its outer white space.

  Raises a RowError where the field is missing, empty, of the wrong type or not valid Unicode.
  """
  if fields.get(name) is None:
    present = ", ".join(map(str, fields)) or "none"
    raise RowError("missing field", f"{name!r} is absent or null; the fields are: {present}")

  value = fields[name]
  if isinstance(value, bytes):  # tensorflow-datasets gives text as bytes
    try:
      value = value.decode("utf-8")
    except UnicodeDecodeError as error:
      raise RowError("invalid UTF-8", f"{name!r}: {utf8.told(error)}") from error

  if not isinstance(value, str):
    is_date = isinstance(value, datetime.date)  # a datetime is one too
    advice = "; the text was taken for a date, give its file as jsonl:PATH" if is_date else ""
    raise RowError("wrong type", f"{name!r} must be a text, not {describe(value)}{advice}")

  try:
    value.encode("utf-8")  # JSON can spell half a surrogate pair, which no tokenizer accepts
  except UnicodeEncodeError as error:
    raise RowError("invalid UTF-8", f"{name!r}: {utf8.told(error)}") from error

  value = value.strip()
  if not value:
    raise RowError("empty field", f"{name!r} holds no text")
  return value


def read_optional(fields: Mapping, name: str) -> str | None:
  """Returns a text field as `read_text`; None where it is absent or empty."""
  return None if is_empty(fields.get(name)) else read_text(fields, name)


def is_empty(value: Any) -> bool:
  """Returns whether a field holds nothing: null, white space, a number that is none, no element.

  Tables write what is absent as NaN, tensorflow-datasets as an empty text.
  """
  if value is None or (isinstance(value, str | bytes) and not value.strip()):
    return True
  if isinstance(value, numbers.Real):
    return bool(value != value)  # NaN alone; math.isnan has no answer for the largest integers
  return is_messages(value) and not len(value)


def read_number(fields: Mapping, name: str) -> float | None:
  """Returns a field that is a finite number, or spells one; None where it is absent or empty.

  Raises a RowError where the field is something else.
  """
  value = fields.get(name)
  if is_empty(value):
    return None
  if isinstance(value, bool) or not (hasattr(value, "__float__") or isinstance(value, str | bytes)):
    raise wrong_type(name, "a number", value)
  try:
    number = float(value)
  # Python's integers have no end, floats do.
  except OverflowError:
    number = math.inf
  except (TypeError, ValueError) as error:
    raise wrong_type(name, "a number", value) from error

  if not math.isfinite(number):
    raise RowError("wrong type", f"{name!r} must be a finite number, not {number}")
  return number


def is_message(value: Any) -> bool:
  """Returns whether a value is a record with the fields of a message."""
  return isinstance(value, Mapping) and any(value.keys() >= {*names} for names in MESSAGES)


def is_messages(value: Any) -> bool:
  """Returns whether a field is a list, of records or, from tensorflow-datasets, of columns."""
  if isinstance(value, Mapping):
    return is_message(value) and all(map(is_messages, value.values()))
  return not isinstance(value, str | bytes) and hasattr(value, "__len__")


def as_list(value: Any) -> list:
  """Returns a list of records; tensorflow-datasets gives it as a record of columns.

  Raises a RowError where the columns are no lists, or not of one length.
  """
  if not isinstance(value, Mapping):
    return list(value)
  lengths = {name: len(one) if is_messages(one) else None for name, one in value.items()}
  if None in lengths.values() or len({*lengths.values()}) > 1:
    sizes = ", ".join(f"{name}: {length}" for name, length in lengths.items())
    raise RowError("wrong type", f"columns of records must be lists of one length, not {sizes}")

  return [dict(zip(lengths, row, strict=True)) for row in zip(*value.values(), strict=True)]


def describe(value: Any) -> str:
  """Returns a value with its type, for messages."""
  return f"{type(value).__name__} {shorten(value)}"


def shorten(value: Any) -> str:
  """Returns how a value is written, its end left out where it is long."""
  written = repr(value)
  return written if len(written) <= 60 else written[:57] + "..."
