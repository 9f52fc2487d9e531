"""Raters by class: which class a prompt is of, who is asked, and classes that nobody handles."""

import dataclasses
import functools
from unittest import mock

import hypothesis
import ml_collections
import numpy as np
import pytest
import tiny_run
from hypothesis import strategies as st

from pit_jax.feedback import judges, labels, named, router
from pit_jax.recipes import running
from pit_jax.run import context as contexts

HERE = __name__
SHORT = "What is (A) Oak or (B) Elm?"


def shorter(questions, answers):
  return [-float(len(answer)) for answer in answers]


def longer(questions, answers):
  return [float(len(answer)) for answer in answers]


def is_even(prompt):
  return len(prompt) % 2 == 0


def by_length(prompt):
  return "long" if len(prompt) > 5 else "short"


def wrongly(prompt):
  return 3


def sorting(turns):
  """Replies as a language model does to what class a prompt is of: in words of its own."""
  question = turns[-1]["content"]
  ASKED.append(question)
  prompt = question.partition("\n\n")[0]
  return {"2 + 2": "It is a SUM.", "hi": "talk, and not a sum", "odd": "verse"}.get(
    prompt, "who knows"
  )


ASKED = []


def section(**fields):
  made = {"kind": "by_class", "raters": (("talk", "short"), ("sum", "long"))}
  rules = (
    ()
    if {"classify", "told_by"} & {*fields}
    else (("sum", "kind", "number"), ("talk", "kind", "any"))
  )
  return made | ({"rules": rules} if rules else {}) | fields


def config(**fields):
  made = tiny_run.config()
  with made.unlocked():
    made.feedback = ml_collections.ConfigDict({"raters": {
      "short": {"kind": "function", "function": f"{HERE}:shorter"},
      "long": {"kind": "function", "function": f"{HERE}:longer"},
      "routed": section(**fields),
    }, "writers": {"sorter": {"kind": "function", "function": f"{HERE}:sorting"}}})  # fmt: skip
  return made


def built(**fields):
  made = config(**fields)
  named.check(made)
  return named.build(mock.Mock(spec=contexts.Context, config=made), "raters", "routed")


@pytest.mark.parametrize(
  ("kind", "prompt", "holds"),
  [
    ("number", "How many apples are left?", True),
    ("number", "Compute it.", True),
    ("number", "2 + 2", True),
    ("number", "In 2024 it rained.", False),
    ("number", "Who are you?", False),
    ("choice", "Which?\nA. Oak\nB. Elm", True),
    ("choice", SHORT, True),
    ("choice", "A man and a B. C. asked.", False),
    ("choice", "Plan B: go", False),
    ("any", "", True),
  ],
)
def test_kinds_of_prompts(kind, prompt, holds):
  assert router.KINDS[kind](prompt) == holds


def test_the_first_rule_that_holds_names_the_class():
  rules = (("rude", "pattern", r"now\.$"), ("even", "function", f"{HERE}:is_even"),
           ("talk", "pattern", "^Hi"))  # fmt: skip
  classify = router.classifier({"rules": rules})
  asked = ["Tell me now.", "four", "Hi you", "Hi, Kim", "odd"]
  assert classify(asked) == ["rude", "even", "even", "talk", ""]
  by_length = router.classifier({"classify": f"{HERE}:by_length"})
  assert by_length(["ab", "abcdef"]) == ["short", "long"]


texts = st.text("ab", max_size=4)
questions = st.sampled_from(["2 + 2", "hello", "who?"])


@hypothesis.given(st.lists(st.tuples(questions, texts, texts), max_size=12))
def test_every_pair_is_asked_of_the_rater_of_its_class_whatever_the_order(rows):
  """One by one, by hand."""
  rater = built()
  pairs = [labels.Pair(*row) for row in rows]
  with mock.patch.object(labels, "ENOUGH", 10**6):
    made = labels.labels(pairs, rater)
  for row, label in zip(rows, made.labels, strict=True):
    is_sum = row[0] == "2 + 2"
    gap = len(row[1]) - len(row[2])
    assert label.said_by == ("long" if is_sum else "short")
    assert label.difference == (gap if is_sum else -gap)
    assert label.outcome == ("kept" if gap else labels.TIES)


def test_classes_that_are_left_to_others_fail_and_are_counted():
  rater = built(raters=(("talk", "short"),), leave=("sum",))
  made = labels.labels([labels.Pair("2 + 2", "4", "five"), labels.Pair("hi", "a", "bb")], rater)
  assert made.counts == {"kept": 1, "ties": 0, "disagreeing orders": 0, router.LEFT: 1}
  assert made.kept_of == {"short": 1}


