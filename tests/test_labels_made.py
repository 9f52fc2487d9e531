"""Labels that raters make: both orders cancel a preference for a place, and nothing is lost."""

import dataclasses
import json
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.data import conversations
from pit_jax.feedback import judges, labels, language_judge, transcripts
from pit_jax.tasks import synthetic

TALK = (
  conversations.Turn("user", "the rent ?"),
  conversations.Turn("assistant", "4"),
  conversations.Turn("user", "why ?"),
)


def worth(answer):
  return float(answer.split()[-1])


def by_worth(questions, answers):
  """What a user's own module may hold: a score of each answer."""
  return [worth(answer) for answer in answers]


def for_the_first(questions, a, b):
  """Compares, and likes whatever is shown first by 1."""
  return [worth(one) - worth(other) + 1.0 for one, other in zip(a, b)]


def unsure(questions, a, b):
  return [float("nan") if "?" in question else 1.0 for question in questions]


def of_one(questions):
  return questions


def too_few(questions, answers):
  return [1.0]


HERE = __name__


def pairs(*worths):
  return [
    labels.Pair(f"q{i}", f"it is {a}", f"it is {b}", ("ada", "bob"))
    for i, (a, b) in enumerate(worths)
  ]


def test_rows_say_who_won_by_how_much_and_who_says_so():
  rater = judges.function(f"{HERE}:by_worth", "worth")
  made = labels.labels([*pairs((5, 3), (2, 2.5), (4, 4.0)), labels.Pair(TALK, "0", "1")], rater)
  prompt = [{"role": role, "content": content} for role, content in TALK]
  assert made.rows == [
    {
      "prompt": "q0",
      "chosen": "it is 5",
      "rejected": "it is 3",
      "margin": 2.0,
      "chosen_position": 1,
      "written_by": ["ada", "bob"],
      "labelled_by": "worth",
    },
    {
      "prompt": "q1",
      "chosen": "it is 2.5",
      "rejected": "it is 2",
      "margin": 0.5,
      "chosen_position": 2,
      "written_by": ["bob", "ada"],
      "labelled_by": "worth",
    },
    {
      "prompt": prompt,
      "chosen": "1",
      "rejected": "0",
      "margin": 1.0,
      "chosen_position": 2,
      "written_by": ["", ""],
      "labelled_by": "worth",
    },
  ]
  assert made.counts == {"kept": 3, "ties": 1, "disagreeing orders": 0}
  first, second, third = made.preferences
  assert (first.writers, second.writers, third.writers) == (("ada", "bob"), ("bob", "ada"), None)
  assert (second.chosen, second.margin, second.position) == ("it is 2.5", 0.5, 2)
  assert third.prompt == TALK
  assert json.loads(json.dumps(made.rows)) == made.rows


def test_a_rater_that_says_how_sure_it_is_makes_soft_labels():
  sure = (
    [math.log(0.8), math.log(0.2)],
    [math.log(0.3), math.log(0.7)],
  )  # with a first, with b first
  replies = [
    transcripts.Reply(text="A", logprobs={"A": first, "B": second}) for first, second in sure
  ]
  judge = language_judge.judge(lambda prompts: replies[: len(prompts)], verdict="logprob", tie=0.0)
  made = labels.labels([labels.Pair("q", "it is 5", "it is 3", ("ada", "bob"))], judge)
  assert made.rows[0]["chosen"] == "it is 5"
  assert made.rows[0]["label_probability"] == pytest.approx(0.75), "the mean of .8 and .7"
  assert made.preferences[0].label_probability == pytest.approx(0.75)
  again = labels.labelled(made.pairs, json.loads(json.dumps(made.annotations)), made.labelled_by)
  assert again.rows == made.rows


# By how much a is better; a rater that likes the first place by 1 says that + 1 and that − 1.
@pytest.mark.parametrize(
  ("better", "agreed", "mean", "one_order"),
  [
    (2.0, "kept", "kept", 1),
    (0.5, "disagreeing orders", "kept", 1),
    (0.0, "ties", "ties", 1),
    (-0.5, "disagreeing orders", "kept", 1),
    (-2.0, "kept", "kept", 2),
  ],
)
def test_both_orders_cancel_a_preference_for_a_place(better, agreed, mean, one_order):
  rater = judges.function(f"{HERE}:for_the_first")
  # Different texts, so that also equally good ones are shown.
  asked = [labels.Pair("q", f"a {3 + better}", "b 3")]
  whole = {"kept": 0, "ties": 0, "disagreeing orders": 0}
  for keep, expected in (("agreed", agreed), ("mean", mean)):
    made = labels.labels(asked, rater, keep=keep)
    if better == 0:  # the two orders are opposite, and their mean is none
      expected = "disagreeing orders" if keep == "agreed" else "ties"
    assert made.counts == whole | {expected: 1}
    if made.rows:
      assert made.rows[0]["margin"] == abs(better)
      assert made.rows[0]["chosen_position"] == (1 if better > 0 else 2)
  biased = labels.labels(asked, rater, orders=1)
  assert [row["chosen_position"] for row in biased.rows] == [one_order]
  assert biased.rows[0]["margin"] == abs(better + 1)


