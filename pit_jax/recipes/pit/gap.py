"""What R_PIT knows (fig. 2): order and calibration, also on answers better than the data's."""

from collections.abc import Mapping

import numpy as np

from pit_jax.evaluate import suite as suites
from pit_jax.recipes.pit import subject
from pit_jax.statistics import margins, metrics

ORDER = "the data's pairs"
PREFERRED = "y_1 against y_w"
IMPROVED = "y_1 against y_0"
BEYOND = "y_1 against y_0, both better than y_w"


def measure(run: subject.Subject) -> dict:
  """Returns the order of the gaps on held-out pairs, and accuracy by margin on several kinds."""
  facts = run.chain.gap_reward.facts
  gaps = {name: np.array(values) for name, values in facts["gaps"].items()}
  chosen = run.texts["chosen"]
  kinds = accuracy(run.suite, run.made.texts[0], run.made.texts[1], chosen, facts["gain"])

  # Gaps are stored in the calibrated unit; a difference of two, divided by the gain, is in nats.
  labelled = (gaps["wl"] - gaps["lw"]) / facts["gain"]
  by_kind = {ORDER: _both(labelled, np.ones(labelled.size, bool)), **kinds}
  return {
    "gap_order": metrics.gap_order(**gaps) | {"histogram": gaps},
    "gap": {"judge": run.suite.scorer.name, "pairs": by_kind},
  }


def accuracy(suite: suites.Suite, drafts, improved, chosen, gain: float) -> dict[str, dict]:
  """Returns how often R_PIT says which of two answers the scoring judge puts higher.

  Pairs in which the judge sees no difference are left out, kinds without a pair too.

  Args:
    suite: prompts; the first judge that scores says what is right.
    drafts: y_0, one per prompt.
    improved: y_1.
    chosen: y_w of the data.
    gain: of R_PIT's calibration; its output divided by this is in nats.
  """
  judge = suite.scorer
  texts = (drafts, improved, chosen)
  zero, one, preferred = (judge.score(suite.questions, answers) for answers in texts)
  tie = judge.tie

  # No label is about two answers that are both better than y_w: there R_PIT extrapolates.
  is_beyond = (zero > preferred + tie) & (one > preferred + tie)
  comparisons = {
    IMPROVED: (improved, drafts, one - zero, np.abs(one - zero) > tie),
    PREFERRED: (improved, chosen, one - preferred, np.abs(one - preferred) > tie),
    BEYOND: (improved, drafts, one - zero, is_beyond & (np.abs(one - zero) > tie)),
  }

  return {
    name: _both(_margins(suite, first, second, rows) / gain, difference[rows] > 0)
    for name, (first, second, difference, rows) in comparisons.items()
    if rows.any()
  }


def _margins(suite: suites.Suite, first, second, rows: np.ndarray) -> np.ndarray:
  """Returns r(x, first, second) − r(x, second, first) of some rows, calibrated."""
  columns = (suite.questions, first, second)
  questions, a, b = ([column[row] for row in np.flatnonzero(rows)] for column in columns)
  return suite.improver.gaps(questions, a, b) - suite.improver.gaps(questions, b, a)


def _both(margin: np.ndarray, labels: np.ndarray) -> Mapping:
  return {**margins.describe(margin, labels), "groups": margins.by_size(margin, labels)}
