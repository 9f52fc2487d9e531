"""Chains without letters: questions, rationales with known errors, and what is right of a text."""

import itertools
import random
import re

import jax
import numpy as np
import pytest

from pit_jax.data import prompt_formats, sources
from pit_jax.feedback import judges, writers
from pit_jax.tasks import chains, classes, synthetic

ROWS = chains.preferences(400, 3)


def walked(prompt, people):
  """Whether each person is called by the one before, read from the words of the question."""
  return [f" {a} calls {b}." in prompt for a, b in itertools.pairwise(people)]


def people_of(text):
  return re.match(r"The calls: ([\w ]+) of", text)[1].split()


def test_questions_are_of_each_length_and_rows_of_seed_and_number_alone():
  counts = [int(re.search(r"call (\d)\?$", row["prompt"])[1]) for row in ROWS]
  assert {*counts} == {*chains.LENGTHS}
  assert all(abs(counts.count(n) - 100) < 30 for n in chains.LENGTHS)
  assert ROWS[:5] == chains.preferences(5, 3) != chains.preferences(5, 4)
  assert [fields for _, fields, *_ in sources.read("synthetic:chains", 5, 3)] == ROWS[:5]


def test_a_right_rationale_walks_the_chain_and_a_wrong_one_strays_once():
  for row in ROWS:
    q = chains.parse(row["prompt"])
    right, wrong = (people_of(row[side]) for side in ("chosen", "rejected"))
    assert right[0] == wrong[0] == q.start and len(right) == len(wrong) == q.count + 1
    assert all(walked(row["prompt"], right)) and walked(row["prompt"], wrong).count(False) == 1
    for side, people in (("chosen", right), ("rejected", wrong)):
      assert row[side].endswith(f"The answer is {synthetic.HOMES[people[-1]]}.")
    assert chains.checks(row["prompt"], row["chosen"]) == {"answer": True, "working": True}
    assert not chains.checks(row["prompt"], row["rejected"])["working"]


def test_the_stated_share_of_a_teachers_rationales_is_wrong():
  writer = writers.reasoner("teacher", wrong=0.1, seed=2)
  asked = [row["prompt"] + " The answer is Oak. Step by step:" for row in ROWS]
  shown = prompt_formats.Format("policy", plain="{prompt}").conversations(asked)
  texts = writer.write(shown, jax.random.key(0), 1.0, samples=2).texts
  sound = np.array([
    [chains.checks(row["prompt"], text)["working"] for text in pair]
    for row, pair in zip(ROWS, texts, strict=True)
  ])  # fmt: skip
  assert abs(1 - sound.mean() - 0.1) < 3 * np.sqrt(0.09 / sound.size)
  assert (sound[:, 0] != sound[:, 1]).any()  # samples err apart
  assert texts == writer.write(shown, jax.random.key(1), 0.5, samples=2).texts


@pytest.mark.parametrize(
  ("form", "is_right", "checks"),
  [
    ("{right}.", True, (True, False)),
    ("{wrong}.", False, (False, False)),
    ("{right}", True, (False, False)),  # right, though it is no short answer as they are written
    ("The calls: who knows of {wrong}. The answer is {right}.", True, (True, False)),
    ("The answer is {right}. The answer is {wrong}.", False, (False, False)),
    ("Hi Kim, it is {right}. The calls: Ann of {wrong}.", True, (False, False)),
    ("Well, {wrong} gets it.", False, (False, False)),
    ("", False, (False, False)),
  ],
)
def test_the_verifier_reads_the_final_answer_and_gold_the_form_too(form, is_right, checks):
  prompt = ROWS[0]["prompt"]
  right = chains.parse(prompt).answer()
  wrong = next(street for street in synthetic.STREETS if street != right)
  text = form.format(right=right, wrong=wrong)
  assert chains.is_right(prompt, text) == is_right
  assert chains.right([prompt], [text]) == [float(is_right)]
  assert tuple(chains.checks(prompt, text).values()) == checks
  gold = judges.gold().score([prompt], [text])
  np.testing.assert_allclose(gold, [3 * checks[0] + 2 * checks[1]])


def test_letters_and_notes_are_judged_as_before():
  q = synthetic.question(random.Random(0))
  letter = synthetic.write(q, synthetic.STRONG, random.Random(1)).text(q.asker)
  assert not chains.is_question(synthetic.ask(q))
  assert classes.checks(synthetic.ask(q), letter) == synthetic.checks(synthetic.ask(q), letter)
  assert not classes.is_letter(ROWS[0]["prompt"], letter)
  assert classes.is_letter(ROWS[0]["prompt"], ROWS[0]["chosen"])


def test_a_text_without_a_question_is_refused():
  for ask in (chains.parse, lambda text: chains.rationale_to(text, 0.1, 0)):
    with pytest.raises(ValueError, match="no question of the embedded task's chains"):
      ask("Phone chain for Kim. Ann calls Mia. Ann starts. Which street gets call 5?")
