"""A teacher of the embedded task's letters: scores their sentences, and corrects the wrong ones.

Hi Kim, The calls: Ann Mia Tom Joe Sue Ben of Oak.   1    the right calls
it is Elm.                                           0    a wrong street
I am too busy.                                       0    a grumble
Thanks for asking.                                   .5   neither right nor wrong
it is Oak.                                           0    the answer was given, and the letter over
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pit_jax.tasks import synthetic

RIGHT, NEUTRAL, WRONG = 1.0, 0.5, 0.0
ANSWER, CALLS, CLOSING = "answer", "calls", "closing"  # what a sentence of a letter is for

_QUESTION = re.compile(r"Phone chain for \w+\..*?Which street gets call \d+\?", re.DOTALL)
_NUMBERED = re.compile(r"^\d+\. (.*)$", re.MULTILINE)
_GREETING = r"(?P<greeting>(?:Hi|Hello|Dear|Well)(?: \w+)?, )?"
_ANSWER = re.compile(_GREETING + r"(?:it is (?P<is>\w+)|(?P<gets>\w+) gets it)\.")
_CALLS = re.compile(_GREETING + r"The calls: (?P<working>\w+(?: \w+)* of \w+)\.")


class Marked(NamedTuple):
  """A sentence of a letter, its score, and what stands in its place where it is put right."""

  sentence: str
  score: float
  mended: str  # "": it is left out


def scores(q: synthetic.Question, listed: Sequence[str]) -> list[float]:
  """Returns what each sentence of a letter to a question is worth: RIGHT, NEUTRAL or WRONG.

  Answers and calls are right or wrong, and kind words that close the letter neutral. What is said a
  second time, in the same words or others, comes after the closing, greets again, or is no part of
  a letter, is wrong.
  """
  return [one.score for one in _marked(q, listed)]


def _marked(q: synthetic.Question, listed: Sequence[str]) -> Iterator[Marked]:
  said: set[str] = set()
  for place, sentence in enumerate(listed):
    calls, answer = _CALLS.fullmatch(sentence), _ANSWER.fullmatch(sentence)
    part = CALLS if calls else ANSWER if answer else CLOSING
    matched = calls or answer
    greeting = (matched["greeting"] or "") if matched else ""
    is_part = bool(matched) or sentence in synthetic.CLOSINGS
    if not is_part or {part, CLOSING} & said or (greeting and place):
      yield Marked(sentence, WRONG, "")
      continue
    said.add(part)
    if calls:
      working = f"{' '.join(q.chain())} of {q.answer()}"
      mended = f"{greeting}The calls: {working}."
    elif answer:
      form = "it is {}." if answer["is"] else "{} gets it."
      mended = greeting + form.format(q.answer())
    else:
      yield Marked(sentence, NEUTRAL, sentence)
      continue
    yield Marked(sentence, RIGHT if sentence == mended else WRONG, mended)


def marks(text: str, noise: float | int, invalid: float | int, seed: int | str) -> str:
  """Returns the teacher's reply to a request that holds a question and numbered sentences.

  Args:
    text: the request.
    noise: how far a score may be off, either way, in tenths; what leaves 0 to 1 is brought back.
    invalid: share of the replies that leave the last score out, or give one of 2.
    seed: with the request, of both.

  Raises:
    ValueError: there is no question in the text.
  """
  q, listed = _read(text)
  rng = random.Random(f"marks {seed} {text}")
  is_invalid = rng.random() < invalid
  most = round(10 * noise)
  given = [min(max(exact + rng.randint(-most, most) / 10, 0.0), 1.0) for exact in scores(q, listed)]
  if is_invalid:
    given = given[:-1] if rng.random() < 0.5 else [*given[:-1], 2.0]
  return "\n".join(f"{number}: {one:.1f}" for number, one in enumerate(given, start=1))


def corrected(turns: Sequence[Mapping[str, str]]) -> str:
  """Returns the letter of a request with its wrong sentences put right or gone, the others as are.

  A wrong answer and wrong calls are put right where they stand; all else that is wrong is left out.
  A letter of which nothing stays is the right answer.
  """
  q, listed = _read(turns[-1]["content"])
  kept = [one.mended for one in _marked(q, listed) if one.mended]
  return " ".join(kept) or f"it is {q.answer()}."


def _read(text: str) -> tuple[synthetic.Question, list[str]]:
  """Returns the question of a request, and its sentences."""
  found = _QUESTION.search(text)
  if found is None:
    raise ValueError(f"no question of the embedded task: {text!r}")
  return synthetic.parse_question(found[0]), _NUMBERED.findall(text[found.end() :])
