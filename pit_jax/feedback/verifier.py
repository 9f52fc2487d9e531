"""Verifiers: who says of single answers whether they are right, from a file or by a function.

One verifier is a rater that prefers what is right to what is not. Several are one rater, too: of
the final answer first, then of the steps that lead to it, so that a right answer by right steps is
better than a right answer, and that is better than a wrong one.
"""

import os
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from pit_jax import configurations
from pit_jax.data import conversations
from pit_jax.feedback import judges, writers
from pit_jax.tasks import verify

CHECK = "check"  # the kind of a rater that is a Python function of one answer
ABSENT = "no right answer in the file"
CALLED = "it is called as f(prompt, answer), two texts, and returns True or False"

Section = ml_collections.ConfigDict | Mapping[str, Any]
# (questions, answers) → 1 for every answer that passes, 0 for one that does not, NaN where nothing
# is known of its prompt, Float[N].
Passing = Callable[[judges.Prompts, Sequence[str]], np.ndarray]


def rater(
  name: str,
  path: str | os.PathLike,
  form: str,
  *,
  prompt: str = "prompt",
  answer: str = "answer",
) -> judges.Judge:
  """Returns a file of right answers as a rater; see `in_file`."""
  return of(name, [in_file(path, form, prompt=prompt, answer=answer)])


def of(name: str, verifiers: Sequence[Passing], *, scores: bool = False) -> judges.Judge:
  """Returns verifiers as a rater: a text is worth as many as it passes before the first it fails.

  Two texts that are worth the same are a tie. Of a prompt of which a verifier knows nothing,
  nothing is said, unless a text failed before.

  Args:
    name: of the rater.
    verifiers: of the final answer first, then of what leads to it.
    scores: whether single texts are scored, too, which needs verifiers that know every prompt; of
      another one a ValueError is raised.
  """

  def worth(questions, texts):
    total = np.zeros(len(texts))
    going = np.ones(len(texts), bool)
    for passes in verifiers:
      places = np.flatnonzero(going)
      passed = passes([questions[i] for i in places], [texts[i] for i in places])
      total[places] += passed
      going[places] = passed == 1
    return total

  def verdicts(questions, a, b):
    difference = worth(questions, a) - worth(questions, b)
    failures = dict.fromkeys(np.flatnonzero(np.isnan(difference)).tolist(), ABSENT)
    return judges.Verdicts(difference, failures=failures)

  def passes_all(questions, texts):
    total = worth(questions, texts)
    return np.where(np.isnan(total), np.nan, (total == len(verifiers)).astype(float))

  def scored(questions, texts):
    total = worth(questions, texts)
    for place in np.flatnonzero(np.isnan(total)):
      prompt = _shown(conversations.said(questions[place]))
      raise ValueError(
        f"the verifier {name} is to score every answer, and has {ABSENT} to the prompt {prompt!r}; "
        "add one, or set its scores=False, which leaves such prompts out and compares alone"
      )
    return total

  score = scored if scores else None
  return judges.Judge(name, verdicts, score, judges.EXACT_TIE, passes=passes_all)


def of_sections(name: str, sections: Mapping[str, Any]) -> judges.Judge:
  """Returns the verifiers of sections by their names as one rater; see `of`."""
  scores = all(map(scores_answers, sections.values()))
  return of(name, [_passing(*one) for one in sections.items()], scores=scores)


def scores_answers(section: Section) -> bool:
  """Returns whether a verifier scores single answers: a function does, a file if it is told to."""
  return section["kind"] == CHECK or bool(section.get("scores", False))


def passing(raters: Section, name: str) -> Passing:
  """Returns the verifiers that a section of `raters` is, or names, as one: what passes all of them.

  Of a prompt of which one knows nothing, nothing is known.
  """
  section = raters[name]
  every = [_passing(one, raters[one]) for one in section.get("verifiers", (name,))]

  def passes(questions, texts):
    return np.prod([one(questions, texts) for one in every], axis=0)

  return passes


def _passing(name: str, section: Section) -> Passing:
  def said(*names):
    return {one: section[one] for one in names if one in section}

  if section["kind"] == CHECK:
    return function(name, section["function"], **said("right", "seed"))
  return in_file(section["path"], section["form"], **said("prompt", "answer"))


def in_file(
  path: str | os.PathLike, form: str, *, prompt: str = "prompt", answer: str = "answer"
) -> Passing:
  """Returns a file of right answers as a verifier; see `verify.final` for how answers are found.

  A text passes if its final answer is right. Of a prompt that the file does not have nothing is
  known.

  Args:
    path: rows, in JSON lines, one JSON list, CSV or Parquet, of a text or messages in the column
      `prompt` and a text in the column `answer`, by the names that these have; several of one
      prompt are all right.
    form: of the answers, one of `verify.FORMS`.
    prompt: name of the column of prompts.
    answer: name of the column of right answers.

  Raises:
    ValueError: it cannot be read, or an answer in it has not this form.
  """
  right = writers.read(path, prompt=prompt, response=answer)
  for asked, answers in right.items():
    for one in answers:
      try:
        verify.check(one, form)
      except ValueError as error:
        raise ValueError(f"{path}: of the prompt {asked[:60]!r}: {error}") from None

  def passes(questions, texts):
    keys = [writers.said_in(conversations.turns(question)) for question in questions]
    pairs = zip(keys, texts, strict=True)
    return np.array(
      [float(verify.is_right(text, right[key], form)) if key in right else np.nan
       for key, text in pairs]
    )  # fmt: skip

  return passes


def function(name: str, place: str, right: float | int = 1.0, seed: int = 0) -> Passing:
  """Returns a Python function as a verifier, which may err.

  Args:
    name: of the rater, in messages.
    place: "package.module:function" of (prompt, answer), two texts, that returns whether the answer
      passes.
    right: share of the texts of which it is right; of the others the opposite is said. Which these
      are, is a function of seed, function, prompt and text.
    seed: see `right`.

  Raises:
    ValueError: there is no such function; and where it is asked, that it fails, or returns neither
      True nor False, with the prompt.
  """
  called = configurations.function(place)

  def passes_one(question, text):
    prompt = conversations.said(question)
    try:
      said = called(prompt, text)
    except Exception as error:  # whatever somebody else's function raises
      problem = f"{type(error).__name__}: {' '.join(str(error).split())}{_line(error)}"
      raise ValueError(_wrong(f"raised {problem}", prompt)) from error
    if not isinstance(said, bool | np.bool_):
      raise ValueError(_wrong(f"returned {said!r}", prompt))

    errs = random.Random(repr((seed, place, prompt, text))).random() >= right
    return float(said) if not errs else 1.0 - said

  def _wrong(what, prompt):
    return f"the verifier {name} ({place}) {what} for the prompt {_shown(prompt)!r}; {CALLED}"

  return lambda questions, texts: np.array(
    [passes_one(*pair) for pair in zip(questions, texts, strict=True)], float
  )


def _shown(prompt: str) -> str:
  return prompt if len(prompt) <= 80 else f"{prompt[:40]}…{prompt[-40:]}"


def _line(error: Exception) -> str:
  last = traceback.extract_tb(error.__traceback__)[-1]
  return "" if last.filename == __file__ else f" (line {last.lineno} of {last.filename})"
