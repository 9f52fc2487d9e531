"""Findings on what decides labels beside quality: length, and which response stood first."""

import itertools
import math

import numpy as np
import scipy.special

from pit_jax.report import cells
from pit_jax.tools.doctor import cases, estimates, findings, lengths, orders

RATIOS = (1.0, 1.25, 1.5, 2.0, 4.0, math.inf)  # longer over shorter: bounds of the table's rows


def length(examined: cases.Cases, measured: lengths.Lengths) -> findings.Finding:
  """Finds how often the longer response is chosen, and what lengths alone predict."""
  title = "Length bias"
  tokens = np.stack([measured.chosen, measured.rejected], axis=1).astype(np.float64)
  difference = tokens[:, 0] - tokens[:, 1]
  unequal = difference != 0

  if not unequal.any():
    sentence = "The two responses of every pair are equally long; length can decide nothing."
    return findings.Finding("length", title, "ok", sentence)

  longer = estimates.share(difference[unequal] > 0, _numbered(examined.prompt[unequal]))
  # No length is 0, since every response has its end-of-sequence token.
  features = np.stack([difference, np.log(tokens[:, 0] / tokens[:, 1])], axis=1)
  predicted = estimates.predict(features, examined.prompt)
  weight = _distance(longer)
  sentence = (
    f"The longer response is chosen in {findings.percent(longer.value)} of the pairs of unequal "
    f"length ({findings.interval(longer)})"
  )

  return findings.Finding(
    "length",
    title,
    findings.severity(weight),
    sentence + ("." if weight else ", no more or less than chance explains."),
    _length_advice(predicted) if weight else "",
    _length_figures(tokens, longer, predicted),
    tables=(_ratio_table(by_ratio(examined, measured)),),
  )


def _length_advice(predicted: estimates.Prediction | None) -> str:
  watch = "Watch the length of responses during RL."
  if predicted is None:
    return watch
  return (
    f"A reward model that only counts tokens is right on "
    f"{findings.percent(predicted.accuracy.value)}: hold its accuracy against that, not against "
    f"50%. {watch}"
  )


def _length_figures(
  tokens: np.ndarray, longer: estimates.Estimate, predicted: estimates.Prediction | None
) -> tuple[findings.Figure, ...]:
  means = tokens.mean(axis=0).tolist()
  figures = (
    findings.Figure("mean tokens, chosen", means[0], "tokens"),
    findings.Figure("mean tokens, rejected", means[1], "tokens"),
    findings.Figure("pairs of unequal length", longer.n),
    findings.estimated("the longer one is chosen", longer),
  )
  if predicted is None:
    return figures

  return (
    *figures,
    findings.estimated("accuracy from the lengths alone (chance: 50%)", predicted.accuracy),
    findings.Figure(f"loss from them (chance: {math.log(2):.3f})", predicted.loss, "nats"),
  )


def by_ratio(examined: cases.Cases, measured: lengths.Lengths) -> dict[str, estimates.Estimate]:
  """Returns how often the longer response is chosen, for ranges of longer over shorter."""
  tokens = np.stack([measured.chosen, measured.rejected])
  ratio = tokens.max(axis=0) / tokens.min(axis=0)
  shares = {}

  for low, high in itertools.pairwise(RATIOS):
    inside = (ratio > low) & (ratio <= high)
    if inside.any():
      bounds = f"{low:g} to {high:g}" if high < math.inf else f"over {low:g}"
      is_longer = tokens[0, inside] > tokens[1, inside]
      shares[bounds] = estimates.share(is_longer, _numbered(examined.prompt[inside]))

  return shares


def _ratio_table(by_range: dict[str, estimates.Estimate]) -> cells.Table:
  rows = tuple(
    (bounds, f"{estimate.n:,}", *map(findings.percent, _three(estimate)))
    for bounds, estimate in by_range.items()
  )
  heads = ("times as long", "pairs", "longer chosen", "from", "to")
  note = "With the ends of the 95% interval, which knows that rows of a prompt belong together."

  return cells.Table("by_ratio", "By how much longer", heads, rows, note)


def _numbered(labels: np.ndarray) -> np.ndarray:
  """Returns labels as numbers from 0 without holes."""
  return np.unique(labels, return_inverse=True)[1]


def _three(found: estimates.Estimate) -> tuple[float, float, float]:
  return found.value, found.low, found.high


