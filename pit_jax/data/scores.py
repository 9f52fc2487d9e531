"""Labels against what the annotators themselves scored."""

from pit_jax.data import rows, values

AGAINST = ("keep", "drop")  # what is done with such rows


def disagreement(row: rows.Preference) -> str | None:
  """Returns how a row's own scores, or its margin, contradict its label; None where they do not.

  values.REVERSED: the rejected response is scored higher, or the margin is negative; values.TIED:
  both are scored alike, or the margin is 0; None too where a row has neither scores nor margin.
  """
  differences = [] if row.scores is None else [row.scores[0] - row.scores[1]]
  differences += [] if row.margin is None else [row.margin]
  if any(difference < 0 for difference in differences):
    return values.REVERSED
  return values.TIED if 0 in differences else None


def check(row: rows.Preference) -> None:
  """Raises a `values.LeftOut` for a row whose own scores contradict its label."""
  reason = disagreement(row)
  if reason is not None:
    evidence = [] if row.margin is None else [f"margin {row.margin:g}"]
    evidence += [] if row.scores is None else ["scores {:g} and {:g}".format(*row.scores)]
    raise values.LeftOut(reason, ", ".join(evidence))
