"""Examines preferences: every finding, in the order in which they matter before training."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pit_jax.data import encode, preferences, similar
from pit_jax.tools.doctor import (
  beginnings,
  biases,
  cases,
  copies,
  estimates,
  findings,
  labels,
  lengths,
  orders,
  reading,
  sizes,
  suspicions,
)

Planned = Callable[[Mapping[str, int]], Sequence[Any]]
Revised = Callable[[cases.Cases], findings.Finding]


@dataclasses.dataclass(frozen=True)
class Examination:
  """What was examined, how, and what was found."""

  source: str  # as given
  rows: int  # how many could be used
  tokenizer: str  # where the tokens that lengths count come from, in words
  division: preferences.Division
  findings: tuple[findings.Finding, ...]
  measured: lengths.Lengths  # for the figures
  by_ratio: dict[str, estimates.Estimate]  # see `biases.by_ratio`; for the figures
  limits: tuple[int, int]  # max_prompt_length and max_response_length, in tokens
  unusable: tuple[preferences.Skipped, ...]  # every row that could not be used


def examine(
  loaded: preferences.PreferenceSet,
  settings: encode.Settings,
  tokenizer: str,
  division: preferences.Division,
  planned: Planned | None = None,
  revised: Revised | None = None,
) -> Examination:
  """Returns all findings on the rows of a source.

  Args:
    loaded: the usable rows, and what was skipped.
    settings: tokenizer, template and length limits.
    tokenizer: where the tokenizer comes from, in words.
    division: how training would divide the rows.
    planned: rows of each fold → the stages that a configuration makes of them; see `sizes.steps`.
    revised: says whether what is preferred makes revisions better; see `revisions.finding`.
  """
  examined = cases.gather(loaded, division)
  # Slow, and several findings need them: made once.
  measured = lengths.measure(loaded.rows, settings)
  alike = similar.groups(examined.prompts)
  judged = orders.pairs(examined.chosen, examined.rejected)
  talks = copies.conversations_of(examined)
  circles = orders.cycles(judged, findings.EXAMPLES)
  is_planned = planned is not None and examined.part is not None

  outcomes = (
    sizes.usable(examined),
    *([sizes.steps(planned(examined.counts()))] if is_planned else []),
    reading.notes(loaded),
    sizes.truncation(examined, measured, settings),
    copies.duplicates(examined),
    copies.near_duplicates(examined, alike),
    beginnings.shared(examined, talks),
    copies.leakage(examined, alike, talks, division.fold_by),
    suspicions.disguised(examined, settings.tokenizer),
    labels.scored(examined),
    labels.contradictions(examined, judged, circles),
    labels.cycles(examined, judged, circles),
    labels.noise(examined, judged),
    biases.length(examined, measured),
    biases.position(examined, judged),
    *([revised(examined)] if revised else []),
  )

  by_ratio = biases.by_ratio(examined, measured)
  limits = (settings.max_prompt_length, settings.max_response_length)
  given = (loaded.source, len(loaded.rows), tokenizer, division)
  return Examination(*given, outcomes, measured, by_ratio, limits, loaded.unusable)
