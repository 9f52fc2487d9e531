"""Who lists the flaws of a letter one by one, who judges each, and who acts on them.

All three err as often as is said: a finder is blind to one check, misses others and invents some; a
checker who sees one flaw alone believes it or does not; and a reviser follows a list in part, right
or wrong, and changes nothing else.
"""

import dataclasses
import random
from collections.abc import Mapping
from typing import NamedTuple

from pit_jax.tasks import correctors, synthetic, words

# What a flaw that is none is to be mended by: it would break a letter. Where there is no such piece
# the change is that of a flaw which is there.
_WRONG = {"greeting": synthetic.COLD_GREETINGS[0], "closing": synthetic.COLD_CLOSINGS[0]}
LEAST, MOST = 1, 5  # severity
_ORDER = ("greeting", "answer", "working", "tone", "closing")  # in which a letter is put together


class Fault(NamedTuple):
  """A flaw of a letter, as somebody says it."""

  place: str  # the check that it fails
  flaw: str
  severity: int  # from LEAST to MOST; the check's weight, but for noise
  suggestion: str  # what should stand in the letter instead


@dataclasses.dataclass(frozen=True)
class Finder:
  """How a finder errs: shares from 0 to 1, and a deviation."""

  blind: str = ""  # a check that it never names
  misses: float | int = 0.1  # of the checks that a letter fails, not named
  invents: float | int = 0.1  # of the checks that a letter passes, named all the same
  right: float | int = 0.9  # of the answers that it names and that are wrong, corrected rightly
  noise: float | int = 1.0  # deviation of what it takes a flaw's severity to be

  def __post_init__(self):
    """Raises a ValueError for a check, a share or a deviation that is none."""
    if self.blind and self.blind not in synthetic.WEIGHTS:
      raise ValueError(f"blind={self.blind!r}; use one of {', '.join(synthetic.WEIGHTS)}, or ''")
    if not 0 <= self.noise < float("inf"):
      raise ValueError(f"noise={self.noise!r}; use a number of 0 or more")
    self._corrector  # noqa: B018 - which refuses shares that are none

  @property
  def _corrector(self) -> correctors.Corrector:
    return correctors.Corrector(self.misses, self.invents, self.right)

  def find(self, prompt: str, letter: str, seed: int | str) -> list[Fault]:
    """Returns the flaws that it finds, in the order of synthetic.WEIGHTS.

    They are a function of finder, seed, question and letter alone. An invented flaw comes with a
    change that would break what it names. Raises a ValueError for a text that is no question.
    """
    made = self._corrector.correct(prompt, letter, f"{seed} {self.blind}")
    passed = synthetic.checks(prompt, letter)
    rng = random.Random(repr((seed, *vars(self).values(), prompt, letter)))
    q = synthetic.parse_question(prompt)
    wrong = [street for street in synthetic.STREETS if street != q.answer()]
    faults = []
    for name, change in zip(made.weak, made.changes, strict=True):
      # Drawn for every flaw, so that the other ones do not depend on the hole.
      severity = round(rng.gauss(synthetic.WEIGHTS[name], self.noise))
      broken = _WRONG | {"answer": rng.choice(synthetic.ANSWERS).format(street=rng.choice(wrong))}
      if name != self.blind:
        suggestion = broken.get(name, change) if passed[name] else change
        flaw = words.PRINCIPLES[name][1]
        faults.append(Fault(name, flaw, min(max(severity, LEAST), MOST), suggestion))
    return faults


@dataclasses.dataclass(frozen=True)
class Checker:
  """How often somebody who is shown one flaw alone takes it to be there: shares from 0 to 1."""

  accepts: float | int = 0.9  # of those that are there
  believes: float | int = 0.15  # of those that are not

  def __post_init__(self):
    """Raises a ValueError for a share that is none."""
    _check_shares(vars(self))

  def accept(self, prompt: str, letter: str, place: str, said: str, seed: int | str) -> bool:
    """Returns whether it believes a flaw, as a function of checker, seed and what is shown alone.

    Args:
      prompt: the question; a ValueError is raised for a text that is none.
      letter: the answer to it.
      place: the check that the letter is said to fail; a flaw anywhere else is not there.
      said: all that is said of the flaw.
      seed: of the errors.
    """
    is_there = not synthetic.checks(prompt, letter).get(place, True)
    rng = random.Random(repr((seed, *vars(self).values(), prompt, letter, said)))
    return rng.random() < (self.accepts if is_there else self.believes)


@dataclasses.dataclass(frozen=True)
class Reviser:
  """How a reviser acts on a list of flaws: shares from 0 to 1."""

  follows: float | int = 0.9  # of the flaws on the list, acted on
  right: float | int = 0.9  # of the workings that it writes anew, right

  def __post_init__(self):
    """Raises a ValueError for a share that is none."""
    _check_shares(vars(self))

  def revise(self, prompt: str, letter: str, changes: Mapping[str, str], seed: int | str) -> str:
    """Returns a letter with changes made, as a function of reviser, seed and what is shown alone.

    What a list suggests for greeting, answer and closing stands in the letter as it is suggested; a
    working is written anew, and a grumble left out. Of a text that is no letter nothing is kept but
    what is suggested.

    Args:
      prompt: the question; a ValueError is raised for a text that is none.
      letter: the answer to it.
      changes: check → what is suggested, of which other names than checks' change nothing.
      seed: of the errors.
    """
    q = synthetic.parse_question(prompt)
    parts = synthetic.parts(letter) or dict.fromkeys(_ORDER, "")
    rng = random.Random(repr((seed, *vars(self).values(), prompt, letter, *changes.items())))
    revised = dict(parts)
    for name, suggestion in changes.items():
      if name in parts and rng.random() < self.follows:
        revised[name] = {"working": self._working(q, rng), "tone": ""}.get(name, suggestion)
    return " ".join(filter(None, revised.values()))

  def _working(self, q: synthetic.Question, rng: random.Random) -> str:
    chain = q.chain()
    if rng.random() >= self.right:
      # One lookup goes wrong; the street is that of whom the wrong chain ends with.
      place = rng.randrange(1, len(chain))
      chain[place] = rng.choice([name for name in synthetic.NAMES if name not in chain])
    return f"The calls: {' '.join(chain)} of {synthetic.HOMES[chain[-1]]}."


def _check_shares(shares: Mapping[str, float | int]) -> None:
  for name, share in shares.items():
    if not 0 <= share <= 1:
      raise ValueError(f"{name}={share!r}; use a share from 0 to 1")
