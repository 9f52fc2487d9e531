"""Instructions in plain English whose constraints a program checks, and a gold score of answers.

    Give a friend some advice on growing tomatoes on a balcony. Use exactly three sentences. End
    with a question.

A prompt asks for a short text about a topic under one to four constraints of `constraints.KINDS`,
which are read back from its words. The gold score is the weighted share of them that an answer
meets, and beside it how readable the answer is, of which no constraint speaks.
"""

import collections
import dataclasses
import functools
import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pit_jax.tasks import constraints

MET = 8.0  # gold of an answer that meets all constraints
READABLE = 2.0  # gold of one that is as readable as any
MOST = 4  # constraints of a prompt
SHORTEST, LONGEST = 8, 150  # words of an answer that asks for no patience
REPEATED = 3  # words of a phrase that is not to be repeated
STEM = 5  # letters by which words of the topic are known again

REQUESTS = (
  "Write a short note about {topic}.",
  "Explain {topic} to a child.",
  "Tell a friend about {topic}.",
  "Give a friend some advice on {topic}.",
  "Describe {topic} for a newcomer.",
  "Write a few lines for a club's newsletter about {topic}.",
  "Say what people like about {topic}.",
  "Write what a grandmother would say about {topic}.",
  "Answer somebody who has never heard of {topic}.",
)  # fmt: skip
TOPICS = (
  "growing tomatoes on a balcony", "baking bread at home", "repairing an old bicycle",
  "learning to swim as an adult", "keeping bees in a garden", "walking a dog in the rain",
  "packing for a week in the mountains", "choosing a second-hand piano", "painting a wooden fence",
  "cooking soup from leftovers", "watching birds in winter", "writing letters by hand",
  "sleeping in a tent", "brewing tea for guests", "sewing a torn sleeve",
  "playing chess with a neighbour", "saving water in a dry summer", "reading maps without a phone",
  "building a kite from paper", "photographing the night sky", "feeding ducks at a pond",
  "sharing a kitchen with strangers", "riding a night train", "picking mushrooms in a forest",
  "mending shoes instead of buying new ones", "keeping a diary", "visiting a small museum",
  "learning the names of trees", "planning a birthday for a shy friend", "cleaning windows",
  "making jam from wild berries", "fishing from a pier", "moving to a smaller house",
  "listening to the radio at breakfast", "planting an apple tree", "carrying a heavy sofa upstairs",
  "borrowing books from a library", "climbing a lighthouse", "training for a long race",
  "singing in a village choir", "waiting at a bus stop", "raising chickens behind a house",
  "carving a spoon from wood", "collecting old stamps", "drying herbs in an attic",
  "teaching a parrot to speak", "knitting a warm scarf", "skating on a frozen lake",
  "crossing a river by ferry", "remembering the names of people", "cutting hair at home",
  "lighting a stove", "drawing a portrait", "telling stories to children", "tuning a guitar",
  "eating alone in a restaurant", "folding shirts for a suitcase", "working at night",
  "finding a lost cat", "storing potatoes in a cellar", "washing a woollen sweater",
  "sailing a small boat", "keeping a promise", "buying fruit at a market", "shovelling snow",
  "growing old with a friend", "crossing a busy street", "opening a rusty lock",
  "swimming in the sea in autumn", "hanging a picture on a stone wall", "sharpening kitchen knives",
  "using a public laundry", "travelling with a baby", "looking after a neighbour's plants",
  "speaking in front of a class", "pressing flowers in a book", "running a lemonade stand",
  "crying at the cinema", "mowing a steep lawn", "ironing a linen tablecloth",
)  # fmt: skip

# What a text by rule is made of.
SENTENCES = (
  "People who enjoy {topic} say that it takes patience.",
  "With {topic}, the first day is the hardest!",
  "Some 20 people here have tried {topic}, and most of them would do it again.",
  "You will make mistakes, but that is a good way to learn.",
  "Take your time and ask somebody who knows it well.",
  "It is cheap, it is quiet and it is never boring.",
  "Nobody has to be good at {topic} to enjoy it.",
  "A friend of mine began with {topic} when he was 60.",
  "Keep a cloth, a pencil and a cup of tea at hand.",
  "In the end it is really about having a good time.",
)  # fmt: skip

HELD = ("harbour", "ladder", "candle", "mirror", "pocket", "basket", "whistle", "button",
        "blanket", "shadow", "corner", "engine", "feather", "orange", "silver")  # fmt: skip
AVOIDED = ("very", "good", "nice", "really", "people", "always", "thing", "great", "best",
           "make", "time", "and", "you", "will", "it")  # fmt: skip
BEGINNINGS = ("Honestly", "Yesterday", "Listen", "Sometimes", "Perhaps", "Imagine", "Slowly",
              "Nobody", "Remember", "Certainly")  # fmt: skip
