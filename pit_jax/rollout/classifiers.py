"""Published classifiers at work: whole conversations in words → one score each.

Those of our families are computed in JAX, on the mesh of the run. All others are computed by
transformers in PyTorch, in the same process and on the host's processors: their weights are there
once, and no device or program of JAX knows of them.
"""

import abc
import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import transformers

from pit_jax import hosts, layout, parallel
from pit_jax.data import classifier_text, conversations, padding
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.types import Params

TORCH_ROWS = 32  # of a batch in PyTorch


class Classifier(abc.ABC):
  """A published classifier that scores answers, whoever computes it."""

  reader: classifier_text.Reader  # turns conversations into tokens
  params: Params | None  # None in PyTorch

  @abc.abstractmethod
  def rate(self, questions: Sequence[conversations.Prompt], answers: Sequence[str]) -> np.ndarray:
    """Returns the score of each answer, Float[N]."""

  @abc.abstractmethod
  def scaled(self, gain: float) -> "Classifier":
    """Returns it in another unit: its scores times a gain."""

  def batched(self, rows: int) -> "Classifier":
    """Returns it as it is asked about batches of so many rows again and again."""
    return self


@functools.cache
def scoring_of(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  """Returns the compiled score(params, tokens, mask, places); see `scoring.scores_at`."""
  return jax.jit(layout.on(mesh, functools.partial(scoring.scores_at, model)))


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled(Classifier):
  """A classifier of one of our families.

  As in transformers, a score is read at the rightmost token that is not the file's padding, or at
  the last one of a file that names none. Conversations of like length are scored together, padded
  to a quarter of the most tokens.
  """

  reader: classifier_text.Reader
  model: pure.PureModel
  params: Params  # on the devices or waiting beside them
  pad_id: int | None  # what its config.json calls padding; None where it does not say
  batch_size: int  # rows per compiled call
  mesh: jax.sharding.Mesh

  def rate(self, questions: Sequence[conversations.Prompt], answers: Sequence[str]) -> np.ndarray:
    ids = self.reader.read(questions, answers).ids
    order = _by_length(ids)
    last = len(ids) - 1
    widest = padding.bucket(self.reader.max_length)
    params = layout.to_devices(self.params)
    scores = np.zeros(len(ids), np.float32)

    for start in range(0, len(ids), self.batch_size):
      # The last batch is filled up with copies of its last row.
      rows = [order[min(start + row, last)] for row in range(self.batch_size)]
      width = padding.level(max(len(ids[row]) for row in rows), widest)
      padded = padding.pad_responses([ids[row] for row in rows], width, pad_id=0)
      places = np.array([_place(ids[row], self.pad_id) for row in rows], np.int32)
      batch = parallel.put_batch((padded.tokens, padded.mask, places), self.mesh)
      scores[rows] = hosts.fetch(scoring_of(self.model, self.mesh)(params, *batch))

    return scores

  def batched(self, rows: int) -> "Compiled":
    return dataclasses.replace(self, batch_size=rows)

  def scaled(self, gain: float) -> "Compiled":
    params = {**self.params, "head": self.params["head"] * gain}
    return dataclasses.replace(self, params=params)


@dataclasses.dataclass(frozen=True, eq=False)
class Torch(Classifier):
  """A classifier that transformers computes in PyTorch."""

  reader: classifier_text.Reader
  directory: pathlib.Path  # where it lies
  network: Any  # in float32; None on all hosts but the first, which tells them
  gain: float = 1.0  # of its logits
  params: None = None  # of JAX

  def rate(self, questions: Sequence[conversations.Prompt], answers: Sequence[str]) -> np.ndarray:
    logits = self._logits(questions, answers) if hosts.is_first() else None
    return np.array(hosts.agree(logits), np.float32) * np.float32(self.gain)

  def scaled(self, gain: float) -> "Torch":
    return dataclasses.replace(self, gain=self.gain * gain)

  def _logits(self, questions: Sequence, answers: Sequence[str]) -> list[float]:
    import torch

    encoded = self.reader.read(questions, answers)
    order = _by_length(encoded.ids)
    logits = [0.0] * len(encoded.ids)

    # Without a padding token transformers takes rows one by one.
    size = 1 if pad_id(self.network.config) is None else TORCH_ROWS
    for start in range(0, len(order), size):
      rows = order[start : start + size]
      batch = self._padded([encoded.ids[row] for row in rows], [encoded.types[row] for row in rows])
      with torch.inference_mode():
        outputs = self.network(**{name: torch.tensor(x) for name, x in batch.items()}).logits
      for row, logit in zip(rows, outputs[:, 0].tolist(), strict=True):
        logits[row] = logit

    return logits

  def _padded(self, ids: list[list[int]], types: list[list[int]]) -> dict[str, list[list[int]]]:
    """Returns the network's inputs for some rows, padded on the side of its tokenizer."""
    fast = self.reader.fast
    width = max(map(len, ids))

    def fill(rows, value):
      gaps = [[value] * (width - len(row)) for row in rows]
      halves = (gaps, rows) if fast.padding_side == "left" else (rows, gaps)
      return [left + right for left, right in zip(*halves, strict=True)]

    # The network finds the last token by its own padding, not by the tokenizer's.
    inputs = {"input_ids": fill(ids, pad_id(self.network.config) or 0)}
    inputs["attention_mask"] = fill([[1] * len(row) for row in ids], 0)

    # Some tokenizers make token types that their network does not take.
    names = set(fast.model_input_names) & set(inspect.signature(self.network.forward).parameters)
    if "token_type_ids" in names:
      inputs["token_type_ids"] = fill(types, fast.pad_token_type_id)
    return inputs


def pad_id(published: "transformers.PreTrainedConfig") -> int | None:
  """Returns the padding token id of a config.json; None where it names none."""
  return published.get_text_config().pad_token_id


def _by_length(ids: Sequence[Sequence[int]]) -> list[int]:
  """Returns the rows in an order in which neighbours are of like length."""
  return sorted(range(len(ids)), key=lambda row: len(ids[row]))


def _place(ids: Sequence[int], pad_id: int | None) -> int:
  """Returns the position of a classifier's score in transformers; 0 where all is padding."""
  if pad_id is None:
    return len(ids) - 1
  return max((place for place, token in enumerate(ids) if token != pad_id), default=0)
