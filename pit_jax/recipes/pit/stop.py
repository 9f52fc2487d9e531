"""What each stop rule keeps of the same versions, by what a judge says of them."""

import dataclasses

import numpy as np

from pit_jax.evaluate import suite as suites
from pit_jax.feedback import judges
from pit_jax.improve import improvement
from pit_jax.recipes.pit import subject
from pit_jax.statistics import stopping

NAMES = {"win": "better", "tie": "equal", "lose": "worse"}  # outcomes as stopping.KINDS
MARGINS = (0.0, 0.25, 0.5, 1.0)  # deviations of the gap reward over samples of M_PIT^SFT


def measure(run: subject.Subject) -> dict:
  """Returns what every rule keeps of all versions of the first prompts, those after its end too."""
  few = run.few
  return {"stop": compare(few, run.made.first(len(few.questions)))}


def compare(suite: suites.Suite, made: improvement.Rounds) -> dict:
  """Returns, round by round, how many versions each rule keeps at equal margins.

  All rules see the same pairs (y_k, y_{k−1}), whatever any of them would have ended before. The
  `judge` is the first that scores and trained nothing here, else the first that scores; `rows` have
  by `rule`, `margin` and round `k` the number of versions of each of stopping.KINDS, and as
  <kind>_kept how many gain more than the margin.
  """
  judge = suite.independent or suite.scorer
  models = suite.improver
  # All rules ask about the same pairs, and each pair is read once.
  remembered = dataclasses.replace(models, read=judges.remembering(models.gaps))
  margins = sorted({*MARGINS, *filter(np.isfinite, [float(models.margin)])})
  rows = []

  for k, (drafts, versions) in enumerate(zip(made.texts, made.texts[1:], strict=False), start=1):
    outcomes = judge.outcomes(judge.verdicts(suite.questions, versions, drafts))
    pairs = zip(outcomes, versions, drafts, strict=True)
    kinds = np.array(["identical" if y == draft else NAMES[word] for word, y, draft in pairs])
    for rule in improvement.STOP_RULES:
      ruled = dataclasses.replace(remembered, stop_rule=rule)
      gained = ruled.gains(suite.questions, versions, drafts)
      rows += [
        {"rule": rule, "margin": margin, "k": k, **stopping.count(kinds, gained > margin)}
        for margin in margins
      ]

  return {"judge": judge.name, "rows": rows}