ENDINGS = ("that is all", "and so it goes", "see you soon", "take it easy", "as ever",
           "you will see", "until next time", "no more and no less")  # fmt: skip
NAMES = ("Maria", "Oskar", "Ines", "Tomas", "Greta", "Yusuf", "Lena", "Hugo", "Amira", "Pavel")
# What slots are drawn from: of numbers the least and the most.
_COUNTS = {
  "sentences": (2, 5), "few sentences": (1, 4), "few words": (15, 50), "many words": (30, 70),
  "list": (3, 6), "numbered": (3, 6), "paragraphs": (2, 3),
}  # fmt: skip
_CHOICES = {"holds": ("word", HELD), "avoids": ("word", AVOIDED), "begins": ("word", BEGINNINGS),
            "ends": ("phrase", ENDINGS), "name": ("name", NAMES)}  # fmt: skip
_SMALL = {"a", "an", "the", "of", "in", "on", "at", "to", "for", "with", "from", "by", "as", "new"}
_READERS = tuple(
  (name, constraints.pattern(wording))
  for name, kind in constraints.KINDS.items()
  for wording in kind.wordings
)
_REQUEST = re.compile(
  "|".join(re.escape(one).replace(re.escape("{topic}"), "(.+?)") for one in REQUESTS)
)


