"""Improving again and again: every round against the first draft, and all of them rated."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from pit_jax.data import critiques
from pit_jax.evaluate import suite as suites
from pit_jax.feedback import judges
from pit_jax.improve import improvement, self_refine
from pit_jax.recipes.pit import subject
from pit_jax.statistics import ratings


def measure(run: subject.Subject) -> dict:
  """Returns the rounds with and without the stop rule, and ratings over all pairs of rounds.

  Where Self-Refine was played, its rounds are rated among the improver's, and have a table.
  """
  methods = {"pit": run.made.texts[1:]}
  results = {"rounds": table(run.suite, run.made)}
  if run.refined:
    methods["self_refine"] = run.refined.texts[1:]
    results["self_refine"] = refinements(run.suite, run.refined)

  return {**results, "ratings": rate(run.suite, run.original, methods)}


def table(suite: suites.Suite, made: improvement.Rounds) -> list[dict]:
  """Returns rounds 0 … k with and without the stop rule, against round 0."""
  judge = suite.scorer
  drafts = made.texts[0]
  rows = []

  for k, free in enumerate(made.texts):
    compared = dataclasses.asdict(judge.compare(suite.questions, free, drafts))
    row = {"k": k, "score": suite.score(free), **compared}
    rows.append(row | ruled(suite, judge, made, k))

  return rows


def ruled(suite: suites.Suite, judge: judges.Judge, made: improvement.Rounds, k: int) -> dict:
  """Returns how round k fares against the drafts when the stop rule ends each answer's rounds.

  `stopped` is the fraction of prompts that the rule has ended by then; with the suffix _stop come
  the judge's mean score and comparison.
  """
  texts = made.with_stop(k)
  compared = dataclasses.asdict(judge.compare(suite.questions, texts, made.texts[0]))
  figures = {"score": float(judge.score(suite.questions, texts).mean()), **compared}
  kept = {f"{name}_stop": value for name, value in figures.items()}
  return {**kept, "stopped": float(made.stopped(k).mean())}


def refinements(suite: suites.Suite, played: self_refine.Refinements) -> list[dict]:
  """Returns rounds 1 … k of Self-Refine against round 0, and what became of the drafts in each.

  Rows have shares of the prompts that were refined, stayed unchanged, had been stopped, or fell
  back because the form failed, these by kind; and the tokens written in that round, per prompt.
  """
  judge = suite.scorer
  rows = []
  for k, outcomes in enumerate(played.outcomes, start=1):
    counts = collections.Counter(outcomes)
    texts = played.texts[k]
    failures = critiques.failures(outcomes)
    kinds = (critiques.REFINED, critiques.UNCHANGED, self_refine.STOPPED)
    row = {"k": k, "score": suite.score(texts)}
    row |= dataclasses.asdict(judge.compare(suite.questions, texts, played.texts[0]))
    row |= {kind: counts[kind] / len(outcomes) for kind in kinds}
    row |= {"fallback": sum(failures.values()) / len(outcomes), "kinds": failures}
    for name, written in (("feedback", played.feedback), ("answer", played.written)):
      lengths = suite.lengths([text or "" for text in written[k - 1]])
      row[f"{name}_tokens"] = float(lengths.mean())
    rows.append(row)

  return rows


def rate(
  suite: suites.Suite, original: Sequence[str], methods: Mapping[str, Sequence[Sequence[str]]]
) -> list[dict]:
  """Rates the original and every round of every method from all their pairs (table 3).

  Only judges that score are asked: of K players there are K (K − 1) / 2 pairs per prompt. There is
  a row per judge and player, best first, with the number of its `games` in all.

  Args:
    suite: judges and prompts.
    original: y_0.
    methods: name → its rounds y_1, y_2, …, which become the players "name 1", "name 2", ….
  """
  players = {"original": original}
  for name, rounds in methods.items():
    players |= {f"{name} {k}": texts for k, texts in enumerate(rounds, start=1)}
  rows = []

  for judge in suite.scoring:
    outcomes = {
      (a, b): suite.outcomes(judge, players[a], players[b])
      for a, b in itertools.combinations(players, 2)
    }
    rated = ratings.rate(outcomes)

    # Each player meets every other one once per prompt.
    games = (len(players) - 1) * len(suite.questions)
    rows += [{"judge": judge.name, "games": games, **vars(rating)} for rating in rated]

  return rows
