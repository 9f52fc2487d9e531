"""The embedded task's three classes of prompts, and verifiers that need no right answer."""

import collections
import dataclasses
import itertools
import random
import re

import hypothesis
import numpy as np
import pytest
import reading
from hypothesis import strategies as st

from pit_jax.data import sources
from pit_jax.feedback import judges
from pit_jax.tasks import classes, critics, synthetic

QUESTION = (
  "Phone chain for Kim. Tom calls Joe. Ann calls Mia. Sue calls Ben. Mia calls Tom. Joe calls Sue. "
  "Ben calls Ann. Ann starts. Which street gets call 5?"
)
WORKING = "The calls: Ann Mia Tom Joe Sue Ben of Elm."
GOOD = f"Hi Kim, it is Elm. {WORKING} Thanks for asking."
FIRST = f"Hi Kim, {WORKING} it is Elm. Thanks for asking."
NOTE = "Phone chain for Pam. Liv calls Jan. Leo calls Joe. Ola calls Ivy. Pam says thanks."


@pytest.fixture(scope="module")
def rows():
  return classes.preferences(600, 3)


def test_prompts_are_of_three_classes_by_their_shares_and_each_is_another(rows):
  counts = collections.Counter(classes.class_of(row["prompt"]) for row in rows)
  assert {*counts} == {*classes.SHARES}
  for name, share in classes.SHARES.items():
    assert abs(counts[name] / 600 - share) < 3 * np.sqrt(share * (1 - share) / 600)
  assert len({row["prompt"] for row in rows}) > 590
  assert all(row["chosen"] != row["rejected"] for row in rows)
  assert all(
    classes.is_letter(row["prompt"], row[y]) for row in rows for y in ("chosen", "rejected")
  )
  assert rows[:40] == classes.preferences(40, 3) != classes.preferences(40, 4)


@pytest.mark.parametrize(
  "prompt", ["", "What is it?", QUESTION[:-1], f"{NOTE} Tell me now.", f"{NOTE} And more.", "Kim"]
)
def test_other_texts_are_of_no_class(prompt):
  assert classes.class_of(prompt) == ""


def test_the_source_has_the_task_with_classes_and_the_other_stays_what_it_was(rows):
  made = [fields for _, fields, *_ in sources.read("synthetic:classes", 600, 3)]
  assert made == rows
  plain = [fields for _, fields, *_ in sources.read("synthetic", 20, 3)]
  assert plain == synthetic.preferences(20, 3)
  with pytest.raises(ValueError, match="'synthetic:other' is not known"):
    sources.check("synthetic:other")


def test_questions_are_answered_and_judged_as_they_were():
  prompts = [synthetic.ask(q) for q in reading.questions(50, "classes")]
  for prompt in prompts:
    letter = synthetic.letter_to(prompt, synthetic.HASTY, 1)
    assert classes.letter_to(prompt, synthetic.HASTY, 1) == letter
    assert classes.checks(prompt, letter) == synthetic.checks(prompt, letter)
    assert classes.gold(prompt, letter) == synthetic.gold(prompt, letter)


def test_a_rude_asker_draws_more_grumbles_and_nothing_else():
  prompts = [synthetic.ask(q) for q in reading.questions(500, "rude")]
  calm = dataclasses.replace(synthetic.HASTY, calm=1.0)
  shares = {}
  for demand in ("", classes.DEMAND):
    asked = [f"{prompt}{demand}" for prompt in prompts]
    letters = [classes.letter_to(prompt, calm, 0) for prompt in asked]
    shares[demand] = classes.shares(asked, letters)
  assert shares[""]["tone"] == 1.0
  assert shares[classes.DEMAND]["tone"] == pytest.approx(classes.PATIENCE, abs=0.07)
  for name in ("answer", "working", "greeting", "closing"):
    assert shares[classes.DEMAND][name] == pytest.approx(shares[""][name], abs=0.1)


@pytest.mark.parametrize(
  ("letter", "passed"),
  [
    ("Hi Pam, Thanks for asking.", {"greeting", "tone", "closing"}),
    ("Hello Kim, All the best.", {"tone", "closing"}),
    ("Well, I am too busy.", set()),
    ("Dear Pam, I am too busy. Do not ask again.", {"greeting"}),
    ("Hello,", {"tone"}),
    ("Hi Pam, it is Oak. Thanks for asking.", set()),
    ("Thanks.", set()),
  ],
)
def test_manners_are_all_that_counts_in_a_letter_to_a_note(letter, passed):
  found = classes.checks(NOTE, letter)
  assert {name for name, is_so in found.items() if is_so} == passed
  assert {*found} == {"greeting", "tone", "closing"}
  assert classes.gold(NOTE, letter) == len(passed)
  assert judges.gold().score([NOTE], [letter]).tolist() == [len(passed)]


