"""Preference optimisation of a policy without a reward model: DPO and its kin."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax.data import encode, preferences, tables
from pit_jax.losses import preference
from pit_jax.run import context as contexts
from pit_jax.stages import objectives, supervised
from pit_jax.types import Params

PIECE = 4_096  # pairs whose tokens are in memory at once
SIDES = ("chosen", "rejected")


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  start: Params,
  reference: Params,
  job: ml_collections.ConfigDict,
  losses: Mapping[str, Callable] = preference.PAIR_LOSSES,
) -> Params:
  """Returns a policy that prefers y_w to y_l more than its reference does.

  The reference's log-probabilities are computed once, kept as columns beside the pairs, and read
  back where a run goes on.

  Args:
    context: the run's surroundings.
    name: the stage's name.
    fold: the pairs; its validation part tells loss and accuracy on pairs that are not trained on.
    start: the policy to start from.
    reference: π_ref, usually the same.
    job: the section of the configuration; see configs/dpo.py.
    losses: those that `job.loss` may name; see `preference.dpo_loss`.
  """
  parts = {"train": fold.rows, "validation": fold.validation}
  encoded = {
    part: encode.preferences(rows, context.settings, context.tokens) for part, rows in parts.items()
  }
  train, validation = _referenced(context, name, encoded, reference)
  objective = objective_of(job, losses)

  def evaluate(params):
    ratios = {
      side: _logprobs(context, params, validation, side) - validation.columns[f"reference_{side}"]
      for side in SIDES
    }
    _, metrics = preference.dpo_loss(
      *(jnp.asarray(ratios[side]) for side in SIDES),
      pair_loss=losses[job.loss],
      beta=job.beta,
      label_smoothing=job.label_smoothing,
    )
    told = {f"validation/{key}": float(value) for key, value in metrics.items()}
    # Both may fall while the margin grows: then probability goes to what nobody wrote.
    return told | {f"validation/{side}_logratio": ratios[side].mean() for side in SIDES}

  trained = supervised.run(
    context,
    name,
    context.language,
    objective,
    start,
    train,
    job,
    evaluate=evaluate,
    score=("validation/loss", "lowest"),
  )
  return context.waiting(trained)


def objective_of(job: Any, losses: Mapping[str, Callable]) -> Callable:
  """Returns the objective that a section asks for; see `objectives.policy_pairs`."""
  return objectives.policy_pairs(
    losses[job.loss], job.beta, job.label_smoothing, job.sft_coefficient
  )


def _referenced(
  context: contexts.Context, name: str, encoded: Mapping[str, tables.Table], reference: Params
) -> list[tables.Table]:
  """Returns the tables with the reference's log-probabilities, from WORKDIR/rows/ if they are."""
  place = ("rows", f"{name}_reference.json")
  known = context.read_json(*place)
  if known is None:
    known = {
      part: {side: _logprobs(context, reference, table, side).tolist() for side in SIDES}
      for part, table in encoded.items()
    }
    context.write_json(known, *place)
  return [
    table.with_columns(
      **{f"reference_{side}": np.asarray(known[part][side], np.float32) for side in SIDES}
    )
    for part, table in encoded.items()
  ]


def _logprobs(
  context: contexts.Context, params: Params, table: tables.Table, side: str
) -> np.ndarray:
  """Returns a policy's log-probability of each chosen, or rejected, response, Float[rows]."""
  found = []
  for start in range(0, len(table), PIECE):
    pairs = table[start : start + PIECE]
    logprobs = context.inference.logprobs(params, pairs.prompts, getattr(pairs, side))
    found.append(logprobs.sum(axis=1))
  return np.concatenate(found)
