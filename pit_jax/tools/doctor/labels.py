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
  groups = [np.flatnonzero(judged.of_row == pair) for pair in either[: findings.EXAMPLES]]

  return findings.weighed(
    "contradictions",
    "Contradictory preferences",
    len(concerned) / rows,
    f"{findings.count(len(either), 'pair is/pairs are')} preferred one way in one row and the "
    "other way in another.",
    "Keep the majority's label, and neither row where there is none: opposite labels of one pair "
    "cancel in the reward model and teach the improver to swap the two.",
    (
      findings.Figure("pairs judged either way", len(either)),
      findings.Figure("their rows", len(concerned)),
      findings.Figure("best training accuracy any reward can have", 1 - least / rows, "share"),
    ),
    tuple(
      findings.Example(
        examined.places(*group[: findings.EXAMPLES]),
        f"{examined.asked(group[0])} – {examined.answers(group[0])}",
      )
      for group in groups
    ),
    places=examined.places(*concerned),
    fine="No pair is preferred one way in one row and the other way in another.",
  )


def scored(examined: cases.Cases) -> findings.Finding:
  """Finds labels that contradict the scores, or the margin, which stand in the same row."""
  title = "Labels against their own scores"
  many = sum(row.scores is not None or row.margin is not None for row in examined.rows)
  if not many:
    sentence = "No row has scores of its two responses, nor a margin, to hold its label against."
    return findings.Finding("scored", title, "unknown", sentence)

  disagreements = [scores.disagreement(row) for row in examined.rows]
  turned, tied = (
    np.flatnonzero([one == kind for one in disagreements])
    for kind in (values.REVERSED, values.TIED)
  )
  concerned = np.sort(np.concatenate([turned, tied]))
  shown = [*turned[: findings.EXAMPLES // 2], *tied[: findings.EXAMPLES // 2]]

  return findings.weighed(
    "scored",
    title,
    len(concerned) / many,
    f"{findings.count(len(turned), 'label prefers/labels prefer')} the response with the lower "
    f"score, and {findings.count(len(tied), 'label is/labels are')} of responses scored alike, of "
    f"{findings.count(many, 'row')} with scores or a margin.",
    "Find out which of the two is right; data.against_scores=drop leaves these rows out.",
    (
      findings.Figure("rows with scores or a margin", many),
      findings.Figure("labels against their scores", len(turned)),
      findings.Figure("labels of ties", len(tied)),
    ),
    tuple(_scores(examined, row) for row in shown),
    places=examined.places(*concerned),
    fine=f"All {many:,} rows with scores or a margin are labelled as these say.",
  )


def _scores(examined: cases.Cases, row: int | np.integer) -> findings.Example:
  pair = examined.rows[row]
  figures = [] if pair.margin is None else [f"margin {pair.margin:g}"]
  figures += [] if pair.scores is None else ["scores {:g} and {:g}".format(*pair.scores)]
  sentence = f"{', '.join(figures)}: {examined.asked(row)} – {examined.answers(row)}"
  return findings.Example(examined.places(row), sentence)


def cycles(examined: cases.Cases, judged: orders.Pairs, found: orders.Cycles) -> findings.Finding:
  """Finds responses to a prompt that are preferred in a circle."""
  concerned = np.flatnonzero(found.is_inside)
  several = int((np.bincount(examined.prompt) > 1).sum())
  fine = "No responses to a prompt are preferred in a circle."
  if not several:
    fine = "Every prompt has one row, so that no preferences can run in a circle."

  return findings.weighed(
    "cycles",
    "Cyclic preferences",
    len(concerned) / len(examined.rows),
    "The responses to a prompt are preferred in a circle, a over b over c over a, in "
    f"{findings.count(found.count, 'place')}, over {findings.count(len(concerned), 'row')}.",
    "A reward is one number per response and must break each circle somewhere: judge these again, "
    "or leave the weakest preference of each out.",
    (
      findings.Figure("circles, or knots of them", found.count),
      findings.Figure("rows in them", len(concerned)),
      findings.Figure("prompts with several rows", several),
    ),
    tuple(_circle(examined, circle) for circle in found.examples),
    places=examined.places(*concerned),
    fine=fine,
  )


def _circle(examined: cases.Cases, circle: tuple[int, ...]) -> findings.Example:
  rows = [
    np.flatnonzero((examined.chosen == winner) & (examined.rejected == loser))[0]
    for winner, loser in zip(circle, (*circle[1:], circle[0]), strict=True)
  ]
  texts = findings.shorten_beside([examined.rows[row].chosen for row in rows], 50)
  sentence = f"{examined.asked(rows[0])} – {' > '.join([*texts, texts[0]])}"
  return findings.Example(examined.places(*rows), sentence)


def _unknown_noise(repeated: int) -> findings.Finding:
  """Says why a file cannot tell how noisy its labels are, with so many pairs judged again."""
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
  repeated = judged.for_first + judged.for_second > 1
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

  return findings.Finding(
    "noise",
    NOISE,
    findings.severity(flips.value),
    f"{findings.count(split, 'pair')} of {flips.n:,} judged more than once "
    f"{'was' if split == 1 else 'were'} judged either way: a label is flipped "
    f"{findings.percent(flips.value)} of the time ({findings.interval(flips)}), so that even a "
    f"perfect reward model agrees with {findings.percent(ceiling.value)} of labels "
    f"({findings.interval(ceiling)}).",
    "Read held-out accuracy against this ceiling, not against 100%. It is one for independent "
    "judgements of equally hard pairs: copied rows count as agreement, and pairs that differ in "
    "how hard they are flip more on average, so that the true ceiling may be lower.",
    figures,
    places=examined.places(*np.flatnonzero(repeated[judged.of_row])),
  )
