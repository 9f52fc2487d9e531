"""Letters of the embedded task: who writes what, and how pairs are labelled."""

import dataclasses
import hashlib
import json
import math
import random
import re

import hypothesis
import numpy as np
import pytest
import reading
from hypothesis import strategies

from pit_jax.data import preferences
from pit_jax.tasks import synthetic

SEEDS = strategies.integers(0, 10**6)
QUICK = hypothesis.settings(deadline=None, max_examples=80)
WRITERS = synthetic.WRITERS | {
  "hasty, at times first": synthetic.writer_named("hasty", first=0.4),
  "plain, at times first": synthetic.writer_named("plain", first=0.3, works=0.8),
}
# What published figures of the demonstration and its base hang on, by what makes it.
FROZEN = {
  "preferences": "3b771d7104748f5f",
  "plain_text": "0745ec857932f2b2",
  "gold": "ee0fb2a325296362",
}


@pytest.fixture(scope="module")
def rows():
  return synthetic.preferences(1500, seed=3)


@pytest.fixture(scope="module")
def gold(rows):
  """Returns the gold scores of the chosen and of the rejected letters, Float[N 2]."""
  pairs = [[synthetic.gold(row["prompt"], row[y]) for y in ("chosen", "rejected")] for row in rows]
  return np.array(pairs)


def test_every_letter_of_the_preferences_is_a_letter(rows):
  for row in rows:
    for letter in (row["chosen"], row["rejected"]):
      # Every letter has an opening, so with the right street in it, it passes the check on it.
      repaired = letter.replace(reading.opening_of(letter), reading.street(row["prompt"]), 1)
      assert synthetic.checks(row["prompt"], repaired)["answer"], letter


def test_letters_differ_in_every_check(rows):
  passed = [
    list(synthetic.checks(row["prompt"], row[y]).values())
    for row in rows
    for y in row
    if y[0] in "cr"
  ]
  shares = np.mean(passed, axis=0)
  assert (shares > 0.05).all() and (shares < 0.95).all(), shares


def test_a_pair_has_two_letters_that_share_parts(rows):
  assert all(row["chosen"] != row["rejected"] for row in rows)
  shared = [set(row["chosen"].split()) & set(row["rejected"].split()) for row in rows]
  lengths = [min(len(set(row[y].split())) for y in ("chosen", "rejected")) for row in rows]
  assert np.mean([len(s) / n for s, n in zip(shared, lengths)]) > 0.5


def test_the_answer_stands_in_opening_and_working_only(rows):
  for row in rows:
    for y in ("chosen", "rejected"):
      letter = re.sub(r"it is \w+\.|\w+ gets it\.|The calls: [\w ]+\.", "", row[y])
      named = set(re.findall(r"\w+", letter)) & {*synthetic.NAMES, *synthetic.STREETS}
      assert named <= {reading.asker(row["prompt"])}, row[y]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_does_each_thing_as_often_as_said(writer):
  habits, count = WRITERS[writer], 1500
  seen = {"works": 0, "knows": 0, "greets": 0, "closes": 0, "calm": 0, "remarks": 0, "first": 0}
  for i, q in enumerate(reading.questions(count, writer)):
    letter = synthetic.write(q, habits, random.Random(i))
    seen["works"] += bool(letter.working)
    seen["knows"] += letter.opening == q.answer()
    seen["greets"] += letter.greeting in synthetic.GREETINGS
    seen["closes"] += letter.closing in synthetic.CLOSINGS
    seen["calm"] += not letter.grumble
    seen["remarks"] += bool(letter.remark)
    seen["first"] += letter.first
    assert list(letter.working) in ([], q.chain()), "a working that is shown is right"
    if letter.first:
      assert letter.opening == q.answer() and letter.working and not letter.remark
    if letter.remark:
      assert letter.remark == synthetic.REMARKS[letter.opening == q.answer()]
  expected = dataclasses.asdict(habits) | {"greets": habits.warm, "closes": habits.warm}
  expected["first"] = habits.works * habits.first
  expected["knows"] += expected["first"] * (1 - habits.knows)
  expected["remarks"] = habits.works * habits.remarks * (1 - habits.first)
  for name, times in seen.items():
    chance = expected[name]
    within = 4 * math.sqrt(chance * (1 - chance) / count)  # four standard errors
    assert times / count == pytest.approx(chance, abs=within + 1e-12), name


