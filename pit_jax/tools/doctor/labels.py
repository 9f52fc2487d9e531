"""Findings on labels that contradict each other, and on the noise that repeated ones reveal."""

import numpy as np

from pit_jax.data import scores, values
from pit_jax.tools.doctor import cases, estimates, findings, orders

NOISE = "Label noise"  # the finding's title


def contradictions(
  examined: cases.Cases, judged: orders.Pairs, found: orders.Cycles
) -> findings.Finding:
  """Finds pairs that were judged either way."""
  either = np.flatnonzero(judged.is_contradictory)
  concerned = np.flatnonzero(judged.is_contradictory[judged.of_row])
  rows = len(examined.rows)
  least = orders.least_violations(judged, found)
  figures = (
    findings.Figure("pairs judged either way", len(either)),
    findings.Figure("their rows", len(concerned)),
    findings.Figure("best training accuracy any reward can have", 1 - least / rows, "share"),
  )

  if not len(either):
    sentence = "No pair is preferred one way in one row and the other way in another."
    advice = ""
  else:
    sentence = (
      f"{findings.count(len(either), 'pair is/pairs are')} preferred one way in one row and the "
      "other way in another."
    )
    advice = (
      "Keep the majority's label, and neither row where there is none: opposite labels of one pair "
      "cancel in the reward model and teach the improver to swap the two."
    )

  return findings.Finding(
    "contradictions",
    "Contradictory preferences",
    findings.severity(len(concerned) / rows),
    sentence,
    advice,
    figures,
    tuple(_pair(examined, judged, pair) for pair in either[: findings.EXAMPLES].tolist()),
    places=examined.places(*concerned),
  )


def _pair(examined: cases.Cases, judged: orders.Pairs, pair: int) -> findings.Example:
  rows = np.flatnonzero(judged.of_row == pair)
  first = examined.rows[rows[0]]
  texts = [findings.shorten(text, 60) for text in (first.chosen, first.rejected)]
  prompt = findings.shorten(examined.prompts[examined.prompt[rows[0]]], 90)
  sentence = f"{prompt} – {texts[0]} | {texts[1]}"

  return findings.Example(examined.places(*rows[: findings.EXAMPLES]), sentence)


