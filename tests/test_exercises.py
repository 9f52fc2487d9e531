"""Exercises: requests and replies in words, the embedded task's instructor, and its questions."""

import collections
import itertools
import random
import time

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from pit_jax.data import prompt_formats, sources
from pit_jax.feedback import exercises
from pit_jax.tasks import exercises as tasks
from pit_jax.tasks import kinds, synthetic

FORMAT = prompt_formats.Format("policy", plain="{prompt}")
QUESTION = (
  "Phone chain for Kim. Tom calls Joe. Ann calls Mia. Sue calls Ben. Mia calls Tom. Joe calls Sue. "
  "Ben calls Ann. Ola calls Ann. Ray calls Tom. Ann starts. Which street gets call 4?"
)  # Ann Mia Tom Joe Sue, of Elm


def letter(working, street="Elm", home="Elm"):
  return f"Hi Kim, The calls: {working} of {home}. it is {street}. Thanks for asking."


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_questions_are_of_the_kind_that_was_drawn(kind):
  rng = random.Random(kind)
  for _ in range(50):
    q = kinds.question(kind, rng)
    prompt = synthetic.ask(q)
    assert synthetic.parse_question(prompt) == q and kinds.kind_of(prompt) == kind
    chain = q.chain()
    assert len({*chain}) == len(chain) and len(q.calls) == synthetic.PEOPLE
    new = [person for person in chain if person in synthetic.NEWCOMERS]
    assert new == ([chain[-1]] if kind == kinds.NEWCOMER else [])
    worked = synthetic.letter_to(prompt, synthetic.STRONG, 0)
    assert kinds.right_answers([prompt], [worked]) == [1.0]


def test_rows_are_of_all_kinds_and_the_task_itself_stays_what_it_was():
  rows = [fields for _, fields, *_ in sources.read("synthetic:kinds", 400, 3)]
  assert rows[:30] == kinds.preferences(30, 3) != kinds.preferences(30, 4)
  counts = collections.Counter(kinds.kind_of(row["prompt"]) for row in rows)
  assert {*counts} == {*kinds.KINDS}
  assert all(abs(count / 400 - 0.2) < 3 * np.sqrt(0.16 / 400) for count in counts.values())
  assert all(row["chosen"] != row["rejected"] for row in rows)
  old = synthetic.preferences(3, 0)
  assert [synthetic.HOMES[name] for name in synthetic.NAMES[:4]] == [*synthetic.STREETS]
  assert all(kinds.kind_of(row["prompt"]) == "calls 5" for row in old)


@pytest.mark.parametrize("text", ["", "What?", QUESTION[:-1], QUESTION.replace("call 4", "call 9")])
def test_other_texts_are_of_no_kind(text):
  assert kinds.kind_of(text) == ""


@pytest.mark.parametrize(
  ("said", "found"),
  [
    (letter("Ann Mia Tom Joe Sue"), None),
    (letter("Ann Mia Tom Joe Sue", street="Oak"), None),  # the working is right
    (letter("Ann Mia Tom Joe"), (0, ())),
    (letter("Ann Mia Tom Joe Sue Ben"), (0, ())),
    (letter("Ann Mia Joe Sue Ben"), (1, ("Mia", "Tom"))),
    (letter("Ola Ann Mia Tom Joe"), (0, ("Ann",))),
    (letter("Ann Mia Tom Joe Ray"), (3, ("Joe", "Sue"))),
    (letter("Ann Mia Tom Joe Sue", home="Oak", street="Oak"), (4, ("Sue",))),
    ("Hi Kim, it is Oak. Thanks for asking.", None),
    ("no letter", None),
  ],
)
def test_what_failed_first_is_found_in_the_working(said, found):
  assert tasks.fault(synthetic.parse_question(QUESTION), said) == found