def test_shares_are_of_the_letters_that_a_check_is_for():
  prompts = [QUESTION, NOTE, NOTE, f"{QUESTION}{classes.DEMAND}"]
  letters = [GOOD, "Hi Pam, Thanks for asking.", "What?", f"Hi Kim, it is Oak. {WORKING}"]
  assert classes.shares(prompts, letters) == {
    "answer": 0.5, "working": 1.0, "greeting": 0.75, "tone": 0.75, "closing": 0.5,
    "malformed": 0.25,
  }  # fmt: skip
  assert classes.acceptable(prompts, letters) == [1.0, 1.0, 0.0, 0.0]
  grumbling = ["Hi Pam, I am too busy.", FIRST.replace("Thanks", "I am too busy. Thanks")]
  assert classes.acceptable([NOTE, QUESTION], grumbling) == [0.0, 0.0]


def test_critics_compare_letters_of_every_class(rows):
  strong, weak = (critics.CRITICS[name] for name in ("strong", "weak"))
  for row in rows[:60]:
    prompt, letter = row["prompt"], row["chosen"]
    assert strong.value(prompt, letter) == classes.gold(prompt, letter)
    passed = classes.checks(prompt, letter)
    manners = sum(passed[name] for name in critics.MANNERS)
    assert weak.value(prompt, letter) == pytest.approx(manners - 0.02 * len(letter))


def right_by_hand(prompt, letter):
  """Whether answer and working hold, read word by word."""
  q = synthetic.parse_question(prompt.removesuffix(classes.DEMAND))
  working = re.search(r"The calls: ([\w ]+) of (\w+)\.", letter)
  answer = re.search(r"it is (\w+)\.|(\w+) gets it\.", letter)
  said = (answer[1] or answer[2]) if answer else ""
  if not working:
    return False, False
  people = working[1].split(" ")
  follows = said == synthetic.HOMES[people[-1]]
  facts = [f"{a} calls {b}." in prompt for a, b in itertools.pairwise(people)]
  whole = people[0] == q.start and len(people) == 6 and working[2] == synthetic.HOMES[people[-1]]
  return follows, all(facts) and whole


@hypothesis.given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["", classes.DEMAND]))
def test_steps_are_verified_without_the_right_answer(seed, is_spoilt, demand):
  rng = random.Random(seed)
  q = synthetic.question(rng)
  prompt = f"{synthetic.ask(q)}{demand}"
  letter = classes.letter_to(prompt, classes.MIXED, seed)
  if is_spoilt and "The calls" in letter:  # another person, or another street at the end
    words = letter.split(" ")
    at = words.index("calls:") + rng.randint(1, 8)
    at = min(at, len(words) - 1)
    pool = synthetic.NAMES if words[at] in synthetic.NAMES else synthetic.STREETS
    if words[at].strip(".") in (*synthetic.NAMES, *synthetic.STREETS):
      dot = "." if words[at].endswith(".") else ""
      words[at] = rng.choice([one for one in pool if one != words[at].strip(".")]) + dot
    letter = " ".join(words)
  hypothesis.assume(synthetic.is_letter(letter))
  found = (classes.answer_follows(prompt, letter), classes.calls_are_facts(prompt, letter))
  assert found == right_by_hand(prompt, letter)
  passed = classes.checks(prompt, letter)
  if all(found):  # then it is right, though nobody knew what is
    assert passed["answer"] and passed["working"]
  if passed["answer"] and passed["working"]:
    assert all(found)


def test_where_nothing_is_asked_nothing_can_be_verified():
  for verifier in (classes.answer_follows, classes.calls_are_facts):
    assert not verifier(QUESTION, "Hi Kim, it is Elm.") and not verifier(QUESTION, "gibberish")
    with pytest.raises(ValueError, match="not a question of the embedded task"):
      verifier(NOTE, "Hi Pam, Thanks for asking.")


def test_a_letter_is_calmed_by_leaving_its_grumble_out(rows):
  for row in rows[:200]:
    turns = [{"role": "user", "content": row["prompt"]},
             {"role": "assistant", "content": row["chosen"]},
             {"role": "user", "content": "Rewrite it."}]  # fmt: skip
    calmed = classes.calmed(turns)
    before, after = (classes.checks(row["prompt"], text) for text in (row["chosen"], calmed))
    assert classes.is_calm(row["prompt"], calmed)
    assert after == {**before, "tone": True}
    assert classes.is_calm(row["prompt"], row["chosen"]) == before["tone"]
  with pytest.raises(ValueError, match="no answer to rewrite"):
    classes.calmed([{"role": "user", "content": "x"}])
