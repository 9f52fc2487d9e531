"""Preference optimisation of a policy without a reward model: DPO and its kin."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax.data import encode, preferences, tables
from pit_jax.losses import preference
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import objectives, supervised, trained
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
) -> trained.Trained:
  """Returns a policy that prefers y_w to y_l more than its reference does.

  The reference's log-probabilities are computed once into rows/NAME_reference.jsonl and stand as
  columns beside the pairs; a run that goes on reads them back.

  Args:
    name: the stage's name.
    fold: the pairs; its validation part tells loss and accuracy on pairs that are not trained on.
    start: the policy to start from.
    reference: π_ref, usually the same.
    job: the section of the configuration; see configs/dpo.py.
    losses: those that `job.loss` may name; see `preference.dpo_loss`.
  """
  parts = {"train": fold.rows, "validation": fold.validation}
  asked = context.rows
  encoded = {
    part: encode.preferences(rows, asked.settings, asked.tokens) for part, rows in parts.items()
  }
  reference_rows = made_rows.once(
    context, f"rows/{name}_reference", lambda: _asked(context, reference, encoded)
  )

  train, validation = _referenced(encoded, reference_rows)
  # From here on checkpoints carry the hash of these rows: with other ones they are refused.
  context = made_rows.depending(context, reference_rows)
  objective = objective_of(job, losses)

  def evaluate(params):
    ratios = {
      side: _logprobs(context, params, validation, side) - validation.columns[f"reference_{side}"]
      for side in SIDES
    }
    sides = (jnp.asarray(ratios[side]) for side in SIDES)
    settings = {"beta": job.beta, "label_smoothing": job.label_smoothing}
    _, metrics = preference.dpo_loss(*sides, pair_loss=losses[job.loss], **settings)

    logged = {f"validation/{key}": float(value) for key, value in metrics.items()}
    # Both may fall while the margin grows: then probability goes to what nobody wrote.
    return logged | {f"validation/{side}_logratio": ratios[side].mean() for side in SIDES}

  result = supervised.run(
    context,
    name,
    context.models.language,
    objective,
    start,
    train,
    job,
    evaluate=evaluate,
    score=("validation/loss", "lowest"),
  )

  return trained.ended(context, result)


def objective_of(job: Any, losses: Mapping[str, Callable]) -> Callable:
  """Returns the objective that a section asks for; see `objectives.policy_pairs`."""
  return objectives.policy_pairs(
    losses[job.loss], job.beta, job.label_smoothing, job.sft_coefficient
  )


def _referenced(
  encoded: Mapping[str, tables.Table], reference: made_rows.MadeRows
) -> list[tables.Table]:
  """Returns the encoded pairs with the reference's log-probabilities as columns."""
  referenced = []
  for part, table in encoded.items():
    rows = [row for row in reference.rows if row["part"] == part]
    # Rows of a part lie in the order of its table.
    columns = {f"reference_{side}": np.array([row[side] for row in rows]) for side in SIDES}
    referenced.append(table.with_columns(**columns))

  return referenced


def _asked(
  context: contexts.Context, reference: Params, encoded: Mapping[str, tables.Table]
) -> Iterator[dict[str, Any]]:
  """Yields the reference's log-probabilities of every pair, part by part."""
  for part, table in encoded.items():
    columns = (_logprobs(context, reference, table, side).tolist() for side in SIDES)
    for chosen, rejected in zip(*columns, strict=True):
      yield {"part": part, "chosen": chosen, "rejected": rejected}


def _logprobs(
  context: contexts.Context, params: Params, table: tables.Table, side: str
) -> np.ndarray:
  """Returns a policy's log-probability of each chosen, or rejected, response, Float[rows]."""
  pieces = []
  for start in range(0, len(table), PIECE):
    pairs = table[start : start + PIECE]
    logprobs = context.models.inference.logprobs(params, pairs.prompts, getattr(pairs, side))
    pieces.append(logprobs.sum(axis=1))

  return np.concatenate(pieces)
