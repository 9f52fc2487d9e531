"""A rater that asks another one for each class of prompts.

  {"kind": "by_class", "rules": (("maths", "kind", "number"), ("talk", "kind", "any")),
   "raters": (("maths", "verified"), ("talk", "even"))}

The first rule that holds of a prompt names its class; or a function does, or a writer, such as a
language model, that is asked which of them it is. Every class has a rater, or is left to others on
purpose; a class that nobody handles is refused when the data are there.
"""

import collections
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from pit_jax import configurations, ranges
from pit_jax.data import conversations, prompt_formats
from pit_jax.feedback import judges, writers

KIND = "by_class"
LEFT = "of a class that is left to others"
NOBODY = "of a class that nobody rates"
SHOWN = 80  # letters of a prompt that a message shows

# What a prompt may be told to be by a word.
_OPTIONS = re.compile(r"(?:^|[\s(])A[.):](?=\s).*?(?:^|[\s(])B[.):](?=\s)", re.DOTALL)
_COUNTS = re.compile(
  r"\bhow (?:many|much)\b|\b(?:calculate|compute|solve|evaluate)\b|\d\s*[-+*/×÷=^]\s*\d",
  re.IGNORECASE,
)
KINDS: dict[str, Callable[[str], bool]] = {
  "any": lambda prompt: True,
  "choice": lambda prompt: bool(_OPTIONS.search(prompt)),  # options A and B are offered
  "number": lambda prompt: bool(_COUNTS.search(prompt)),  # how many, how much, or a sum
}
BY = ("pattern", "kind", "function")  # how a rule tells a class
RULES = ranges.Range(
  'triples of a class, "pattern", "kind" or "function", and which, such as '
  '("maths", "kind", "number")',
  lambda value: ranges.is_list(value) and all(map(_is_of_words(3), value)),
)
PAIRS = ranges.Range(
  'pairs of a class and one of feedback.raters, such as ("maths", "verified")',
  lambda value: ranges.is_list(value) and len(value) > 0 and all(map(_is_of_words(2), value)),
)

# What a writer is asked after a prompt.
QUESTION = (
  "{prompt}\n\nThe text above is not for you to answer. Which kind of request is it? The kinds "
  "are: {classes}. Reply with the name of one kind and nothing else."
)
ASKED = prompt_formats.Format("kind of request", plain="{prompt}")
WAYS = ("rules", "classify", "told_by")  # of telling classes

Section = ml_collections.ConfigDict | Mapping[str, Any]
Classify = Callable[[Sequence[conversations.Prompt]], list[str]]  # "" where no rule holds


def _is_of_words(count: int) -> Callable[[Any], bool]:
  return lambda one: ranges.is_list(one) and len(one) == count and all(map(ranges.SAID.holds, one))


def classifier(section: Section, writer: Callable[[str], writers.Writer] | None = None) -> Classify:
  """Returns what tells the class of prompts: rules, a function, or a writer that is asked.

  Args:
    section: of the rater; it has one of WAYS.
    writer: returns a writer by its name, for `told_by`.

  Raises:
    ValueError: it has several of WAYS or none, or what it has cannot be used.
  """
  check_way(section)
  if section.get("told_by") and writer:
    return _by_writer(writer(section["told_by"]), handled(section), section.get("otherwise", ""))
  if section.get("classify"):
    return _by_function(section["classify"])

  rules = [(name, _test(by, what)) for name, by, what in section["rules"]]

  def classify(prompts):
    texts = map(conversations.said, prompts)
    return [next((name for name, holds in rules if holds(text)), "") for text in texts]

  return classify


def _test(by: str, what: str) -> Callable[[str], bool]:
  """Returns whether a rule holds of a prompt, as a function of its text."""
  if by == "pattern":
    try:
      return re.compile(what).search
    except re.error as error:
      raise ValueError(f"the pattern {what!r} is no regular expression: {error}") from error
  if by == "kind":
    if what not in KINDS:
      raise ValueError(f"a rule by kind names {what!r}; use one of {', '.join(KINDS)}")
    return KINDS[what]
  if by == "function":
    return configurations.function(what)
  raise ValueError(f"a rule is by {by!r}; use one of {', '.join(BY)}")


def check_way(section: Section) -> None:
  """Raises a ValueError unless a section has one of WAYS, and what belongs to it."""
  has = [name for name in WAYS if section.get(name)]
  if len(has) != 1:
    given = " and ".join(has) or "none of rules, classify and told_by"
    raise ValueError(
      f"{given} given; use one: rules, classify (a function of a prompt) or told_by (a writer)"
    )
  otherwise = section.get("otherwise")
  if otherwise and not section.get("told_by"):
    raise ValueError("otherwise is for replies that name no class; leave it out without told_by")
  if otherwise and otherwise not in handled(section):
    names = ", ".join(handled(section))
    raise ValueError(f"otherwise={otherwise!r}, a class that nobody handles; use one of {names}")


def handled(section: Section) -> list[str]:
  """Returns the classes that have a rater or are left to others, in order."""
  return list(dict.fromkeys([name for name, _ in section["raters"]] + [*section.get("leave", ())]))


