"""What a finished study is measured by: its sentences, and what became of corrections."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax import config_keys
from pit_jax.data import conversations
from pit_jax.evaluate import subject
from pit_jax.feedback import named, sentence_scores
from pit_jax.recipes.ares import corrections, rewards
from pit_jax.stages import trained
from pit_jax.tasks import marking, sentences, synthetic


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and the corrections that it was trained on."""

  policies: dict[str, trained.Trained]  # by stage
  corrected: dict[str, corrections.Corrected]  # by stage


def sentences_told(run: subject.Policies) -> dict:
  """Returns what the teacher says of the sentences of every system, and counts of corrections.

  `sentences` are those of an answer, `repeated` the share of answers that repeat one, `reward` the
  sum of scores less ½ over an answer, and `dropped` the share of answers whose score cannot be used
  (which the others are means without). Of the embedded task `exact` is the reward without the
  teacher's noise, by which nothing is learnt. The teacher is asked about all systems in one pass.
  """
  answers = {
    name: rewards.Answers(run.suite.questions, [*map(sentences.said, run.systems[name])])
    for name in run.models
  }
  teacher = named.build(run.context, "writers", run.context.config.ares.teacher)
  key = run.context.key("sentence scores")
  told = rewards.readings(run.context, teacher, [*answers.values()], key)
  rows = []
  for (name, of_one), readings in zip(answers.items(), told, strict=True):
    row = {"system": name, "sentences": float(np.mean([*map(len, of_one.listed)]))}
    row["repeated"] = float(np.mean([any(sentences.repeated(own)) for own in of_one.listed]))
    rows.append(row | _scored(run, of_one, readings))
  counted = [
    {"of": name, **found.counts, "kinds": dict(found.failures)}
    for name, found in run.study.corrected.items()
  ]
  return {"sentences": rows, "corrections": counted}


def _scored(
  run: subject.Policies, answers: rewards.Answers, told: Sequence[sentence_scores.Reading]
) -> Mapping[str, Any]:
  """Returns what the teacher says of a system's answers, in figures."""
  c = run.context.config
  sums = [
    rewards.total(reading.scores, own, c.ares.neutral)
    for reading, own in zip(told, answers.listed, strict=True) if not reading.failure
  ]  # fmt: skip
  shares = {"dropped": float(np.mean([bool(reading.failure) for reading in told]))}
  shares |= {failure: float(np.mean([one.failure == failure for one in told]))
             for failure in sentence_scores.FAILURES}  # fmt: skip
  shares["reward"] = float(np.mean(sums)) if sums else float("nan")
  if c.data.source == config_keys.EMBEDDED:
    exact = []
    for question, own in zip(*answers, strict=True):
      q = synthetic.parse_question(conversations.said(question))
      exact.append(rewards.total(marking.scores(q, own), own, c.ares.neutral))
    shares["exact"] = float(np.mean(exact))
  return shares
