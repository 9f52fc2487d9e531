"""Every system under every judge: scores, comparisons, and how far the judges agree."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.data import conversations
from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.statistics import agreement


def measure(run: subject.Subject) -> dict:
  """Returns systems, comparisons, facts of the reward models, the judges' agreement, and answers.

  Where a baseline is absent, it says why.
  """
  suite = run.suite
  texts = run.texts
  return {
    "systems": {name: suite.describe(words) for name, words in texts.items()},
    "comparisons": [row for a, b in run.pairs for row in suite.compare(a, b, texts)],
    "reward_models": run.reward_models,
    "agreement": agreements(suite, texts, run.pairs, run.headline),
    "answers": answers(suite, texts, run.headline),
    "absent": run.absent,
    "about": run.about,
    "controls": run.controls,
  }


def answers(
  suite: suites.Suite, texts: Mapping[str, Sequence[str]], headline: tuple[str, str]
) -> list[dict]:
  """Returns prompts of the headline's comparison with both answers, by what became of them.

  The judge that gives the most believed scores ranks all prompts: `best`, `median` and `worst` by
  the change from the headline's second system to its first, and `typical`, the median of those that
  it puts higher. Where it puts none higher there is no typical one.
  """
  judge = suite.scorer
  pair = headline[::-1]  # as the page shows them: what was, and what is
  scores = np.stack([judge.score(suite.questions, texts[name]) for name in pair])
  change = scores[1] - scores[0]
  order = np.argsort(change, kind="stable")
  better = [place for place in order if change[place] > judge.tie]

  places = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
  places |= {"typical": better[(len(better) - 1) // 2]} if better else {}
  lengths = {name: suite.lengths(texts[name]) for name in pair}
  return [
    {
      "rank": rank,
      "prompt": conversations.write(suite.questions[place]),
      "judge": judge.name,
      "change": float(change[place]),
      "improved": len(better),
      "answers": [
        {"system": name, "text": texts[name][place], "score": float(scores[side, place]),
         "tokens": int(lengths[name][place])}
        for side, name in enumerate(pair)
      ],
    }
    for rank, place in places.items()
  ]  # fmt: skip


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
