"""The embedded task: telephone chains, a question in English and letters that answer it.

    Phone chain for Kim. Ann calls Mia. Tom calls Joe. ... Ann starts. Which street gets call 5?
    Hi Kim, it is Oak. The calls: Ann Mia Tom Joe Sue Ben of Oak. Thanks for asking.

Everybody in this town knows who lives in which street. In the rows of the data source the answer
comes first and the working after it, as people write. Following a chain takes one lookup per call,
more than a shallow network can do before its first words, so a letter written in one pass opens
with little better than a guess, even greedily; its working, one lookup per word, is easy. A second
look at the letter can move what the working found up to the opening. A letter whose working comes
first needs none.

Letters come from writers with human faults: most guess and then work it out, some guess and leave
it there, and manners vary. The gold score is a weighted sum of checks anyone can read off a
letter. It labels the preferences, with noise, and judges results; training never sees it.
"""

import dataclasses
import functools
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = (
  *("Ann", "Ben", "Cal", "Dan", "Eva", "Fay", "Gus", "Hal", "Ivy", "Jan", "Joe", "Kim"),
  *("Leo", "Liv", "Mia", "Ned", "Ola", "Pam", "Ray", "Rob", "Sam", "Sue", "Tim", "Tom"),
)
# Who moved in after the base model had learnt who lives where; see kinds.py.
NEWCOMERS = ("Abe", "Bea", "Guy", "Jem", "Lou", "Zoe")
STREETS = ("Oak", "Elm", "Ash", "Fig")
HOMES = {name: STREETS[index % len(STREETS)] for index, name in enumerate(NAMES + NEWCOMERS)}
PEOPLE = 8  # in one chain
CALLS = 5  # how far along the chain a question asks

GREETINGS = ("Hi {asker},", "Hello {asker},", "Dear {asker},")
COLD_GREETINGS = ("Hello,", "Well,")
ANSWERS = ("it is {street}.", "{street} gets it.")
GRUMBLES = ("Stop asking me this.", "I am too busy.")
CLOSINGS = ("Thanks for asking.", "Have a nice day.", "All the best.")
COLD_CLOSINGS = ("Do not ask again.", "")
REMARKS = {True: "As I said.", False: "Not as I said."}  # ends a letter, in plain text only

WEIGHTS = {"answer": 3.0, "working": 2.0, "greeting": 1.0, "tone": 1.0, "closing": 1.0}
LABEL_NOISE = 1.0  # τ: a label prefers a to b with probability σ((gold_a − gold_b) / τ)


@dataclasses.dataclass(frozen=True)
class Question:
  """Who calls whom, who starts, how many calls on, and who asks."""

  asker: str
  calls: dict[str, str]
  start: str
  count: int

  @functools.cached_property
  def _called(self) -> tuple[str, ...]:
    people = [self.start]
    while len(people) <= self.count:
      people.append(self.calls[people[-1]])
    return tuple(people)

  def chain(self) -> list[str]:
    """Returns who starts and who is called, in order."""
    return list(self._called)

  def answer(self) -> str:
    """Returns the street of the last one called."""
    return HOMES[self._called[-1]]


@dataclasses.dataclass(frozen=True)
class Letter:
  """What a letter says, part by part; `text` puts the parts together."""

  greeting: str
  answer: str
  opening: str  # the street named in the answer
  working: tuple[str, ...]  # who starts and who is called; empty where the writer shows none
  grumble: str
  closing: str
  remark: str
  first: bool = False  # whether the working stands before the answer

  def text(self, asker: str) -> str:
    """Returns the letter in words."""
    answer = self.answer.format(street=self.opening)
    people = self.working
    working = f"The calls: {' '.join(people)} of {HOMES[people[-1]]}." if people else ""
    found = (working, answer) if self.first else (answer, working)

    greeting = self.greeting.format(asker=asker)
    return " ".join(filter(None, (greeting, *found, self.grumble, self.closing, self.remark)))


@dataclasses.dataclass(frozen=True)
class Writer:
  """How often a writer does what, as shares from 0 to 1."""

  works: float | int  # shows the working, which is then right
  knows: float | int  # answers with the right street; else with a wrong guess
  warm: float | int  # greets by name, and closes kindly: each with this probability
  calm: float | int  # does not grumble
  remarks: bool  # ends by saying whether the working came out as in the opening
  # Puts the working that is shown before the answer, which is then right, and not remarked upon.
  first: float | int = 0.0

  def __post_init__(self):
    """Raises a ValueError for a share that is none."""
    for name, share in vars(self).items():
      if not 0 <= share <= 1:
        raise ValueError(f"{name}={share!r}; use a share from 0 to 1")


HASTY = Writer(works=0.9, knows=0.3, warm=0.5, calm=0.65, remarks=False)
PLAIN = Writer(works=1.0, knows=0.5, warm=0.5, calm=0.65, remarks=True)
# Two teachers of the same manners: what one does first is all that the other lacks.
STRONG = Writer(works=1.0, knows=0.75, warm=0.9, calm=0.95, remarks=False, first=1.0)
WRITERS = {
  "hasty": HASTY,
  "plain": PLAIN,
  "strong": STRONG,
  "strong_answer_first": dataclasses.replace(STRONG, first=0.0),
}


