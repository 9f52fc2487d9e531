"""Every system under every judge: scores, comparisons, and how far the judges agree."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.statistics import agreement


def measure(run: subject.Subject) -> dict:
  """Returns systems, comparisons, facts of the reward models, and the judges' agreement.

  Where a baseline is absent, it says why.
  """
  suite = run.suite
  texts = run.texts
  return {
    "systems": {name: suite.describe(words) for name, words in texts.items()},
    "comparisons": [row for a, b in run.pairs for row in suite.compare(a, b, texts)],
    "reward_models": run.reward_models,
    "agreement": agreements(suite, texts, run.contrasts, run.headline),
    **({"absent": run.absent} if run.absent else {}),
    "controls": run.controls,
  }


def agreements(
  suite: suites.Suite,
  texts: Mapping[str, Sequence[str]],
  pairs: Sequence[tuple[str, str]],
  headline: tuple[str, str],
) -> list[dict]:
  """Returns how far every two judges agree: on the headline, one of the pairs, and on all."""
  outcomes = {
    judge.name: np.stack([suite.outcomes(judge, texts[a], texts[b]) for a, b in pairs])
    for judge in suite.judges
  }
  parts = {" over ".join(headline): [pairs.index(headline)], "all comparisons": slice(None)}
  rows = []

  for first, second in itertools.combinations(outcomes, 2):
    for name, part in parts.items():
      both = outcomes[first][part], outcomes[second][part]
      # A sum with NaN is NaN: finite is what both of them judged.
      if np.isfinite(both[0] + both[1]).any():
        agreed = agreement.compare(*both)
        rows.append({"judges": [first, second], "of": name, **vars(agreed)})

  return rows