def scored(examined: cases.Cases) -> findings.Finding:
  """Finds labels that contradict the scores, or the margin, which stand in the same row."""
  title = "Labels against their own scores"
  has_scores = [row.scores is not None or row.margin is not None for row in examined.rows]
  if not any(has_scores):
    sentence = "No row has scores of its two responses, nor a margin, to hold its label against."
    return findings.Finding("scored", title, "unknown", sentence)

  disagreements = [scores.disagreement(row) for row in examined.rows]
  rows = {
    kind: np.flatnonzero([one == kind for one in disagreements])
    for kind in (values.REVERSED, values.TIED)
  }
  concerned = np.sort(np.concatenate([*rows.values()]))
  turned, tied = map(len, rows.values())

  sentence = (
    f"{findings.count(turned, 'label prefers/labels prefer')} the response with the lower score, "
    f"and {findings.count(tied, 'label is/labels are')} of responses scored alike, of "
    f"{findings.count(sum(has_scores), 'row')} with scores or a margin."
  )
  if not len(concerned):
    sentence = f"All {sum(has_scores):,} rows with scores or a margin are labelled as these say."

  return findings.Finding(
    "scored",
    title,
    findings.severity(len(concerned) / sum(has_scores)),
    sentence,
    "Find out which of the two is right; data.against_scores=drop leaves these rows out."
    if len(concerned)
    else "",
    (
      findings.Figure("rows with scores or a margin", sum(has_scores)),
      findings.Figure("labels against their scores", turned),
      findings.Figure("labels of ties", tied),
    ),
    tuple(
      _scores(examined, row) for kind in rows.values() for row in kind[: findings.EXAMPLES // 2]
    ),
    places=examined.places(*concerned),
  )


def _scores(examined: cases.Cases, row: int | np.integer) -> findings.Example:
  pair = examined.rows[row]
  figures = [] if pair.margin is None else [f"margin {pair.margin:g}"]
  figures += [] if pair.scores is None else ["scores {:g} and {:g}".format(*pair.scores)]
  prompt = findings.shorten(examined.prompts[examined.prompt[row]], 90)
  texts = [findings.shorten(text, 60) for text in (pair.chosen, pair.rejected)]
  sentence = f"{', '.join(figures)}: {prompt} – {texts[0]} | {texts[1]}"

  return findings.Example(examined.places(row), sentence)


def cycles(examined: cases.Cases, judged: orders.Pairs, found: orders.Cycles) -> findings.Finding:
  """Finds responses to a prompt that are preferred in a circle."""
  concerned = np.flatnonzero(found.is_inside)
  several = int((np.bincount(examined.prompt) > 1).sum())
  figures = (
    findings.Figure("circles, or knots of them", found.count),
    findings.Figure("rows in them", len(concerned)),
    findings.Figure("prompts with several rows", several),
  )

  if not several:
    sentence = "Every prompt has one row, so that no preferences can run in a circle."
  elif not found.count:
    sentence = "No responses to a prompt are preferred in a circle."
  else:
    sentence = (
      f"The responses to a prompt are preferred in a circle, a over b over c over a, in "
      f"{findings.count(found.count, 'place')}, over {findings.count(len(concerned), 'row')}."
    )

  return findings.Finding(
    "cycles",
    "Cyclic preferences",
    findings.severity(len(concerned) / len(examined.rows)),
    sentence,
    "A reward is one number per response and must break each circle somewhere: judge these again, "
    "or leave the weakest preference of each out."
    if found.count
    else "",
    figures,
    tuple(_circle(examined, judged, circle) for circle in found.examples),
    places=examined.places(*concerned),
  )


def _circle(
  examined: cases.Cases, judged: orders.Pairs, circle: tuple[int, ...]
) -> findings.Example:
  steps = zip(circle, (*circle[1:], circle[0]), strict=True)
  rows = [
    np.flatnonzero((examined.chosen == winner) & (examined.rejected == loser))[0]
    for winner, loser in steps
  ]
  texts = [findings.shorten(examined.rows[row].chosen, 50) for row in rows]
  prompt = findings.shorten(examined.prompts[examined.prompt[rows[0]]], 90)

  return findings.Example(examined.places(*rows), f"{prompt} – {' > '.join([*texts, texts[0]])}")


def _unknown_noise(repeated: int) -> findings.Finding:
  """Says why a file cannot tell how noisy its labels are.

  Args:
    repeated: pairs that were judged more than once, none of them always alike.
  """
  if repeated:
    sentence = (
      f"Every pair that was judged again, {repeated:,} in all, was judged either way: rows that "
      "agree have probably been removed as copies, and so nobody can know how often labels are "
      "flipped."
    )
    advice = "Examine the rows as they were before copies were removed."
  else:
    sentence = "No pair was judged more than once; the file cannot tell how noisy its labels are."
    advice = (
      "Have some pairs judged again, by other people, without telling them: 200 are enough to know "
      "a flip rate of 10% to within 4 points."
    )

  figures = (findings.Figure("pairs judged more than once", repeated),)
  return findings.Finding("noise", NOISE, "unknown", sentence, advice, figures)


def noise(examined: cases.Cases, judged: orders.Pairs) -> findings.Finding:
  """Estimates how often labels are flipped, and so how accurate a reward model can look."""
  repeated = judged.judgements > 1
  # True of no pairs as well: both cases say why nothing can be known.
  if judged.is_contradictory[repeated].all():
    return _unknown_noise(int(repeated.sum()))
  flips = estimates.flip_rate(judged.for_first, judged.for_second)

  # 1 − ε turns the interval round.
  ceiling = estimates.Estimate(1 - flips.value, 1 - flips.high, 1 - flips.low, flips.n)
  split = int(judged.is_contradictory[repeated].sum())
  figures = (
    findings.Figure("pairs judged more than once", flips.n),
    findings.Figure("of them judged either way", split),
    findings.estimated("flip rate of a label", flips),
    findings.estimated("accuracy ceiling on such labels", ceiling),
  )

  sentence = (
    f"{findings.count(split, 'pair')} of {flips.n:,} judged more than once {_were(split)} judged "
    f"either way: a label is flipped {findings.percent(flips.value)} of the time "
    f"({findings.interval(flips)}), so that even a perfect reward model agrees with "
    f"{findings.percent(ceiling.value)} of labels ({findings.interval(ceiling)})."
  )
  rows = np.flatnonzero(repeated[judged.of_row])

  return findings.Finding(
    "noise",
    NOISE,
    findings.severity(flips.value),
    sentence,
    "Read held-out accuracy against this ceiling, not against 100%. It is one for independent "
    "judgements of equally hard pairs: copied rows count as agreement, and pairs that differ in "
    "how hard they are flip more on average, so that the true ceiling may be lower.",
    figures,
    places=examined.places(*rows),
  )


def _were(number: int) -> str:
  return "was" if number == 1 else "were"