def writer_named(name: str, **changes: Any) -> Writer:
  """Returns one of WRITERS with some of its habits changed.

  Raises:
    ValueError: there is no such writer, or a share is none.
  """
  if name not in WRITERS:
    raise ValueError(f"writer={name!r}; use one of {', '.join(WRITERS)}")
  return dataclasses.replace(WRITERS[name], **changes)


def question(rng: random.Random, people: int = PEOPLE, calls: int = CALLS) -> Question:
  """Draws a question whose chain, of more people beside the asker than calls, repeats nobody."""
  asker, *called = rng.sample(NAMES, people + 1)
  return chained(asker, called, calls, rng)


def chained(asker: str, people: Sequence[str], count: int, rng: random.Random) -> Question:
  """Draws a question whose chain of so many calls goes through the first of some people.

  There are more people than calls, and each of them calls somebody.
  """
  # The chain itself; whoever is at its end or outside calls anybody, which leads astray.
  calls = dict(itertools.pairwise(people[: count + 1]))
  for person in people[count:]:
    calls[person] = rng.choice([other for other in people if other != person])
  order = list(calls)
  rng.shuffle(order)

  return Question(asker, {person: calls[person] for person in order}, people[0], count)


def ask(q: Question) -> str:
  """Returns the question in words."""
  facts = " ".join(f"{caller} calls {called}." for caller, called in q.calls.items())
  return f"Phone chain for {q.asker}. {facts} {q.start} starts. Which street gets call {q.count}?"


def write(q: Question, writer: Writer, rng: random.Random) -> Letter:
  """Draws a letter from a writer."""
  answer = q.answer()
  wrong = [street for street in STREETS if street != answer]

  # The order of the draws makes the rows: another order is another data set.
  opening = answer if rng.random() < writer.knows else rng.choice(wrong)
  working = tuple(q.chain()) if rng.random() < writer.works else ()
  letter = Letter(
    greeting=rng.choice(GREETINGS if rng.random() < writer.warm else COLD_GREETINGS),
    answer=rng.choice(ANSWERS),
    opening=opening,
    working=working,
    grumble="" if rng.random() < writer.calm else rng.choice(GRUMBLES),
    closing=rng.choice(CLOSINGS if rng.random() < writer.warm else COLD_CLOSINGS),
    remark=REMARKS[opening == answer] if writer.remarks and working else "",
  )

  # Asked last, and only of those who may: the others' letters take no draw of it.
  if not working or not writer.first or rng.random() >= writer.first:
    return letter
  return dataclasses.replace(letter, opening=answer, remark="", first=True)


def letter_to(prompt: str, writer: Writer, seed: int | str) -> str:
  """Draws a letter to a question in words; it is a function of writer, question and seed alone.

  Writers of one seed share their draws, so that two who differ in one habit write letters that
  differ in what comes of it. Raises a ValueError for a text that is no question.
  """
  q = parse_question(prompt)
  return write(q, writer, random.Random(f"letter {seed} {prompt}")).text(q.asker)


def revise(q: Question, letter: Letter, writer: Writer, rng: random.Random) -> Letter:
  """Draws another letter by the same hand: some parts written anew, the others kept."""
  fresh = write(q, writer, rng)
  chances = {"opening": 0.6, "working": 0.5, "greeting": 0.35, "grumble": 0.35, "closing": 0.35}
  changed = [part for part, chance in chances.items() if rng.random() < chance]
  # An answer after the working says what that found: they are kept or written anew together.
  if (letter.first or fresh.first) and {"opening", "working"} & {*changed}:
    changed += ["opening", "working", "first"]

  return dataclasses.replace(letter, **{part: getattr(fresh, part) for part in changed})


def parse_question(prompt: str) -> Question:
  """Reads a question back from its words; raises a ValueError for a text that is none."""
  asker = re.match(r"Phone chain for (\w+)\.", prompt)
  end = re.search(r"(\w+) starts\. Which street gets call (\d+)\?$", prompt)
  if not asker or not end:
    raise ValueError(f"not a question of the embedded task: {prompt!r}")
  calls = dict(re.findall(r"(\w+) calls (\w+)\.", prompt))

  return Question(asker[1], calls, end[1], int(end[2]))


# The parts of a letter in their order, the working before the answer or after it, and not both; a
# text with anything else is none.
_LETTER = re.compile(
  rf"(?P<greeting>Hi|Hello|Dear|Well)(?: (?P<asker>\w+))?,"
  r"(?P<first> The calls: (?P<before>\w+(?: \w+)* of \w+)\.)?"
  r" (?:it is (?P<is>\w+)|(?P<gets>\w+) gets it)\."
  r"(?(first)|(?: The calls: (?P<after>\w+(?: \w+)* of \w+)\.)?)"
  rf"(?P<grumble>(?: (?:{'|'.join(map(re.escape, GRUMBLES))}))*)"
  rf"(?: (?P<closing>{'|'.join(map(re.escape, CLOSINGS + COLD_CLOSINGS[:1]))}))?"
)


