"""Improves answers: y_0 → y_1 → … with the gap reward model deciding when to stop."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from pit_jax.data import conversations
from pit_jax.improve import gains
from pit_jax.rollout import implicit, inference
from pit_jax.types import Params

STOP_RULES = gains.RULES  # of which the first is the default


@dataclasses.dataclass(frozen=True)
class Improver:
  """The trained models of a run, ready to answer and to improve."""

  inference: inference.Inference  # how models are asked
  # M_P^RL, which writes the first answer where none is given; None where nothing answers.
  policy: Params | None
  improver: Params | None  # M_PIT^RL; None in a run that trains the policy alone: it answers only
  # R_PIT: a head's, or one of likelihoods; None in such a run.
  gap_reward: Params | implicit.Reward | None
  zero_point: float | int  # mean R_PIT of identical pairs, by which stop rule "zero_point" goes
  # A new version that gains more over the one before it is kept; −inf keeps every version.
  margin: float | int = 0.0
  stop_rule: str = STOP_RULES[0]  # what a gain is, one of STOP_RULES
  # How R_PIT is asked of questions in words, where who asks remembers what it said; None: by
  # `inference`, of what `show` makes of them.
  read: gains.Gaps | None = None
  # What improver and R_PIT are shown of questions, such as these with principles; None: themselves.
  show: Callable[[gains.Prompts], gains.Prompts] | None = None

  @property
  def gaps(self) -> gains.Gaps:
    """How R_PIT(x, answer, reference) of texts in words is asked, Float[N]."""
    return self.read or self._gaps

  def shown(self, questions: gains.Prompts) -> gains.Prompts:
    """Returns what improver and R_PIT are shown of questions."""
    return questions if self.show is None else self.show(questions)

  def _gaps(
    self, questions: gains.Prompts, answers: gains.Texts, references: gains.Texts
  ) -> np.ndarray:
    shown = self.shown(questions)
    if isinstance(self.gap_reward, implicit.Reward):
      return self.gap_reward.gaps(questions, shown, answers, references)
    return self.inference.gaps(self.gap_reward, shown, answers, references)

  def gains(
    self, questions: gains.Prompts, versions: Sequence[str], drafts: Sequence[str]
  ) -> np.ndarray:
    """Returns the gain of each version over its draft by the stop rule, Float[N]."""
    return gains.of(self.gaps, self.stop_rule, self.zero_point, questions, versions, drafts)


@dataclasses.dataclass(frozen=True)
class Rounds:
  """Every version of N answers."""

  texts: list[list[str]]  # texts[k][i] is answer i after k rounds; texts[0] are the first answers
  # Float[rounds, N], what each version gains over the one before it by the stop rule; NaN where no
  # version was made because the rule had ended the row.
  gaps: np.ndarray
  # Int[N], rounds kept by the stop rule: all before the first without enough gain.
  kept: np.ndarray

  def with_stop(self, k: int) -> list[str]:
    """Returns the answers after k rounds when the stop rule ends each row's improvement."""
    return [self.texts[min(k, kept)][row] for row, kept in enumerate(self.kept.tolist())]

  def stopped(self, k: int) -> np.ndarray:
    """Returns which rows the stop rule has ended by round k, Bool[N]."""
    return self.kept < k

  def first(self, count: int) -> "Rounds":
    """Returns the same of the first `count` answers."""
    texts = [versions[:count] for versions in self.texts]
    return Rounds(texts, self.gaps[:, :count], self.kept[:count])

  def ruled(self, gaps: np.ndarray, margin: float | int) -> "Rounds":
    """Returns the same versions as a stop rule keeps them that finds other gains, Float[rounds, N].

    It keeps those that gain more than its margin.
    """
    is_open = np.logical_and.accumulate(gaps > margin, axis=0)
    return dataclasses.replace(self, gaps=gaps, kept=is_open.sum(axis=0))

  def ended(self, row: int) -> int | None:
    """Returns the round at which the stop rule ended a row; None if it never did.

    That round's version is the first without enough gain; the one before it is the answer.
    """
    kept = int(self.kept[row])
    return kept + 1 if kept < len(self.gaps) else None


def improve(
  improver: Improver,
  questions: Sequence[conversations.Prompt],
  answers: Sequence[str],
  *,
  rounds: int,
  key: jax.Array,
  temperature: float | int,
  until_stopped: bool = False,
) -> Rounds:
  """Runs the improver `rounds` times on its own output.

  Stop rule (the paper leaves it open): the first version y_k with a gain of at most the margin is
  dropped, and y_{k−1} is the answer. The gain is (R_PIT(x, y_k, y_{k−1}) − R_PIT(x, y_{k−1}, y_k))
  / 2 unless the improver names another rule; see `gains`.

  Args:
    improver: the models.
    questions: x, one per row, at least one.
    answers: y_0, one per row.
    rounds: versions to make, at least 1.
    key: source of the noise; round k uses fold_in(key, k).
    temperature: divides the logits; 0 takes the most likely tokens.
    until_stopped: make no more versions of a row that the stop rule has ended, and no more rounds
      when it has ended all. False makes every version, so that both ways can be compared.

  Raises:
    ValueError: the rounds or the temperature make no sense, or there is no improver.
  """
  if rounds < 1:
    raise ValueError(f"rounds={rounds} improves nothing; use 1 or more")
  texts = [list(answers)]
  gaps = []
  is_open = np.ones(len(answers), bool)
  kept = np.zeros(len(answers), int)

  for k in range(1, rounds + 1):
    rows = np.flatnonzero(is_open | (not until_stopped))
    if not rows.size:
      break
    prompts, drafts = ([column[i] for i in rows] for column in (questions, texts[-1]))
    noise = jax.random.fold_in(key, k)
    versions, gained = revise(improver, prompts, drafts, key=noise, temperature=temperature)
    made = dict(zip(rows.tolist(), versions, strict=True))
    texts.append([made.get(i, text) for i, text in enumerate(texts[-1])])

    # Rows that have ended keep NaN, which is above no margin.
    gaps.append(np.full(len(answers), np.nan, np.float32))
    gaps[-1][rows] = gained
    is_open &= gaps[-1] > improver.margin

    # Rounds count up to a row's first without enough gain; later gains change nothing.
    kept += is_open

  return Rounds(texts=texts, gaps=np.stack(gaps), kept=kept)


def revise(
  improver: Improver,
  questions: Sequence[conversations.Prompt],
  drafts: Sequence[str],
  *,
  key: jax.Array,
  temperature: float | int,
) -> tuple[list[str], np.ndarray]:
  """Returns one more version of every draft, and its gain over it by the stop rule, Float[N].

  The key is the source of the noise; all else is as for `improve`, with at least one row.

  Raises:
    ValueError: the temperature is negative, or there is no improver.
  """
  if improver.improver is None or improver.gap_reward is None:
    raise ValueError(
      "the run trained no improver and no gap reward model; use a run whose recipe trains them"
    )

  if not temperature >= 0:
    raise ValueError(f"temperature={temperature}; use 0 (the most likely tokens) or more")
  asked = (improver.shown(questions), drafts)
  versions = improver.inference.revise(improver.improver, *asked, key, float(temperature))
  return versions, improver.gains(questions, versions, drafts)
