"""A teacher's replies about sentences: read, or counted by what is wrong with them."""

import collections
import random

import pytest

from pit_jax.data import conversations
from pit_jax.feedback import sentence_scores


@pytest.mark.parametrize(
  ("reply", "scores"),
  [
    ("1: 0.5\n2: 1.0\n3: 0", (0.5, 1.0, 0.0)),
    ("Here they are.\n1. 0.5\n2) 1\n 3 - 0.0 \nThat is all.", (0.5, 1.0, 0.0)),
    ("**1**: 0.5\n- 2: 1.0\n[3]: 0.0", (0.5, 1.0, 0.0)),
    ("Sentence 1: .5\nsentence 2: 1/1\nSENTENCE 3: 0.2", (0.5, 1.0, 0.2)),
    ("Sentence 1: 0.5\nsentence 2: 1/1\nSENTENCE 3: 0.2/1.0", (0.5, 1.0, 0.2)),
    ("I think [1, 2] are fine: [0.1, 0.2, 0.3]", (0.1, 0.2, 0.3)),
    ("[0, 1, 0.5]", (0.0, 1.0, 0.5)),
  ],
)
def test_a_reply_is_read_in_the_forms_that_teachers_use(reply, scores):
  assert sentence_scores.read(reply, 3) == (scores, "")


@pytest.mark.parametrize(
  ("reply", "scores"),
  [
    ("1: .1\n2: .0", (0.1, 0.0)),
    ("1) .5\n2) +.5", (0.5, 0.5)),
    ("1 - 0.5\n2 – 1.", (0.5, 1.0)),
    ("[.1, 1.0]", (0.1, 1.0)),
    ("[1e-05, 1]", (1e-05, 1.0)),
    ("Scores: [0.5, 1.0] out of [0, 1]", (0.5, 1.0)),
    ("On a scale of [0, 1]: [0.5, 1.0]", (0.5, 1.0)),
    ("First [0.5, 0.5], at last [0, 1]", (0.0, 1.0)),
    ("1.0", (1.0,)),
    ("0.5.\n", (0.5,)),
    ("**.5**", (0.5,)),
    ("1/1", (1.0,)),
    ("1. 0.5", (0.5,)),
  ],
)
def test_a_number_is_read_whole_and_as_what_it_is(reply, scores):
  assert sentence_scores.read(reply, len(scores)) == (scores, "")


@pytest.mark.parametrize("dash", "-−–—")
@pytest.mark.parametrize("reply", ["1: {}0.5", "1. {}.5", "1 - {}0.5", "{}0.5", "[{}0.5]"])
def test_a_score_below_0_is_out_of_range_whatever_its_sign(dash, reply):
  assert sentence_scores.read(reply.format(dash), 1) == ((), sentence_scores.RANGE)


@pytest.mark.parametrize(
  ("reply", "count"),
  [
    ("1.0\n2.0", 2),  # numbers of lines, or scores?
    ("1.0\n0.5", 2),
    ("0.5\n1.0", 1),
    ("1 -0.5", 1),
    ("1.0.5", 1),
    ("1..5", 1),
    ("1.", 1),
    ("**1**:", 1),
    ("1: 1%", 1),
    ("1: 0,5", 1),
    ("Each is one out of [0, 1].", 2),
  ],
)
def test_what_could_be_read_in_two_ways_is_not_read(reply, count):
  assert sentence_scores.read(reply, count) == ((), sentence_scores.UNREADABLE)


@pytest.mark.parametrize(
  ("reply", "failure"),
  [
    (None, sentence_scores.SILENT),
    (" \n", sentence_scores.SILENT),
    ("All good.", sentence_scores.UNREADABLE),
    ("[]", sentence_scores.UNREADABLE),
    ('["0.5", 1, 1]', sentence_scores.UNREADABLE),
    ("[true, true, true]", sentence_scores.UNREADABLE),
    ("1: 0.5\n2: 1.0", sentence_scores.COUNT),
    ("1: 0.5\n1: 0.5\n2: 1.0", sentence_scores.COUNT),
    ("2: 0.5\n1: 0.5\n3: 1.0", sentence_scores.COUNT),
    ("[0.5, 1]", sentence_scores.COUNT),
    ("1: 0.5\n2: 1.1\n3: 0", sentence_scores.RANGE),
    ("1: 0.5\n2: -0.1\n3: 0", sentence_scores.RANGE),
    ("[0.5, 10, 1]", sentence_scores.RANGE),
  ],
)
def test_what_cannot_be_used_is_a_failure_of_its_kind(reply, failure):
  assert sentence_scores.read(reply, 3) == ((), failure)


def test_no_broken_reply_is_lost():
  """200 replies, broken in ways that are known: each is read or counted, as was meant."""
  rng = random.Random(0)
  meant = collections.Counter()
  found = collections.Counter()
  for _ in range(200):
    count = rng.randint(1, 6)
    scores = [rng.randint(0, 10) / 10 for _ in range(count)]
    kind = rng.choice(["", *sentence_scores.FAILURES])
    lines = [f"{number}: {one}" for number, one in enumerate(scores, start=1)]
    if kind == sentence_scores.COUNT:
      lines = rng.choice([[*lines[:-1], f"{count + 1}: 0.5"], [*lines, f"{count + 1}: 0.1"]])
    elif kind == sentence_scores.RANGE:
      lines = [f"{number}: {1.5 if number == 1 else 0.5}" for number in range(1, count + 1)]
    text = "\n".join(lines)
    text = {sentence_scores.SILENT: "  ", sentence_scores.UNREADABLE: "They are right."}.get(
      kind, text
    )
    meant[kind] += 1
    reading = sentence_scores.read(text, count)
    found[reading.failure] += 1
    assert reading.scores == (tuple(scores) if not kind else ())
  assert found == meant and min(meant.values()) > 20


def test_a_request_numbers_sentences_in_one_line_each():
  turns = (conversations.Turn("user", "What?"),)
  text = sentence_scores.request("{prompt}\n{sentences}\nGo.", turns, ["It is\n so.", "No."])
  assert text == "What?\n1. It is so.\n2. No.\nGo."


@pytest.mark.parametrize(
  ("words", "is_fit"),
  [
    ("{sentences} of {prompt}", True),
    ("{prompt}", False),
    ("{prompt} {prompt} {sentences}", False),
    ("{prompt} {sentences} {answer}", False),
    ("{prompt {sentences}", False),
    ("{prompt!r} {sentences}", False),
    ("{prompt} {sentences:d}", False),
  ],
)
def test_words_of_a_request_have_both_slots(words, is_fit):
  assert bool(sentence_scores.unfit(words)) != is_fit
