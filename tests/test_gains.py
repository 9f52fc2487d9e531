"""What a version gains over its draft, on tables of a gap reward that are known."""

import types
from unittest import mock

import jax
import numpy as np
import pytest
import scripted
import tiny_run

from pit_jax.improve import gains, improvement
from pit_jax.recipes import pit
from pit_jax.recipes.pit import cost, curriculum, gap_rewards
from pit_jax.run import checks
from pit_jax.run import context as contexts

# R(x, y, y') by answer and reference. The draft "good" has a high zero of its own, "poor" a low
# one: by one zero point, 0, a good draft's copy is a gain, and a bad version of it too.
TABLE = {
  ("good", "good"): 1.5, ("poor", "poor"): -1.5,
  ("worse", "good"): 0.5, ("good", "worse"): 2.5,
  ("best", "good"): 2.0, ("good", "best"): 0.5,
  ("fair", "poor"): -0.5, ("poor", "fair"): -2.0,
}  # fmt: skip
VERSIONS = ["good", "worse", "best", "poor", "fair"]
DRAFTS = ["good", "good", "good", "poor", "poor"]
GAINS = {
  "both_orders": [0.0, -1.0, 0.75, 0.0, 0.75],
  "draft_zero": [0.0, -1.0, 0.5, 0.0, 1.0],
  "zero_point": [1.5, 0.5, 2.0, -1.5, -0.5],
}
KEY = jax.random.key(0)
READS = {"both_orders": 6, "draft_zero": 6, "zero_point": 5}


def table_of(asked=None):
  """Returns a gap reward that knows the table, and notes what it was asked."""

  def gaps(questions, answers, references):
    rows = list(zip(questions, answers, references, strict=True))
    if asked is not None:
      asked.extend(rows)
    return np.array([TABLE[answer, reference] for _, answer, reference in rows], np.float32)

  return gaps


@pytest.mark.parametrize("rule", gains.RULES)
def test_gains_by_hand(rule):
  asked, questions = [], [f"q{i}" for i in range(5)]
  found = gains.of(table_of(asked), rule, 0.0, questions, VERSIONS, DRAFTS)
  assert found.tolist() == GAINS[rule]
  assert len(asked) == READS[rule] == gains.reads(rule, VERSIONS, DRAFTS).sum()
  for question, *pair in asked:
    place = questions.index(question)
    assert set(pair) <= {VERSIONS[place], DRAFTS[place]}, "texts stay with their question"


def test_one_zero_for_all_drafts_is_taken_off():
  found = gains.of(table_of(), "zero_point", 1.5, "qqqqq", VERSIONS, DRAFTS)
  np.testing.assert_allclose(found, np.array(GAINS["zero_point"]) - 1.5)


def test_nothing_is_asked_of_copies_alone():
  asked, copies = [], (["good", "poor"],) * 2
  assert gains.of(table_of(asked), "both_orders", 0.0, "qq", *copies).tolist() == [0.0, 0.0]
  assert asked == []


def test_exchanged_texts_have_the_opposite_gain():
  generator = np.random.default_rng(0)
  known = {}

  def gaps(questions, answers, references):
    rows = zip(questions, answers, references, strict=True)
    return np.array([known.setdefault(row, generator.normal(3.0)) for row in rows])

  texts = [f"y{i}" for i in range(7)], [f"z{i}" for i in range(7)]
  forth, back = (
    gains.of(gaps, "both_orders", 9.0, "abcdefg", *pair) for pair in (texts, texts[::-1])
  )
  assert np.abs(forth).min() > 0
  np.testing.assert_array_equal(forth, -back)


@pytest.mark.parametrize(
  "rule, kept", [("both_orders", [0, 0, 1, 0, 1]), ("zero_point", [1, 1, 1, 0, 0])]
)
def test_the_rule_decides_what_is_kept(rule, kept):
  class Known(scripted.Scripted):
    def revise(self, improver, questions, drafts, key, temperature):
      return VERSIONS

    def gaps(self, gap_reward, questions, answers, references):
      return table_of()(questions, answers, references)

  models = improvement.Improver(Known(), {}, {}, {}, zero_point=0.0, stop_rule=rule)
  made = improvement.improve(models, "qqqqq", DRAFTS, rounds=1, key=KEY, temperature=1.0)
  assert made.kept.tolist() == kept
  assert made.gaps.tolist() == [GAINS[rule]]


def test_a_rule_that_is_none_is_refused():
  with pytest.raises(ValueError, match="stop_rule='both'; use one of both_orders, draft_zero"):
    gains.of(table_of(), "both", 0.0, "qqqqq", VERSIONS, DRAFTS)
  with pytest.raises(ValueError, match="evaluation.stop_rule='both'; use one of both_orders"):
    checks.values(tiny_run.config(evaluation__stop_rule="both"), pit.RECIPE)


# The first answer is read over two versions, the second, a copy, over one.
@pytest.mark.parametrize("rule, reads", [("both_orders", 2 + 2 + 0), ("zero_point", 1 + 1 + 1)])
def test_the_cost_counts_what_the_rule_reads(rule, reads):
  suite = scripted.make_suite(["5 6 4", "5 5 5"], stop_rule=rule)
  made = suite.rounds(["version 0"] * 2, 2, 200)
  made.texts[1][1] = "version 0"
  rows = {(row["system"], row["budget"]): row for row in cost.of_rounds(suite, made)}
  assert rows["pit_stop", 3]["reads"] == reads / 2


def test_how_often_a_response_beats_its_reference_is_asked_in_both_orders():
  context = mock.Mock(spec=contexts.Context, models=mock.Mock())
  context.config = types.SimpleNamespace(log_every_rl=2, inference_batch_size=6)
  context.models.inference = types.SimpleNamespace(words=lambda responses: responses)
  reward = gap_rewards.GapReward(
    {"zero_point": 0.75, "shift": -0.5}, {}, lambda *texts: None, table_of()
  )
  asked = [f"q{i}" for i in range(5)], DRAFTS
  metrics = curriculum._extra_metrics(context, reward, asked, number=2, begun=7, total=10)
  # The stage's places 2, 1, 4, 0: a gain, a loss, a gain and a copy; three of them fit into a call.
  rows, scores = np.array([2, 1, 4, 0]), {"gap": jax.numpy.array([2.0, 0.5, -0.5, 1.5])}
  told = metrics(1, rows, [VERSIONS[i] for i in rows], scores)
  assert told.pop("objective/win_vs_reference") == 2 / 3
  assert told == {
    "curriculum/stage": 2, "curriculum/fraction": 0.9, "objective/gap_reward": 3.5 / 4 - 0.25
  }  # fmt: skip
  assert "objective/win_vs_reference" not in metrics(0, rows, [VERSIONS[i] for i in rows], scores)
