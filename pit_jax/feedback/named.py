"""Writers and raters by the names that a configuration gives them, any number of each.

  feedback.writers = {"teacher": {"kind": "endpoint", "model": "…"}, "self": {"kind": "model", …}}
  feedback.raters = {"brief": {"kind": "function", "function": "my_package.my_module:brevity"}, …}

What a section of a language model does not say is as in `evaluation.language_judge`.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from pit_jax import config_keys, configurations, ranges
from pit_jax.data import principles
from pit_jax.feedback import (
  annotations,
  factories,
  judges,
  language_models,
  router,
  verifier,
  writers,
)
from pit_jax.run import allowed
from pit_jax.run import context as contexts
from pit_jax.tasks import verify

Section = ml_collections.ConfigDict
_RANGES = {  # of fields, whatever the kind
  **allowed.LANGUAGE_MODEL,
  **dict.fromkeys(("model", "directory", "path", "function", "prompt", "response"), ranges.SAID),
  "answer": ranges.SAID,
  "form": ranges.one_of(*verify.FORMS),
  "scores": ranges.SWITCH,
  **dict.fromkeys(("writer", "critic"), ranges.SAID),
  **dict.fromkeys(
    ("raters", "verifiers"), ranges.names_of("the names of one rater or more", least=1)
  ),
  "ties": ranges.one_of("final", "next"),
  **dict.fromkeys(("right", "wrong"), ranges.SHARE),
  "rules": router.RULES,
  **dict.fromkeys(("classify", "told_by", "otherwise"), ranges.SAID),
  "leave": ranges.names_of("a list of classes"),
  "seed": ranges.WHOLE,
  "flip": ranges.SHARE,
}
# Kind of a rater that asks others → its field that names them, and which they may be.
_ASKS = {
  factories.IN_TURN: (
    "raters",
    "raters that ask nobody else",
    lambda kind: kind not in (factories.IN_TURN, factories.BY_CLASS),
  ),
  factories.BY_CLASS: (
    "raters",
    "raters that are none by class",
    lambda kind: kind != factories.BY_CLASS,
  ),
  factories.VERIFIED: (
    "verifiers",
    "raters that are verifiers",
    lambda kind: kind in factories.VERIFIERS,
  ),
}
# Kinds whose files are read before anything is trained, so that no row stops a run later.
_READ = {
  "file": lambda section: factories.file("file", section),
  "annotations": lambda section: annotations.rater("annotations", section.path),
  "verifier": lambda section: verifier.passing({"verifier": section}, "verifier"),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses a section `feedback` of which some writer or rater cannot be made, and judges of it.

  Models of this run are not known yet; they are looked for when they are used.

  Raises:
    ValueError: something is wrong; the error names each key, and what there is.
  """
  parts = config.get("feedback", Section())
  if not _is_section(parts):
    raise ValueError(f"feedback={parts!r}; use sections, {' or '.join(factories.KINDS)}")
  if unknown := sorted({*parts} - {*factories.KINDS}):
    raise ValueError(f"feedback.{unknown[0]} is not known; use {' or '.join(factories.KINDS)}")
  wrong = []

  for part, sections in parts.items():
    if not _is_section(sections) or not all(map(_is_section, sections.values())):
      given = sections.to_dict() if _is_section(sections) else sections
      wrong.append(f"feedback.{part}={given!r}; use sections by names, each with a kind")
      continue
    for name, section in sections.items():
      wrong += _problems(config, part, f"feedback.{part}.{name}", section)

  raters = parts.get("raters", {})
  task = (
    [factories.GOLD] if config_keys.is_embedded(config.data.source) else []
  )  # kinds of its own judge
  for name in config.evaluation.judges:
    if name not in raters:
      names = ", ".join(raters) or "none"
      wrong.append(
        f"evaluation.judges names {name!r}; use names of feedback.raters, which has {names}"
      )
    elif _is_section(raters[name]) and raters[name].get("kind") in task:
      wrong.append(
        f"evaluation.judges names {name!r}, which is of kind {factories.GOLD}, and the gold score "
        "judges the embedded task anyway; leave it out"
      )
    elif _is_section(raters[name]) and raters[name].get("kind") == factories.READER:
      wrong.append(
        f"evaluation.judges names {name!r}, which is of kind {factories.READER} and compares by "
        "principles alone; leave it out"
      )

  if wrong:
    raise ValueError("; ".join(wrong))


def _is_section(value: Any) -> bool:
  return isinstance(value, Section)


def told(key: str, config: ml_collections.ConfigDict) -> tuple[str, str]:
  """Returns what a key of the section means and what it may be, as in `feedback.writers.me.kind`.

  Names are anybody's choice, so no comment in a configuration's file says it.
  """
  _, part, name, field = key.split(".")
  kinds = {"kind": ranges.one_of(*factories.KINDS[part])}
  table = kinds | _ranges(part, config.feedback[part][name].kind)
  words = table[field].words if field in table else ""
  return f"{field} of the {part.removesuffix('s')} {name}", words


def _ranges(part: str, kind: str) -> dict[str, ranges.Range]:
  """Returns what the fields of a kind may be, those of the embedded task's own numbers apart."""
  # A language model's differences are of 1 at most, a function's are in its own unit.
  table = _RANGES | ({"tie": ranges.FROM_ZERO} if kind == "function" else {})
  table |= {"raters": router.PAIRS} if kind == factories.BY_CLASS else {}
  table |= dict.fromkeys(("noise", "invalid"), ranges.SHARE) if kind == "marker" else {}
  fields = (*factories.KINDS[part][kind].needs, *factories.KINDS[part][kind].may)
  return {name: one for name, one in table.items() if name in fields}