def position(examined: cases.Cases, judged: orders.Pairs) -> findings.Finding:
  """Finds whether standing first made a response more likely to be chosen, where that is known."""
  title = "Position bias"
  is_known = np.array([row.position is not None for row in examined.rows])
  if not is_known.any():
    return findings.Finding(
      "position",
      title,
      "unknown",
      "The source does not say which response stood first when they were judged; whether that "
      "mattered cannot be known.",
      "Record it as chosen_position (1 or 2); output_1 and output_2 are names of columns.",
    )

  rows = np.flatnonzero(is_known)
  won = np.array([examined.rows[row].position == 1 for row in rows])
  groups = _numbered(examined.prompt[rows])
  first = estimates.share(won, groups)
  figures = [
    findings.Figure("rows with a position", len(rows)),
    findings.estimated("the first one is chosen", first),
  ]

  swapped = _swapped(judged, rows, won, examined)
  if swapped is not None:
    figures.append(findings.estimated("the first one, in pairs judged in both orders", swapped))
    sentence = (
      f"In the {findings.count(swapped.n, 'pair')} judged in both orders the first response is "
      f"chosen {findings.percent(swapped.value)} of the time ({findings.interval(swapped)}); "
      "without bias it would be 50%."
    )

    return _judged(title, sentence, _distance(swapped), figures)

  return _by_writer(title, examined, rows, won, groups, first, figures)


def _by_writer(title, examined, rows, won, groups, first, figures) -> findings.Finding:
  """Tells position from writers where they are known, and says where it cannot."""
  share = f"The first response is chosen in {findings.percent(first.value)} of rows"
  pairs = [examined.rows[row].writers for row in rows]
  if any(pair is None for pair in pairs):
    sentence = (
      f"{share} ({findings.interval(first)}); if the order was drawn at random, that is bias."
    )
    return _judged(title, sentence, _distance(first), figures)

  names = sorted({name for pair in pairs for name in pair})
  number = {name: index for index, name in enumerate(names)}
  ordered = [pair if is_won else pair[::-1] for pair, is_won in zip(pairs, won, strict=True)]
  writers = np.array([[number[name] for name in pair] for pair in ordered])
  bias = estimates.first_place(won, writers, groups)

  if bias is None:
    places = "first" if len(set(writers[:, 0])) == 1 else "second"
    fixed = {*writers[:, 0]} if places == "first" else {*writers[:, 1]}
    who = f": {names[fixed.pop()]} always stood {places}" if len(fixed) == 1 else ""
    return findings.Finding(
      "position",
      title,
      "unknown",
      f"{share}, but position and writer cannot be told apart{who}.",
      "Judge some pairs in the other order too.",
      tuple(figures),
    )

  chances = estimates.Estimate(*map(float, scipy.special.expit(_three(bias))), bias.n)
  figures.append(findings.estimated("the first one, of two equally good ones", chances))
  sentence = (
    f"Of two equally good responses the first would be chosen {findings.percent(chances.value)} "
    f"of the time ({findings.interval(chances)}), by a Bradley–Terry fit to who wrote them."
  )

  return _judged(title, sentence, _distance(chances), figures)


def _swapped(judged, rows, won, examined) -> estimates.Estimate | None:
  """Returns how often the first is chosen in pairs judged in both orders; None without any."""
  pair = judged.of_row[rows]
  low_won = examined.chosen[rows] == judged.first[pair]
  order = (low_won == won).astype(int)  # 1 where the response with the smaller number stood first

  # A number for each order of each pair, under which judgements are counted and wins of the first.
  key = 2 * pair + order
  times = np.bincount(key, minlength=2 * len(judged.first)).reshape(-1, 2)
  wins = np.bincount(key, weights=won, minlength=2 * len(judged.first)).reshape(-1, 2)
  both = np.flatnonzero((times > 0).all(axis=1))
  if not len(both):
    return None
  prompt = np.zeros(len(judged.first), int)
  prompt[judged.of_row] = examined.prompt

  # The mean of both orders: what the two responses are worth cancels, the place stays.
  return estimates.share((wins[both] / times[both]).mean(axis=1), prompt[both])


def _judged(title: str, said: str, weight: float, figures: list) -> findings.Finding:
  advice = "Judge every pair in both orders and keep the labels that agree." if weight else ""
  severity = findings.severity(weight)
  return findings.Finding("position", title, severity, said, advice, tuple(figures))


def _distance(found: estimates.Estimate) -> float:
  """Returns how far from ½ the whole interval is; 0 where it holds ½."""
  return max(found.low - 0.5, 0.5 - found.high, 0.0)
