"""What stop rules keep, counted on versions whose gains and worth are known."""

import dataclasses

import numpy as np
import report_example
import scripted

from pit_jax.evaluate import seeds
from pit_jax.feedback import judges
from pit_jax.improve import improvement
from pit_jax.recipes.pit import stop
from pit_jax.report import pages, tabular, verdict
from pit_jax.statistics import stopping

METHOD, POOLED = report_example.METHOD, report_example.POOLED

# Question → gold of the draft and of its version; the zero of the draft; whether it is repeated.
ROWS = {
  "better, poor draft": (5, 7, -1.0, False),
  "better, good draft": (6, 7, 1.0, False),
  "worse, poor draft": (5, 3, -1.0, False),
  "worse, good draft": (8, 7.5, 1.0, False),
  "equal, good draft": (8, 8, 1.0, False),
  "repeated": (8, 8, 1.0, True),
}


class Biased(scripted.Scripted):
  """A gap reward that knows gold, but adds to every gap what the reference is like."""

  def gaps(self, gap_reward, questions, answers, references):
    rows = zip(questions, answers, references, strict=True)
    return np.array([worth(q, a) - worth(q, b) + ROWS[q][2] for q, a, b in rows])


def worth(question, text):
  return ROWS[question][0 if text == "draft" else 1]


def compared(margin=0.0):
  ask, questions = Biased(), list(ROWS)
  gold = judges._pointwise(
    "gold", lambda qs, texts: np.array([worth(*pair) for pair in zip(qs, texts)], float), 1e-9
  )
  suite = scripted.make_suite(questions, margin)
  models = dataclasses.replace(suite.improver, inference=ask, zero_point=0.0)
  suite = dataclasses.replace(suite, improver=models, judges=[gold, *suite.judges])
  texts = [["draft"] * 6, ["draft" if ROWS[q][3] else "version" for q in questions]]
  unknown = np.zeros((1, 6))
  return stop.compare(suite, improvement.Rounds(texts, unknown, unknown[0].astype(int)))


def row_of(found, rule, margin, k=1):
  (row,) = [
    row for row in found["rows"] if (row["rule"], row["margin"], row["k"]) == (rule, margin, k)
  ]
  return {name: (row[name], row[f"{name}_kept"]) for name in stopping.KINDS}


def test_what_rules_keep_of_each_kind():
  found = compared()
  assert found["judge"] == "gold"
  counts = {"better": 2, "equal": 1, "worse": 2, "identical": 1}
  kept = {
    # Gains 2, 1, −2, −0.5, 0 and 0: what the reference is like cancels.
    ("both_orders", 0.0): (2, 0, 0, 0),
    ("both_orders", 1.0): (1, 0, 0, 0),
    ("draft_zero", 0.0): (2, 0, 0, 0),
    # Gains 1, 2, −3, 0.5, 1 and 1.
    ("zero_point", 0.0): (2, 1, 1, 1),
    ("zero_point", 0.5): (2, 1, 0, 1),
    ("zero_point", 1.0): (1, 0, 0, 0),
  }
  for (rule, margin), numbers in kept.items():
    expected = dict(zip(stopping.KINDS, zip(counts.values(), numbers, strict=True), strict=True))
    assert row_of(found, rule, margin) == expected, (rule, margin)


def test_the_runs_own_margin_is_among_them_where_it_is_a_number():
  assert {row["margin"] for row in compared(0.3)["rows"]} == {*stop.MARGINS, 0.3}
  assert {row["margin"] for row in compared(-np.inf)["rows"]} == {*stop.MARGINS}


def test_counts_of_seeds_and_rounds_add_up():
  one = pages.check(report_example.example())
  pooled = seeds.pool({0: one, 1: one, 2: one}, POOLED)
  assert row_of(pooled["stop"], "zero_point", 0.5, k=2)["worse"] == (330, 84)
  both = stopping.over_rounds(one["stop"]["rows"])
  assert len(both) == 6
  assert row_of({"rows": both}, "zero_point", 0.5, k=None)["identical"] == (100, 76)
  table = tabular.build(one, METHOD)["stop"]
  line = dict(zip(table.columns, table.rows[4], strict=True))
  assert (line["gain"], line["worse"]) == ("R(x,y,y′) − zero point", "25.5% of 220")


def test_a_shut_gate_holds_them_back():
  assert "stop" not in verdict.presentable(report_example.closed_gate(), METHOD)