@hypothesis.given(
  strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.integers(0, 5))),
  strategies.floats(-3, 3),
)
def test_every_pair_is_counted_once_and_a_bias_moves_no_margin(worths, bias):
  def in_order(questions, a, b):
    difference = [worth(one) - worth(other) + bias for one, other in zip(a, b)]
    return judges.Verdicts(np.array(difference))

  def verdicts(*columns):
    return judges.in_both_orders(in_order, *columns)

  rater = judges.Judge("biased", verdicts, None, 1e-9, in_order=in_order)
  asked = pairs(*worths)
  made = labels.labels(asked, rater, keep="mean")
  assert sum(made.counts.values()) == len(asked)
  expected = [abs(a - b) for a, b in worths if a != b]
  np.testing.assert_allclose([row["margin"] for row in made.rows], expected, atol=1e-12)
  assert made.counts["ties"] == sum(a == b for a, b in worths)
  strict = labels.labels(asked, rater)
  opposite = [a != b and abs(bias) > abs(a - b) for a, b in worths]
  clear = [a != b and abs(bias) < abs(a - b) for a, b in worths]
  assert strict.counts["disagreeing orders"] >= sum(opposite)
  assert sum(clear) <= strict.counts["kept"] <= made.counts["kept"] - sum(opposite)


def test_what_failed_is_counted_by_its_reason():
  asked = [
    labels.Pair("why ?", "a", "b"),
    labels.Pair("so", "a", "b"),
    labels.Pair("why ?", "a", "a"),
  ]
  for orders in (1, 2):
    made = labels.labels(asked, judges.function(f"{HERE}:unsure"), orders=orders)
    failed = {1: 2, 2: 1}[orders]  # of equal answers nobody is asked in both orders
    assert made.counts["no number of the function"] == failed
    assert sum(made.counts.values()) == 3
  replies = {"well": '{"verdict": "A"}', "badly": "I cannot say"}

  def ask(prompts):
    texts = [replies["badly" if "hard" in prompt else "well"] for prompt in prompts]
    return [transcripts.Reply(text=text) for text in texts]

  rater = language_judge.judge(ask, verdict="json", name="likes A")
  asked = [labels.Pair("hard", "a", "b"), labels.Pair("easy", "a", "b")]
  made = labels.labels(asked, rater)
  assert made.counts == {
    "kept": 0,
    "ties": 0,
    "disagreeing orders": 1,
    "no verdict in the reply": 1,
  }
  one = labels.labels(asked, rater, orders=1)
  assert [row["labelled_by"] for row in one.rows] == ["likes A"]
  assert one.counts["no verdict in the reply"] == 1


def test_raters_of_single_answers_are_shown_no_order():
  questions = synthetic.preferences(20, seed=0)
  asked = [labels.Pair(row["prompt"], row["rejected"], row["chosen"]) for row in questions]
  made = labels.labels(asked, judges.gold(), orders=1)
  expected = []
  for one in asked:
    gold = [synthetic.gold(one.prompt, answer) for answer in (one.a, one.b)]
    if gold[0] != gold[1]:
      expected.append((one.a if gold[0] > gold[1] else one.b, abs(gold[0] - gold[1])))
  assert expected and [row["chosen"] for row in made.rows] == [best for best, _ in expected]
  assert [row["margin"] for row in made.rows] == pytest.approx([margin for _, margin in expected])


def test_labels_are_compared_with_another_judge():
  made = labels.labels(
    pairs((5, 3), (1, 2), (3, 1), (9, 7)), judges.function(f"{HERE}:by_worth", "worth")
  )

  def verdicts(questions, a, b):
    return judges.Verdicts(np.array([1.0, -2.0, 0.0, np.nan]), failures={3: "lost"})

  other = judges.Judge("other", verdicts, None, 1e-9)
  assert labels.agreement(made.preferences, other) == {
    "judge": "other", "agreed": 1, "disagreed": 1, "ties": 1, "failed": 1, "accuracy": 0.5
  }  # fmt: skip


def test_a_gap_model_labels_by_what_both_orders_say():
  def gaps(questions, answers, references):  # an answer has a gap of 7 over itself
    return np.array([worth(a) - worth(r) + 7.0 for a, r in zip(answers, references)])

  rater = judges.gap_model(gaps)
  for orders in (1, 2):
    made = labels.labels(pairs((5, 3), (1, 4)), rater, orders=orders)
    assert [row["margin"] for row in made.rows] == [2.0, 3.0]
    assert [row["chosen"] for row in made.rows] == ["it is 5", "it is 4"]


@pytest.mark.parametrize(
  ("place", "said"),
  [
    ("test_labels_made:nobody", "test_labels_made:nobody cannot be imported .*no attribute"),
    ("no_such_module:f", "no_such_module:f cannot be imported .*see that Python finds the module"),
    ("worth", "worth cannot be imported"),
    ("test_labels_made:HERE", "is no function but str"),
    ("test_labels_made:of_one", r"takes 1 arguments; give a function of \(questions, answers\)"),
  ],
)
def test_what_is_no_rater_is_refused(place, said):
  with pytest.raises(ValueError, match=said):
    judges.function(place)


def test_a_function_gives_a_number_per_row_and_options_are_named():
  rater = judges.function(f"{HERE}:too_few")
  with pytest.raises(ValueError, match=r"shape \(1,\) for 2 rows; return one number per row"):
    rater.score(["q", "q"], ["a 1", "b 2"])
  with pytest.raises(ValueError, match="orders=3; use 1 or 2"):
    labels.labels([], rater, orders=3)
  with pytest.raises(ValueError, match="keep='all'; use one of agreed, mean"):
    labels.labels([], rater, keep="all")
  nothing = labels.labels([], dataclasses.replace(judges.function(f"{HERE}:unsure"), tie=0.5))
  assert nothing.rows == [] and sum(nothing.counts.values()) == 0
