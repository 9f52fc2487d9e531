"""An instructor of the embedded task: finds what failed in a letter, and writes questions like it.

A letter shows its working, so that one look says which call was not followed, whether the chain is
of another length than was asked for, or in whose street the last one called was wrongly sought. New
questions have the same length and the same call, or the same person, at the same place; all else is
drawn anew. Beside questions that were answered right, they are those with the least that failed in
them changed.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

from pit_jax.tasks import synthetic


class Fault(NamedTuple):
  """What is kept of a question in those that are like it: people, from a place of the chain on."""

  place: int
  people: tuple[str, ...]  # nobody where only its length matters


def fault(q: synthetic.Question, letter: str) -> Fault | None:
  """Returns what failed first in the working of a letter.

  That is a call (who calls, and who is called), the chain's length, or the home of its last person;
  None where nothing did, or the letter shows no working.
  """
  people, street = synthetic.working_of(letter)
  chain = q.chain()
  if not people:
    return None
  for place, (said, right) in enumerate(zip(people, chain, strict=False)):
    if said != right:
      start = max(place - 1, 0)
      return Fault(start, tuple(chain[start : place + 1]))
  if len(people) != len(chain):
    return Fault(0, ())
  if street != q.answer():
    return Fault(q.count, (chain[-1],))
  return None


def similar(
  prompt: str,
  letter: str,
  solved: Sequence[str],
  count: int,
  right: float | int,
  rng: random.Random,
) -> list[tuple[str, str]]:
  """Returns so many new questions, each with a letter that answers it.

  Args:
    prompt: a question.
    letter: a student's answer to it; "" if there is none to look at.
    solved: questions that the student answered right, nearest first; new ones are made of these in
      turn. None: they are drawn.
    count: how many there are to be.
    right: share of the letters that are right; in the working of the others one call is not
      followed, and the answer is what follows from that.
    rng: source of the noise.

  Raises:
    ValueError: a text is no question of the embedded task.
  """
  q = synthetic.parse_question(prompt)
  kept = fault(q, letter)
  if kept is None:
    # Any of its calls.
    start = rng.randrange(q.count)
    kept = Fault(start, tuple(q.chain()[start : start + 2]))
  bases = [synthetic.parse_question(text) for text in solved]

  made = []
  for number in range(count):
    base = bases[number % len(bases)] if bases else None
    new = _question(q.count, kept, base, rng)
    made.append((synthetic.ask(new), _answer(new, right, rng)))
  return made


def _question(
  count: int, kept: Fault, base: synthetic.Question | None, rng: random.Random
) -> synthetic.Question:
  """Draws a question of so many calls with what is kept in its place, of new people or a base's."""
  asker, *people = rng.sample(synthetic.NAMES, synthetic.PEOPLE + 1)
  if base is not None:
    chain = base.chain()
    others = [person for person in base.calls if person not in chain]
    rng.shuffle(others)
    asker, people = base.asker, [*chain, *others]
  people = list(people)

  for place, person in enumerate(kept.people, start=kept.place):
    if person == asker:
      asker = people[place]
    elif person in people:
      people[people.index(person)] = people[place]
    people[place] = person
  return synthetic.chained(asker, people, count, rng)


def _answer(q: synthetic.Question, right: float | int, rng: random.Random) -> str:
  """Draws a letter of a strong writer's, whose working is wrong in some."""
  letter = synthetic.write(q, synthetic.STRONG, rng)
  if rng.random() < right:
    return letter.text(q.asker)
  people = q.chain()
  place = rng.randrange(1, len(people))
  people[place] = rng.choice([other for other in q.calls if other not in people])
  for after in range(place + 1, len(people)):
    people[after] = q.calls[people[after - 1]]
  wrong = dataclasses.replace(
    letter, working=tuple(people), opening=synthetic.HOMES[people[-1]], first=True, remark=""
  )
  return wrong.text(q.asker)