def test_a_text_has_the_parts_in_the_order_of_its_letter():
  for i, q in enumerate(reading.questions(200)):
    letter = synthetic.write(q, WRITERS["hasty, at times first"], random.Random(i))
    text = letter.text(q.asker)
    answer = letter.answer.format(street=letter.opening)
    working = "The calls:" in text
    assert working == bool(letter.working)
    if working:
      assert (text.index("The calls:") < text.index(answer)) == letter.first
    assert synthetic.is_letter(text)
    assert synthetic.checks(synthetic.ask(q), text)["answer"] == (letter.opening == q.answer())
    assert synthetic.checks(synthetic.ask(q), text)["working"] == working


def test_who_works_first_alone_differs_in_nothing_else():
  differs = 0
  for i, q in enumerate(reading.questions(200)):
    names = ("strong", "strong_answer_first")
    first, after = (synthetic.write(q, WRITERS[name], random.Random(i)) for name in names)
    assert first.first and not after.first
    assert dataclasses.replace(first, opening=after.opening, first=False) == after
    differs += first.opening != after.opening
  assert 20 < differs < 80, "a quarter guesses"


def test_a_text_tells_whether_its_working_stands_first():
  """Of a letter as of the parts that it was made of, whatever else it says; of no letter, no."""
  rng = random.Random(5)
  letters, texts = [], []
  for writer in WRITERS.values():
    for _ in range(40):
      q = synthetic.question(rng)
      letters.append(synthetic.write(q, writer, rng))
      texts.append(letters[-1].text(q.asker))
  told = synthetic.works_first(["whatever"] * len(texts), texts)
  assert told == [float(letter.first) for letter in letters] and 0 < sum(told) < len(told)
  assert synthetic.works_first([""] * 2, ["The calls: Ann of Oak.", ""]) == [0.0, 0.0]


def test_a_letter_to_a_prompt_is_a_function_of_writer_prompt_and_seed():
  prompts = [synthetic.ask(q) for q in reading.questions(40)]
  letters = [synthetic.letter_to(x, synthetic.HASTY, 0) for x in prompts]
  assert letters == [synthetic.letter_to(x, synthetic.HASTY, 0) for x in prompts]
  assert letters != [synthetic.letter_to(x, synthetic.HASTY, 1) for x in prompts]
  with pytest.raises(ValueError, match="not a question of the embedded task"):
    synthetic.letter_to("What is it?", synthetic.HASTY, 0)


@QUICK
@hypothesis.given(SEEDS)
def test_a_revised_letter_says_what_a_working_before_it_found(seed):
  q = synthetic.question(random.Random(seed))
  writer = synthetic.writer_named("hasty", first=0.5)
  rng = random.Random(seed)
  letter = synthetic.write(q, writer, rng)
  for _ in range(5):
    letter = synthetic.revise(q, letter, writer, rng)
    if letter.first:
      assert letter.working and letter.opening == q.answer()


@pytest.mark.parametrize(
  ("name", "changes", "said"),
  [
    ("nobody", {}, "writer='nobody'; use one of hasty, plain, strong, strong_answer_first"),
    ("hasty", {"first": 1.5}, "first=1.5; use a share from 0 to 1"),
    ("hasty", {"warm": math.nan}, "warm=nan; use a share from 0 to 1"),
  ],
)
def test_who_is_no_writer_is_refused(name, changes, said):
  with pytest.raises(ValueError, match=said):
    synthetic.writer_named(name, **changes)


