"""Reads questions and letters of the embedded task the slow way, apart from the library."""

import random
import re

from pit_jax.tasks import synthetic


def solve(prompt: str) -> list[str]:
  """Returns the chain of a question, read word by word, independently of the library."""
  words = re.sub(r"[.?]", "", prompt).split()
  called = [(words[i - 1], words[i + 1]) for i, word in enumerate(words) if word == "calls"]
  assert len({caller for caller, _ in called}) == len(called), "somebody has two numbers to call"
  people = [words[words.index("starts") - 1]]
  for _ in range(int(words[-1])):
    people += [to for caller, to in called if caller == people[-1]]
  return people


def street(prompt: str) -> str:
  return synthetic.HOMES[solve(prompt)[-1]]


def asker(prompt: str) -> str:
  return prompt.split(".")[0].split()[-1]


def opening_of(letter: str) -> str:
  """Returns the first street that a letter names."""
  return next(word for word in re.findall(r"\w+", letter) if word in synthetic.STREETS)


def questions(count: int, name: str = "questions") -> list[synthetic.Question]:
  return [synthetic.question(random.Random(f"{name} {i}")) for i in range(count)]
