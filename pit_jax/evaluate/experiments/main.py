"""Every system under every judge: scores, comparisons, and how far the judges agree."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax import improve
from pit_jax.data import conversations
from pit_jax.evaluate import metrics, self_refine, subject
from pit_jax.evaluate import suite as suites
from pit_jax.evaluate.statistics import agreement

SAMPLES = 10


def measure(run: subject.Subject) -> dict:
  """Returns systems, comparisons, facts of the reward models, judges' agreement, and samples.

  Where a baseline is absent, it says why.
  """
  suite, texts = run.suite, run.texts
  results = {
    "systems": {name: suite.describe(words) for name, words in texts.items()},
    "comparisons": [row for a, b in run.pairs for row in suite.compare(a, b, texts)],
    "reward_models": _facts(run),
    "agreement": agreements(suite, texts, run.contrasts, run.headline),
  }
  if run.absent:
    results["absent"] = run.absent
  if run.chain:
    results["samples"] = samples(suite, run.made, run.rows, run.refined)
  return results


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


def samples(
  suite: suites.Suite,
  made: improve.Rounds,
  rows: Sequence,
  refined: self_refine.Refinements | None = None,
) -> list[dict]:
  """Returns the first few prompts with every version of their answers.

  Args:
    suite: prompts, and the judge that scores first draft and first improvement.
    made: all rounds.
    rows: the prompts' rows of data.
    refined: Self-Refine's rounds, where it was played.
  """
  judge = suite.scorer
  count = min(SAMPLES, len(suite.questions))
  improved = made.with_stop(1)
  scores = {
    name: judge.score(suite.questions[:count], texts[:count])
    for name, texts in (("original", made.texts[0]), ("improved", improved))
  }
  return [
    {
      "prompt": conversations.write(suite.questions[i]),
      "chosen": rows[i].chosen,
      "rejected": rows[i].rejected,
      "original": made.texts[0][i],
      "improved": improved[i],
      "rounds": [
        {"text": made.texts[k][i], "gap": float(made.gaps[k - 1][i])}
        for k in range(1, len(made.texts))
      ],
      judge.name: {name: float(values[i]) for name, values in scores.items()},
      **({"self_refine": _told(refined, i)} if refined else {}),
    }
    for i in range(count)
  ]


def _told(refined: self_refine.Refinements, row: int) -> list[dict]:
  """Returns what Self-Refine did to one answer, round by round."""
  columns = {
    "feedback": refined.feedback,
    "written": refined.written,
    "outcome": refined.outcomes,
    "text": refined.texts[1:],
  }
  rounds = zip(*columns.values(), strict=True)
  return [{name: told[row] for name, told in zip(columns, r, strict=True)} for r in rounds]


def _facts(run: subject.Subject) -> dict[str, dict]:
  """Returns what is known of the reward models."""
  models = {"R_P": run.policy.reward, subject.INDEPENDENT: run.policy.judge}
  facts = {name: dict(model.facts) for name, model in models.items() if model}
  if run.chain:
    known = {name: value for name, value in run.chain.gap_reward.facts.items() if name != "gaps"}
    facts["R_PIT"] = known | {"sign_agreement": _sign_agreement(run.suite, run.made)}
  return facts


def _sign_agreement(suite: suites.Suite, made: improve.Rounds) -> dict | None:
  """How often R_PIT has the sign of the gold difference on pairs (y_1, y_0)."""
  judge = suite.judges[0]
  if judge.name != "gold":
    return None
  said = judge.verdicts(suite.questions, made.texts[1], made.texts[0])
  return metrics.sign_agreement(made.gaps[0], said.difference)
