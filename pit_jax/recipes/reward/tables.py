"""Tables of what reward models say of held-out labels."""

from collections.abc import Mapping, Sequence

from pit_jax.recipes.reward import figures
from pit_jax.report import cells


def accuracy(results: Mapping) -> cells.Table:
  """How often each reward model meets the labels, beside length."""
  columns = cells.columns({
    "pairs": "pairs", "preferred is": "model", "right": "accuracy", "95%": "accuracy_ci95",
    "above length": lambda row: _points(row["above_length_ci95"]),
    "balanced": "balanced", "balanced 95%": "balanced_ci95", "n": "n",
  })  # fmt: skip

  note = (
    "How often the labels are met, by what each model prefers; all prompts are new. Above length: "
    "less the accuracy of preferring the longer response, its 95% interval in points. Balanced: "
    "the mean of the accuracies where the longer response was chosen and where the shorter one "
    "was; length alone has 50% there. Intervals resample prompts."
  )

  rows = _labels(results, "accuracy")
  return cells.select("labels", "Held-out labels", rows, columns, note=note, words=2)


def alike(results: Mapping) -> cells.Table:
  """The same on pairs of like length."""
  columns = cells.columns({
    "pairs": "pairs", "preferred is": "model", "right": "matched", "95%": "matched_ci95",
    "n": "matched_n",
  })  # fmt: skip
  rows = [row for row in _labels(results, "accuracy") if row["matched_n"]]

  note = "Pairs whose responses differ by at most 10% in length."
  return cells.select("labels_alike", "Labels at like length", rows, columns, note=note, words=2)


def _labels(results: Mapping, part: str) -> Sequence[Mapping]:
  return results.get("labels", {}).get(part, ())


def reliability(results: Mapping) -> cells.Table:
  """Predicted probabilities against frequencies."""
  rows = _labels(results, "reliability")
  groups = range(max((len(row["groups"]) for row in rows), default=0))
  columns = cells.columns({"pairs": "pairs", "model": "model", "ECE": "ece"})
  for place in groups:
    columns[f"fifth {place + 1}"] = lambda row, place=place: _said(row["groups"], place)

  note = (
    "Fifths of the pairs by |margin|, least sure first: the probability σ(|margin|) that a model "
    "gives its preference on average, and how often that is right. ECE is the mean distance of the "
    "two over ten bins."
  )

  return cells.select("reliability", "Reliability", rows, columns, note=note, words=2)


def order(results: Mapping) -> cells.Table:
  """How many pairs have the order of eq. 1."""
  columns = cells.columns({
    "pairs": "pairs", "eq. 1 holds": "ordered", "95%": "ordered_ci95", "r(w,l) above zero": "above",
    "r(l,w) below zero": "below", "identical: shift": "shift", "deviation": "deviation", "n": "n",
  })  # fmt: skip

  note = (
    "R_PIT, pair by pair. Zero is the mean over identical pairs of the validation part; shift and "
    "deviation say where the identical pairs of these rows lie around it, in units of the mean "
    "r(w,l) − r(l,w)."
  )
  rows = _labels(results, "order")

  return cells.select("order", "Order of eq. 1, pair by pair", rows, columns, note=note)


def gap_order(results: Mapping) -> cells.Table | None:
  """The means of the four gaps of a pair."""
  order = results.get("gap_order")
  if not order:
    return None
  means = {f"r({a},{b})": a + b for a, b in figures.GAPS}
  others = {"r(w,l) > r(l,w)": "accuracy", "order holds": "holds"}
  columns = cells.columns(means | others)
  note = "Wanted: r(w,l) ≥ r(w,w) ≈ r(l,l) ≥ r(l,w), on the means; ≈ is a quarter of the range."
  return cells.select("gap_order", "Order of the gaps", [order], columns, note=note, words=0)


def _points(bounds) -> str:
  return cells.BLANK if not bounds else cells.interval([100 * bound for bound in bounds])


def _said(groups, place: int) -> str:
  if place >= len(groups):
    return cells.BLANK
  group = groups[place]
  return f"{100 * group['confidence']:.0f} → {100 * group['accuracy']:.0f}"


LABELS = (accuracy, alike, order, reliability)
