"""What of MultiCritique failed is in the results, by kind, pooled over seeds and on the page."""

from unittest import mock

import numpy as np
import pytest
import tiny_run

from pit_jax.data import critiques, preferences, rows, units
from pit_jax.evaluate import seeds
from pit_jax.recipes.multicritique import arms, measures, page, pairing
from pit_jax.run import made_rows
from pit_jax.stages import feedback, revision, unit_criticism

NOTHING_MADE = made_rows.MadeRows("rows/none", [], "hash")
UNGRADED, COPIED = {critiques.NO_FORM: 2}, {critiques.COPIED_ANSWER: 3, "nothing was written": 1}
LOST = unit_criticism.Review("q", "d", units.Listed((), (units.NO_SEVERITY,)), "Weak: tone.")
NONE = unit_criticism.Review("q", "d", units.Listed(()), "Weak: none.")


def criticised(failures):
  parts = {part: [LOST, NONE] for part in feedback.PARTS}
  classes = {part: [((), ()), ((), ())] for part in feedback.PARTS}
  graded = unit_criticism.Classes(NOTHING_MADE, classes, failures)
  return measures.Criticised([unit_criticism.Reviews(NOTHING_MADE, parts)] * 2, graded, ())


@pytest.fixture(scope="module")
def results():
  few = {"multicritique__critics": ("a", "b"), "multicritique__reinforced": False,
         "multicritique__controls": False, "data__source": "jsonl:rows"}  # fmt: skip
  config = tiny_run.config("multicritique", **few)
  pair = (rows.Preference("q", "x", "y", response="d"),)
  masks = dict.fromkeys(arms.filters(config), dict.fromkeys(feedback.PARTS, np.ones(1, bool)))
  parts = {name: mock.Mock() for name in ("study", "suite")}
  run = mock.Mock(spec=measures.Subject, context=mock.Mock(config=config), **parts)
  run.study.taught, run.study.compared = criticised(UNGRADED), criticised({critiques.NO_SCORE: 5})
  fold = preferences.Fold(pair, pair)
  run.study.paired = pairing.Paired(fold, masks, {arms.MARV: COPIED}, ())
  run.suite.lengths = lambda texts: np.ones(len(texts))
  stages = [arm.stage for arm in arms.of(config)]
  run.criticised = {stage: [LOST, NONE] for stage in stages}
  copied = revision.Revision(None, critiques.COPIED_ANSWER)
  run.revised = {stage: [copied, revision.Revision(None)] for stage in stages}
  return measures.measure(run)


def test_units_without_a_grade_and_failed_revisions_are_in_the_rows(results):
  told = {row["system"]: row for row in results["criticism"]}
  assert told["taught_merged"]["kinds"] == UNGRADED and told["taught_union"]["kinds"] == {}
  assert told["taught_a"]["kinds"] == {units.NO_SEVERITY: 2}
  assert told["critic_merged"]["kinds"] == {units.NO_SEVERITY: 1}
  assert told["critic_merged"]["failures"] == {critiques.COPIED_ANSWER: 1}
  told = {row["filter"]: row for row in results["critique_pairs"]}
  assert told["all"]["kinds"] == {critiques.NO_SCORE: 5} and told["all"]["failures"] == {}
  assert told["marv"]["failures"] == COPIED


def test_seeds_add_them_up(results):
  both = dict.fromkeys((0, 1), results["critique_pairs"])
  pooled = {row["filter"]: row for row in seeds.rows("filter")(both, [0, 1])}
  assert pooled["marv"]["failures"] == {kind: 2 * count for kind, count in COPIED.items()}
  assert pooled["all"]["kinds"] == {critiques.NO_SCORE: 10}
  # A row that tells nothing of them counts nothing.
  (row,) = seeds.rows("x")({0: [{"x": 1}], 1: [{"x": 1, "failures": {"a": 2}}]}, [0, 1])
  assert row["failures"] == {"a": 2}


def test_the_page_tells_them(results):
  note = page.critics(results).note
  assert "Units without a grade: taught_merged: not in the form 2." in note
  assert "Units lost: taught_a: no severity 2; " in note
  assert "Revisions that failed: critic_merged: answer copies its prompt 1; " in note
  note = page.pairs(results).note
  assert "Units without a grade: all: no score 5." in note
  said = "Revisions that failed: marv: answer copies its prompt 3, nothing was written 1."
  assert note.endswith(said)
