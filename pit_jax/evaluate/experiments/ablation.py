"""What the parts of PIT are worth (table 2): the curriculum's stages, the improver's reward."""

import dataclasses

import numpy as np

from pit_jax import improve
from pit_jax.evaluate import metrics, subject
from pit_jax.evaluate import suite as suites
from pit_jax.stages import gap_rewards


def measure(run: subject.Subject) -> dict:
  """Returns the ablations' scores and comparisons, and what is known of each gap reward.

  There is nothing to return of a run that trained no ablations.
  """
  if not run.ablated:
    return {}
  texts = {**run.texts, **run.ablated}
  return {
    "systems": {name: run.suite.describe(words) for name, words in run.ablated.items()},
    "comparisons": [row for a, b in run.ablation_pairs for row in run.suite.compare(a, b, texts)],
    "ablation": [
      {"system": name, **describe(run.suite, reward, run.made, texts[name])}
      for name, reward in run.chain.gap_rewards.items()
    ],
  }


def describe(
  suite: suites.Suite,
  reward: gap_rewards.GapReward,
  made: improve.Rounds,
  improved: list[str],
) -> dict:
  """Returns what a gap reward knows, and what its stop rule makes of pit's rounds.

  Args:
    suite: prompts and judges.
    reward: what is described.
    made: pit's rounds, the same for every reward.
    improved: y_1 of the improver that this reward trained, from the same drafts.

  Returns:
    Of held-out pairs of the data: `accuracy`, `order` (the share of pairs in the order of eq. 1),
    `ece`, the four means and whether these `hold` the order, and the `zero_point` and `spread`
    (mean and deviation over identical pairs, in deviations over samples of M_PIT^SFT). Of pairs
    (y_1, y_0): `sign_agreement` with the independent judge on pit's, `own_sign_agreement` on the
    improver's own. And with the suffix _stop how the last round fares against the drafts under
    the first judge that scores when this reward ends each answer's rounds, `k` of them at most.
  """
  facts, drafts = reward.facts, made.texts[0]
  gaps = {name: np.array(values) for name, values in facts["gaps"].items()}
  found = metrics.gap_order(**gaps)
  ruled = stop(suite, reward, made)
  k, judge = len(ruled.gaps), suite.scorer
  stopping = ruled.with_stop(k)
  compared = dataclasses.asdict(judge.compare(suite.questions, stopping, drafts))
  return {
    **{name: facts[name] for name in ("accuracy", "order", "ece", "zero_point")},
    **{name: found[name] for name in ("wl", "ww", "ll", "lw", "holds")},
    "spread": float(np.concatenate([gaps["ww"], gaps["ll"]]).std()),
    "sign_agreement": _signs(suite, reward, made.texts[1], drafts),
    "own_sign_agreement": _signs(suite, reward, improved, drafts),
    "k": k,
    "score_stop": suite.score(stopping),
    "stopped": float(ruled.stopped(k).mean()),
    **{f"{name}_stop": value for name, value in compared.items()},
  }


def stop(
  suite: suites.Suite, reward: gap_rewards.GapReward, made: improve.Rounds
) -> improve.Rounds:
  """Returns the same versions of all answers as another gap reward would keep them."""
  pairs = zip(made.texts[1:], made.texts[:-1], strict=True)
  gaps = np.stack([reward.gaps(suite.questions, *pair) for pair in pairs])
  gaps = gaps - reward.facts["zero_point"]
  is_open = np.logical_and.accumulate(gaps > suite.improver.margin, axis=0)
  return improve.Rounds(texts=made.texts, gaps=gaps, kept=is_open.sum(axis=0))


def _signs(suite, reward, improved: list[str], drafts: list[str]) -> dict | None:
  judge = suite.independent
  if judge is None:
    return None
  said = judge.verdicts(suite.questions, improved, drafts).difference
  gaps = reward.gaps(suite.questions, improved, drafts)
  point = reward.facts["zero_point"]
  return metrics.sign_agreement(gaps, said, zero_point=point, tie=judge.tie)
