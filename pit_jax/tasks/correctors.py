"""Who criticises letters of the embedded task and corrects them, with error rates that are known.

A corrector sees which checks a letter fails, misses some of them and invents others; what it names
it also rewrites, by rule, and leaves the rest of the letter as it is. The score that it gives is
its own: the weights of the checks that it did not name.
"""

import dataclasses
import random
from typing import NamedTuple

from pit_jax.tasks import synthetic, words


class Correction(NamedTuple):
  """What a corrector says of a letter."""

  weak: tuple[str, ...]  # checks that it names, in the order of synthetic.WEIGHTS
  score: int  # what it takes the letter to be worth, 0 to 8
  changes: tuple[str, ...]  # what should stand in it instead, one for each that it names
  letter: str  # with these changes


@dataclasses.dataclass(frozen=True)
class Corrector:
  """How often a corrector errs, as shares from 0 to 1."""

  misses: float | int = 0.1  # of the checks that a letter fails, not named
  invents: float | int = 0.05  # of the checks that a letter passes, named all the same
  right: float | int = 0.9  # of the answers that it names, corrected to the right street

  def __post_init__(self):
    """Raises a ValueError for a share that is none."""
    for name, share in vars(self).items():
      if not 0 <= share <= 1:
        raise ValueError(f"{name}={share!r}; use a share from 0 to 1")

  def correct(self, prompt: str, letter: str, seed: int | str) -> Correction:
    """Returns what it says; it is a function of corrector, seed, question and letter alone.

    Of a text that is no letter nothing is kept. Raises a ValueError for a text that is no question.
    """
    letter = letter.strip()
    q = synthetic.parse_question(prompt)
    rng = random.Random(repr((seed, *vars(self).values(), prompt, letter)))
    named = []
    for name, passed in synthetic.checks(prompt, letter).items():
      drawn = rng.random()
      if drawn < self.invents if passed else drawn >= self.misses:
        named.append(name)

    parts = synthetic.parts(letter)
    pieces = self._pieces(q, (parts or {}).get("answer", ""), rng)
    # In the order in which they stand in the letter, of which nothing else changes.
    rewritten = {name: pieces[name] if name in named else text
                 for name, text in (parts or pieces).items()}  # fmt: skip
    changes = tuple(
      words.PRINCIPLES[name][0] if name in ("working", "tone") else pieces[name] for name in named
    )
    score = sum(weight for name, weight in synthetic.WEIGHTS.items() if name not in named)
    better = " ".join(filter(None, rewritten.values()))
    return Correction(tuple(named), int(score), changes, better)

  def _pieces(self, q: synthetic.Question, answer: str, rng: random.Random) -> dict[str, str]:
    """Returns what may stand in a letter instead, by check."""
    wrong = [street for street in synthetic.STREETS if street != q.answer()]
    street = q.answer() if rng.random() < self.right else rng.choice(wrong)
    # Of both ways to say it that of the letter, so that no other word changes.
    said = synthetic.ANSWERS[bool(answer) and not answer.startswith("it is")]
    return {
      "greeting": rng.choice(synthetic.GREETINGS).format(asker=q.asker),
      "answer": said.format(street=street),
      "working": f"The calls: {' '.join(q.chain())} of {q.answer()}.",
      "tone": "",
      "closing": rng.choice(synthetic.CLOSINGS),
    }
