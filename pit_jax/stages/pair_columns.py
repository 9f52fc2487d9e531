"""Numbers per pair that the losses of reward models read beside the texts: `types.Columns`."""

from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np

from pit_jax import ranges
from pit_jax.data import rows as data_rows
from pit_jax.data import tables
from pit_jax.stages import objectives
from pit_jax.statistics import logistic

# Key of a section → what rows call their number, what the loss calls it, and that of a row without.
FROM_ROWS = {
  "margin_scale": ("margin", "margin", 0.0),
  "soft_labels": ("label_probability", "label_probability", 1.0),
  "pair_weights": ("pair_weight", "weight", 1.0),
}
OFFSET = "offset"
ALLOWED = {
  **dict.fromkeys(("margin_scale", "centring", "pessimism"), ranges.FROM_ZERO),
  **dict.fromkeys(("soft_labels", "pair_weights", "length_debiased"), ranges.SWITCH),
  "label_smoothing": ranges.DOUBT,
  "members": ranges.COUNT,
}
AS_PUBLISHED = {
  **dict.fromkeys(("margin_scale", "label_smoothing", "centring", "pessimism"), 0.0),
  **dict.fromkeys(("soft_labels", "pair_weights", "length_debiased"), False),
  "members": 1,
}
PRIOR = 1.0  # precision of what a deviation of length is worth, which of few pairs has no maximum


def problems(name: str, job: Any) -> Iterator[str]:
  """Yields what is wrong with the values of a section of a reward model together."""
  if job.pessimism and job.members == 1:
    yield (
      f"{name}.pessimism={job.pessimism} with {name}.members=1: one model disagrees with nobody; "
      "use 2 members or more, or a pessimism of 0"
    )
  if not job.get("model"):
    return
  # What would be set and do nothing: a published model is not trained.
  for key, neutral in AS_PUBLISHED.items():
    if job[key] != neutral:
      yield (
        f"{name}.{key}={job[key]} with {name}.model={job.model!r}, which is not trained; use "
        f'{key}={neutral}, or model=""'
      )


def names(job: ml_collections.ConfigDict) -> list[str]:
  """Returns the columns that a section of a reward model wants."""
  wanted = [column for key, (_, column, _) in FROM_ROWS.items() if job[key]]
  wanted += [OFFSET] * job.length_debiased
  return wanted + [objectives.draw_of(i) for i in range(job.members) if job.members > 1]


def added(
  table: tables.Table,
  rows: Sequence[data_rows.Preference],
  job: ml_collections.ConfigDict,
  seed: int,
) -> tuple[tables.Table, dict[str, float]]:
  """Returns encoded pairs with the columns that a section wants, and facts measured of them.

  Args:
    table: the pairs, of which encoding may have dropped some.
    rows: those that were encoded.
    job: the section.
    seed: of the members' bootstrap samples.

  Returns:
    The table; and `length_coefficient`, what a token more of the chosen response than of the other
    is worth, in nats, where lengths are taken as known.

  Raises:
    ValueError: a number of the rows is to count, and no row has one.
  """
  # `index` says of each pair that is left which row it was.
  kept = table.contents.index
  columns = {}
  for key, (field, column, absent) in FROM_ROWS.items():
    if job[key]:
      scale = job[key] if key == "margin_scale" else 1.0
      columns[column] = np.float32(scale) * _numbers(rows, key, job[key], field, absent)[kept]

  facts = {}
  if job.length_debiased:
    ahead = np.diff(table.contents.lengths[:, -2:], axis=1)[:, 0] * -1.0
    weights = columns.get("weight", np.ones(len(kept)))
    worth = length_coefficient(ahead, columns.get("label_probability", np.ones(len(kept))), weights)
    columns[OFFSET] = worth * ahead
    facts["length_coefficient"] = worth

  if job.members > 1:
    draws = np.random.default_rng([seed, job.members]).poisson(1.0, (job.members, len(kept)))
    columns |= {objectives.draw_of(i): draws[i] for i in range(job.members)}

  return table.with_columns(**columns), facts


def _numbers(
  rows: Sequence[data_rows.Preference], key: str, value: float | bool, field: str, absent: float
) -> np.ndarray:
  """Returns a field of every row, and what is said of rows without one."""
  given = [getattr(row, field) for row in rows]
  if all(number is None for number in given):
    off = "0" if key == "margin_scale" else "False"
    raise ValueError(
      f"{key}={value} and none of {len(rows)} rows of the reward fold has one; use {key}={off}, or "
      f"data with a column `{field}`"
    )
  return np.array([absent if number is None else number for number in given], np.float32)


def length_coefficient(ahead: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
  """Returns γ of P(the chosen one is better) = σ(γ · tokens that it has more), in nats per token.

  By maximum likelihood with a normal prior, whose deviation is one nat for each deviation of the
  lengths: pairs that are all alike have no other maximum.

  Args:
    ahead: tokens of the chosen response less those of the other one, Float[N].
    probabilities: how likely the chosen one is better, Float[N].
    weights: how much each pair counts, Float[N].
  """
  deviation = float(np.sqrt(np.mean(ahead**2)))
  if not deviation:
    return 0.0
  features = (ahead / deviation)[:, None]
  fitted = logistic.fit(features, probabilities, weights[None], np.array([PRIOR]))
  return float(fitted[0, 0]) / deviation
