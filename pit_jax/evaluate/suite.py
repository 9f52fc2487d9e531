"""What the experiments on held-out prompts share: sampling, judging and describing."""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np

from pit_jax.data import conversations
from pit_jax.feedback import judges
from pit_jax.improve import improvement
from pit_jax.statistics import candidates, metrics
from pit_jax.types import Params

SELECTOR = judges.REWARD  # chooses the best of n, and so is no judge of the choice


@dataclasses.dataclass(frozen=True)
class Suite:
  """Prompts, judges and models that the experiments share."""

  improver: improvement.Improver  # the trained models
  questions: Sequence[conversations.Prompt]  # held-out prompts
  judges: Sequence[judges.Judge]  # the most believed first, those that trained the models last
  key: jax.Array  # source of all noise; each experiment folds in a name's number of its own
  temperature: float  # at which systems are compared unless an experiment varies it
  # Names of judges that also trained the models, or labelled what they were trained on.
  trainers: Collection[str] = judges.TRAINERS

  @property
  def scorer(self) -> judges.Judge:
    """The judge of curves, rounds and samples: the first that scores."""
    return self.scoring[0]

  @property
  def independent(self) -> judges.Judge | None:
    """The first judge that scores and trained nothing here; None where there is none."""
    return self.scorer if self.scorer.name not in self.trainers else None

  @property
  def scoring(self) -> list[judges.Judge]:
    """The judges that score single answers; the others only compare."""
    return [judge for judge in self.judges if judge.score]

  def answers(self, policy: Params, stream: int, temperature: float | None = None) -> list[str]:
    """Returns a policy's answers to all questions; each stream is another draw."""
    key = jax.random.fold_in(self.key, stream)
    return self.improver.inference.answer(policy, self.questions, key, self._at(temperature))

  def improved(
    self, params: Params, drafts: Sequence[str], stream: int, temperature: float | None = None
  ) -> list[str]:
    """Returns one round of an improver on drafts; each stream is another draw."""
    key = jax.random.fold_in(self.key, stream)
    at = self._at(temperature)
    return self.improver.inference.revise(params, self.questions, drafts, key, at)

  def best(self, samples: Sequence[Sequence[str]]) -> list[str]:
    """Returns the one that the selector scores highest of N answers to each question."""
    scores = np.stack([self.selector.score(self.questions, texts) for texts in samples])
    return [samples[i][row] for row, i in enumerate(candidates.best(scores))]

  @property
  def selector(self) -> judges.Judge:
    """The reward model, which chooses among samples and keeps every score it was asked for."""
    return next(judge for judge in self.judges if judge.name == SELECTOR)

  def rounds(self, drafts: Sequence[str], count: int, stream: int) -> improvement.Rounds:
    """Returns rounds 0 … count of the improver, drafts being round 0."""
    sampling = {"key": jax.random.fold_in(self.key, stream), "temperature": self.temperature}
    return improvement.improve(self.improver, self.questions, drafts, rounds=count, **sampling)

  def compare(
    self,
    a: str,
    b: str,
    texts: Mapping[str, Sequence[str]],
    temperature: float | None = None,
    without: Collection[str] = (),
  ) -> list[dict]:
    """Returns how system a fares against system b under every judge but those in `without`.

    Where pairs failed, a row's `failures` counts them by reason. The rows of a judge that gives
    reasons have its `verdicts`, pair by pair.
    """
    names = {"a": a, "b": b}
    return [
      {**names, "judge": judge.name, "temperature": self._at(temperature),
       **self._compared(judge, texts[a], texts[b])}
      for judge in self.judges
      if judge.name not in without
    ]  # fmt: skip

  def _compared(self, judge: judges.Judge, *answers: Sequence[str]) -> dict:
    shown, verdicts = self._judged(judge, answers)
    row = dataclasses.asdict(judge.count(verdicts))
    if verdicts.failures:
      row["failures"] = dict(collections.Counter(verdicts.failures.values()))

    if verdicts.reasons is not None:
      names = ("prompt", "answer_a", "answer_b", "outcome", "reason")
      prompts = map(conversations.write, shown[0])
      pairs = zip(prompts, *shown[1:], judge.outcomes(verdicts), verdicts.reasons, strict=True)
      row["verdicts"] = [dict(zip(names, pair, strict=True)) for pair in pairs]

    return row

  def _judged(self, judge: judges.Judge, answers: Sequence[Sequence[str]]) -> tuple:
    """Returns the prompts and answers that a judge is shown, and its verdicts."""
    # None cuts nothing off; a judge that costs money is asked about the first prompts.
    shown = [column[: judge.prompts] for column in (self.questions, *answers)]
    return shown, judge.verdicts(*shown)

  def outcomes(self, judge: judges.Judge, a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """Returns 1 where a wins, 0 where the judge sees a tie, −1 where b wins, Float[N].

    It is NaN where the pair failed, or the judge is not to be asked about so many prompts.
    """
    _, verdicts = self._judged(judge, (a, b))
    # A pair that was not judged is no tie, so not 0.
    outcomes = np.full(len(self.questions), np.nan)
    signs = np.sign(np.where(np.abs(verdicts.difference) > judge.tie, verdicts.difference, 0.0))
    outcomes[: len(signs)] = np.where(verdicts.is_judged, signs, np.nan)

    return outcomes

  def score(self, texts: Sequence[str]) -> float:
    """Returns the mean score of texts under the first judge that scores."""
    return float(self.scorer.score(self.questions, texts).mean())

  def scores(self, texts: Sequence[str]) -> dict[str, float]:
    """Returns the mean score of texts under every judge that scores, as score_<judge>."""
    return {
      f"score_{judge.name}": float(judge.score(self.questions, texts).mean())
      for judge in self.scoring
    }

  def lengths(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the length of each text in tokens, its end not counted, Int[N]."""
    return np.array([len(row) for row in self._ids(texts)])

  def describe(self, texts: Sequence[str]) -> dict:
    """Returns a system's mean score under every scoring judge, its length and repetition.

    Where the data are of a task with checks, `checks` has the share of answers that pass each.
    """
    ids = self._ids(texts)
    tasks = [judge.checks for judge in self.judges if judge.checks]
    return {
      "score": self.score(texts),
      "tokens": float(np.mean([len(row) for row in ids])),
      "repetition": metrics.repetition(ids),
      **self.scores(texts),
      **({"checks": tasks[0](self.questions, texts)} if tasks else {}),
    }

  def first(self, count: int) -> "Suite":
    """Returns the same suite on the first `count` questions."""
    return dataclasses.replace(self, questions=self.questions[:count])

  def _ids(self, texts: Sequence[str]) -> Sequence[Sequence]:
    return self.improver.inference.settings.tokenizer.encode_batch(texts)

  def _at(self, temperature: float | None) -> float:
    return self.temperature if temperature is None else temperature
