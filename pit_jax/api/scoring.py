"""How a finished run scores answers: by a head, a published model, or likelihoods."""

import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, principles
from pit_jax.exchange import export

# (prompts, answers, principles to show) → R_P of each, Float[N].
Rate = Callable[
  [Sequence[conversations.Prompt], Sequence[str], Sequence[principles.Shown]], np.ndarray
]


def rate(
  folder: pathlib.Path, models: Collection[str], bank: principles.Bank | None, **how: Any
) -> Rate:
  """Returns how a run scores answers.

  Args:
    folder: of the run.
    models: the names of the models that it has.
    bank: the principles that they read; None: they read none.
    how: mesh and batch size, as for `export.load_one`.

  Raises:
    ValueError: the run has no reward model.
  """
  if export.IMPLICIT[0] in models:
    return _by_likelihoods(folder, bank, **how)
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


def _by_likelihoods(folder: pathlib.Path, bank: principles.Bank | None, **how: Any) -> Rate:
  rewarding = export.load_implicit(folder, **how)

  def by_likelihoods(prompts, answers, shown) -> np.ndarray:
    return rewarding.rate(prompts, bank.show_all(prompts, shown) if bank else prompts, answers)

  return by_likelihoods