def test_a_class_that_nobody_handles_is_refused_before_training(tmp_path):
  made = config(raters=(("talk", "short"),)).unlock()
  check = functools.partial(router.check, made, lambda name: router.classifier(
    made.feedback.raters[name]
  ))  # fmt: skip
  prompts = ["2 + 2", "hi", "3 * 3", "3 * 3"]
  with pytest.raises(ValueError) as error:
    check(prompts)
  assert str(error.value) == (
    "feedback.raters.routed: nobody handles the class 'sum' (2 prompts, such as '2 + 2'); give it "
    "a rater in raters, or name it in leave"
  )
  made.feedback.raters.routed.leave = ("sum",)
  check(prompts)
  made.feedback.raters.routed.rules = (("sum", "kind", "number"),)
  with pytest.raises(ValueError) as error:
    check(["x" * 90, "2 + 2"])
  long = f"{'x' * 40}…{'x' * 40}"
  assert str(error.value) == (
    f"feedback.raters.routed: no rule holds of 1 prompt, such as {long!r}; add one that does"
  )

  made = config(rules=(("sum", "pattern", "^Phone"),), raters=(("talk", "short"),))
  trained = mock.Mock(side_effect=AssertionError("trained"))
  recipe = dataclasses.replace(running.recipes.of(made), train=trained)
  with (
    mock.patch.object(running.recipes, "of", lambda config: recipe),
    pytest.raises(ValueError, match="nobody handles the class 'sum' .150 prompts, such as 'Phone"),
  ):
    running.run(made, tmp_path)


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"rules": (("a", "kind"),)}, "routed.rules=.*use triples of a class"),
    ({"raters": ()}, "routed.raters=.*; use pairs of a class and one of feedback.raters"),
    ({"raters": (("talk", "who"),)}, "names 'who'; use raters that are none by class: long, short"),
    ({"raters": (("talk", "routed"),)}, "names 'routed'; use raters that are none by class"),
    ({"rules": (("a", "kind", "poem"),)}, "by kind names 'poem'; use one of any, choice, number"),
    ({"rules": (("a", "sort", "poem"),)}, "is by 'sort'; use one of pattern, kind, function"),
    ({"rules": (("a", "pattern", "("),)}, "the pattern '\\(' is no regular expression"),
    ({"rules": ()}, "none of rules, classify and told_by given"),
    ({"rules": (("a", "kind", "any"),), "classify": f"{HERE}:by_length"},
     "rules and classify given"),
    ({"rules": (("a", "function", "nowhere:f"),)}, "nowhere"),
    ({"classify": f"{HERE}:absent"}, "absent"),
    ({"told_by": "who"}, "told_by='who'; use a name of feedback.writers, which has sorter"),
    ({"told_by": "sorter", "rules": (("a", "kind", "any"),)}, "rules and told_by given; use one"),
    ({"told_by": "sorter", "otherwise": "verse"},
     "otherwise='verse', a class that nobody handles; use one of talk, sum"),
    ({"otherwise": "talk"}, "otherwise is for replies that name no class"),
  ],
)  # fmt: skip
def test_sections_of_no_rater_by_class_are_refused(fields, said):
  with pytest.raises(ValueError, match=said):
    named.check(config(**fields))


def test_a_writer_is_asked_once_which_class_a_prompt_is_of():
  ASKED.clear()
  made = config(told_by="sorter", leave=("summary",))
  context = mock.Mock(spec=contexts.Context, config=made)
  classify = named.classifier(context, "routed")
  assert classify(["2 + 2", "hi", "odd", "2 + 2"]) == ["sum", "talk", "", "sum"]
  assert classify(["hi", "2 + 2"]) == ["talk", "sum"]
  assert len(ASKED) == 3
  assert ASKED[0].startswith("2 + 2\n\n") and "The kinds are: talk, sum, summary." in ASKED[0]
  rater = named.build(context, "raters", "routed")
  found = labels.labels([labels.Pair("2 + 2", "4", "five"), labels.Pair("odd", "a", "b")], rater)
  assert found.counts == {"kept": 1, "ties": 0, "disagreeing orders": 0, router.NOBODY: 1}

  with pytest.raises(ValueError, match="routed: writer sorter names no class of 1 prompt, such as"):
    router.check(made, lambda name: named.classifier(context, name), ["2 + 2", "odd"])
  other = config(told_by="sorter", otherwise="talk")
  context = mock.Mock(spec=contexts.Context, config=other)
  assert named.classifier(context, "routed")(["odd", "2 + 2"]) == ["talk", "sum"]


