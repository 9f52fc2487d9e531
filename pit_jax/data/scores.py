"""Labels against what the annotators themselves scored."""

from pit_jax.data import rows

TIED, REVERSED = "label without a difference", "label against its own scores"
AGAINST = ("keep", "drop")  # what is done with such rows


def disagreement(row: rows.Preference) -> str | None:
  """Returns how a row's own scores, or its margin, contradict its label; None where they do not.

  REVERSED: the rejected response is scored higher, or the margin is negative; TIED: both are scored
  alike, or the margin is 0; None too where a row has neither scores nor margin.
  """
  differences = [] if row.scores is None else [row.scores[0] - row.scores[1]]
  differences += [] if row.margin is None else [row.margin]
  if any(difference < 0 for difference in differences):
    return REVERSED
  return TIED if 0 in differences else None
