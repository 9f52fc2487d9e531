"""Critiques as text: what is written is read back, and what is broken is counted by its kind."""

import collections
import random

import hypothesis
import pytest
from hypothesis import strategies

from pit_jax.data import conversations, critiques

LONG = critiques.Form(
  "Weaknesses: {weaknesses}\nScore: {score}\nChanges: {changes}\nBetter answer: {answer}",
  request="Criticise it, {lowest} to {highest}:\n{form}",
)
SHORT = critiques.Form(
  "Weak: {weaknesses}. Score {score}. Change: {changes} Better: {answer}", lowest=0, highest=8
)
FORMS = {"long": LONG, "short": SHORT}
WELL = critiques.Critique("too short", 5, "say why", "It is the moon, since it is near.")
DRAFT = "It is the moon."
QUESTION = "What moves the sea?"
PATIENT = hypothesis.settings(deadline=None, max_examples=200)

# No letter of any label, so that no text holds one; nothing that white space or an end could eat.
ALPHABET = "mulyfy ,;!?0123\n漢é{}()'\""
WORDS = strategies.text(alphabet=ALPHABET, min_size=1, max_size=40).map(str.strip)
KEPT = strategies.sets(strategies.sampled_from(critiques.PARTS), min_size=1)
TEXTS = WORDS.filter(lambda text: text and not text.endswith("."))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_written_is_read_back(form):
  scores = strategies.integers(form.lowest, form.highest)

  @PATIENT
  @hypothesis.given(TEXTS, scores, TEXTS, TEXTS, KEPT)
  def check(weaknesses, score, changes, answer, kept):
    some = form.of(*kept)
    assert some.parts == tuple(name for name in critiques.PARTS if name in kept)
    values = dict(zip(critiques.PARTS, (weaknesses, score, changes, answer), strict=True))
    critique = critiques.Critique(**{name: values[name] for name in kept})
    assert some.read(some.write(critique)) == (critique, "")

  check()


@PATIENT
@hypothesis.given(strategies.text(), strategies.sampled_from([*FORMS.values()]))
def test_any_reply_is_of_use_or_has_one_kind_of_failure(reply, form):
  critique, failure = form.read(reply, (QUESTION, DRAFT), (form.asked,))
  assert failure == "" or failure in critiques.FAILURES
  text, read, outcome = form.refine(DRAFT, reply, (QUESTION,), (form.asked,))
  assert (text == DRAFT) == (outcome != critiques.REFINED)
  if not failure:
    assert None not in vars(critique).values() and form.lowest <= critique.score <= form.highest
  assert read == critique


def test_replies_of_chat_models_are_read_whatever_their_marks():
  bare = critiques.Form(LONG.template)
  for reply in (
    "Weaknesses: too short\nScore: 5\nChanges: say why\nBetter answer: It is the moon.",
    "**Weaknesses:** too short\n\n**Score:** 5/10\n\n**Changes:** say why\n\n"
    "**Better answer:**\nIt is the moon.",
    "Sure, here it is.\n\n### Weaknesses\ntoo short\n### Score\n5\n### Changes\nsay why\n"
    "### Better Answer\nIt is the moon.",
    "1. WEAKNESSES : too short\n2. SCORE : 5 out of 10.\n3. changes: say why\n"
    "4. better  answer: It is the moon.",
    "- *Weaknesses*: too short\n- *Score*: 5.0\n- *Changes*: say why\n- *Better answer*: It is "
    "the moon.",
  ):
    read, failure = bare.read(reply)
    assert failure == "", reply
    assert read == critiques.Critique("too short", 5, "say why", "It is the moon."), reply


def test_labels_within_a_text_begin_no_part():
  said = "the Score: is missing, and a better answer: would name it"
  reply = LONG.write(critiques.Critique(said, 7.5, "Changes: of the score", "Score: 3\nChanges: 4"))
  read, failure = LONG.read(reply)
  assert (read.weaknesses, read.score, read.answer) == (said, 7.5, "Score: 3\nChanges: 4")
  assert failure == ""


def without(name):
  def broken(form, _):
    kept = [part for part in form.parts if part != name]
    return form.of(*kept).write(WELL)

  return broken


def empty(name):
  def broken(form, chance):
    values = vars(WELL) | {name: chance.choice(["", " ", "  \n" if form is LONG else "  "])}
    return form.template.format(**values)

  return broken


def put(**values):
  def broken(form, chance):
    chosen = {name: chance.choice(among) for name, among in values.items()}
    return form.template.format(**vars(WELL) | chosen)

  return broken


def exchanged(form, _):
  """The score before the weaknesses: after these there is none."""
  rest = form.of("changes", "answer").write(WELL)
  return "\n".join([form.of("score").write(WELL), form.of("weaknesses").write(WELL), rest])


