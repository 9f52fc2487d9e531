"""The embedded task with prompts of three classes: questions, rude ones, and notes without one.

    Phone chain for Kim. Ann calls Mia. ... Ann starts. Which street gets call 5?
    Phone chain for Kim. Ann calls Mia. ... Ann starts. Which street gets call 5? Tell me now.
    Phone chain for Kim. Ann calls Mia. Tom calls Joe. Sue calls Ben. Kim says thanks.

Questions are those of synthetic.py, and so are the letters that answer them. A rude asker draws
grumbles: writers are calm that much less often. A note asks nothing, so that in a letter to it
manners are all that counts:

    Hi Kim, Thanks for asking.
"""

import dataclasses
import itertools
import random
import re
from collections.abc import Mapping, Sequence

from pit_jax.tasks import chains, synthetic

CHAIN, RUDE, NOTE = "chain", "rude", "note"
SHARES = {CHAIN: 0.5, RUDE: 0.25, NOTE: 0.25}  # of the prompts that are drawn
DEMAND = " Tell me now."  # ends the question of a rude asker
PATIENCE = 0.4  # how calm a writer is to a rude asker, as a share of how calm they are else
FACTS = 3  # calls that a note tells of

# Half of those who show a working put it first, so that an answer that is right can be learnt.
MIXED = dataclasses.replace(synthetic.HASTY, first=0.5)

_NOTE = re.compile(
  r"Phone chain for (?P<asker>\w+)\.(?: \w+ calls \w+\.)+ (?P=asker) says thanks\."
)
# A letter to a note has neither answer nor working.
_REPLY = re.compile(
  r"(?P<greeting>Hi|Hello|Dear|Well)(?: (?P<asker>\w+))?,"
  rf"(?P<grumble>(?: (?:{'|'.join(map(re.escape, synthetic.GRUMBLES))}))*)"
  r"(?: (?P<closing>"
  rf"{'|'.join(map(re.escape, synthetic.CLOSINGS + synthetic.COLD_CLOSINGS[:1]))}))?"
)


def class_of(prompt: str) -> str:
  """Returns the class of a prompt; "" of a text that is none of the three."""
  if _NOTE.fullmatch(prompt):
    return NOTE
  try:
    synthetic.parse_question(prompt.removesuffix(DEMAND))
  except ValueError:
    return ""
  return RUDE if prompt.endswith(DEMAND) else CHAIN


def checks(prompt: str, response: str) -> dict[str, bool]:
  """Returns which checks a letter passes, of those that there are for its prompt's class.

  Questions of chains.py are answered without letters. Raises a ValueError for a text that is no
  prompt.
  """
  if chains.is_question(prompt):
    return chains.checks(prompt, response)
  note = _NOTE.fullmatch(prompt)
  if note is None:
    return synthetic.checks(prompt.removesuffix(DEMAND), response)
  reply = _REPLY.fullmatch(response.strip())
  if reply is None:
    return dict.fromkeys(("greeting", "tone", "closing"), False)
  return {
    "greeting": reply["asker"] == note["asker"],
    "tone": not reply["grumble"],
    "closing": reply["closing"] in synthetic.CLOSINGS,
  }


def is_letter(prompt: str, response: str) -> bool:
  """Returns whether a text is a letter, or what there is instead, to a prompt of its class."""
  if chains.is_question(prompt):
    return chains.is_solution(response)
  if _NOTE.fullmatch(prompt):
    return _REPLY.fullmatch(response.strip()) is not None
  return synthetic.is_letter(response)


def gold(prompt: str, response: str) -> float:
  """Returns the letter's gold score: the weights of the checks it passes; 0 to 8, of a note 3."""
  return synthetic.weighed(checks(prompt, response))


def shares(prompts: Sequence[str], responses: Sequence[str]) -> dict[str, float]:
  """Returns the share of letters that pass each check, and of texts that are `malformed`.

  The latter are no letters, and so pass none. Letters count for the checks that there are for their
  prompts. Where there are none at all a share is 0.
  """
  pairs = list(zip(prompts, responses, strict=True))
  passed = [checks(*pair) for pair in pairs]
  malformed = sum(not is_letter(*pair) for pair in pairs) / max(len(pairs), 1)

  each = {}
  for name in synthetic.WEIGHTS:
    outcomes = [one[name] for one in passed if name in one]
    each[name] = sum(outcomes) / max(len(outcomes), 1)
  return {**each, "malformed": malformed}


