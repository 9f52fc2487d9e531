"""Models and batches for the tests, as small as they come: sixteen wide, eleven tokens."""

import functools

import jax
import numpy as np

from pit_jax.models import architecture, heads, pure
from pit_jax.types import Params, Prompts, Responses

PAD, EOS, VOCABULARY = 0, 1, 11
SHAPE = {
  "vocabulary": VOCABULARY,
  "width": 16,
  "layers": 2,
  "heads": 4,
  "kv_heads": 2,
  "head_width": 4,
  "hidden": 24,
}


def config(**changes) -> architecture.ModelConfig:
  return architecture.ModelConfig(**(SHAPE | changes))


@functools.cache
def model(kind, **changes) -> pure.PureModel:
  return pure.pure(kind, config(**changes))


def language(**changes) -> pure.PureModel:
  return model(heads.LanguageModel, **changes)


def scalar(**changes) -> pure.PureModel:
  return model(heads.ScalarModel, **changes)


def parameters(network: pure.PureModel, seed: int, scale: float = 0.3) -> Params:
  """Returns parameters far from any initial ones, drawn on the host: compiling init takes long.

  The bias of a scalar model's head is 0, as of every reward model.
  """
  draw = np.random.default_rng(seed)

  def fill(path, leaf):
    if path[-1].key == "bias":
      return np.zeros(leaf.shape, np.float32)
    mean = 1.0 if path[-1].key == "scale" else 0.0  # of a norm
    return draw.normal(mean, scale, size=leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(network.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


def ids(seed: int, rows: int, length: int) -> np.ndarray:
  """Returns random tokens, PAD and EOS among them: what is real is the mask's to say."""
  return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, length)).astype(np.int32)


def left(lengths, length: int) -> np.ndarray:
  """Returns the mask of left-padded rows."""
  return np.arange(length) >= length - np.array(lengths)[:, None]


def right(lengths, length: int) -> np.ndarray:
  """Returns the mask of right-padded rows."""
  return np.arange(length) < np.array(lengths)[:, None]


def prompts(seed: int, lengths, length: int) -> Prompts:
  return Prompts(tokens=ids(seed, len(lengths), length), mask=left(lengths, length))


def responses(seed: int, lengths, length: int) -> Responses:
  return Responses(tokens=ids(seed, len(lengths), length), mask=right(lengths, length))


def softmax(logits) -> np.ndarray:
  """Returns the law over the last axis, in double precision."""
  logits = np.asarray(logits, np.float64)
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)
