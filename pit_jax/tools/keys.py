"""Every key of a configuration: its value, what it means, and what it may be."""

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import yaml

from pit_jax import config_keys, configurations
from pit_jax.data import chat, classifier_text, preferences, scores
from pit_jax.improve import gains
from pit_jax.losses import advantages
from pit_jax.models import architecture
from pit_jax.recipes import recipe
from pit_jax.run import checks, kinds, published_models

WIDTH = 80  # columns of a terminal
ONE_OF = {
  "data.against_scores": scores.AGAINST,
  "data.chat": chat.KINDS,
  "data.fold_by": preferences.FOLD_BY,
  "evaluation.reward_backend": published_models.BACKENDS,
  "evaluation.reward_reader": classifier_text.KINDS,
  "evaluation.stop_rule": gains.RULES,
  "model.attention": architecture.KERNELS,
  "reward.backend": published_models.BACKENDS,
  "reward.reader": classifier_text.KINDS,
  "rl.estimator": advantages.ESTIMATORS,
}


class Key(NamedTuple):
  """A key of a configuration.

  Attributes:
    key: as `--config.KEY=VALUE` names it.
    value: what it is set to.
    meaning: what its comment in the configuration's file says; "" where there is none.
    range: what a value may be, in words, where it is refused by bounds or by a list; else "".
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
  ranges = allowed(config)

  made = []
  for key, value in _keys(config):
    comment = meanings.get(re.sub(r"\[\d+\]", "[]", key), "")
    made.append(Key(key, value, comment, ranges.get(key) or _of_type(value)))
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


def difference(first: Sequence[Key], second: Sequence[Key]) -> str:
  """Returns what differs between two configurations, a key in a line, for a terminal."""
  theirs = {key.key: key for key in second}
  own = {key.key: key for key in first}
  lines = []
  for name in dict.fromkeys([*own, *theirs]):
    values = [repr(side[name].value) if name in side else "·" for side in (own, theirs)]
    if values[0] != values[1]:
      lines.append(f"{name}: {values[0]} → {values[1]}")
  return "\n".join(lines) or "no value differs"


def allowed(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns key → what it may be, in words, of the keys that are refused by bounds or by a list.

  Raises:
    ValueError: there is no such recipe as the configuration names, or it has no such kind.
  """
  method = recipe.of(config)
  if wrong := [*checks.unknown_kinds(config, method)]:
    raise ValueError("; ".join(wrong))
  ranges = {key: f"one of {', '.join(names)}" for key, names in ONE_OF.items()}
  bounds = {"": checks.RECORDS, "model.": checks.MODEL, "data.": checks.FOLDS}
  bounds["evaluation."] = checks.EVALUATION
  for name in kinds.sections(config):
    bounds[f"{name}."] = method.kinds[config[name].kind].allowed

  for prefix, table in bounds.items():
    ranges |= {f"{prefix}{key}": words for key, words in _by_key(table)}
  return ranges


def _by_key(table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
  for words, keys in table.items():
    yield from ((key, words) for key in keys.split())


def _keys(config: ml_collections.ConfigDict) -> Iterator[tuple[str, Any]]:
  """Yields keys and values; of a tuple of sections those of each section."""
  for key, value in config_keys.leaves(config):
    is_sections = isinstance(value, tuple | list) and all(hasattr(one, "keys") for one in value)
    if not value or not is_sections:
      yield key, value
      continue
    for index, section in enumerate(value):
      for inner, inner_value in config_keys.leaves(section):
        yield f"{key}[{index}].{inner}", inner_value


def _of_type(value: Any) -> str:
  return "True or False" if isinstance(value, bool) else ""
