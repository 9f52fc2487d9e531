"""The embedded task's teacher of sentences: what it says, how often it errs, what it corrects."""

import random

import jax
import numpy as np
import pytest

from pit_jax.data import prompt_formats
from pit_jax.feedback import sentence_scores, writers
from pit_jax.tasks import marking, sentences, synthetic

WORDS = "{prompt}\nScore these:\n{sentences}"


def questions(count, seed=0):
  rng = random.Random(seed)
  return [synthetic.question(rng) for _ in range(count)]


def letters(count):
  habits = synthetic.writer_named("hasty", first=0.3)
  for number, q in enumerate(questions(count)):
    yield q, synthetic.write(q, habits, random.Random(number)).text(q.asker)


def request(q, text):
  return sentence_scores.request(WORDS, synthetic.ask(q), sentences.said(text))


def test_every_sentence_of_letters_is_worth_what_their_checks_say():
  for q, text in letters(300):
    checks = synthetic.checks(synthetic.ask(q), text)
    listed = sentences.said(text)
    scores = marking.scores(q, listed)
    for sentence, score in zip(listed, scores, strict=True):
      if "The calls:" in sentence:
        assert (score == 1.0) == checks["working"]
      elif "it is" in sentence or "gets it" in sentence:
        assert (score == 1.0) == checks["answer"] and score in (0.0, 1.0)
      elif sentence in synthetic.CLOSINGS:
        assert score == 0.5
      else:
        assert sentence in (*synthetic.GRUMBLES, *synthetic.COLD_CLOSINGS) and score == 0.0


@pytest.mark.parametrize(
  ("sentence", "score"),
  [
    ("it is {right}.", 1.0), ("{right} gets it.", 1.0), ("Hi Kim, {right} gets it.", 1.0),
    ("it is {wrong}.", 0.0), ("it is {right} gets it.", 0.0), ("{right}.", 0.0),
    ("it is {right}", 0.0), ("The calls: {right}.", 0.0), ("Hi Kim, Thanks for asking.", 0.0),
    ("", 0.0),
  ],
)  # fmt: skip
def test_what_is_no_sentence_of_a_letter_is_wrong(sentence, score):
  q = questions(1)[0]
  wrong = next(street for street in synthetic.STREETS if street != q.answer())
  assert marking.scores(q, [sentence.format(right=q.answer(), wrong=wrong)]) == [score]


@pytest.mark.parametrize(
  ("listed", "scores"),
  [
    (("Hi Kim, it is {right}.", "it is {right}."), (1.0, 0.0)),
    (("it is {right}.", "{right} gets it."), (1.0, 0.0)),  # in other words
    (("it is {right}.", "All the best.", "Thanks for asking."), (1.0, 0.5, 0.0)),
    (("All the best.", "it is {right}."), (0.5, 0.0)),  # the letter was over
    (("it is {right}.", "Hi Kim, The calls: {working}."), (1.0, 0.0)),  # greets in the middle
    (("Hi Kim, The calls: {working}.", "I am too busy.", "it is {right}."), (1.0, 0.0, 1.0)),
  ],
)
def test_what_makes_a_letter_none_is_wrong(listed, scores):
  q = questions(1)[0]
  how = {"right": q.answer(), "working": f"{' '.join(q.chain())} of {q.answer()}"}
  listed = [sentence.format(**how) for sentence in listed]
  assert tuple(marking.scores(q, listed)) == scores
  fixed = marking.corrected([{"role": "user", "content": request(q, " ".join(listed))}])
  kept = [sentence for sentence, score in zip(listed, scores, strict=True) if score]
  assert sentences.said(fixed) == kept


def test_marks_err_as_stated_and_again_in_the_same_way():
  asked = [request(q, text) for q, text in letters(800)]
  counts = [text.split("Score these:\n")[1].count("\n") + 1 for text in asked]
  shown = prompt_formats.Format("policy", plain="{prompt}").conversations(asked)
  writer = writers.marker("teacher", noise=0.1, invalid=0.05, seed=3)
  told = writer.write(shown, jax.random.key(0), 0.0).texts
  assert told == writer.write(shown, jax.random.key(5), 1.0).texts
  readings = [
    sentence_scores.read(text, count) for (text,), count in zip(told, counts, strict=True)
  ]
  failures = [one.failure for one in readings if one.failure]
  assert abs(len(failures) - 40) < 3 * np.sqrt(38)
  # A reply about one sentence that leaves the last score out says nothing.
  assert (
    {sentence_scores.COUNT, sentence_scores.RANGE} <= {*failures} <= {*sentence_scores.FAILURES}
  )

  off = []
  for text, reading in zip(asked, readings, strict=True):
    if reading.scores:
      q, listed = marking._read(text)
      exact = marking.scores(q, listed)
      off += [round(a - b, 6) for a, b in zip(reading.scores, exact, strict=True)]
  assert {*off} == {-0.1, 0.0, 0.1} and 0.3 < np.mean(np.array(off) == 0) < 0.7


def test_without_faults_marks_are_the_scores_and_repeats_are_wrong():
  q = questions(1)[0]
  text = f"Hi Kim, it is {q.answer()}. Thanks for asking. it is {q.answer()}. Thanks for asking."
  reply = marking.marks(request(q, text), 0.0, 0.0, 0)
  assert sentence_scores.read(reply, 4).scores == (1.0, 0.5, 0.0, 0.0)


def test_corrections_put_right_what_is_wrong_and_leave_the_rest_word_by_word():
  for q, text in letters(300):
    listed = sentences.said(text)
    fixed = marking.corrected([{"role": "user", "content": request(q, text)}])
    again = marking.corrected([{"role": "user", "content": request(q, fixed)}])
    assert again == fixed
    scores = marking.scores(q, listed)
    kept = [sentence for sentence, score in zip(listed, scores, strict=True) if score > 0]
    assert [sentence for sentence in sentences.said(fixed) if sentence in kept] == kept
    assert min(marking.scores(q, sentences.said(fixed))) > 0
    before, after = (synthetic.checks(synthetic.ask(q), one) for one in (text, fixed))
    assert after["answer"] and after["tone"] and after["greeting"] == before["greeting"]
    assert after["working"] == ("The calls:" in text)  # none is written that was not there


@pytest.mark.parametrize(
  ("text", "wanted"),
  [
    ("Hi Kim, it is {wrong}. it is {wrong}. Hello.", "Hi Kim, it is {right}."),
    ("{wrong} gets it. The calls: Ann of {wrong}.", "{right} gets it. The calls: {working}."),
    ("Well, who knows.", "it is {right}."),
    ("it is {right}. it is {wrong}.", "it is {right}."),
  ],
)
def test_malformed_letters_are_corrected_too(text, wanted):
  q = questions(1)[0]
  wrong = next(street for street in synthetic.STREETS if street != q.answer())
  how = {"right": q.answer(), "wrong": wrong, "working": f"{' '.join(q.chain())} of {q.answer()}"}
  shown = request(q, text.format(**how))
  assert marking.corrected([{"role": "user", "content": shown}]) == wanted.format(**how)


def test_a_text_without_a_question_is_refused():
  for ask in (lambda: marking.marks("1. Oak.", 0.1, 0.0, 0),
              lambda: marking.corrected([{"role": "user", "content": "1. Oak."}])):  # fmt: skip
    with pytest.raises(ValueError, match="no question of the embedded task"):
      ask()