def _problems(
  config: ml_collections.ConfigDict, part: str, key: str, section: Section
) -> Iterator[str]:
  """Yields the problems of the section of one writer or rater."""
  kinds = factories.KINDS[part]
  chosen = section.get("kind")
  if not isinstance(chosen, str) or chosen not in kinds:
    yield f"{key}.kind={chosen!r}; use one of {', '.join(kinds)}"
    return

  kind = kinds[chosen]
  present = {*section} - {"kind"}
  missing = sorted({*kind.needs} - present)
  yield from (f"{key}.{name} is missing, which the kind {chosen} needs" for name in missing)
  fields = ", ".join((*kind.needs, *kind.may)) or "nothing"
  for name in sorted(present - {*kind.needs, *kind.may}):
    yield f"{key}.{name} is not known; beside kind, {chosen} has {fields}"

  given = {name: one for name, one in _ranges(part, chosen).items() if name in section}
  wrong = [f"{key}.{problem}" for problem in ranges.outside(section, given)]
  yield from wrong
  # The checks below read what is missing, and want values that can be.
  if missing or wrong:
    return
  if chosen in _ASKS:
    yield from _unknown(config.feedback.raters, key, section)
  if chosen in _READ and not os.path.isfile(section.path):
    yield f"{key}.path={section.path} is no file"
    return

  try:
    _check_made(config, part, key, section)
  except ValueError as error:
    yield f"{key}: {error}"


def _check_made(config: ml_collections.ConfigDict, part: str, key: str, section: Section) -> None:
  """Raises a ValueError where what a section names cannot be used: files, functions, endpoints."""
  chosen = section.kind
  if chosen in _READ:
    _READ[chosen](section)
  if chosen in ("endpoint", "language_model"):
    language_models.check(factories.language(config, section), key)
  if chosen == "function" and part == "raters":
    judges.function(section.function)
  elif "function" in factories.KINDS[part][chosen].needs:
    configurations.function(section.function)
  if chosen == factories.BY_CLASS:
    _check_classes(config, section)
  if chosen in factories.OWN:
    factories.OWN[chosen](section)


def _check_classes(config: ml_collections.ConfigDict, section: Section) -> None:
  """Raises a ValueError for a rater by class that nobody tells classes of prompts."""
  router.check_way(section)
  if "told_by" not in section:
    router.classifier(section)
    return
  there = config.feedback.get("writers", {})
  if section.told_by not in there:
    names = ", ".join(there) or "none"
    raise ValueError(
      f"told_by={section.told_by!r}; use a name of feedback.writers, which has {names}"
    )


def _unknown(raters: Section, key: str, section: Section) -> Iterator[str]:
  """Yields the names of raters that another cannot ask."""
  field, words, may = _ASKS[section.kind]
  able = [name for name, one in raters.items() if _is_section(one) and may(one.get("kind"))]
  listed = section[field]
  for name in listed if section.kind != factories.BY_CLASS else [rater for _, rater in listed]:
    if name not in able:
      there = ", ".join(able) or "none"
      yield f"{key}.{field} names {name!r}; use {words}: {there}"


def build(
  context: contexts.Context,
  part: str,
  name: str,
  models: Mapping[str, Any] | None = None,
  principle: principles.Principle | None = None,
) -> writers.Writer | judges.Judge:
  """Returns the writer or rater of a name in a part of the section `feedback`.

  Sections name as `model` one of `models`: parameters of the run's models, or, of a published
  reward model, how it rates. A rater of BY_PRINCIPLE may be asked to compare by a principle alone.

  Raises:
    ValueError: there is none of this name, or no such model, or it cannot be made.
  """
  sections = context.config.get("feedback", {}).get(part, {})
  if name not in sections:
    names = ", ".join(sections) or "none"
    raise ValueError(f"feedback.{part} has no {name!r}; there are: {names}")

  key = f"feedback.{part}.{name}"
  others = (functools.partial(build, context, one, models=models) for one in ("raters", "writers"))
  given = factories.Given(key, name, sections[name], context, models or {}, *others, principle)
  if wrong := [*_problems(context.config, part, given.key, given.section)]:
    raise ValueError("; ".join(wrong))
  return factories.KINDS[part][given.section.kind].make(given)


def classifier(context: contexts.Context, name: str) -> router.Classify:
  """Returns what tells the class of prompts for a rater of kind `by_class`, by its name."""
  writer = functools.partial(build, context, "writers")
  return router.classifier(context.config.feedback.raters[name], writer)


def members(raters: Section | Mapping[str, Any], name: str) -> list[str]:
  """Returns the raters that a name of `feedback.raters` asks: itself, or those that it asks."""
  if name not in raters or raters[name].kind not in (factories.IN_TURN, factories.BY_CLASS):
    return [name]
  if raters[name].kind == factories.IN_TURN:
    return list(raters[name].raters)
  asked = [one for _, rater in raters[name].raters for one in members(raters, rater)]
  return list(dict.fromkeys(asked))


def scores(raters: Section | Mapping[str, Any], name: str) -> bool:
  """Returns whether a rater of `feedback.raters` scores single answers, by its section.

  The rungs of several verifiers are no such score: what one of them passes is not yet right.
  """
  section = raters[name]
  if section.kind == "function":
    return judges.function(section.function).score is not None
  if section.kind in factories.VERIFIERS:
    return verifier.scores_answers(section)
  return section.kind in ("reward_model", factories.GOLD)
