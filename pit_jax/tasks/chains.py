"""The embedded task without letters: chains of several lengths, answered in short or in steps.

    Phone chain. Ann calls Mia. Tom calls Joe. ... Ann starts. Which street gets call 4?
    Oak.
    The calls: Ann Mia Tom Joe Sue of Oak. The answer is Oak.

Questions are those of synthetic.py for chains of 4 to 7 calls, without who asks. A short answer
takes one lookup per call before its first word, a rationale one per word.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.tasks import synthetic, verify

LENGTHS = (4, 5, 6, 7)  # calls that a question asks for, of which each is as likely
CHECKS = ("answer", "working")

_QUESTION = re.compile(
  r"Phone chain\.(?P<calls>(?: \w+ calls \w+\.)+) (?P<start>\w+) starts\. "
  r"Which street gets call (?P<count>\d+)\?"
)
_SHORT = re.compile(r"(?P<answer>\w+)\.")
_RATIONALE = re.compile(
  r"The calls: (?P<working>\w+(?: \w+)* of \w+)\. The answer is (?P<answer>\w+)\."
)
# How a letter of the base's text says its answer, whatever else is in it.
_LETTER = re.compile(r"\bit is (\w+)\.|\b(\w+) gets it\.")


def is_question(prompt: str) -> bool:
  """Returns whether a text is a question of this task, and nothing else."""
  return _QUESTION.fullmatch(prompt) is not None


def parse(text: str) -> synthetic.Question:
  """Reads the first question that stands in a text; raises a ValueError where there is none."""
  found = _QUESTION.search(text)
  if found is None:
    raise ValueError(f"no question of the embedded task's chains: {text!r}")
  calls = dict(re.findall(r"(\w+) calls (\w+)\.", found["calls"]))
  return synthetic.Question("", calls, found["start"], int(found["count"]))


def ask(q: synthetic.Question) -> str:
  """Returns a question in words."""
  facts = " ".join(f"{caller} calls {called}." for caller, called in q.calls.items())
  return f"Phone chain. {facts} {q.start} starts. Which street gets call {q.count}?"


def question(rng: random.Random) -> synthetic.Question:
  """Draws a question of one of LENGTHS, whose chain repeats nobody."""
  return synthetic.question(rng, calls=rng.choice(LENGTHS))


def rationale(people: Sequence[str]) -> str:
  """Returns the rationale that finds these people called, and the street of the last one."""
  street = synthetic.HOMES[people[-1]]
  return f"The calls: {' '.join(people)} of {street}. The answer is {street}."


def rationale_to(text: str, wrong: float | int, seed: int | str) -> str:
  """Draws a rationale to the question that stands in a text.

  A share `wrong` of them has one lookup wrong, of a person that the question has, and goes on from
  there; its street may be right all the same. It is a function of the question, share and seed.

  Raises:
    ValueError: there is no question.
  """
  q = parse(text)
  rng = random.Random(f"rationale {seed} {ask(q)}")
  people = q.chain()
  if rng.random() >= wrong:
    return rationale(people)

  place = rng.randint(1, q.count)
  others = [person for person in q.calls if person not in people[place - 1 : place + 1]]
  people = [*people[:place], rng.choice(others)]
  while len(people) <= q.count:
    people.append(q.calls[people[-1]])
  return rationale(people)


def short_answer(turns: Sequence[Mapping[str, str]]) -> str:
  """Returns the right answer to the question in a conversation, in short."""
  return f"{parse(turns[-1]['content']).answer()}."


def answer_of(text: str) -> verify.Answer | None:
  """Returns the street that a text ends with, as verify.py finds it; of a letter, which it says."""
  letter = _LETTER.search(text)
  return verify.final(letter[1] or letter[2] if letter else text, "text")


def is_right(prompt: str, text: str) -> bool:
  """Returns whether the final answer of a text is right, however it was found."""
  return answer_of(text) == verify.check(parse(prompt).answer(), "text")


def right(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
  """Returns 1 for every text whose final answer is right, and 0 for the others."""
  return [float(is_right(*pair)) for pair in zip(prompts, texts, strict=True)]


def sound(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
  """Returns 1 for every text with the right answer and all of the right calls, else 0."""
  return [float(all(checks(*pair).values())) for pair in zip(prompts, texts, strict=True)]


def is_solution(text: str) -> bool:
  """Returns whether a text is a short answer or a rationale."""
  return bool(_SHORT.fullmatch(text.strip()) or _RATIONALE.fullmatch(text.strip()))


def checks(prompt: str, text: str) -> dict[str, bool]:
  """Returns whether the answer and the calls of a text are right; what is neither form has none.

  Raises a ValueError for a text that holds no question.
  """
  q = parse(prompt)
  found = _RATIONALE.fullmatch(text.strip())
  working = bool(found) and found["working"] == f"{' '.join(q.chain())} of {q.answer()}"
  answer = found or _SHORT.fullmatch(text.strip())
  return {"answer": bool(answer) and answer["answer"] == q.answer(), "working": working}


def preferences(count: int, seed: int) -> list[dict[str, Any]]:
  """Draws rows with `prompt`, `chosen`, a right rationale, and `rejected`, one with a wrong lookup.

  Row i is a function of (seed, i) alone.
  """
  return [_preference(random.Random(f"chain {seed} {i}")) for i in range(count)]


def _preference(rng: random.Random) -> dict[str, Any]:
  q = question(rng)
  prompt = ask(q)
  return {
    "prompt": prompt,
    "chosen": rationale(q.chain()),
    "rejected": rationale_to(prompt, 1.0, rng.getrandbits(32)),
  }