def _by_writer(writer: writers.Writer, names: Sequence[str], otherwise: str) -> Classify:
  """Returns a writer's word for the class of a prompt, which it is asked for once.

  The first name in a reply counts, whatever its case; of a reply without one, or none, `otherwise`.
  """
  # Of names that begin alike the longest is meant.
  listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
  named = re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE)
  spelled = {name.casefold(): name for name in names}
  told: dict[str, str] = {}

  def read(reply: str | None) -> str:
    match = named.search(reply or "")
    return spelled[match[0].casefold()] if match else otherwise

  def classify(prompts):
    texts = list(map(conversations.said, prompts))
    new = list(dict.fromkeys(text for text in texts if text not in told))
    if new:
      ask = functools.partial(QUESTION.format, classes=", ".join(names))
      asked = ASKED.conversations([ask(prompt=text) for text in new])
      replies = writer.write(asked, jax.random.key(0), 0.0).texts
      told.update(zip(new, (read(reply) for (reply,) in replies), strict=True))
    return [told[text] for text in texts]

  return classify


def _by_function(place: str) -> Classify:
  """Returns a Python function of one prompt's text that names its class."""
  called = configurations.function(place)

  def classify(prompts):
    names = []
    for text in map(conversations.said, prompts):
      name = called(text)
      if not isinstance(name, str):
        raise ValueError(
          f"{place} returned {name!r} for the prompt {_shown(text)}; return the name of its class, "
          'or ""'
        )
      names.append(name)
    return names

  return classify


def unhandled(
  section: Section, classify: Classify, prompts: Iterable[conversations.Prompt]
) -> Iterator[str]:
  """Yields a sentence of every class of prompts that nobody handles, with their number and one."""
  distinct = list(dict.fromkeys(prompts))
  there = handled(section)
  by_class = collections.defaultdict(list)
  for name, prompt in zip(classify(distinct), distinct, strict=True):
    if name not in there:
      by_class[name].append(prompt)

  for name, asked in by_class.items():
    count = f"{len(asked)} {'prompt' if len(asked) == 1 else 'prompts'}"
    such = f"such as {_shown(conversations.said(asked[0]))}"
    if name:
      yield (
        f"nobody handles the class {name!r} ({count}, {such}); give it a rater in raters, or name "
        "it in leave"
      )
    elif writer := section.get("told_by"):
      yield (
        f"writer {writer} names no class of {count}, {such}; name the class of such replies in "
        "otherwise, or ask another"
      )
    else:
      yield f"no rule holds of {count}, {such}; add one that does"


def check(
  config: Section,
  classifier_of: Callable[[str], Classify],
  prompts: Iterable[conversations.Prompt],
) -> None:
  """Refuses data with a class of prompts that some rater by class of a run has nobody for.

  Args:
    config: of the run.
    classifier_of: returns what tells the classes of a rater by its name.
    prompts: of the data.

  Raises:
    ValueError: there is one; the error says how many prompts, and shows one.
  """
  raters = config.get("feedback", {}).get("raters", {})
  routers = {name: section for name, section in raters.items() if section["kind"] == KIND}
  # Most runs have none, and leave the prompts alone.
  distinct = list(dict.fromkeys(prompts)) if routers else []
  for name, section in routers.items():
    for problem in unhandled(section, classifier_of(name), distinct):
      raise ValueError(f"feedback.raters.{name}: {problem}")


def _shown(text: str) -> str:
  half = SHOWN // 2
  return repr(text if len(text) <= SHOWN else f"{text[:half]}…{text[-half:]}")


def by_class(
  name: str, classify: Classify, raters: Mapping[str, judges.Judge], leave: Sequence[str] = ()
) -> judges.Judge:
  """Returns raters as one that asks of each pair the rater of its prompt's class.

  Every rater has its own tie: where it sees one, the difference is 0. Pairs of classes that are
  left to others fail, and are counted as such.

  Args:
    name: of the rater.
    classify: what tells classes.
    raters: class → who is asked.
    leave: classes that are left to others.
  """

  def asked(ask, questions, a, b):
    count = len(a)
    classes = np.array(classify(questions), object)
    difference = np.full(count, np.nan)
    orders = np.full((count, 2), np.nan)
    said_by = [""] * count
    failures = {}

    for one in dict.fromkeys(classes):
      places = np.flatnonzero(classes == one).tolist()
      if one not in raters:
        failures |= dict.fromkeys(places, LEFT if one in leave else NOBODY)
        continue
      rater = raters[one]
      verdicts = ask(rater)(*([column[i] for i in places] for column in (questions, a, b)))
      told, both = judges.with_ties(rater, verdicts)
      difference[places], orders[places] = told, both
      for place, who in zip(places, judges.said_by(rater, verdicts), strict=True):
        said_by[place] = who
      failures |= {places[i]: reason for i, reason in verdicts.failures.items()}

    return judges.Verdicts(difference, None, failures, orders, said_by)

  return judges.several(name, asked)
