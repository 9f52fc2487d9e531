"""How many requests a whole run makes of endpoints at most, as it is said before anything is asked.

What a single pass takes is known when it begins, see `estimates`; of a run the rows of its folds
and its steps say how much may be asked.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import ml_collections

from pit_jax.data import preferences
from pit_jax.feedback import estimates, factories, named
from pit_jax.run import origin

Rows = Mapping[str, int]  # of every fold, and of its validation part, how many there are


class Asked(NamedTuple):
  """What a run asks of one writer or rater in all."""

  part: str  # of the section `feedback`: "writers" or "raters"
  name: str
  count: int | None  # texts to write, or pairs to compare, at most; None: replies decide it
  orders: int = 1  # in which every pair is shown


def prompts(rows: Rows, folds: str) -> int:
  """Returns how many prompts folds have at most, joined by a plus, those that validate too."""
  names = [name for fold in preferences.folds_in(folds)
           for name in (fold, f"{fold}{preferences.VALIDATION}")]  # fmt: skip
  return sum(rows.get(name, 0) for name in names)


def telling(config: ml_collections.ConfigDict, rows: Rows) -> Iterator[Asked]:
  """Yields what writers are asked for raters by class: once for each prompt of the data."""
  for section in config.get("feedback", {}).get("raters", {}).values():
    if teller := section.get("told_by", ""):
      yield Asked("writers", teller, sum(rows.values()))


def lines(config: ml_collections.ConfigDict, asked: Iterable[Asked]) -> Iterator[str]:
  """Yields a line for each model behind an endpoint that a run asks, in the order of the first.

  Retries, the three requests that try a temperature, and judges of the finished run come on top.
  """
  most: dict[tuple[str, str], list[int | None]] = collections.defaultdict(list)
  for one in asked:
    for who, times in _behind(config, one):
      most[who].append(None if one.count is None else one.count * times)

  for (part, name), counts in most.items():
    section = factories.language(config, config.feedback[part][name])
    known = [count for count in counts if count is not None]
    if not sum(known) and None not in counts:
      continue
    limits = (section.max_tokens, section.output_price)
    said = estimates.ceiling(sum(known), *limits, is_open=None in counts)
    yield estimates.titled((f"{name} ({section.model})", name), f", whole run: {said}")


def _behind(config: ml_collections.ConfigDict, one: Asked) -> Iterator[tuple[tuple[str, str], int]]:
  """Yields who behind an endpoint is asked, and how often for each text or pair."""
  if not one.name:  # nobody writes
    return
  sections = config.feedback[one.part]
  if one.part == "writers":
    if sections[one.name].kind == "endpoint":
      yield (one.part, one.name), 1
    return
  for member in named.members(sections, one.name):
    section = sections[member]
    if section.kind == "language_model" and not _is_local(config, section):
      yield (one.part, member), one.orders


def _is_local(config: ml_collections.ConfigDict, section: ml_collections.ConfigDict) -> bool:
  return factories.language(config, section).base_url == origin.LOCAL
