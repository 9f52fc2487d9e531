"""Rewards of sentences: a teacher's scores at their last tokens, or as controls have them."""

import collections
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pit_jax import hosts, parallel
from pit_jax.data import conversations
from pit_jax.feedback import estimates, sentence_scores, writers
from pit_jax.run import context as contexts
from pit_jax.stages import rl
from pit_jax.tasks import sentences
from pit_jax.types import Prompts, Responses

# (rewards of the sentences, the response in words, seed) → what stands at each sentence, or None:
# their sum at the response's last token.
Arrange = Callable[[Sequence[float], str, int], Sequence[float] | None]
NAME = "sentences"  # what a configuration calls the reward


def as_given(values: Sequence[float], text: str, seed: int) -> Sequence[float]:
  """Returns the rewards at the sentences that they are of."""
  return values


def summed(values: Sequence[float], text: str, seed: int) -> None:
  """Returns None: the same in sum, and nothing of where it comes from."""
  return


def permuted(values: Sequence[float], text: str, seed: int) -> Sequence[float]:
  """Returns the rewards at other sentences of the response, the same in sum; by text and seed."""
  return random.Random(f"permuted {seed} {text}").sample([*values], len(values))


def worth(scores: Sequence[float], listed: Sequence[str], neutral: float | int) -> list[float]:
  """Returns the rewards of an answer's sentences: scores, of repeated ones 0, less `neutral`."""
  marks = sentences.repeated(listed)
  return [(0.0 if is_said else one) - neutral for one, is_said in zip(scores, marks, strict=True)]


def total(scores: Sequence[float], listed: Sequence[str], neutral: float | int) -> float:
  """Returns the reward of an answer: the sum over its sentences, 0 of one without any."""
  return float(sum(worth(scores, listed, neutral)))


def placed(
  values: Sequence[float] | None, total: float, places: Sequence[int], tokens: int
) -> np.ndarray:
  """Returns the reward of each token of a response, Float[R].

  Args:
    values: what stands at each sentence; None: their sum at the last token.
    total: that sum.
    places: of the last token of each sentence; what stands at one token is added up.
    tokens: R, of the response.
  """
  by_token = np.zeros(tokens, np.float32)
  if values is None:
    by_token[-1:] = total
  else:
    np.add.at(by_token, [*places], np.array(values, np.float32))
  return by_token


def signal(
  context: contexts.Context,
  teacher: writers.Writer,
  questions: Sequence[conversations.Prompt],
  arrange: Arrange,
  seed: int,
  steps: int,
) -> rl.RewardFn:
  """Returns the reward of sentences as what RL maximises.

  A response is decoded and split, and the teacher asked once about all its sentences. A repeated
  one scores 0, whatever the teacher says. A response about which its reply cannot be used, or that
  says nothing, has the reward NaN, and so is dropped; how many were, and why, is logged.

  Args:
    context: of the run.
    teacher: who scores.
    questions: the texts of the stage's prompts.
    arrange: where scores stand.
    seed: of what is drawn by `arrange`.
    steps: how often the stage asks; what it takes is said before the first time.
  """
  c = context.config.ares
  tokenizer = context.rows.settings.tokenizer
  # One key: a teacher that is paid is asked about a text once.
  key = context.key("sentence scores")
  series = estimates.Series(steps)

  def score(rows: np.ndarray, _: Prompts, responses: Responses) -> rl.Known:
    sampled = hosts.fetch(responses)
    masks = np.asarray(sampled.mask)
    ids = [np.asarray(tokens)[mask].tolist() for tokens, mask in zip(sampled.tokens, masks)]  # noqa: B905
    texts = tokenizer.decode_batch(ids)
    listed = [sentences.said(text) for text in texts]
    with estimates.within(series):
      asked = Answers([questions[row] for row in rows], listed)
      (told,) = readings(context, teacher, [asked], key)
    rewards = np.zeros(masks.shape, np.float32)
    facts: dict[str, Any] = collections.defaultdict(lambda: np.zeros(len(texts), np.float32))
    for place, (text, reading) in enumerate(zip(texts, told, strict=True)):
      marks = sentences.repeated(listed[place])
      facts["count"][place], facts["repeated"][place] = len(marks), sum(marks)
      for failure in sentence_scores.FAILURES:
        facts[f"dropped_{failure}"][place] = reading.failure == failure
      if reading.failure:
        rewards[place] = np.nan
        continue
      values = worth(reading.scores, listed[place], c.neutral)
      ends = sentences.last_tokens(tokenizer.decode, ids[place], text, sentences.split(text))
      own = placed(arrange(values, text, seed), sum(values), ends, len(ids[place]))
      rewards[place, masks[place]] = own

    facts["dropped"] = np.isnan(rewards).any(axis=1).astype(np.float32)
    given, known = parallel.put_batch((rewards, dict(facts)), context.mesh)
    return rl.Known(given, known)

  return score


class Answers(NamedTuple):
  """Answers whose sentences a teacher scores."""

  questions: Sequence[conversations.Prompt]
  listed: Sequence[Sequence[str]]  # the sentences of each answer


def readings(
  context: contexts.Context, teacher: writers.Writer, several: Sequence[Answers], key: jax.Array
) -> list[list[sentence_scores.Reading]]:
  """Returns what a teacher says of the sentences of each answer; nothing of one without any.

  Args:
    context: of the run.
    teacher: who scores.
    several: answers, such as those of several systems; all are asked about in one pass.
    key: under which an endpoint's replies are kept.
  """
  words = context.config.ares.score_request
  places = [[i for i, own in enumerate(one.listed) if own] for one in several]
  requests = []
  for one, own in zip(several, places, strict=True):
    asked = [sentence_scores.request(words, one.questions[i], one.listed[i]) for i in own]
    shown = context.rows.settings.formats["policy"].conversations(asked)
    requests.append(writers.Request(shown, key, 0.0))

  told = []
  for one, own, written in zip(several, places, teacher.write_all(requests), strict=True):
    read = [sentence_scores.Reading((), sentence_scores.SILENT)] * len(one.listed)
    for i, (reply,) in zip(own, written.texts, strict=True):
      read[i] = sentence_scores.read(reply, len(one.listed[i]))
    told.append(read)
  return told
