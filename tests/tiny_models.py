"""Untrained models of every kind around a small tokenizer, ready to be asked in words."""

import pathlib

import numpy as np
import tiny

from pit_jax import parallel
from pit_jax.data import encode, template, text
from pit_jax.exchange import export, hf
from pit_jax.models import architecture, pure
from pit_jax.rollout import inference
from pit_jax.types import Params

WORDS = ["what is the first word ?", "the first word is the .", "it is the last word , not this"]


def inference_of(directory: pathlib.Path, mesh=(1, 1, 1), **settings) -> inference.Inference:
  """Returns how tiny models are asked, with a tokenizer learnt in a directory."""
  tokenizer = text.train_tokenizer(WORDS, 280, directory)
  shape = tiny.SHAPE | {"vocabulary": tokenizer.vocab_size, "layers": 1}
  config = architecture.ModelConfig(**shape)
  lengths = {"max_prompt_length": 32, "max_response_length": 16}
  return inference.Inference(
    language=pure.language_model(config),
    scalar=pure.scalar_model(config),
    settings=encode.Settings(tokenizer, template.Template(), **(lengths | settings)),
    response_length=8,
    batch_size=2,
    mesh=parallel.make_mesh(mesh),
  )


def saved(directory: pathlib.Path) -> pathlib.Path:
  """Returns the directory, in which a language model now lies with its tokenizer."""
  model = tiny.language(vocabulary=300)
  hf.save(directory, model, tiny.parameters(model, seed=0), eos_token_id=1, pad_token_id=0)
  text.train_tokenizer(["some words"], 258, directory)
  return directory


def models_of(asking: inference.Inference) -> dict[str, Params]:
  """Returns the four models of a run, each with parameters of its own."""
  kinds = [asking.language, asking.language, asking.scalar, asking.scalar]
  names = ["policy", "improver", "reward", "gap_reward"]
  return {names[i]: tiny.parameters(kinds[i], seed=i) for i in range(4)}


def with_likelihoods(asking: inference.Inference) -> dict[str, Params]:
  """Returns those, and the two whose likelihoods reward: every model that a run can have."""
  two = {
    name: tiny.parameters(asking.language, seed=10 + i) for i, name in enumerate(export.IMPLICIT)
  }
  return models_of(asking) | two


def script(monkeypatch, *gaps: float, own=0.25) -> None:
  """Puts in the models' place: version k of an answer ends in k strokes, with gap gaps[k − 1].

  The version before it has a gap over it as far on the other side of 0.25, and any text the gap
  `own` over itself.
  """

  def revise(self, params, questions, drafts, key, temperature):
    return [draft + "'" for draft in drafts]

  def gap(answer, reference):
    a, b = (text.count("'") for text in (answer, reference))
    assert abs(a - b) <= 1 and answer.strip("'") == reference.strip("'")
    return own if a == b else gaps[b] if a > b else 0.5 - gaps[a]

  def rate(self, params, questions, answers, references):
    return np.array([gap(*pair) for pair in zip(answers, references, strict=True)], np.float32)

  monkeypatch.setattr(inference.Inference, "revise", revise)
  monkeypatch.setattr(inference.Inference, "gaps", rate)