@pytest.mark.parametrize("solved", [(), (3,), (3, 5, 6)])
@pytest.mark.parametrize(
  "said",
  [
    letter("Ann Mia Tom Joe"),
    letter("Ann Mia Joe Sue Ben"),
    letter("Ann Mia Tom Joe Sue", home="Oak"),
  ],
)
def test_exercises_have_the_length_and_what_failed_in_its_place(said, solved):
  rng = random.Random(0)
  bases = [synthetic.ask(kinds.question(f"calls {count}", rng)) for count in solved]
  q = synthetic.parse_question(QUESTION)
  kept = tasks.fault(q, said)
  made = tasks.similar(QUESTION, said, bases, 12, 1.0, rng)
  assert len({question for question, _ in made}) == 12
  for number, (question, answer) in enumerate(made):
    new = synthetic.parse_question(question)
    chain = new.chain()
    assert new.count == q.count and len({*chain}) == len(chain)
    assert tuple(chain[kept.place : kept.place + len(kept.people)]) == kept.people
    assert new.asker not in new.calls
    assert all(list(synthetic.checks(question, answer).values())[:2])
    if bases:  # all but what failed is as in the solved one
      base = synthetic.parse_question(bases[number % len(bases)])
      assert len({*base.calls} - {*new.calls}) <= len(kept.people)


def test_as_many_answers_are_right_as_was_asked_and_wrong_ones_follow_from_a_wrong_call():
  rng = random.Random(1)
  made = tasks.similar(QUESTION, "", (), 600, 0.9, rng)
  passed = [synthetic.checks(*one)["working"] for one in made]
  assert abs(np.mean(passed) - 0.9) < 3 * np.sqrt(0.09 / 600)
  for (question, answer), is_right in zip(made, passed, strict=True):
    people, street = synthetic.working_of(answer)
    assert street == synthetic.HOMES[people[-1]] == synthetic.answer_of(answer)
    calls = synthetic.parse_question(question).calls
    broken = [pair for pair in itertools.pairwise(people) if calls[pair[0]] != pair[1]]
    assert (not broken) == is_right


def test_requests_are_read_back_from_their_words():
  for is_right in (True, False, None):
    for solved in ((), ("one?", "another?")):
      for answer in ("", "it is 3.\nOr 4."):
        one = exercises.Request("How\nmany?", answer, is_right, solved, 7)
        assert exercises.read(exercises.ask(one)) == one
  assert "another?" not in exercises.ask(exercises.Request("q", "a", True, (), 1))
  with pytest.raises(ValueError, match="not a request for exercises: 'hello'"):
    exercises.read("hello")


def test_the_embedded_instructor_answers_requests_and_its_noise_is_of_the_key():
  writer = exercises.instructor("teacher", right=1.0)
  one = exercises.Request(QUESTION, letter("Ann Mia Tom Joe"), False, (), 5)
  chats = FORMAT.conversations([exercises.ask(one)] * 2)
  first, second = (writer.write(chats, jax.random.key(seed), 1.0, samples=2) for seed in (0, 1))
  assert first == writer.write(chats, jax.random.key(0), 1.0, samples=2) != second
  texts = {text for row in first.texts for text in row}
  assert len(texts) == 2  # a request has its own noise, and a sample too
  for text in texts:
    parts = exercises.parse(text)
    assert len(parts) == 5 and not any(part.failure for part in parts)
    assert kinds.right_answers(*zip(*(part[:2] for part in parts), strict=True)) == [1.0] * 5


GOOD = [("2 + 2?", "It is 4."), ("3 + 3?", "We add.\nAnswer: 6")]


@pytest.mark.parametrize(
  "reply",
  [
    "Question: 2 + 2?\nAnswer: It is 4.\nQuestion: 3 + 3?\nAnswer: We add.\nAnswer: 6",
    "Here they are.\n\n**Question 1:** 2 + 2?\n**Answer:** It is 4.\n\n"
    "**Question 2:** 3 + 3?\n**Answer:** We add.\nAnswer: 6",
    "1. Question: 2 + 2?\n   Answer: It is 4.\n2. Question: 3 + 3?\n   Answer: We add.\nAnswer: 6",
    "### Problem 1: 2 + 2?\nSolution: It is 4.\n### Problem: 3 + 3?\nSolution: We add.\nAnswer: 6",
    "### Exercise 1\n**Question:** 2 + 2?\n**Answer:** It is 4.\n\n---\n\n### Exercise 2\n"
    "**Question:** 3 + 3?\n**Answer:** We add.\nAnswer: 6\n\n***\n",
    "### Problem 1\n2 + 2?\n### Answer\nIt is 4.\n\n## Now a harder one\n\n### Problem 2\n3 + 3?\n"
    "### Answer\nWe add.\nAnswer: 6",
    "**Problem 1**\n\n2 + 2?\n\n**Solution**\nIt is 4.\n\nProblem 2\nQuestion: 3 + 3?\n"
    "**Solution**\nWe add.\nAnswer: 6",
    "Problem #1: 2 + 2?\nAnswer: It is 4.\nQuestion (easy): 3 + 3?\nAnswer: We add.\nAnswer: 6",
    "New question: 2 + 2?\nAnswer: It is 4.\nQuestion2: 3 + 3?\nAnswer: We add.\nAnswer: 6\n\n"
    "These 2 problems train it.",
    "question:2 + 2?\nanswer:It is 4.\n\nEXERCISE 2 :\n3 + 3?\nAnswer:\nWe add.\nAnswer: 6\n",
  ],
)  # fmt: skip
def test_exercises_are_read_however_they_are_marked(reply):
  assert [part[:2] for part in exercises.parse(reply, "number")] == GOOD
  assert not any(part.failure for part in exercises.parse(reply, "number"))


