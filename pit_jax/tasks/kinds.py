"""The embedded task with questions of five kinds: chains of 3 to 6 calls, and newcomers.

    Phone chain for Kim. Ann calls Mia. ... Ann starts. Which street gets call 3?
    Phone chain for Kim. Ann calls Mia. ... Ann starts. Which street gets call 6?
    Phone chain for Kim. Ann calls Zoe. ... Ann starts. Which street gets call 4?

Questions and letters are as those of synthetic.py. The base model has read of chains of 5 calls
alone, and never of those who moved in since: a newcomer is the last one called, and their street
is nothing that a question says. Whoever is to answer has to be taught it.
"""

import random
from collections.abc import Sequence

from pit_jax.tasks import synthetic

NEWCOMER = "newcomer"
COUNTS = {f"calls {count}": count for count in (3, 4, 5, 6)}
KINDS = (*COUNTS, NEWCOMER)
NEAR = (3, 4, 5)  # calls of a question that ends with a newcomer


def question(kind: str, rng: random.Random) -> synthetic.Question:
  """Draws a question of a kind, one of KINDS."""
  asker, *people = rng.sample(synthetic.NAMES, synthetic.PEOPLE + 1)
  count = rng.choice(NEAR) if kind == NEWCOMER else COUNTS[kind]
  if kind == NEWCOMER:
    people[count] = rng.choice(synthetic.NEWCOMERS)
  return synthetic.chained(asker, people, count, rng)


def kind_of(prompt: str) -> str:
  """Returns the kind of a question; "" of a text that is none."""
  try:
    q = synthetic.parse_question(prompt)
  except ValueError:
    return ""
  if {*q.calls} & {*synthetic.NEWCOMERS}:
    return NEWCOMER
  kind = f"calls {q.count}"
  return kind if kind in COUNTS else ""


def right_answers(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
  """Returns 1 for every letter that answers with the right street, and 0 for the others.

  Raises a ValueError for a text that is no question.
  """
  pairs = zip(prompts, responses, strict=True)
  return [float(synthetic.checks(prompt, response)["answer"]) for prompt, response in pairs]


def preferences(count: int, seed: int) -> list[dict[str, str]]:
  """Draws rows with `prompt`, `chosen` and `rejected`, of all kinds alike.

  Both letters are one writer's, who works first; which is chosen, the gold score says with noise,
  as in `synthetic.preferences`. Row i is a function of (seed, i) alone.
  """
  return [_preference(random.Random(f"kind {seed} {i}")) for i in range(count)]


def _preference(rng: random.Random) -> dict[str, str]:
  prompt = synthetic.ask(question(rng.choice(KINDS), rng))
  first = second = synthetic.letter_to(prompt, synthetic.STRONG, rng.getrandbits(32))
  while second == first:
    second = synthetic.letter_to(prompt, synthetic.STRONG, rng.getrandbits(32))

  gap = synthetic.gold(prompt, first) - synthetic.gold(prompt, second)
  is_first = rng.random() < synthetic.preferred(gap)
  chosen, rejected = (first, second) if is_first else (second, first)
  return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
