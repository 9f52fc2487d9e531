"""What the parts of PIT are worth (table 2): the curriculum's stages, the improver's reward."""

import numpy as np

from pit_jax.evaluate import suite as suites
from pit_jax.feedback import judges
from pit_jax.improve import gains, improvement
from pit_jax.recipes.pit import gap_rewards, improvers, rounds, subject
from pit_jax.statistics import metrics

REWARDED_BY = {"pit_rp_difference": "R_P"}  # systems whose reward is a judge too


def measure(run: subject.Subject) -> dict:
  """Returns the ablations' scores and comparisons, what is known of each gap reward, and efforts.

  There is nothing to return of a run that trained no ablations.
  """
  if not run.ablated:
    return {}
  suite = run.suite
  texts = {**run.texts, **run.ablated}
  comparisons = []
  for pair in run.ablation_pairs:
    # R_P chose one of two samples for that system, and so is no judge of it.
    without = (suites.SELECTOR,) if subject.LONGER_PAIR in pair else ()
    comparisons += suite.compare(*pair, texts, without=without)

  rows = []
  for name, reward in run.chain.gap_rewards.items():
    row = {"system": name, **describe(suite, reward, run.made, texts[name])}
    rows.append(row | ruled(suite, judge_of(suite, name), stop(suite, reward, run.made)))

  systems = {name: suite.describe(words) for name, words in run.ablated.items()}
  made = {"ablation": rows, "improvers": improvers.measure(run, texts)}
  return {"systems": systems, "comparisons": comparisons, **made}


def describe(
  suite: suites.Suite, reward: gap_rewards.GapReward, made: improvement.Rounds, improved: list[str]
) -> dict:
  """Returns accuracy, order and calibration of a gap reward.

  Of held-out pairs of the data: `accuracy`, `order` (the share of pairs in the order of eq. 1),
  `ece`, the four means and whether these `hold` the order, and the `zero_point` and `spread` (mean
  and deviation over identical pairs, in deviations over samples of M_PIT^SFT). Of pairs (y_1, y_0):
  `sign_agreement` with the independent judge on pit's, `own_sign_agreement` on the improver's own.

  Args:
    suite: prompts and judges.
    reward: what is described.
    made: pit's rounds, the same for every reward.
    improved: y_1 of the improver that this reward trained, from the same drafts.
  """
  facts = reward.facts
  drafts = made.texts[0]
  gaps = {name: np.array(values) for name, values in facts["gaps"].items()}
  order = metrics.gap_order(**gaps)
  return {
    **{name: facts[name] for name in ("accuracy", "order", "ece", "zero_point")},
    **{name: order[name] for name in ("wl", "ww", "ll", "lw", "holds")},
    "spread": float(np.concatenate([gaps["ww"], gaps["ll"]]).std()),
    "sign_agreement": _signs(suite, reward, made.texts[1], drafts),
    "own_sign_agreement": _signs(suite, reward, improved, drafts),
  }


def judge_of(suite: suites.Suite, system: str) -> judges.Judge | None:
  """Returns the first judge that scores and is not the system's own reward; None without one."""
  own = REWARDED_BY.get(system)
  return next((judge for judge in suite.scoring if judge.name != own), None)


def ruled(suite: suites.Suite, judge: judges.Judge | None, made: improvement.Rounds) -> dict:
  """Returns what `rounds.ruled` does of the last round, k; `judge` is None where there is none."""
  k = len(made.gaps)
  summary = {"k": k, "stopped": float(made.stopped(k).mean())}
  return summary if judge is None else summary | rounds.ruled(suite, judge, made, k)


def stop(
  suite: suites.Suite, reward: gap_rewards.GapReward, made: improvement.Rounds
) -> improvement.Rounds:
  """Returns the same versions of all answers as another gap reward would keep them."""
  pairs = zip(made.texts[1:], made.texts[:-1], strict=True)
  gained = np.stack([_gains(suite, reward, *pair) for pair in pairs])
  return made.ruled(gained, suite.improver.margin)


def _gains(suite, reward, versions: list[str], drafts: list[str]) -> np.ndarray:
  """Returns what versions gain by a gap reward under the run's stop rule, Float[N]."""
  rule = suite.improver.stop_rule
  zero_point = reward.facts["zero_point"]
  return gains.of(reward.gaps, rule, zero_point, suite.questions, versions, drafts)


def _signs(suite, reward, improved: list[str], drafts: list[str]) -> dict | None:
  judge = suite.independent
  if judge is None:
    return None
  differences = judge.verdicts(suite.questions, improved, drafts).difference
  gained = _gains(suite, reward, improved, drafts)

  return metrics.sign_agreement(gained, differences, tie=judge.tie)
