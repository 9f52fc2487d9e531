"""What values of a configuration may be: in words, and as the test by which others are refused."""

import math
import numbers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

IN_TUPLE = "[]"  # in the place of an index: the sections of a tuple have the same keys


class Range(NamedTuple):
  """What a value may be."""

  words: str  # as they follow "use"
  holds: Callable[[Any], bool]  # of any value at all, whatever its type


def _is_whole(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
  """Returns whether a value is a number, finite as a float too; True and False are none."""
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # a whole number that no float is as large as
    return False


def is_list(value: Any) -> bool:
  """Returns whether a value is a tuple or a list; a text is none."""
  return isinstance(value, tuple | list)


def _number(words: str, holds: Callable[[Any], bool]) -> Range:
  return Range(words, lambda value: is_finite(value) and holds(value))


def _whole(words: str, holds: Callable[[Any], bool]) -> Range:
  return Range(words, lambda value: _is_whole(value) and holds(value))


# Whole numbers.
WHOLE = _whole("a whole number", lambda value: True)
COUNT = _whole("1 or more, a whole number", lambda value: value >= 1)
COUNT_OR_NONE = _whole("0 or more, a whole number", lambda value: value >= 0)

# Numbers, which have to be finite where an infinite one is not said to be of use.
NUMBER = Range("a number", lambda value: is_finite(value) or value in (math.inf, -math.inf))
FINITE = _number("a finite number", lambda value: True)
FROM_ZERO = _number("0 or more, and finite", lambda value: value >= 0)
POSITIVE = _number("more than 0, and finite", lambda value: value > 0)
LIMIT = Range(
  "more than 0; inf is no limit", lambda value: value == math.inf or POSITIVE.holds(value)
)
SHARE = _number("from 0 to 1", lambda value: 0 <= value <= 1)
PART = _number("more than 0 and less than 1", lambda value: 0 < value < 1)
DOUBT = _number("0 or more and less than 0.5", lambda value: 0 <= value < 0.5)
BELOW_ONE = _number("0 or more and less than 1", lambda value: 0 <= value < 1)

SWITCH = Range("True or False", lambda value: isinstance(value, bool))

# Texts.
TEXT = Range("a text", lambda value: isinstance(value, str))
SAID = Range("a text that is not blank", lambda value: isinstance(value, str) and value.strip())
NAME = Range(
  "a name of letters, digits, '_', '-' and '.'",  # part of the names of files
  lambda value: isinstance(value, str) and bool(re.fullmatch(r"\w[\w.-]*", value)),
)


def or_none(one: Range) -> Range:
  """Returns the range of values that may also be left open."""
  return Range(f"None, or {one.words}", lambda value: value is None or one.holds(value))


def one_of(*names: str) -> Range:
  """Returns the range of some words."""
  return Range(
    f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names
  )


def some_of(*names: str) -> Range:
  """Returns the range of a list of one or more of some words, each once."""
  return Range(
    f"some of {', '.join(names)}, each once", lambda value: is_some(value, names) and bool(value)
  )


def is_some(value: Any, names: Sequence[str]) -> bool:
  """Returns whether a value is a list of some of the names, each once."""
  if not is_list(value) or not all(isinstance(one, str) and one in names for one in value):
    return False
  return are_different(value)


def are_different(values: Sequence[Any]) -> bool:
  """Returns whether no value stands twice in a list of texts or numbers."""
  return len({*values}) == len(values)


def list_of(words: str, one: Range, least: int = 0) -> Range:
  """Returns the range of lists of values of a range, of so many at least."""
  return Range(
    words, lambda value: is_list(value) and len(value) >= least and all(map(one.holds, value))
  )


def names_of(words: str, least: int = 0) -> Range:
  """Returns the range of lists of names, of so many at least, each once."""
  each = list_of(words, SAID, least)
  return Range(f"{words}, each once", lambda value: each.holds(value) and are_different(value))


def outside(config: Any, ranges: Mapping[str, Range]) -> Iterator[str]:
  """Yields what is wrong with the values of a configuration, or of a section.

  Args:
    config: a mapping, whose sections are mappings and tuples of them.
    ranges: path of a key → its range. In "curriculum[].steps" it is the key of every section of a
      tuple.
  """
  for path, allowed in ranges.items():
    for key, value in _at(config, path):
      if value is _MISSING:
        earlier = "as in a configuration of an earlier version"
        yield f"{key} is missing, {earlier}; use {allowed.words}"
      elif not allowed.holds(value):
        yield f"{key}={value!r}; use {allowed.words}"


_MISSING = object()


def _at(section: Any, path: str, before: str = "") -> Iterator[tuple[str, Any]]:
  """Yields (key, value) of all that a path names; _MISSING where there is none."""
  name, _, rest = path.partition(".")
  key = f"{before}{name}"
  value = section.get(name.removesuffix(IN_TUPLE), _MISSING) if _is_section(section) else _MISSING
  if not rest:
    yield key, value
  elif not name.endswith(IN_TUPLE):
    yield from _at(value, rest, f"{key}.")
  elif is_list(value):  # that there is none is for whoever wants some to say
    for index, one in enumerate(value):
      yield from _at(one, rest, f"{key.removesuffix(IN_TUPLE)}[{index}].")
  else:
    yield f"{key}.{rest}", _MISSING


def _is_section(value: Any) -> bool:
  return hasattr(value, "keys")
