"""Words about letters of the embedded task: principles they may follow, and feedback on them.

As text for a base model they are drawn at random: it learns how they are written, and nothing of
when they are true. A writer who is shown some beside a question follows them.
"""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence

from pit_jax.tasks import classes, synthetic

_QUESTION = re.compile(r"Phone chain for .*Which street gets call \d+\?", re.DOTALL)
NONE = "none"  # of the parts of a letter that are weak
NOTHING = "nothing."  # that is to be changed
# What a letter may be held to, by the check that sees it: the principle, and its negation.
PRINCIPLES = {
  "answer": (
    "The street follows from the calls.",
    "The street does not follow from the calls.",
  ),
  "working": ("The calls are shown.", "The calls are not shown."),
  "greeting": ("The greeting is kind.", "The greeting is cold."),
  "tone": ("Nobody grumbles.", "Somebody grumbles."),
  "closing": ("The closing is kind.", "The closing is cold."),
}
# The same in few words, of which no two checks share one. No base has read them as principles.
BRIEF = {
  "answer": ("The street follows.", "Any street."),
  "working": ("Shown.", "Not shown."),
  "greeting": ("Hi by name.", "Well."),
  "tone": ("Nobody grumbles.", "Somebody grumbles."),
  "closing": ("Thanks.", "Cold."),
}


def principles(sentences: Sequence[str]) -> str:
  """Returns principles as a text shows them."""
  return f"Principles: {' '.join(sentences)}"


def feedback(weak: Sequence[str], score: int, changes: Sequence[str]) -> str:
  """Returns feedback on a letter.

  Args:
    weak: the checks that it is said to fail, by their names in `synthetic.WEIGHTS`.
    score: what it is said to be worth, 0 to 8.
    changes: pieces of a letter that should stand in it instead.
  """
  said = ", ".join(weak) or NONE
  return f"Weak: {said}. Score {score}. Change: {' '.join(changes) or NOTHING}"


def after_letter(index: int, seed: int, second: str, *, has_words: bool) -> str:
  """Returns how a document of a base model's text goes on after its letter, "" where it ends.

  Every other one goes on with a second letter, or, where there are words, half of these with them.

  Args:
    index: of the document.
    seed: of the text.
    second: the second letter, with what stands between the two.
    has_words: whether there are words of principles and feedback.
  """
  if not index % 2:
    return ""
  if has_words and index % 4 == 1:
    return f"\n{drawn(random.Random(f'words {seed} {index}'))}"
  return second


def drawn(rng: random.Random) -> str:
  """Draws one to three principles, either way round, and feedback that knows no letter."""
  held_to = rng.sample(sorted(PRINCIPLES), rng.randint(1, 3))
  sentences = [rng.choice(PRINCIPLES[name]) for name in held_to]

  pieces = (synthetic.GREETINGS, synthetic.ANSWERS, synthetic.CLOSINGS)
  blanks = {"asker": rng.choice(synthetic.NAMES), "street": rng.choice(synthetic.STREETS)}
  changes = [
    rng.choice(piece).format(**blanks) for piece in rng.sample(pieces, rng.randint(0, len(pieces)))
  ]
  weak = [name for name in synthetic.WEIGHTS if rng.random() < 0.5]
  most = int(sum(synthetic.WEIGHTS.values()))
  return f"{principles(sentences)}\n{feedback(weak, rng.randint(0, most), changes)}"


def letter_to(prompt: str, writer: synthetic.Writer, seed: int | str) -> str:
  """Draws a letter to a question in words, which follows the principles that stand beside it.

  Where none do it is that of `classes.letter_to`. A letter that is asked for a wrong street does
  not work first, since whoever does knows. It is a function of writer, prompt and seed alone.

  Raises:
    ValueError: the text holds no question.
  """
  held_to = {
    name: sentence == kept
    for name, (kept, broken) in (*PRINCIPLES.items(), *BRIEF.items())
    for sentence in (kept, broken)
    if sentence in prompt
  }
  question = _QUESTION.search(prompt)
  if not held_to or not question:
    return classes.letter_to(prompt, writer, seed)
  rng = random.Random(f"instructed {seed} {prompt}")
  q = synthetic.parse_question(question[0])
  letter = synthetic.write(q, writer, rng)
  return _following(q, letter, held_to, rng).text(q.asker)


def _following(
  q: synthetic.Question, letter: synthetic.Letter, held_to: Mapping[str, bool], rng: random.Random
) -> synthetic.Letter:
  """Returns a letter of which some parts are written anew, as principles or negations have them."""
  wrong = [street for street in synthetic.STREETS if street != q.answer()]
  parts = {
    "greeting": {"greeting": (synthetic.GREETINGS, synthetic.COLD_GREETINGS)},
    "closing": {"closing": (synthetic.CLOSINGS, synthetic.COLD_CLOSINGS)},
    "tone": {"grumble": (("",), synthetic.GRUMBLES)},
    "working": {"working": ((tuple(q.chain()),), ((),))},
    "answer": {"opening": ((q.answer(),), wrong)},
  }
  for name, is_kept in held_to.items():
    for part, choices in parts[name].items():
      letter = dataclasses.replace(letter, **{part: rng.choice(choices[not is_kept])})
  is_first = letter.first and bool(letter.working) and letter.opening == q.answer()
  return dataclasses.replace(letter, first=is_first)
