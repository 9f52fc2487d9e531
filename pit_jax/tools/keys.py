"""Every key of a configuration: its value, what it means, and what it may be."""

import math
import pathlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pit_jax import config_keys, configurations, ranges
from pit_jax.feedback import named as feedback
from pit_jax.recipes import recipe
from pit_jax.run import allowed, checks, workdirs

WIDTH = 80  # columns of a terminal


class Key(NamedTuple):
  """A key of a configuration.

  Attributes:
    key: as `--config.KEY=VALUE` names it.
    value: what it is set to.
    meaning: what its comment in the configuration's file says; "" where there is none.
    range: what a value may be, in words, where others are refused; else "".
  """

  key: str
  value: Any
  meaning: str
  range: str


def described(named: str, values: Sequence[str] = ()) -> list[Key]:
  """Returns every key of a configuration with its value, its meaning and its range.

  Args:
    named: a configuration, as commands name it.
    values: arguments that set values over its own; see `configurations.change`.

  Raises:
    ValueError: there is no such configuration, no such recipe as it names, or no such value, or no
      run could have the values that are set.
  """
  config = configurations.load(named)
  if configurations.change(config, values):
    checks.values(config, recipe.of(config))
  meanings = configurations.meanings(named)
  table = allowed.of(config, recipe.of(config))

  made = []
  for key, value in config_keys.leaves(config):
    name = re.sub(r"\[\d+\]", ranges.IN_TUPLE, key)
    words = table[name].words if name in table else _of_type(value)
    meaning = meanings.get(name, "")
    if key.startswith("feedback."):
      meaning, words = feedback.told(key, config)
      # What a language model is asked by means the same of whoever it is.
      same = meanings.get(f"evaluation.language_judge.{key.rpartition('.')[2]}", "")
      meaning = f"{meaning}: {same}" if same else meaning
    made.append(Key(key, value, meaning, words))
  return made


def listing(described: Sequence[Key]) -> str:
  """Returns keys as lines for a terminal: the value, and below it the meaning and the range."""
  lines = []
  for key in described:
    lines.append(f"{key.key} = {key.value!r}")
    text = " ".join(part for part in (key.meaning, f"[{key.range}]" if key.range else "") if part)
    lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
  return "\n".join(lines)


def as_yaml(described: Sequence[Key]) -> str:
  """Returns keys with their values, and as comments what they mean, as `--values` reads them."""
  lines = []
  for key in described:
    lines += textwrap.wrap(key.meaning, WIDTH, initial_indent="# ", subsequent_indent="# ")
    # A list of one value is that value in a line, with YAML's own quotes.
    value = _plain(key.value)
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True)
    lines.append(f"{key.key}: {text.strip()[1:-1]}")
  return "\n".join(lines)


def _plain(value: Any) -> Any:
  return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def values_of(named: str) -> dict[str, Any]:
  """Returns the value of every key of a configuration, or of the run in a workdir.

  Raises:
    ValueError: there is no such configuration, and no run.
  """
  folder = pathlib.Path(named)
  config = workdirs.saved(folder) if folder.is_dir() else configurations.load(named)
  return dict(config_keys.leaves(config))


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
  """Returns what differs between the values of two configurations, a key in a line."""
  lines = []
  for name in dict.fromkeys([*first, *second]):
    # Files of runs do not tell tuples from lists.
    values = [_plain(side[name]) if name in side else ... for side in (first, second)]
    if values[0] != values[1]:
      shown = [repr(side[name]) if name in side else "·" for side in (first, second)]
      lines.append(f"{name}: {shown[0]} → {shown[1]}")
  return "\n".join(lines) or "no value differs"


def _of_type(value: Any) -> str:
  return "True or False" if isinstance(value, bool) else ""