def test_rows_and_scores_of_the_data_source_are_frozen():
  rows = synthetic.preferences(500, seed=0)
  letters = [(row["prompt"], row[y]) for row in rows for y in ("chosen", "rejected")]
  made = {
    "preferences": rows,
    "plain_text": synthetic.plain_text(500, seed=0),
    "gold": [synthetic.gold(*pair) for pair in letters],
  }
  hashes = {
    name: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    for name, content in made.items()
  }
  assert hashes == FROZEN


def test_a_guess_is_another_street():
  for i, q in enumerate(reading.questions(200)):
    letter = synthetic.write(q, dataclasses.replace(synthetic.HASTY, knows=0.0), random.Random(i))
    assert letter.opening in set(synthetic.STREETS) - {q.answer()}


def test_labels_are_as_noisy_as_the_closed_form_says(gold):
  gap = gold[:, 0] - gold[:, 1]
  differs = gap != 0
  # P(worse is chosen) = σ(−|gap| / τ), pair by pair
  wrong = 1 / (1 + np.exp(np.abs(gap[differs]) / synthetic.LABEL_NOISE))
  error = np.sqrt((wrong * (1 - wrong)).sum()) / differs.sum()
  assert (gap[differs] < 0).mean() == pytest.approx(wrong.mean(), abs=4 * error)
  assert 0.02 < wrong.mean() < 0.35, "labels are noisy, and say something"


def test_the_order_of_a_tied_pair_is_a_fair_coin(rows, gold):
  tied = [row for row, pair in zip(rows, gold) if pair[0] == pair[1]]
  first = np.mean([row["chosen"] < row["rejected"] for row in tied])
  assert len(tied) > 50
  assert abs(first - 0.5) < 4 * 0.5 / math.sqrt(len(tied))


def test_chosen_letters_are_better_and_not_perfect(gold):
  chosen, rejected = gold.mean(axis=0)
  error = (gold[:, 0] - gold[:, 1]).std() / math.sqrt(len(gold))
  assert chosen - rejected > 4 * error
  assert chosen < sum(synthetic.WEIGHTS.values()) - 1
  assert gold.min() >= 0 and gold.max() <= sum(synthetic.WEIGHTS.values())


def test_a_row_is_a_function_of_seed_and_index(rows):
  assert synthetic.preferences(20, seed=3) == rows[:20]
  assert synthetic.plain_text(20, seed=3) == synthetic.plain_text(40, seed=3)[:20]
  assert synthetic.preferences(20, seed=4) != rows[:20]


def test_no_prompt_is_asked_twice(rows):
  prompts = [row["prompt"] for row in rows]
  others = {row["prompt"] for seed in (4, 5) for row in synthetic.preferences(1500, seed)}
  plain = {prompt for prompt, _, _ in synthetic.plain_text(1500, seed=3)}
  assert len(set(prompts)) == len(prompts)
  assert not set(prompts) & others
  assert not set(prompts) & plain


def test_no_held_out_prompt_is_trained_on_under_any_seed():
  folds = [
    preferences.divide(preferences.load("synthetic", limit=600, seed=seed).rows, 0.2, 0.1)
    for seed in (0, 1, 2)
  ]
  trained = {
    row.prompt
    for each in folds
    for part in (
      each["sft"],
      each["sft_validation"],
      each["reward"],
      each["reward_validation"],
      each["rl"],
    )
    for row in part
  }
  held_out = {row.prompt for each in folds for row in each["held_out"]}
  assert held_out and not held_out & trained


def test_plain_text_has_no_preference_and_right_workings():
  letters = synthetic.plain_text(400, seed=1)
  for prompt, *pair in letters:
    working = f"The calls: {' '.join(reading.solve(prompt))} of {reading.street(prompt)}."
    assert all(working in letter for letter in pair)
  right = [
    [reading.opening_of(letter) == reading.street(x) for letter in pair] for x, *pair in letters
  ]
  first, second = np.mean(right, axis=0)
  assert abs(first - second) < 4 * math.sqrt(0.5 / len(letters)), "the letters come in no order"
  some = [letter for _, *pair in synthetic.plain_text(400, 1, 0.25) for letter in pair]
  share = np.mean([letter.index("The calls:") < 15 for letter in some])
  assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(some)), "those that work first"
