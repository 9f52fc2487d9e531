"""The experiments on held-out prompts: every system, the rounds, the temperatures."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pit_jax import improve
from pit_jax.data import conversations
from pit_jax.evaluate import judges, metrics
from pit_jax.types import Params

ROUND_SAMPLES = 10


@dataclasses.dataclass(frozen=True)
class Suite:
  """What the experiments share.

  Attributes:
    improver: the trained models.
    questions: held-out prompts.
    judges: gold, language_model, R_public, R_judge (where there are such), R_P, R_PIT.
    key: source of all noise; each experiment folds in a name's number of its own.
    temperature: at which systems are compared unless an experiment varies it.
  """

  improver: improve.Improver
  questions: Sequence[conversations.Prompt]
  judges: Sequence[judges.Judge]
  key: jax.Array
  temperature: float

  @property
  def scorer(self) -> judges.Judge:
    """The judge of curves, rounds and samples: the first that scores."""
    return next(judge for judge in self.judges if judge.score)

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

  def compare(
    self, a: str, b: str, texts: Mapping[str, Sequence[str]], temperature: float | None = None
  ) -> list[dict]:
    """Returns how system a fares against system b under every judge.

    Where pairs failed, a row's `failures` counts them by reason. The rows of a judge that gives
    reasons have its `verdicts`, pair by pair.
    """
    return [
      {
        "a": a,
        "b": b,
        "judge": judge.name,
        "temperature": self._at(temperature),
        **self._compared(judge, texts[a], texts[b]),
      }
      for judge in self.judges
    ]

  def _compared(self, judge: judges.Judge, a: Sequence[str], b: Sequence[str]) -> dict:
    questions, a, b = (column[: judge.prompts] for column in (self.questions, a, b))
    said = judge.verdicts(questions, a, b)
    row = dataclasses.asdict(judge.count(said))
    if said.failures:
      row["failures"] = dict(collections.Counter(said.failures.values()))
    if said.reasons is not None:
      columns = {
        "prompt": map(conversations.write, questions),
        "answer_a": a,
        "answer_b": b,
        "outcome": judge.outcomes(said),
        "reason": said.reasons,
      }
      pairs = zip(*columns.values(), strict=True)
      row["verdicts"] = [dict(zip(columns, pair, strict=True)) for pair in pairs]
    return row

  def score(self, texts: Sequence[str]) -> float:
    """Returns the mean score of texts under the first judge that scores."""
    return float(self.scorer.score(self.questions, texts).mean())

  def describe(self, texts: Sequence[str]) -> dict:
    """Returns a system's mean score under every scoring judge, its length and repetition."""
    inference = self.improver.inference
    ids = inference.settings.tokenizer.encode_batch(texts)
    lengths = [len(row) for row in ids]
    return {
      "score": self.score(texts),
      "tokens": float(np.mean(lengths)),
      "repetition": metrics.repetition(ids),
      **self._scores(texts),
    }

  def _scores(self, texts: Sequence[str]) -> dict[str, float]:
    return {
      f"score_{judge.name}": float(judge.score(self.questions, texts).mean())
      for judge in self.judges
      if judge.score
    }

  def rounds(
    self, drafts: Sequence[str], count: int, stream: int
  ) -> tuple[list[dict], improve.Rounds]:
    """Returns rounds 0 … count with and without the stop rule, against round 0."""
    made = improve.improve(
      self.improver,
      self.questions,
      drafts,
      rounds=count,
      key=jax.random.fold_in(self.key, stream),
      temperature=self.temperature,
    )
    judge, table = self.scorer, []
    for k in range(count + 1):
      free, stopping = made.texts[k], made.with_stop(k)
      ruled = dataclasses.asdict(judge.compare(self.questions, stopping, drafts))
      table.append(
        {
          "k": k,
          "score": self.score(free),
          **dataclasses.asdict(judge.compare(self.questions, free, drafts)),
          "score_stop": self.score(stopping),
          **{f"{name}_stop": value for name, value in ruled.items()},
          "stopped": float(made.stopped(k).mean()),
        }
      )
    return table, made

  def first(self, count: int) -> "Suite":
    """Returns the same suite on the first `count` questions."""
    return dataclasses.replace(self, questions=self.questions[:count])

  def temperatures(
    self,
    policy: Params,
    values: Sequence[float],
    stream: int,
    sampled: Mapping[float, Mapping[str, Sequence[str]]],
  ) -> tuple[list[dict], dict[float, dict[str, Sequence[str]]]]:
    """Returns original and pit sampled at the same temperatures, and their texts.

    Every row has the scores of every scoring judge; pit's rows also how it fares against original.
    `sampled` holds what needs no sampling again: temperature → {"original", "pit"} → texts, of
    which the first belong to this suite's questions.
    """
    rows, texts = [], {}
    for index, t in enumerate(values):
      if t in sampled:
        original, pit = (sampled[t][name][: len(self.questions)] for name in ("original", "pit"))
      else:
        original = self.answers(policy, stream + 2 * index, t)
        pit = self.improved(self.improver.improver, original, stream + 2 * index + 1, t)
      texts[t] = {"original": original, "pit": pit}
      rows += [
        {"t": t, "system": system, "score": self.score(words), **self._scores(words)}
        for system, words in texts[t].items()
      ]
      rows[-1] |= dataclasses.asdict(self.scorer.compare(self.questions, pit, original))
    return rows, texts

  def samples(self, made: improve.Rounds, rows: Sequence) -> list[dict]:
    """Returns the first few prompts with every version of their answers."""
    judge = self.scorer
    count = min(ROUND_SAMPLES, len(self.questions))
    improved = made.with_stop(1)
    scores = {
      name: judge.score(self.questions[:count], texts[:count])
      for name, texts in (("original", made.texts[0]), ("improved", improved))
    }
    return [
      {
        "prompt": conversations.write(self.questions[i]),
        "chosen": rows[i].chosen,
        "rejected": rows[i].rejected,
        "original": made.texts[0][i],
        "improved": improved[i],
        "rounds": [
          {"text": made.texts[k][i], "gap": float(made.gaps[k - 1][i])}
          for k in range(1, len(made.texts))
        ],
        judge.name: {name: float(values[i]) for name, values in scores.items()},
      }
      for i in range(count)
    ]

  def _at(self, temperature: float | None) -> float:
    return self.temperature if temperature is None else temperature
