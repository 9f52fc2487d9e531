"""Every system under every judge: scores, comparisons, and how far the judges agree."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.improve import improvement
from pit_jax.statistics import agreement, metrics


def measure(run: subject.Subject) -> dict:
  """Returns systems, comparisons, facts of the reward models, and the judges' agreement.

  Where a baseline is absent, it says why.
  """
  suite, texts = run.suite, run.texts
  return {
    "systems": {name: suite.describe(words) for name, words in texts.items()},
    "comparisons": [row for a, b in run.pairs for row in suite.compare(a, b, texts)],
    "reward_models": _facts(run),
    "agreement": agreements(suite, texts, run.contrasts, run.headline),
    **({"absent": run.absent} if run.absent else {}),
  }


def agreements(
  suite: suites.Suite,
  texts: Mapping[str, Sequence[str]],
  pairs: Sequence[tuple[str, str]],
  headline: tuple[str, str],
) -> list[dict]:
  """Returns how far every two judges agree, on one pair of systems and on all of them.

  Args:
    suite: judges and prompts.
    texts: the answers of each system.
    pairs: the systems that are compared.
    headline: one of these pairs.
  """
  outcomes = {
    judge.name: np.stack([suite.outcomes(judge, texts[a], texts[b]) for a, b in pairs])
    for judge in suite.judges
  }
  place = pairs.index(headline)
  parts = {" over ".join(headline): slice(place, place + 1), "all comparisons": slice(None)}
  rows = []
  for first, second in itertools.combinations(outcomes, 2):
    for name, part in parts.items():
      both = outcomes[first][part], outcomes[second][part]
      if np.isfinite(both[0] + both[1]).any():
        found = agreement.compare(*both)
        rows.append({"judges": [first, second], "of": name, **vars(found)})
  return rows


def _facts(run: subject.Subject) -> dict[str, dict]:
  """Returns what is known of the reward models."""
  models = {"R_P": run.policy.reward, subject.INDEPENDENT: run.policy.judge}
  facts = {name: dict(model.facts) for name, model in models.items() if model}
  if run.chain:
    known = {name: value for name, value in run.chain.gap_reward.facts.items() if name != "gaps"}
    facts["R_PIT"] = known | {"sign_agreement": _sign_agreement(run.suite, run.made)}
  return facts


def _sign_agreement(suite: suites.Suite, made: improvement.Rounds) -> dict | None:
  """How often R_PIT has the sign of the gold difference on pairs (y_1, y_0)."""
  judge = suite.judges[0]
  if judge.name != "gold":
    return None
  said = judge.verdicts(suite.questions, made.texts[1], made.texts[0])
  return metrics.sign_agreement(made.gaps[0], said.difference)
