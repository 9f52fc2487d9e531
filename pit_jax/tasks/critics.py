"""Critics of the embedded task: who says which of two letters is better, with known faults.

A critic sees some checks of a letter and may like length; the value of letter y to question x is

  v(x, y) = Σ_c weight_c · [y passes c] + per_character · characters of y

and its verdict on letters a and b, more than 0 where it prefers a,

  d(x, a, b) = v(x, a) − v(x, b) + τ · L(x, a, b)

L is logistic noise that belongs to the pair and changes its sign with the order, so that a critic
prefers a with probability σ((v(x, a) − v(x, b)) / τ), Bradley and Terry's model, and says the same
however often it is asked. Only a liking for the first place depends on who is shown first.
"""

import dataclasses
import math
import random
from collections.abc import Mapping
from typing import Any

from pit_jax.tasks import classes, synthetic

MANNERS = ("greeting", "tone", "closing")


@dataclasses.dataclass(frozen=True)
class Critic:
  """What a critic sees in a letter, and its faults."""

  weights: Mapping[str, float | int]  # of the checks that it sees; it is blind to the others
  noise: float | int  # τ on the scale of the weights, 0 or more
  per_character: float | int = 0.0  # added to a letter's value; below 0, short letters are liked
  first: float | int = 0.0  # share of the pairs of which it prefers whichever is shown first

  def __post_init__(self):
    """Raises a ValueError for a number out of its range, or a weight of no check."""
    if unknown := sorted({*self.weights} - {*synthetic.WEIGHTS}):
      raise ValueError(f"weight of {unknown[0]!r}; the checks are {', '.join(synthetic.WEIGHTS)}")
    if not math.isfinite(self.per_character):
      raise ValueError(f"per_character={self.per_character}; use a finite number")
    if not 0 <= self.noise < math.inf:
      raise ValueError(f"noise={self.noise}; use a finite number, 0 or more")
    if not 0 <= self.first <= 1:
      raise ValueError(f"first={self.first}; use a share from 0 to 1")

  def value(self, prompt: str, letter: str) -> float | int:
    """Returns what the critic thinks of a letter, without noise; of no letter, of its length."""
    letter = letter.strip()
    passed = classes.checks(prompt, letter)
    seen = sum(weight for check, weight in self.weights.items() if passed.get(check))
    return seen + self.per_character * len(letter)

  def difference(self, prompt: str, a: str, b: str, seed: int) -> float | int:
    """Returns how much better a, which is shown first, is than b.

    It is a function of critic, seed, question and letters alone; of equal letters it is 0.
    """
    a, b = (letter.strip() for letter in (a, b))
    if a == b:
      return 0.0
    pair = sorted((a, b))
    # With all that it is, so that two critics of one seed err apart.
    of = (sorted(self.weights.items()), self.noise, self.per_character, self.first)
    rng = random.Random(repr((seed, of, prompt, pair)))
    chance = (rng.getrandbits(32) + 0.5) / 2**32  # neither 0 nor 1
    noise = self.noise * math.log(chance / (1 - chance)) * (1 if a == pair[0] else -1)
    fair = self.value(prompt, a) - self.value(prompt, b) + noise

    return abs(fair) if rng.random() < self.first else fair


CRITICS = {
  "strong": Critic(synthetic.WEIGHTS, noise=0.5),
  # Wrong about what a letter can leave out: a working costs about what a check of manners is worth.
  "weak": Critic(dict.fromkeys(MANNERS, 1.0), noise=1.0, per_character=-0.02),
  "first": Critic(synthetic.WEIGHTS, noise=0.5, first=0.1),
  "random": Critic({}, noise=1.0),
  # Another taste than the gold score's, for a second opinion.
  "even": Critic(dict.fromkeys(synthetic.WEIGHTS, 1.0), noise=1.0),
}


@dataclasses.dataclass(frozen=True)
class Reader:
  """Who says of two letters which is better by one check alone, in one order.

    d(x, a, b) = s · ([y_a passes] − [y_b passes]) + σ · n(x, a, b),    s = −1 with probability flip

  The sign belongs to the pair, and the normal noise n to the pair in its order, as the score of a
  language model differs with the order in which it is shown two answers.
  """

  check: str  # of synthetic.WEIGHTS
  noise: float | int  # σ, 0 or more
  flip: float | int  # share of the pairs that it reads the wrong way round, from 0 to 1

  def __post_init__(self):
    """Raises a ValueError for a number out of its range, or a check that there is not."""
    if self.check not in synthetic.WEIGHTS:
      raise ValueError(f"check={self.check!r}; the checks are {', '.join(synthetic.WEIGHTS)}")
    if not 0 <= self.noise < math.inf:
      raise ValueError(f"noise={self.noise}; use a finite number, 0 or more")
    if not 0 <= self.flip <= 1:
      raise ValueError(f"flip={self.flip}; use a share from 0 to 1")

  def difference(self, prompt: str, a: str, b: str, seed: int) -> float | int:
    """Returns how much better a, which is shown first, is than b; of equal letters 0.

    It is a function of reader, seed, question and letters in their order alone.
    """
    a, b = (letter.strip() for letter in (a, b))
    if a == b:
      return 0.0
    of = (seed, self.check, self.noise, self.flip, prompt)
    is_flipped = random.Random(repr((of, sorted((a, b))))).random() < self.flip
    passes = [synthetic.checks(prompt, letter)[self.check] for letter in (a, b)]
    noise = random.Random(repr((of, a, b))).gauss(0.0, 1.0)
    return (-1 if is_flipped else 1) * (passes[0] - passes[1]) + self.noise * noise


def critic_named(name: str, **changes: Any) -> Critic:
  """Returns one of CRITICS with some of its numbers changed.

  Raises:
    ValueError: there is no such critic, or a number is out of its range.
  """
  if name not in CRITICS:
    raise ValueError(f"critic={name!r}; use one of {', '.join(CRITICS)}")
  return dataclasses.replace(CRITICS[name], **changes)