def acceptable(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
  """Returns 1 for every letter that satisfies, and 0 for the others.

  It does not grumble, and where something was asked its answer and its working are right.
  """
  needed = ("answer", "working", "tone")
  passed = map(checks, prompts, responses)
  return [float(all(one.get(name, True) for name in needed)) for one in passed]


def is_calm(prompt: str, response: str) -> bool:
  """Returns whether a text holds no grumble, whatever else it is."""
  del prompt
  return not any(grumble in response for grumble in synthetic.GRUMBLES)


def calmed(turns: Sequence[Mapping[str, str]]) -> str:
  """Returns the last answer of a conversation without its grumbles."""
  answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
  if not answers:
    raise ValueError("the conversation has no answer to rewrite")
  answer = answers[-1]
  for grumble in synthetic.GRUMBLES:
    answer = answer.replace(grumble, "")
  return " ".join(answer.split())


def answer_follows(prompt: str, response: str) -> bool:
  """Returns whether a letter answers with the street of the last one called in its own working.

  Raises a ValueError for a prompt without a question.
  """
  synthetic.parse_question(prompt.removesuffix(DEMAND))
  people, _ = synthetic.working_of(response)
  return bool(people) and synthetic.answer_of(response) == synthetic.HOMES.get(people[-1])


def calls_are_facts(prompt: str, response: str) -> bool:
  """Returns whether a letter's working starts where it should, and is all calls of the question.

  No right answer is needed for it. Raises a ValueError for a prompt without a question.
  """
  q = synthetic.parse_question(prompt.removesuffix(DEMAND))
  people, street = synthetic.working_of(response)
  if len(people) != q.count + 1 or people[0] != q.start:
    return False
  steps = itertools.pairwise(people)
  return street == synthetic.HOMES.get(people[-1]) and all(q.calls.get(a) == b for a, b in steps)


def letter_to(prompt: str, writer: synthetic.Writer, seed: int | str) -> str:
  """Draws a letter to a prompt of any class; see `synthetic.letter_to`."""
  note = _NOTE.fullmatch(prompt)
  if note is None and not prompt.endswith(DEMAND):
    return synthetic.letter_to(prompt, writer, seed)
  rng = random.Random(f"letter {seed} {prompt}")
  if note is not None:
    return _reply(note["asker"], writer, rng)
  q = synthetic.parse_question(prompt.removesuffix(DEMAND))
  return synthetic.write(q, _provoked(writer), rng).text(q.asker)


def _provoked(writer: synthetic.Writer) -> synthetic.Writer:
  """Returns a writer as a rude asker finds them."""
  return dataclasses.replace(writer, calm=writer.calm * PATIENCE)


def _reply(asker: str, writer: synthetic.Writer, rng: random.Random) -> str:
  """Draws a letter to a note."""
  is_warm = rng.random() < writer.warm
  greeting = rng.choice(synthetic.GREETINGS if is_warm else synthetic.COLD_GREETINGS)
  grumble = "" if rng.random() < writer.calm else rng.choice(synthetic.GRUMBLES)
  is_warm = rng.random() < writer.warm
  closing = rng.choice(synthetic.CLOSINGS if is_warm else synthetic.COLD_CLOSINGS)
  return " ".join(filter(None, (greeting.format(asker=asker), grumble, closing)))


def preferences(count: int, seed: int) -> list[dict[str, str]]:
  """Draws rows with `prompt`, `chosen` and `rejected`, of classes by `SHARES`.

  Both letters are one writer's; which is chosen, the gold score says with noise, as in
  `synthetic.preferences`. Row i is a function of (seed, i) alone.
  """
  return [_preference(random.Random(f"class {seed} {i}")) for i in range(count)]


def _preference(rng: random.Random) -> dict[str, str]:
  prompt = _prompt(rng.choices([*SHARES], [*SHARES.values()])[0], rng)
  first = second = letter_to(prompt, MIXED, rng.getrandbits(32))
  while second == first:
    second = letter_to(prompt, MIXED, rng.getrandbits(32))

  gap = gold(prompt, first) - gold(prompt, second)
  is_first = rng.random() < synthetic.preferred(gap)
  chosen, rejected = (first, second) if is_first else (second, first)
  return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _prompt(kind: str, rng: random.Random) -> str:
  """Draws a prompt of a class."""
  if kind != NOTE:
    return synthetic.ask(synthetic.question(rng)) + (DEMAND if kind == RUDE else "")
  asker, *people = rng.sample(synthetic.NAMES, 2 * FACTS + 1)
  callers, called = people[:FACTS], people[FACTS:]
  facts = " ".join(f"{a} calls {b}." for a, b in zip(callers, called, strict=True))
  return f"Phone chain for {asker}. {facts} {asker} says thanks."
