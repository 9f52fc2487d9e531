"""Every key of a configuration: its value, what it means, and what it may be."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from pit_jax import configurations
from pit_jax.data import chat, classifier_text, preferences, scores
from pit_jax.improve import gains
from pit_jax.losses import advantages
from pit_jax.models import architecture
from pit_jax.recipes import recipe
from pit_jax.run import checks, kinds, published_models

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


def described(named: str) -> list[Key]:
  """Returns every key of a configuration with its value, its meaning and its range.

  Args:
    named: a configuration, as commands name it.

  Raises:
    ValueError: there is no such configuration, or no such recipe as it names.
  """
  config = configurations.load(named)
  meanings = configurations.meanings(named)
  ranges = allowed(config)

  made = []
  for key, value in _keys(config):
    comment = meanings.get(re.sub(r"\[\d+\]", "[]", key), "")
    made.append(Key(key, value, comment, ranges.get(key) or _of_type(value)))
  return made


def allowed(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns key → what it may be, in words, of the keys that are refused by bounds or by a list.

  Raises:
    ValueError: there is no such recipe as the configuration names.
  """
  method = recipe.of(config)
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
  for key, value in configurations.leaves(config):
    is_sections = isinstance(value, tuple | list) and all(hasattr(one, "keys") for one in value)
    if not value or not is_sections:
      yield key, value
      continue
    for index, section in enumerate(value):
      for inner, inner_value in configurations.leaves(section):
        yield f"{key}[{index}].{inner}", inner_value


def _of_type(value: Any) -> str:
  return "True or False" if isinstance(value, bool) else ""
