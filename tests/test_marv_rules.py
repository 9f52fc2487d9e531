"""What units, meta-critic and MARV are worth where all who write are rules, and nothing is learnt.

Revisions are scored by gold with noise, which no training does: how noisy a score may be, and what
a score that knows nothing does, is what is asked here.
"""

import random
from typing import NamedTuple

import numpy as np
import pytest

from pit_jax.data import units
from pit_jax.recipes.multicritique import measures, pairing
from pit_jax.run import made_rows
from pit_jax.stages import unit_criticism
from pit_jax.statistics import detection, revised
from pit_jax.tasks import faults, synthetic

COUNT = 600
HOLES = ("answer", "working", "greeting", "tone")
FORM = units.Form("Weak: {place}. Score {severity}. Change: {suggestion}", "Weak: none.")
REVISERS = (faults.Reviser(), faults.Reviser(follows=0.7, right=0.8))


class Rules(NamedTuple):
  """Letters, what the rules say of them, and the pairs that this makes."""

  failed: np.ndarray  # which checks letters fail, Bool[letters checks]
  taught: measures.Criticised
  pairs: tuple
  better: np.ndarray  # F1 of the chosen critique less that of the other, Float[pairs]
  scores: np.ndarray  # gold of the revisions, Float[pairs 2 r s]


@pytest.fixture(scope="module")
def rules():
  letters = []
  for number in range(COUNT):
    chance = random.Random(number)
    q = synthetic.question(chance)
    letter = synthetic.write(q, synthetic.writer_named("hasty", first=0.1), chance)
    letters.append((synthetic.ask(q), letter.text(q.asker)))

  meta = faults.Checker()
  nothing = made_rows.MadeRows("rows/none", [], "hash")
  reviews, classes = [], []
  for hole in HOLES:
    said = [faults.Finder(hole).find(*letter, 0) for letter in letters]
    listed = [units.Listed(tuple(units.Unit(*fault) for fault in faults_of)) for faults_of in said]
    rows = [unit_criticism.Review(*letter, one, "") for letter, one in zip(letters, listed)]
    reviews.append(unit_criticism.Reviews(nothing, {"rows": rows, "validation": []}))
    classes.append([
      tuple(
        units.Classed(unit, 7, meta.accept(row.prompt, row.draft, unit.at, FORM.line(unit), 0))
        for unit in row.listed.units
      )
      for row in rows
    ])  # fmt: skip
  by_draft = {"rows": list(zip(*classes, strict=True)), "validation": []}
  whole = unit_criticism.Classes(nothing, by_draft, {})
  pairs = pairing.by_severity(reviews, whole, FORM, 0).rows

  wrong = measures.failed([(row.prompt, row.response) for row in pairs])
  sides = [
    [FORM.read(getattr(row, side)).units for row in pairs] for side in ("chosen", "rejected")
  ]
  named = [
    np.array([[name in {unit.at for unit in one} for name in measures.CHECKS] for one in side])
    for side in sides
  ]
  better = np.subtract(*(detection.each(one, wrong) for one in named))
  scores = np.array([
    [
      [[_gold(row, one, reviser, seed) for seed in range(4)] for reviser in REVISERS]
      for one in both
    ]
    for row, *both in zip(pairs, *sides, strict=True)
  ])  # fmt: skip
  return Rules(
    measures.failed(letters), measures.Criticised(reviews, whole, ()), pairs, better, scores
  )


def _gold(row, listed, reviser, seed):
  changes = {unit.at: unit.suggestion for unit in reversed(listed)}
  return synthetic.gold(row.prompt, reviser.revise(row.prompt, row.response, changes, seed))


def f1(rules, source):
  said = rules.taught.units(source, "rows", HOLES)
  named = [[name in {unit.at for unit in one} for name in measures.CHECKS] for one in said]
  return detection.describe(np.array(named), rules.failed, measures.CHECKS)["f1"]


def test_what_is_merged_of_graded_units_is_better_than_the_union_and_any_critic(rules):
  singles = [f1(rules, hole) for hole in HOLES]
  assert f1(rules, "merged") > 0.9 > f1(rules, "union")
  assert f1(rules, "merged") > max(singles) + 0.03


def right(rules, kept):
  unlike = kept & (rules.better != 0)
  return (rules.better[unlike] > 0).mean()


def marv(rules, noise, seed=0):
  draw = np.random.default_rng(seed)
  noisy = rules.scores + noise * draw.normal(size=rules.scores.shape)
  return revised.kept(noisy[:, 0], noisy[:, 1])


def test_labels_are_right_more_often_where_marv_keeps_them_and_not_by_chance(rules):
  whole = np.ones(len(rules.pairs), bool)
  before = right(rules, whole)
  assert 0.7 < before < 0.9 and len(rules.pairs) > COUNT
  for noise in (0.0, 1.0, 2.0):
    kept = marv(rules, noise)
    assert 0.5 < kept.mean() < 0.9
    assert right(rules, kept) > before + 0.05
    assert abs(right(rules, revised.at_random(kept, 0)) - before) < 0.04


def test_a_score_that_knows_nothing_does_not_help(rules):
  before = right(rules, np.ones(len(rules.pairs), bool))
  after = [right(rules, marv(rules, 1e6, seed)) for seed in range(20)]
  assert abs(np.mean(after) - before) < 0.01
  assert 0.4 < marv(rules, 1e6).mean() < 0.6
