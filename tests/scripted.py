"""Models whose answers are known, so that experiments can be checked by hand."""

import functools
import types as python_types

import jax
import numpy as np

from pit_jax.evaluate import suite
from pit_jax.feedback import judges
from pit_jax.improve import improvement
from pit_jax.rollout import inference

ZERO_POINT = 0.25  # what this gap model gives an answer that is no better


class Scripted(inference.Inference):
  """Answers by a script: question "5 6 4" says that version 0 is worth 5, version 1 is worth 6, ….

  An answer is "version k"; the improver turns it into "version k+1". A noisy policy adds which
  draw it was, so that draws can be told apart.
  """

  settings = python_types.SimpleNamespace(
    tokenizer=python_types.SimpleNamespace(encode_batch=lambda texts: [t.split() for t in texts])
  )

  def __init__(self):
    pass

  def answer(self, policy, questions, key, temperature):
    draw = int(jax.random.bits(key)) if policy.get("noisy") else ""
    return [f"version {policy['version']} at {temperature} {draw}" for _ in questions]

  def revise(self, improver, questions, drafts, key, temperature):
    versions = [version(draft) + improver["step"] for draft in drafts]
    return [f"version {k} at {temperature}" for k in versions]

  def rate(self, reward, questions, answers):
    return np.array([worth(*pair) for pair in zip(questions, answers)])

  def gaps(self, gap_reward, questions, answers, references):
    gain = self.rate({}, questions, answers) - self.rate({}, questions, references)
    return gain + ZERO_POINT


def version(text):
  return int(text.split()[1])


def worth(question, answer):
  return float(question.split()[version(answer)])


def make_suite(questions, margin=0.0, **more):
  ask = Scripted()
  models = improvement.Improver(
    inference=ask,
    policy={"version": 0},
    improver={"step": 1},
    gap_reward={},
    zero_point=ZERO_POINT,
    margin=margin,
    **more,
  )
  rate, gaps = functools.partial(ask.rate, {}), functools.partial(ask.gaps, {})
  judging = [judges.reward_model(rate), judges.gap_model(gaps)]
  return suite.Suite(models, questions, judging, jax.random.key(0), 1.0)
