"""How each kind of writer and rater is made of its section."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from pit_jax.data import critiques, principles, units
from pit_jax.feedback import (
  annotations,
  exercises,
  judges,
  language_models,
  router,
  unit_writers,
  verifier,
  writers,
)
from pit_jax.run import context as contexts
from pit_jax.run import origin
from pit_jax.tasks import correctors, critics, faults, synthetic

Section = ml_collections.ConfigDict
GOLD = judges.GOLD  # the kind of a rater that gives the embedded task's own score
IN_TURN = "in_turn"  # the kind of several raters that are asked as one
BY_CLASS = router.KIND  # the kind of one that asks another for each class of prompts
VERIFIED = "verified"  # the kind of several verifiers, one after the other
VERIFIERS = ("verifier", verifier.CHECK)
READER = "reader"  # the kind of a rater that reads the one check which a principle is named after
CORRECTOR = "corrector"  # the kind of a writer who criticises the embedded task's letters
# Those of writers about single flaws of them: who lists them, who classes one, who acts on them.
FINDER, CHECKER, REVISER = "finder", "checker", "reviser"
BY_PRINCIPLE = (READER, "language_model")  # kinds that compare by one principle at a time


@dataclasses.dataclass(frozen=True)
class Given:
  """The section, context and models that a writer or rater is made of."""

  key: str  # of the section in the configuration
  name: str
  section: Section
  context: contexts.Context
  models: Mapping[str, Any]
  rater: Callable[[str], judges.Judge]  # returns another rater by its name
  writer: Callable[[str], writers.Writer]  # returns a writer by its name
  principle: principles.Principle | None = None  # by which alone a rater compares

  @property
  def language(self) -> Section:
    return language(self.context.config, self.section)

  def model(self) -> Any:
    """Returns the model of this run that the section names."""
    name = self.section.model
    if name in self.models:
      return self.models[name]
    available = ", ".join(self.models) or "none"
    raise ValueError(f"{self.key}.model={name!r}; the models here are: {available}")

  def published(self, field: str) -> origin.Published:
    """Returns the language model in the directory that a field of the section names."""
    limits = (self.language.max_prompt_tokens, self.language.max_tokens)
    arguments = (f"{self.key}.{field}", self.section[field], limits)
    return origin.published(self.context.config, jax.devices()[0].platform, *arguments)


def language(config: ml_collections.ConfigDict, section: Section) -> Section:
  """Returns the section of a language model with what it does not say."""
  filled = Section(config.evaluation.language_judge.to_dict())
  filled.update({name: value for name, value in section.items() if name in filled})
  return filled


def _model(given: Given) -> writers.Writer:
  return writers.model(given.name, given.context.models.inference, given.model())


def _directory(given: Given) -> writers.Writer:
  asking, params = given.published("directory").load(given.context.models.inference)
  longest = given.language.max_tokens
  asking = dataclasses.replace(asking, response_length=longest, by_length=True)
  return writers.model(given.name, asking, params)


def _endpoint(given: Given) -> writers.Writer:
  settings = language_models.endpoint_settings(given.language, is_weighed=False)
  path = language_models.transcripts_of(given.language, given.context.workdir)
  count = language_models.tokens(given.context.models.inference)
  return writers.behind_endpoint(given.name, settings, path, key=given.key, count=count)


def file(name: str, section: Section) -> writers.Writer:
  """Returns the file of completions that a section names as a writer.

  Raises:
    ValueError: as `writers.file`.
  """
  columns = {field: section[field] for field in ("prompt", "response") if field in section}
  return writers.file(name, section.path, **columns)


def _verified(given: Given) -> judges.Judge:
  """Returns one verifier as a rater, or those that a section names."""
  there = given.context.config.feedback.raters
  sections = {name: there[name] for name in given.section.get("verifiers", ())}
  return verifier.of_sections(given.name, sections or {given.name: given.section})


def _reward_model(given: Given) -> judges.Judge:
  model = given.model()
  rate = model if callable(model) else functools.partial(given.context.models.inference.rate, model)
  return judges.reward_model(rate, given.name)


def _gap_model(given: Given) -> judges.Judge:
  gaps = functools.partial(given.context.models.inference.gaps, given.model())
  return dataclasses.replace(judges.gap_model(judges.remembering(gaps)), name=given.name)


def _language_model(given: Given) -> judges.Judge:
  c = given.language
  context = given.context
  published = given.published("model") if c.base_url == origin.LOCAL else None
  asked = (given.name, c, context.models.inference, published, context.workdir)
  principle = given.principle.text if given.principle else ""
  return language_models.rater(*asked, principle, given.key)


def _numbers(section: Section, record: type, but: Sequence[str] = ()) -> dict[str, Any]:
  """Returns what a section says of the fields of a record, but for some of its own.

  Raises a ValueError for no number.
  """
  fields = [field.name for field in dataclasses.fields(record) if field.name not in but]
  numbers = {name: section[name] for name in fields if name in section}
  for name, number in numbers.items():
    if not isinstance(number, int | float):
      raise ValueError(f"{name}={number!r}; use a number")

  return numbers


def _finds(section: Section) -> faults.Finder:
  blind = section.get("blind", "")
  numbers = _numbers(section, faults.Finder, ("blind",))
  return faults.Finder(blind, **numbers)


def _flaws(given: Given, make: Callable, record: Any, *forms: Callable[[Section], Any]) -> Any:
  """Returns a writer about flaws, which reads and writes them as the run does."""
  c = given.context.config
  if "units" not in c:
    raise ValueError(
      f"{given.key} is of kind {given.section.kind}, and the recipe asks for no units of critiques"
    )
  read = (form(c) for form in forms)
  return make(given.name, record(given.section), *read, given.section.get("seed", 0))


def _units(c: Section) -> units.Form:
  return units.form_of(c.units)


def grades(c: Section) -> critiques.Form:
  """Returns the form in which a meta-critic of a configuration grades a unit."""
  return critiques.Form(c.grades.template, c.grades.lowest, c.grades.highest)


def _habits(section: Section) -> synthetic.Writer:
  return synthetic.writer_named(section.writer, **_numbers(section, synthetic.Writer))


def _errors(section: Section) -> correctors.Corrector:
  return correctors.Corrector(**_numbers(section, correctors.Corrector))


def _corrector(given: Given) -> writers.Writer:
  if "critique" not in given.context.config:
    raise ValueError(f"{given.key} is of kind {CORRECTOR}, and the recipe asks for no critiques")
  form = critiques.form_of(given.context.config.critique)
  seed = given.section.get("seed", 0)
  return writers.corrector(given.name, _errors(given.section), form, seed)


def _critic(section: Section) -> critics.Critic:
  return critics.critic_named(section.critic, **_numbers(section, critics.Critic))


def _reader(given: Given) -> judges.Judge:
  if given.principle is None:
    raise ValueError(f"{given.key} is of kind {READER}, which compares by principles alone")
  reads = _reading(given.section, given.principle.name)
  return judges.reader(reads, given.name, given.section.get("seed", 0))


def _reading(section: Section, check: str = "answer") -> critics.Reader:
  return critics.Reader(check, **_numbers(section, critics.Reader))


# Those of the embedded task's writers and raters, by their kinds.
OWN = {
  "grammar": _habits, CORRECTOR: _errors, "critic": _critic, READER: _reading,
  FINDER: _finds,
  CHECKER: lambda section: faults.Checker(**_numbers(section, faults.Checker)),
  REVISER: lambda section: faults.Reviser(**_numbers(section, faults.Reviser)),
}  # fmt: skip


def _in_turn(given: Given) -> judges.Judge:
  some = [given.rater(name) for name in given.section.raters]
  passes_ties = given.section.get("ties") == "next"
  return judges.in_turn(given.name, some, passes_ties=passes_ties)


def _by_class(given: Given) -> judges.Judge:
  raters = {label: given.rater(name) for label, name in given.section.raters}
  classify = router.classifier(given.section, given.writer)
  return router.by_class(given.name, classify, raters, given.section.get("leave", ()))


def _function(given: Given) -> judges.Judge:
  tie = given.section.get("tie", judges.EXACT_TIE)
  return judges.function(given.section.function, given.name, tie)


class Kind(NamedTuple):
  """A kind of writer or rater: how it is made, and the fields its section needs and may have."""

  make: Callable[[Given], Any]
  needs: tuple[str, ...] = ()
  may: tuple[str, ...] = ()


_LIMITS = ("max_prompt_tokens", "max_tokens")
_ASKED = (
  *("base_url", "cache", "max_tokens", "budget_requests", "budget_tokens"),
  *("input_price", "output_price"),
  *("requests_per_minute", "retries", "wait", "timeout", "concurrency"),
)
_JUDGED = (*_ASKED, "verdict", "prompts", "tie", "temperature", "max_prompt_tokens")
KINDS = {
  "writers": {
    "model": Kind(_model, ("model",)),
    "directory": Kind(_directory, ("directory",), _LIMITS),
    "endpoint": Kind(_endpoint, ("model",), _ASKED),
    "file": Kind(lambda g: file(g.name, g.section), ("path",), ("prompt", "response")),
    "function": Kind(lambda g: writers.function(g.name, g.section.function), ("function",)),
    "grammar": Kind(
      lambda g: writers.grammar(g.name, _habits(g.section), g.section.get("seed", 0)),
      ("writer",),
      ("works", "knows", "warm", "calm", "remarks", "first", "seed"),
    ),
    "reasoner": Kind(
      lambda g: writers.reasoner(g.name, g.section.get("wrong", 0.0), g.section.get("seed", 0)),
      (),
      ("wrong", "seed"),
    ),
    "marker": Kind(
      lambda g: writers.marker(
        g.name, g.section.get("noise", 0.0), g.section.get("invalid", 0.0), g.section.get("seed", 0)
      ),
      (),
      ("noise", "invalid", "seed"),
    ),
    "instructor": Kind(
      lambda g: exercises.instructor(
        g.name, g.section.get("right", exercises.RIGHT), g.section.get("seed", 0)
      ),
      may=("right", "seed"),
    ),
    CORRECTOR: Kind(_corrector, (), ("misses", "invents", "right", "seed")),
    FINDER: Kind(
      lambda g: _flaws(g, unit_writers.finder, OWN[FINDER], _units),
      (),
      ("blind", "misses", "invents", "right", "noise", "seed"),
    ),
    CHECKER: Kind(
      lambda g: _flaws(g, unit_writers.checker, OWN[CHECKER], _units, grades),
      (),
      ("accepts", "believes", "seed"),
    ),
    REVISER: Kind(
      lambda g: _flaws(g, unit_writers.reviser, OWN[REVISER], _units),
      (),
      ("follows", "right", "seed"),
    ),
  },
  "raters": {
    GOLD: Kind(lambda g: dataclasses.replace(judges.gold(), name=g.name)),
    "reward_model": Kind(_reward_model, ("model",)),
    "gap_model": Kind(_gap_model, ("model",)),
    "language_model": Kind(_language_model, ("model",), _JUDGED),
    "annotations": Kind(lambda g: annotations.rater(g.name, g.section.path), ("path",)),
    "verifier": Kind(_verified, ("path", "form"), ("prompt", "answer", "scores")),
    verifier.CHECK: Kind(_verified, ("function",), ("right", "seed")),
    VERIFIED: Kind(_verified, ("verifiers",)),
    "function": Kind(_function, ("function",), ("tie",)),
    IN_TURN: Kind(_in_turn, ("raters",), ("ties",)),
    BY_CLASS: Kind(_by_class, ("raters",), ("rules", "classify", "told_by", "otherwise", "leave")),
    "critic": Kind(
      lambda g: judges.critic(_critic(g.section), g.name, g.section.get("seed", 0)),
      ("critic",),
      ("noise", "per_character", "first", "seed"),
    ),
    READER: Kind(_reader, ("noise", "flip"), ("seed",)),
  },
}