def is_letter(response: str) -> bool:
  """Returns whether a text is a letter; one that is not passes no check."""
  return _LETTER.fullmatch(response.strip()) is not None


def works_first(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
  """Returns 1 for every letter whose working stands before its answer, and 0 for all else.

  It says nothing of what is better, nor whether the working is right.
  """
  matches = [_LETTER.fullmatch(response.strip()) for response in responses]
  return [float(match is not None and match["first"] is not None) for match in matches]


def answer_of(response: str) -> str:
  """Returns the street that a letter answers with; "" of a text that is none."""
  match = _LETTER.fullmatch(response.strip())
  return (match["is"] or match["gets"]) if match else ""


def working_of(response: str) -> tuple[list[str], str]:
  """Returns the people of a letter's working and the street it ends in; nobody without one."""
  match = _LETTER.fullmatch(response.strip())
  working = match and (match["before"] or match["after"])
  if not working:
    return [], ""
  people, _, street = working.rpartition(" of ")
  return people.split(), street


def parts(response: str) -> dict[str, str] | None:
  """Returns the text of a letter that each check looks at, in the order in which it stands.

  Joined by spaces, where there are any, they are the letter. Of a text that is none it is None.
  """
  match = _LETTER.fullmatch(response.strip())
  if not match:
    return None
  people = match["before"] or match["after"]
  found = {
    "answer": f"it is {match['is']}." if match["is"] else f"{match['gets']} gets it.",
    "working": f"The calls: {people}." if people else "",
  }
  order = ("working", "answer") if match["first"] else ("answer", "working")
  return {
    "greeting": response.strip().partition(",")[0] + ",",
    **{name: found[name] for name in order},
    "tone": match["grumble"].strip(),
    "closing": match["closing"] or "",
  }


def checks(prompt: str, response: str) -> dict[str, bool]:
  """Returns which of the five checks a letter passes; a text that is no letter passes none."""
  return _checks(parse_question(prompt), response)


def _checks(q: Question, response: str) -> dict[str, bool]:
  match = _LETTER.fullmatch(response.strip())
  if not match:
    return dict.fromkeys(WEIGHTS, False)
  return {
    "answer": (match["is"] or match["gets"]) == q.answer(),
    "working": (match["before"] or match["after"]) == f"{' '.join(q.chain())} of {q.answer()}",
    "greeting": match["asker"] == q.asker,
    "tone": not match["grumble"],
    "closing": match["closing"] in CLOSINGS,
  }


def gold(prompt: str, response: str) -> float:
  """Returns the letter's gold score, 0 to 8: the weights of the checks it passes, summed."""
  return weighed(checks(prompt, response))


def weighed(passed: Mapping[str, bool]) -> float:
  """Returns the weights of the checks that are passed, summed."""
  return sum((weight for name, weight in WEIGHTS.items() if passed.get(name)), start=0.0)


def preferences(count: int, seed: int) -> list[dict[str, str]]:
  """Draws rows with `prompt`, `chosen` and `rejected`, their labels noisy, and questions their own.

  Row i is a function of (seed, i) alone.
  """
  # A text as seed is hashed by SHA-512, the same in every process.
  return [_preference(random.Random(f"preference {seed} {i}")) for i in range(count)]


def _preference(rng: random.Random) -> dict[str, str]:
  q = question(rng)
  first = write(q, HASTY, rng)
  second = first
  while second == first:
    second = revise(q, first, HASTY, rng)
  prompt = ask(q)
  pair = (first.text(q.asker), second.text(q.asker))
  first_score, second_score = (weighed(_checks(q, letter)) for letter in pair)
  gap = first_score - second_score

  is_first = rng.random() < preferred(gap)
  chosen, rejected = pair if is_first else pair[::-1]
  return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def preferred(gap: float) -> float:
  """Returns how probably a label prefers a letter whose gold score is so much higher.

  It is Bradley and Terry's model at the temperature LABEL_NOISE.
  """
  return 1 / (1 + math.exp(-gap / LABEL_NOISE))


def plain_text(count: int, seed: int, first: float | int = 0.0) -> list[tuple[str, str, str]]:
  """Draws the base model's text: questions with two letters each, by writers in no order.

  There are no preferences and no scores in it; their workings are all right, and the writers say
  whether their opening was. Half of the chains have fewer people than those of the task: lookups
  are learnt on them first. `first` is the share of letters that work first, 0 to 1.
  """
  habits = dataclasses.replace(PLAIN, first=first)
  return [_plain(random.Random(f"plain {seed} {i}"), habits) for i in range(count)]


def _plain(rng: random.Random, habits: Writer) -> tuple[str, str, str]:
  q = question(rng, rng.choice((PEOPLE, PEOPLE, PEOPLE - 1, PEOPLE - 2)))
  letters = [write(q, habits, rng).text(q.asker) for _ in range(2)]
  return ask(q), *letters
