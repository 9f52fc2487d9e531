"""Preference optimisation of policy or improver without a reward model: DPO and its kin."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax import layout
from pit_jax.data import encode, preferences, tables
from pit_jax.losses import preference
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import objectives, supervised, trained
from pit_jax.types import Params, Preferences

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
  losses: Mapping[str, preference.Loss] = preference.PAIR_LOSSES,
  asked_as: str = "",
  prompts: str = kinds.POLICY,
) -> trained.Trained:
  """Returns a policy that prefers y_w to y_l more than its reference does.

  An improver does so given (x, y_l): it is to write the better response, and not the draft again.

  Where the loss has a reference, its log-probabilities are computed once into rows/NAME.jsonl and
  stand as columns beside the pairs; a run that goes on reads them back. An unpaired loss keeps the
  reference itself at hand, too.

  Args:
    name: the stage's name.
    fold: the pairs; its validation part tells loss and accuracy on pairs that are not trained on.
    start: the policy to start from.
    reference: π_ref, usually the same; a loss without one does not ask it.
    job: the section of the configuration; see configs/dpo.py.
    losses: those that `job.loss` may name; see `preference.Loss`.
    asked_as: NAME of the reference's log-probabilities, which stages with the same pairs,
      reference and token weights share; "" is the stage's own, with _reference after it.
    prompts: POLICY or IMPROVER.
  """
  loss = losses[job.loss]
  options = options_of(job)
  parts = {"train": fold.rows, "validation": fold.validation}
  asked = context.rows
  encoded = {
    part: encode.preferences(rows, asked.settings, asked.tokens, prompts)
    for part, rows in parts.items()
  }
  if preference.has_reference(loss, options):
    reference_rows = made_rows.once(
      context,
      f"rows/{asked_as or f'{name}_reference'}",
      lambda: _asked(context, reference, encoded, options.token_weights),
    )
    encoded = _referenced(encoded, reference_rows)
    # From here on checkpoints carry the hash of these rows: with other ones they are refused.
    context = made_rows.depending(context, reference_rows)

  # Beside other prompts responses stand anew in every batch, so no column can hold what it says.
  frozen = {} if loss.is_paired else {"reference": layout.to_devices(reference)}
  result = supervised.run(
    context,
    name,
    context.models.language,
    objectives.policy_pairs(loss, options),
    start,
    encoded["train"],
    job,
    frozen=frozen,
    evaluate=lambda params: _validated(
      context, params, encoded["validation"], loss, options, frozen
    ),
    score=("validation/loss", "lowest"),
  )

  return trained.ended(context, result)


def options_of(job: ml_collections.ConfigDict) -> preference.Options:
  """Returns the options of a section."""
  fields = dataclasses.fields(preference.Options)
  return preference.Options(**{field.name: job[field.name] for field in fields})


def _validated(
  context: contexts.Context,
  params: Params,
  table: tables.Table,
  loss: preference.Loss,
  options: preference.Options,
  frozen: Params,
) -> dict[str, float]:
  """Returns the metrics of a policy on pairs that are not trained on."""
  schedule = options.token_weights
  lengths = dict(zip(SIDES, table.contents.lengths.T[1:], strict=True))
  tokens = {side: _weights(lengths[side], schedule).sum(axis=1) for side in SIDES}
  ratios = {
    side: _logprobs(context, params, table, side, schedule)
    - table.columns.get(f"reference_{side}", 0.0)
    for side in SIDES
  }
  scores = [loss.score(jnp.asarray(ratios[side]), jnp.asarray(tokens[side])) for side in SIDES]

  more = {}
  if options.importance_correction:
    more["corrections"] = jnp.exp(ratios["rejected"])
  if not loss.is_paired:
    more["kl"] = _mismatched_kl(context, params, frozen["reference"], table)
  _, metrics = preference.dpo_loss(*scores, loss=loss, options=options, **more)

  logged = {f"validation/{key}": float(value) for key, value in metrics.items()}
  # Both may fall while the margin grows: then probability goes to what nobody wrote.
  ratio = "logratio" if preference.has_reference(loss, options) else "logprob"
  return logged | {f"validation/{side}_{ratio}": ratios[side].mean() for side in SIDES}


def _referenced(
  encoded: Mapping[str, tables.Table], reference: made_rows.MadeRows
) -> dict[str, tables.Table]:
  """Returns the encoded pairs with the reference's log-probabilities as columns."""
  referenced = {}
  for part, table in encoded.items():
    rows = [row for row in reference.rows if row["part"] == part]
    # Rows of a part lie in the order of its table.
    columns = {f"reference_{side}": np.array([row[side] for row in rows]) for side in SIDES}
    referenced[part] = table.with_columns(**columns)

  return referenced


def _asked(
  context: contexts.Context,
  reference: Params,
  encoded: Mapping[str, tables.Table],
  schedule: str,
) -> Iterator[dict[str, Any]]:
  """Yields the reference's log-probabilities of every pair, part by part."""
  for part, table in encoded.items():
    columns = (_logprobs(context, reference, table, side, schedule).tolist() for side in SIDES)
    for chosen, rejected in zip(*columns, strict=True):
      yield {"part": part, "chosen": chosen, "rejected": rejected}


def _mismatched_kl(
  context: contexts.Context, params: Params, reference: Params, table: tables.Table
) -> float:
  """Returns KTO's estimate of the policy's KL over a whole table; see `mismatched_kl`."""
  logratios = [
    _logprobs(context, params, table, side, arrange=objectives.mismatched)
    - _logprobs(context, reference, table, side, arrange=objectives.mismatched)
    for side in SIDES
  ]
  return max(float(np.mean(logratios)), 0.0)


def _logprobs(
  context: contexts.Context,
  params: Params,
  table: tables.Table,
  side: str,
  schedule: str = preference.EVERY,
  arrange: Callable[[Preferences], Preferences] = lambda pairs: pairs,
) -> np.ndarray:
  """Returns a policy's log-probability of each chosen, or rejected, response, Float[rows].

  Tokens count as a schedule of `preference.token_weights` says. A few thousand pairs at a time are
  arranged first, so that prompts may have other responses.
  """
  pieces = []
  for start in range(0, len(table), PIECE):
    pairs = arrange(table[start : start + PIECE])
    responses = getattr(pairs, side)
    logprobs = context.models.inference.logprobs(params, pairs.prompts, responses)
    weights = preference.token_weights(jnp.asarray(responses.mask), schedule)
    pieces.append((logprobs * np.asarray(weights)).sum(axis=1))

  return np.concatenate(pieces)


def _weights(lengths: np.ndarray, schedule: str) -> np.ndarray:
  """Returns the weights of the tokens of responses of these lengths, Float[rows R]."""
  mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
  return np.asarray(preference.token_weights(jnp.asarray(mask), schedule))