PROSE = ("Fine.", "I would not change a thing", "it lacks a reason", "\n\nNo.", "7", "{", "漢")
BROKEN = (  # a rule, and the kind of failure that it makes
  (without("weaknesses"), critiques.NO_WEAKNESSES),
  (without("score"), critiques.NO_SCORE),
  (without("changes"), critiques.NO_CHANGES),
  (without("answer"), critiques.NO_ANSWER),
  (empty("weaknesses"), critiques.NO_WEAKNESSES),
  (empty("score"), critiques.NO_SCORE),
  (empty("changes"), critiques.NO_CHANGES),
  (empty("answer"), critiques.NO_ANSWER),
  (put(score=["high", "five", "5 or 6", "5 5", "A+", "?", "5/"]), critiques.NO_NUMBER),
  (put(score=[-1, 11, 99, 1000, "4/5", "5/100", "-3"]), critiques.OUT_OF_RANGE),
  (put(weaknesses=[QUESTION, f" {QUESTION.upper()} "]), critiques.COPIED_FEEDBACK),
  (put(changes=[QUESTION, "What  moves the sea?"]), critiques.COPIED_FEEDBACK),
  (put(answer=[QUESTION, QUESTION.lower()]), critiques.COPIED_ANSWER),
  (put(answer=["Now: say what is weak in it."]), critiques.COPIED_ANSWER),
  (lambda form, chance: chance.choice(PROSE), critiques.NO_FORM),
  (lambda form, chance: chance.choice(["", " ", "\n\n", "\t"]), critiques.NO_FEEDBACK),
  (lambda form, chance: None, critiques.TOO_LONG),
  (exchanged, critiques.NO_SCORE),
  # A reply that ends where its tokens did: within the parts before the answer.
  (lambda form, chance: form.write(WELL).partition("say")[0], critiques.NO_CHANGES),
  (lambda form, chance: form.write(WELL).partition(" 5")[0], critiques.NO_SCORE),
)
REQUEST = "Say what is weak in it."


def test_of_two_hundred_broken_replies_each_is_counted_and_none_lost():
  chance = random.Random(0)
  expected = collections.Counter()
  outcomes = []
  for number in range(200):
    form = [LONG, SHORT][number % 2]
    rule, kind = BROKEN[number // 2 % len(BROKEN)]
    reply = rule(form, chance)
    text, _, outcome = form.refine(DRAFT, reply, (QUESTION,), (REQUEST,))
    assert (text, outcome) == (DRAFT, kind), reply
    expected[kind] += 1
    outcomes.append(outcome)

  counts = critiques.failures(outcomes)
  assert counts == dict(expected) and sum(counts.values()) == len(outcomes) == 200
  assert {*counts} == {*critiques.FAILURES}


def test_good_replies_among_broken_ones_are_no_failures():
  outcomes = [critiques.REFINED, critiques.NO_SCORE, critiques.UNCHANGED, critiques.NO_SCORE]
  assert critiques.failures(outcomes) == {critiques.NO_SCORE: 2}
  assert SHORT.refine(DRAFT, SHORT.write(WELL)) == (WELL.answer, WELL, critiques.REFINED)
  same = critiques.Critique("none", 8, "nothing.", "it is\nthe MOON.")
  assert SHORT.refine(DRAFT, SHORT.write(same)) == (DRAFT, same, critiques.UNCHANGED)


def test_a_single_part_without_words_is_the_whole_reply():
  free = critiques.Form("{weaknesses}")
  assert free.read(" Score: none.\n") == (critiques.Critique("Score: none."), "")
  assert free.read(" ")[1] == critiques.NO_FEEDBACK
  assert critiques.Form("{answer}").read(" ")[1] == critiques.NO_ANSWER


def test_a_critic_is_shown_the_answer_and_the_form():
  (one,) = LONG.format.conversations([QUESTION], [DRAFT])
  form = "Weaknesses: …\nScore: …\nChanges: …\nBetter answer: …"
  asked = conversations.Turn("user", f"Criticise it, 1 to 10:\n{form}")
  said = conversations.Turn("user", QUESTION), conversations.Turn("assistant", DRAFT)
  assert one.turns == (*said, asked)


@pytest.mark.parametrize(
  ("template", "said"),
  [
    ("", "has the slots []"),
    ("no slot", "has the slots []"),
    ("{score} better {weaknesses}", "in this order, each once"),
    ("Score {score} and {score}", "in this order, each once"),
    ("Worth {worth}", "use some of"),
    ("{weaknesses}, {score}", "has no word before {score}"),
    ("Score {score:.2f}", "leave out what follows its name"),
    ("Better: {answer}.", "goes on after its last part"),
    ("Score {score} of ten", "goes on after its last part"),
    ("Score {score", "write {{ and }} for braces"),
  ],
)
def test_a_template_that_cannot_be_read_back_is_refused(template, said):
  with pytest.raises(ValueError) as error:
    critiques.Form(template)
  assert said in str(error.value)


def test_scores_have_a_lowest_and_a_higher_one_and_parts_are_there():
  with pytest.raises(ValueError, match="scores from 3 to 3"):
    critiques.Form("{answer}", 3, 3)
  with pytest.raises(ValueError, match="lacks changes"):
    SHORT.write(critiques.Critique("none", 8, None, "y"))
  with pytest.raises(ValueError, match="has the slots"):
    critiques.Form("{answer}").of("score")


COPIES = " ".join(f"word{i}" for i in range(24))  # a quarter of it are six words


@pytest.mark.parametrize(
  ("said", "is_copy"),
  [
    ("No", False),
    ("word0", False),
    ("word0 word1 word2 word3 word4", False),
    ("word0 word1 word2 word3 word4 word", True),
    ("Word0  word1 word2 word3 word4 word5 word6", True),
    ("word0 word1 word2 word3 word4 word5 other", False),
    ("Now write the b", False),
    ("Now write the better reply", True),
    (f"Yes: {COPIES}", True),
    (" Why ? ", True),
  ],
)
def test_a_short_answer_with_which_a_request_begins_is_no_copy(said, is_copy):
  requests = (COPIES, "Now write the better reply.")
  assert critiques.is_copy(said, ("why ?",), requests) == is_copy
