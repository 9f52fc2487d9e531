"""What a Python program hands over, checked: numbers, seeds, lists, files to write."""

import math
import numbers
import operator
import os
import pathlib
from collections.abc import Mapping
from typing import Any

SEEDS = 2**63  # JAX takes whole numbers from −SEEDS to below SEEDS


def whole(name: str, value: Any, lowest: int) -> int:
  """Returns a whole number from `lowest` on, whichever library's it is.

  Raises:
    ValueError: it is another value.
  """
  number = _index(value)
  if number is None or number < lowest:
    raise ValueError(f"{name}={value!r}; use a whole number, {lowest} or more")
  return number


def real(name: str, value: Any, lowest: float | int, may_be_infinite: bool = False) -> float:
  """Returns a number from `lowest` on, finite unless it may be infinite.

  Raises:
    ValueError: it is another value.
  """
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not value >= lowest or (math.isinf(value) and not may_be_infinite):
    allowed = "a number" if lowest == -math.inf else f"a number, {lowest:g} or more"
    raise ValueError(f"{name}={value!r}; use {allowed}")
  return float(value)


def seed(name: str, value: Any) -> int:
  """Returns a seed; raises a ValueError for what JAX makes none of."""
  number = _index(value)
  if number is None or not -SEEDS <= number < SEEDS:
    raise ValueError(f"{name}={value!r}; use a whole number from -2**63 to below 2**63")
  return number


def several(name: str, given: Any, one: str) -> list:
  """Returns the elements of a list, or of anything else that has elements.

  Args:
    name: what messages call it.
    given: such a list; a text or a mapping is none, though Python walks through both.
    one: what an element is, such as prompt.

  Raises:
    ValueError: it is no list.
  """
  if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__iter__"):
    shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:57]}..."
    hint = f", such as [{shown}]" if isinstance(given, str) else ""
    raise ValueError(f"{name}={shown}; give a list of {one}s{hint}")
  return list(given)


def place(name: str, given: Any, such_as: str) -> str:
  """Returns a path or an address as text; raises a ValueError for what names none."""
  if not isinstance(given, str | os.PathLike) or not os.fspath(given):
    raise ValueError(f"{name}={given!r}; name a place, such as {such_as!r}")
  return os.fspath(given)


def output(name: str, given: str | os.PathLike) -> pathlib.Path:
  """Returns the file that is to be written, before any work is done for it.

  Raises:
    ValueError: it is a folder, or there can be no file there.
  """
  path = pathlib.Path(given)
  if path.is_dir():
    raise ValueError(f"{name}={given} is a folder; name a file, such as {path / 'pairs.jsonl'}")
  folder = next(parent for parent in path.absolute().parents if parent.exists())
  if not folder.is_dir():
    raise ValueError(f"{name}={given}: {folder} is a file; name a file in a folder")
  if not os.access(folder, os.W_OK):
    raise ValueError(f"{name}={given}: nothing can be written into {folder}; name another folder")
  return path


def _index(value: Any) -> int | None:
  """Returns a whole number as Python's own; None of what is none."""
  if isinstance(value, bool):
    return None
  try:
    return operator.index(value)
  except TypeError:
    return None
