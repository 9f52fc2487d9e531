"""How a finished run scores answers: by a head, a published model, or likelihoods."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, principles
from pit_jax.exchange import export
from pit_jax.rollout import implicit

# (prompts, answers, principles to show) → R_P of each, Float[N].
Rate = Callable[
  [Sequence[conversations.Prompt], Sequence[str], Sequence[principles.Shown]], np.ndarray
]


def rate(folder: pathlib.Path, bank: principles.Bank | None, **how: Any) -> Rate:
  """Returns how a run scores answers by its reward model.

  Args:
    folder: of the run.
    bank: the principles that they read; None: they read none.
    how: mesh and batch size, as for `export.load_one`.

  Raises:
    ValueError: the run has no reward model.
  """
  published = export.load_published(folder, **how)
  if published is not None:
    return lambda prompts, answers, _: published.rate(prompts, answers)
  found = export.load_one(folder, "reward", **how)
  if bank is None:
    return lambda prompts, answers, _: found.asking.rate(found.params, prompts, answers)
  asking = found.asking.reading(bank.length) if bank.length else found.asking

  def by_head(prompts, answers, shown) -> np.ndarray:
    return asking.rate(found.params, *bank.read_all(prompts, answers, shown))

  return by_head


def by_likelihoods(rewarding: implicit.Reward, bank: principles.Bank | None) -> Rate:
  """Returns how a run scores answers whose reward is one of likelihoods, in nats."""

  def score(prompts, answers, shown) -> np.ndarray:
    return rewarding.rate(prompts, bank.show_all(prompts, shown) if bank else prompts, answers)

  return score