def test_a_function_that_names_no_class_is_told_with_the_prompt():
  classify = router.classifier({"classify": f"{HERE}:wrongly"})
  with pytest.raises(ValueError, match="wrongly returned 3 for the prompt 'hi'; return the name"):
    classify(["hi"])


def rater(name, told, tie=0.5):
  """A rater that knows some pairs of answers, and says how much better a is."""

  def verdicts(questions, a, b):
    gaps = np.array([told.get(pair, np.nan) for pair in zip(a, b)], float)
    failures = dict.fromkeys(np.flatnonzero(np.isnan(gaps)).tolist(), "unknown")
    return judges.Verdicts(gaps, failures=failures)

  return judges.Judge(name, verdicts, None, tie)


def test_ties_are_asked_of_the_next_where_they_are_to_be():
  first = rater("first", {("a", "b"): 2.0, ("c", "d"): 0.1, ("e", "f"): 0.0})
  second = rater("second", {("a", "b"): -9.0, ("c", "d"): -3.0, ("g", "h"): 1.0})
  pairs = [labels.Pair("q", *both) for both in ("ab", "cd", "ef", "gh", "ij")]
  final = labels.labels(pairs, judges.in_turn("both", [first, second]))
  assert [one.outcome for one in final.labels] == ["kept", "ties", "ties", "kept", "unknown"]
  passed = labels.labels(pairs, judges.in_turn("both", [first, second], passes_ties=True))
  assert [(one.outcome, one.difference, one.said_by) for one in passed.labels] == [
    ("kept", 2.0, "first"),
    ("kept", -3.0, "second"),
    ("ties", 0.0, "first"),  # of which the second knows nothing
    ("kept", 1.0, "second"),
    ("unknown", None, "both"),
  ]


def fond(place, name="careless"):
  sign = 1.0 if place == "first" else -1.0

  def in_order(questions, a, b):
    return judges.Verdicts(np.full(len(a), sign))

  return judges.Judge(
    name, lambda *asked: judges.in_both_orders(in_order, *asked), None, judges.EXACT_TIE,
    in_order=in_order,
  )  # fmt: skip


def many(count):
  return [labels.Pair(f"q{i}", "a", "bb") for i in range(count)]


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_rater_that_prefers_one_place_always_is_named(place):
  with pytest.raises(ValueError) as error:
    labels.labels([*many(labels.ENOUGH), labels.Pair("q", "same", "same ")], fond(place))
  assert str(error.value) == (
    f"rater careless prefers what is shown {place} in all {labels.ENOUGH} pairs, whichever answer "
    "that is: its labels would say nothing of the answers; mend it, or ask another"
  )
  made = labels.labels(many(labels.ENOUGH - 1), fond(place))  # which may be chance
  assert made.counts[labels.DISAGREEING] == labels.ENOUGH - 1


def test_a_rater_that_always_prefers_the_same_answers_is_none_of_them():
  shorter = judges.function(f"{HERE}:shorter", "shorter")
  assert labels.labels(many(50), shorter).counts["kept"] == 50


def test_a_rater_that_sees_ties_alone_is_named_and_of_several_it_is_logged(caplog):
  indifferent = rater("indifferent", {("a", "bb"): 0.0})
  with pytest.raises(ValueError) as error:
    labels.labels(many(30), indifferent)
  assert str(error.value) == (
    "rater indifferent sees a tie in all 30 pairs, so that nothing is left to learn from; mend it, "
    "or ask another"
  )
  classify = lambda prompts: ["one" if len(prompt) == 2 else "two" for prompt in prompts]  # noqa: E731
  others = {"one": judges.function(f"{HERE}:shorter", "shorter"), "two": indifferent}
  made = labels.labels(many(60), router.by_class("both", classify, others))
  assert made.counts["kept"] == 10 and made.counts["ties"] == 50
  assert "rater indifferent sees a tie in all 50 pairs" in caplog.text


def test_one_of_several_that_prefers_a_place_is_named():
  classify = lambda prompts: ["one" if len(prompt) == 2 else "two" for prompt in prompts]  # noqa: E731
  others = {"one": judges.function(f"{HERE}:shorter", "shorter"), "two": fond("first")}
  with pytest.raises(ValueError, match="rater careless prefers what is shown first in all 50"):
    labels.labels(many(60), router.by_class("both", classify, others))
