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
  teacher's noise, by which nothing is learnt.
  """
  questions = run.suite.questions
  rows = []
  for name in run.models:
    listed = [sentences.said(text) for text in run.systems[name]]
    row = {"system": name, "sentences": float(np.mean([*map(len, listed)]))}
    row["repeated"] = float(np.mean([any(sentences.repeated(own)) for own in listed]))
    rows.append(row | _scored(run, questions, listed))
  counted = [{"of": name, **found.counts} for name, found in run.study.corrected.items()]
  return {"sentences": rows, "corrections": counted}


def _scored(
  run: subject.Policies, questions: Sequence[conversations.Prompt], listed: Sequence[Sequence[str]]
) -> Mapping[str, Any]:
  """Returns what the teacher says of answers, whose sentences these are."""
  c = run.context.config
  teacher = named.build(run.context, "writers", c.ares.teacher)
  key = run.context.key("sentence scores")
  told = rewards.readings(run.context, teacher, questions, listed, key)
  sums = [
    rewards.total(reading.scores, own, c.ares.neutral)
    for reading, own in zip(told, listed, strict=True) if not reading.failure
  ]  # fmt: skip
  shares = {"dropped": float(np.mean([bool(reading.failure) for reading in told]))}
  shares |= {failure: float(np.mean([one.failure == failure for one in told]))
             for failure in sentence_scores.FAILURES}  # fmt: skip
  shares["reward"] = float(np.mean(sums)) if sums else float("nan")
  if c.data.source == config_keys.EMBEDDED:
    exact = []
    for question, own in zip(questions, listed, strict=True):
      q = synthetic.parse_question(conversations.said(question))
      exact.append(rewards.total(marking.scores(q, own), own, c.ares.neutral))
    shares["exact"] = float(np.mean(exact))
  return shares