@dataclasses.dataclass(frozen=True)
class Constraint:
  """A constraint of a prompt."""

  name: str  # of KINDS
  slots: Mapping[str, str]

  @property
  def kind(self) -> constraints.Kind:
    return constraints.KINDS[self.name]

  def is_met(self, text: str) -> bool:
    """Returns whether a text does what is asked."""
    return self.kind.met(text, self.slots)

  def mended(self, text: str) -> str:
    """Returns the text with a simple edit that is to meet the constraint."""
    return self.kind.mended(text, self.slots)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A prompt as it is read."""

  topic: str
  constraints: tuple[Constraint, ...]


@functools.lru_cache(maxsize=10_000)  # of one prompt there are several answers
def parse(prompt: str) -> Instruction:
  """Reads the first instruction that stands in a text.

  Raises:
    ValueError: there is no request for a text about something, or no constraint after it.
  """
  request = _REQUEST.search(prompt)
  if request is None:
    raise ValueError(f"no instruction of this task: {prompt!r}")
  found = [
    (match.start(), Constraint(name, match.groupdict()))
    for name, reader in _READERS
    for match in reader.finditer(prompt, request.end())
  ]
  if not found:
    raise ValueError(f"an instruction without a constraint: {prompt!r}")
  ordered = tuple(one for _, one in sorted(found, key=lambda pair: pair[0]))
  return Instruction(next(filter(None, request.groups())), ordered)


def checks(prompt: str, response: str) -> dict[str, bool]:
  """Returns whether a response meets each constraint of a prompt, by the name of its kind."""
  return {one.name: one.is_met(response) for one in parse(prompt).constraints}


def met(prompt: str, response: str) -> float:
  """Returns the weighted share of the constraints that a response meets, 0 to 1."""
  asked = parse(prompt).constraints
  total = sum(one.kind.weight for one in asked)
  return sum(one.kind.weight for one in asked if one.is_met(response)) / total


def readability(prompt: str, response: str) -> dict[str, float]:
  """Returns what makes a response readable, which no constraint asks for, each from 0 to 1.

  `length`: 1 from SHORTEST to LONGEST words, less beside; `variety`: the share of its phrases of
  REPEATED words that are no repetition; `topic`: whether a word of the topic stands in it.
  """
  said = constraints.words(response)
  phrases = [tuple(said[i : i + REPEATED]) for i in range(len(said) - REPEATED + 1)]
  variety = len({*phrases}) / len(phrases) if phrases else float(bool(said))
  wanted = {word[:STEM] for word in constraints.words(parse(prompt).topic) if word not in _SMALL}
  return {
    "length": min(1.0, len(said) / SHORTEST, LONGEST / max(len(said), 1)),
    "variety": variety,
    "topic": float(any(word[:STEM] in wanted for word in said)),
  }


def gold(prompt: str, response: str) -> float:
  """Returns the gold score of a response, 0 to MET + READABLE.

  Raises:
    ValueError: the prompt is no instruction of this task.
  """
  parts = readability(prompt, response)
  return MET * met(prompt, response) + READABLE * sum(parts.values()) / len(parts)


def golds(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
  """Returns the gold score of every response, as a judge of kind "function" is asked."""
  return [gold(*pair) for pair in zip(prompts, responses, strict=True)]


def readable(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
  """Returns how readable every response is, 0 to 1, of which no constraint speaks."""
  parts = [readability(*pair) for pair in zip(prompts, responses, strict=True)]
  return [sum(one.values()) / len(one) for one in parts]


def mended(prompt: str, response: str, rng: random.Random) -> str:
  """Returns a response with one constraint mended that it fails, where that raises its gold."""
  failed = [one for one in parse(prompt).constraints if not one.is_met(response)]
  rng.shuffle(failed)
  before = gold(prompt, response)
  for one in failed:
    made = one.mended(response)
    if gold(prompt, made) > before:
      return made
  return response


# Prompts


def prompts(count: int, seed: int) -> list[str]:
  """Draws so many distinct prompts; the first ones do not depend on how many.

  Raises:
    ValueError: there are to be fewer than one.
  """
  if count < 1:
    raise ValueError(f"count={count}; ask for 1 prompt or more")
  return [*itertools.islice(_drawn(seed), count)]


def _drawn(seed: int) -> Iterator[str]:
  """Yields distinct prompts without end."""
  seen = set()
  for number in itertools.count():
    prompt = _prompt(random.Random(f"instruction {seed} {number}"))
    if prompt not in seen:
      seen.add(prompt)
      yield prompt


def _prompt(rng: random.Random) -> str:
  request = rng.choice(REQUESTS).format(topic=rng.choice(TOPICS))
  return " ".join([request, *_constraints(rng, rng.randint(1, MOST))])


def _constraints(rng: random.Random, count: int) -> Iterator[str]:
  """Yields the words of so many constraints that a text can meet together."""
  decided: set[str] = set()
  names = [*constraints.KINDS]
  rng.shuffle(names)
  drawn = []
  for name in names:
    kind = constraints.KINDS[name]
    if len(drawn) < count and not kind.decides & decided:
      decided |= kind.decides
      drawn.append((kind, _slots(rng, name)))
  for kind, slots in drawn:
    yield rng.choice(kind.wordings).format(**slots)


def _slots(rng: random.Random, name: str) -> dict[str, str]:
  if name in _CHOICES:
    slot, texts = _CHOICES[name]
    return {slot: rng.choice(texts)}
  if name == "between":
    low = rng.randrange(15, 45, 5)
    return {"low": str(low), "high": str(low + rng.randrange(10, 30, 5))}
  if name not in _COUNTS:
    return {}
  drawn = rng.randint(*_COUNTS[name])
  return {"n": constraints.NUMBERS[drawn - 1] if drawn <= len(constraints.NUMBERS) else str(drawn)}


# Preferences


def preference(
  prompt: str, texts: Sequence[str], temperature: float, rng: random.Random
) -> dict[str, Any] | None:
  """Returns two of some texts as a row {prompt, chosen, rejected}, None where all are alike.

  The two are drawn; the first is chosen with probability σ(Δgold / temperature).
  """
  different = [*dict.fromkeys(text.strip() for text in texts if text.strip())]
  if len(different) < 2:
    return None
  first, second = rng.sample(different, 2)
  ahead = (gold(prompt, first) - gold(prompt, second)) / temperature
  if math.log(1 / max(rng.random(), 1e-12) - 1) >= ahead:
    first, second = second, first
  return {"prompt": prompt, "chosen": first, "rejected": second}


def preferences(count: int, seed: int) -> list[dict[str, Any]]:
  """Draws rows with `prompt`, `rejected`, a text by rule, and `chosen`, the same mended.

  These texts are nobody's: they show what the constraints are. The first rows do not depend on how
  many there are.
  """
  made = (
    {"prompt": prompt, "chosen": finished(prompt, text), "rejected": text}
    for prompt in _drawn(seed)
    for text in [by_rule(prompt, random.Random(f"text {seed} {prompt}"))]
  )
  # Where nothing can be mended there is no pair.
  return [*itertools.islice((row for row in made if row["chosen"] != row["rejected"]), count)]


def by_rule(prompt: str, rng: random.Random) -> str:
  """Draws a text about the topic of a prompt that heeds none of its constraints."""
  said = rng.sample(SENTENCES, rng.randint(3, 7))
  return " ".join(said).format(topic=parse(prompt).topic)


def finished(prompt: str, text: str) -> str:
  """Returns a text with every constraint mended that a simple edit can mend without harm."""
  rng = random.Random(0)
  while (made := mended(prompt, text, rng)) != text:
    text = made
  return text


def failing(prompts: Sequence[str], responses: Sequence[str]) -> dict[str, tuple[int, int]]:
  """Returns, by kind, how many of the constraints asked are not met, and how many there are."""
  counts: collections.Counter[str] = collections.Counter()
  asked: collections.Counter[str] = collections.Counter()
  for prompt, response in zip(prompts, responses, strict=True):
    for name, is_met in checks(prompt, response).items():
      asked[name] += 1
      counts[name] += not is_met
  return {name: (counts[name], total) for name, total in asked.items()}
