"""Clusters of prompts that belong together: of one conversation, or near-duplicates."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from pit_jax.data import conversations, similar

_NAME = r"[#*>]*[ ]?\w[\w .'-]{0,30}[:：]"  # of who speaks, at the beginning of a line
_NEXT_TURN = re.compile(rf"\s*(?:\n[ \t]*{_NAME}|[<\[][^\n]{{1,40}}[>\]])")
_IS_ASKED = re.compile(rf"(?:(?:\A|\n)[ \t]*{_NAME}|[>\]])\s*\Z")


def openings(prompts: Sequence[conversations.Prompt]) -> list[str]:
  """Returns for each prompt the least opening among the prompts that belong to it.

  Prompts belong together where they or their openings (`conversations.opening`) are nearly the
  same (`similar.groups`), where one goes on with further turns of another (`continued`), and where
  both belong to a third. They are all that there are, each once, and their order decides nothing.
  """
  texts = [conversations.write(prompt) for prompt in prompts]
  own = [conversations.opening(prompt) for prompt in prompts]
  distinct, number = np.unique(np.array(own, object), return_inverse=True)
  labels = similar.joined(
    similar.linked(len(prompts), continued(texts)),
    similar.groups(texts).labels,
    similar.groups(distinct.tolist()).labels[number],
  ).tolist()

  least: dict[int, str] = {}
  for label, opening in zip(labels, own, strict=True):
    least[label] = min(opening, least.get(label, opening))
  return [least[label] for label in labels]


def continued(texts: Sequence[str]) -> Int[np.ndarray, "links 2"]:
  """Returns which texts go on with further turns of others, as pairs of numbers.

  Each is paired with the longest one that it continues. What goes on with anything else than a
  turn, as "Why?" and "Why? And how?", is not continued.
  """
  pairs: list[tuple[int, int]] = []
  begun: list[int] = []
  for number in sorted(range(len(texts)), key=texts.__getitem__):  # beginnings come first
    text = texts[number]
    # A stack of texts of which each begins with the one below it.
    while begun and not text.startswith(texts[begun[-1]]):
      begun.pop()

    for earlier in reversed(begun):
      if _goes_on(texts[earlier], text):
        pairs.append((earlier, number))
        break

    begun.append(number)

  return np.array(pairs, int).reshape(-1, 2)


def _goes_on(text: str, longer: str) -> bool:
  """Returns whether further turns follow a text in a longer one that begins with it."""
  if not text or text == longer:
    return False
  return bool(_NEXT_TURN.match(longer, len(text)) or _IS_ASKED.search(text))
