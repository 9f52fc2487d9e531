"""Findings on what decides labels beside quality: length, and which response stood first."""

import itertools
import math

import numpy as np
import scipy.special

from pit_jax.report import cells
from pit_jax.tools.doctor import cases, estimates, findings, lengths, orders

RATIOS = (1.0, 1.25, 1.5, 2.0, 4.0, math.inf)  # longer over shorter: bounds of the table's rows
POSITION = "Position bias"  # the finding's title


def length(examined: cases.Cases, measured: lengths.Lengths) -> findings.Finding:
  """Finds how often the longer response is chosen, and what lengths alone predict."""
  title = "Length bias"
  tokens = np.stack([measured.chosen, measured.rejected], axis=1).astype(np.float64)
  difference = tokens[:, 0] - tokens[:, 1]
  unequal = difference != 0

  if not unequal.any():
    sentence = "The two responses of every pair are equally long; length can decide nothing."
    return findings.Finding("length", title, "ok", sentence)

  longer = estimates.share(difference[unequal] > 0, examined.prompt[unequal])
  # No length is 0, since every response has its end-of-sequence token.
  features = np.stack([difference, np.log(tokens[:, 0] / tokens[:, 1])], axis=1)
  predicted = estimates.predict(features, examined.prompt)
  means = tokens.mean(axis=0).tolist()
  figures = [
    findings.Figure("mean tokens, chosen", means[0], "tokens"),
    findings.Figure("mean tokens, rejected", means[1], "tokens"),
    findings.Figure("pairs of unequal length", longer.n),
    findings.estimated("the longer one is chosen", longer),
  ]
  advice = "Watch the length of responses during RL."

  if predicted is not None:
    accuracy = predicted.accuracy
    advice = (
      f"A reward model that only counts tokens is right on {findings.percent(accuracy.value)}: "
      f"hold its accuracy against that, not against 50%. {advice}"
    )
    figures += [
      findings.estimated("accuracy from the lengths alone (chance: 50%)", accuracy),
      findings.Figure(f"loss from them (chance: {math.log(2):.3f})", predicted.loss, "nats"),
    ]

  sentence = (
    f"The longer response is chosen in {findings.percent(longer.value)} of the pairs of unequal "
    f"length ({findings.interval(longer)})"
  )
  return findings.weighed(
    "length",
    title,
    _distance(longer),
    f"{sentence}.",
    advice,
    tuple(figures),
    tables=(_ratio_table(by_ratio(examined, measured)),),
    fine=f"{sentence}, no more or less than chance explains.",
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
      shares[bounds] = estimates.share(is_longer, examined.prompt[inside])

  return shares


def _ratio_table(by_range: dict[str, estimates.Estimate]) -> cells.Table:
  rows = tuple(
    (bounds, f"{estimate.n:,}", *map(findings.percent, _three(estimate)))
    for bounds, estimate in by_range.items()
  )
  heads = ("times as long", "pairs", "longer chosen", "from", "to")
  note = "With the ends of the 95% interval, which knows that rows of a prompt belong together."

  return cells.Table("by_ratio", "By how much longer", heads, rows, note)


def _three(found: estimates.Estimate) -> tuple[float, float, float]:
  return found.value, found.low, found.high


def position(examined: cases.Cases, judged: orders.Pairs) -> findings.Finding:
  """Finds whether standing first made a response more likely to be chosen, where that is known."""
  rows = np.flatnonzero([row.position is not None for row in examined.rows])
  if not len(rows):
    return _unknown(
      "The source does not say which response stood first when they were judged; whether that "
      "mattered cannot be known.",
      "Record it as chosen_position (1 or 2); output_1 and output_2 are names of columns.",
      [],
    )

  won = np.array([examined.rows[row].position == 1 for row in rows])
  first = estimates.share(won, examined.prompt[rows])
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

    return _judged(sentence, swapped, figures)

  return _by_writer(examined, rows, won, first, figures)


def _by_writer(examined, rows, won, first, figures) -> findings.Finding:
  """Tells position from writers where they are known, and says where it cannot."""
  share = f"The first response is chosen in {findings.percent(first.value)} of rows"
  pairs = [examined.rows[row].writers for row in rows]
  if any(pair is None for pair in pairs):
    at_random = "if the order was drawn at random, that is bias."
    return _judged(f"{share} ({findings.interval(first)}); {at_random}", first, figures)

  ordered = [pair if is_won else pair[::-1] for pair, is_won in zip(pairs, won, strict=True)]
  names, writers = np.unique(ordered, return_inverse=True)
  writers = writers.reshape(-1, 2)
  bias = estimates.first_place(won, writers, examined.prompt[rows])

  if bias is None:
    place = 0 if len(set(writers[:, 0])) == 1 else 1
    fixed = names[np.unique(writers[:, place])]
    who = f": {fixed[0]} always stood {('first', 'second')[place]}" if len(fixed) == 1 else ""
    sentence = f"{share}, but position and writer cannot be told apart{who}."
    return _unknown(sentence, "Judge some pairs in the other order too.", figures)

  chances = estimates.Estimate(*map(float, scipy.special.expit(_three(bias))), bias.n)
  figures.append(findings.estimated("the first one, of two equally good ones", chances))
  sentence = (
    f"Of two equally good responses the first would be chosen {findings.percent(chances.value)} "
    f"of the time ({findings.interval(chances)}), by a Bradley–Terry fit to who wrote them."
  )

  return _judged(sentence, chances, figures)


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


def _judged(said: str, chances: estimates.Estimate, figures: list) -> findings.Finding:
  advice = "Judge every pair in both orders and keep the labels that agree."
  weight = _distance(chances)
  return findings.weighed("position", POSITION, weight, said, advice, tuple(figures))


def _unknown(said: str, advice: str, figures: list) -> findings.Finding:
  return findings.Finding("position", POSITION, "unknown", said, advice, tuple(figures))


def _distance(found: estimates.Estimate) -> float:
  """Returns how far from ½ the whole interval is; 0 where it holds ½."""
  return max(found.low - 0.5, 0.5 - found.high, 0.0)