@pytest.mark.parametrize(
  ("reply", "reasons"),
  [
    ("", [exercises.NO_EXERCISE]),
    ("I cannot help with that.", [exercises.NO_EXERCISE]),
    ("Answer: 4", [exercises.NO_QUESTION]),
    ("Question:\nAnswer: 4", [exercises.NO_QUESTION]),
    ("Question: 2 + 2?", [exercises.NO_ANSWER]),
    ("Question: 2 + 2?\nAnswer:\nQuestion: 1?\nAnswer: 1", [exercises.NO_ANSWER, ""]),
    ("Question: 2 + 2?\nAnswer: four", [exercises.NO_FINAL]),
    ("Question: 2?\nQuestion: 3?\nAnswer: 3", [exercises.NO_ANSWER, ""]),
    ("### Exercise 1\nAnswer: 4", [exercises.NO_QUESTION]),
    ("Question: 3?\nAnswer: 3\n\n### Problem 2", ["", exercises.NO_QUESTION]),
  ],
)
def test_what_is_no_exercise_has_its_reason(reply, reasons):
  assert [part.failure for part in exercises.parse(reply, "number")] == reasons


@pytest.mark.parametrize(
  ("answer", "kept"),
  [
    ("The answer is 7.\n\nThese 2 train it.", "The answer is 7."),
    ("We add.\n\nThe answer is 7.\n\nThese 2 train it.", "We add.\n\nThe answer is 7."),
    ("7\n\nThese 2 problems train it.", "7"),
    ("We have 3.\n\n3 + 4 = 7", "We have 3.\n\n3 + 4 = 7"),  # it is not known to be a remark
    ("We add.\n#### 7\n\n# Next", "We add.\n#### 7"),
  ],
)
def test_a_remark_after_the_final_answer_is_no_part_of_it(answer, kept):
  assert exercises.parse(f"Question: 3 + 4?\nAnswer: {answer}", "number") == [("3 + 4?", kept, "")]


@pytest.mark.parametrize("reply", ["Question" + " " * 20_000 + "x", "Question(" * 20_000])
def test_long_replies_are_read_in_time(reply):
  start = time.process_time()
  exercises.parse(reply, "number")
  assert time.process_time() - start < 1  # what is quadratic takes longer


def test_of_two_hundred_broken_replies_every_part_is_counted_and_none_lost():
  """By a slow reader: line by line, a part for each question, and one for each lone answer."""
  rng = random.Random(0)
  pieces = [
    "Question: how many?",
    "Question:",
    "Answer: 4",
    "Answer:",
    "It goes on.",
    "",
    "Answer: x",
  ]
  for _ in range(200):
    lines = rng.choices(pieces, k=rng.randrange(9))
    expected, has_question = 0, False
    for line in lines:
      if line.startswith("Question"):
        expected, has_question = expected + 1, True
      elif line.startswith("Answer") and not has_question:
        expected += 1
    parts = exercises.parse("\n".join(lines), "number")
    assert len(parts) == max(expected, 1)
    for part in parts:
      assert part.failure or (part.question and part.answer)


@hypothesis.given(
  st.lists(st.tuples(*[st.sampled_from(["a?", "b b", "c:d", "4", "(x)"])] * 2), max_size=6)
)
def test_what_is_written_is_read(some):
  parts = exercises.parse(exercises.write(some)) if some else []
  assert [part[:2] for part in parts] == some


@hypothesis.given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
  assert exercises.parse(text) and exercises.parse(text, "number")
