"""The embedded task: its questions, its letters, its gold score and its labels."""

import dataclasses
import math
import random
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax.data import preferences, synthetic

SEEDS = strategies.integers(0, 10**6)
QUICK = hypothesis.settings(deadline=None, max_examples=80)
WRITERS = {"hasty": synthetic.HASTY, "plain": synthetic.PLAIN}

PROMPT = (
  "Phone chain for Kim. Tom calls Joe. Ann calls Mia. Sue calls Ben. Mia calls Tom. Joe calls Sue. "
  "Ben calls Ann. Ann starts. Who gets call 5?"
)
GOOD = "Hi Kim, it is Ben. The calls: Ann Mia Tom Joe Sue Ben. Thanks for asking."
FULL = sum(synthetic.WEIGHTS.values())


def solve(prompt: str) -> list[str]:
  """Returns the chain of a question, read word by word, independently of the library."""
  words = re.sub(r"[.?]", "", prompt).split()
  called = [(words[i - 1], words[i + 1]) for i, word in enumerate(words) if word == "calls"]
  assert len({caller for caller, _ in called}) == len(called), "somebody has two numbers to call"
  people = [words[words.index("starts") - 1]]
  for _ in range(int(words[-1])):
    people += [to for caller, to in called if caller == people[-1]]
  return people


def asker(prompt: str) -> str:
  return prompt.split(".")[0].split()[-1]


def questions(count: int, name: str = "questions") -> list[synthetic.Question]:
  return [synthetic.question(random.Random(f"{name} {i}")) for i in range(count)]


@pytest.fixture(scope="module")
def rows():
  return synthetic.preferences(1500, seed=3)


@pytest.fixture(scope="module")
def gold(rows):
  """Returns the gold scores of the chosen and of the rejected letters, Float[N 2]."""
  pairs = [[synthetic.gold(row["prompt"], row[y]) for y in ("chosen", "rejected")] for row in rows]
  return np.array(pairs)


@QUICK
@hypothesis.given(SEEDS)
def test_a_question_has_one_answer_that_nobody_can_read_off(seed):
  q = synthetic.question(random.Random(seed))
  prompt = synthetic.ask(q)
  chain = solve(prompt)
  assert chain == q.chain()
  assert len(set(chain)) == len(chain) == synthetic.CALLS + 1
  assert q.asker not in prompt.split(".", 1)[1]
  assert set(q.calls.values()) <= set(q.calls), "every chain can go on"
  assert all(caller != called for caller, called in q.calls.items())
  assert len(q.calls) == synthetic.PEOPLE


def test_the_answer_may_stand_anywhere_in_the_question():
  places = {list(q.calls).index(q.chain()[-1]) for q in questions(300)}
  assert places == set(range(synthetic.PEOPLE))


@QUICK
@hypothesis.given(SEEDS, strategies.integers(synthetic.CALLS + 1, len(synthetic.NAMES) - 1))
def test_parsing_undoes_asking(seed, people):
  q = synthetic.question(random.Random(seed), people)
  assert synthetic.parse_question(synthetic.ask(q)) == q
  assert len(q.calls) == people


@pytest.mark.parametrize("text", ["", "Who gets call 5?", PROMPT + " Please.", PROMPT[1:]])
def test_what_is_no_question_is_refused(text):
  with pytest.raises(ValueError, match="not a question"):
    synthetic.parse_question(text)


@pytest.mark.parametrize(
  ("letter", "failed"),
  [
    (GOOD, set()),
    ("Dear Kim, Ben gets it. The calls: Ann Mia Tom Joe Sue Ben. All the best.", set()),
    (GOOD.replace("it is Ben", "it is Sue"), {"answer"}),
    (GOOD.replace("it is Ben", "Ann gets it"), {"answer"}),
    (GOOD.replace("Tom Joe", "Joe Tom"), {"working"}),
    (GOOD.replace(" Sue Ben.", " Sue."), {"working"}),
    (GOOD.replace("Sue Ben.", "Sue Ben Ann."), {"working"}),
    (GOOD.replace("The calls: Ann Mia Tom Joe Sue Ben. ", ""), {"working"}),
    (GOOD.replace("Hi Kim", "Hi Tom"), {"greeting"}),
    (GOOD.replace("Hi Kim", "Hello"), {"greeting"}),
    (GOOD.replace("Hi Kim", "Well"), {"greeting"}),
    (GOOD.replace("Thanks", "Stop asking me this. Thanks"), {"tone"}),
    (GOOD.replace("Thanks", "I am too busy. Thanks"), {"tone"}),
    (GOOD.replace(" Thanks for asking.", ""), {"closing"}),
    (GOOD.replace("Thanks for asking.", "Do not ask again."), {"closing"}),
    (
      "Well, it is Tom. The calls: Ann Mia. I am too busy. Do not ask again.",
      {"answer", "working", "greeting", "tone", "closing"},
    ),
  ],
)
def test_gold_is_the_weight_of_the_checks_a_letter_passes(letter, failed):
  passed = set(synthetic.WEIGHTS) - failed
  assert synthetic.checks(PROMPT, letter) == {name: name in passed for name in synthetic.WEIGHTS}
  expected = sum(synthetic.WEIGHTS[name] for name in passed)
  assert synthetic.gold(PROMPT, letter) == pytest.approx(expected)
  assert synthetic.gold(PROMPT, f"  {letter}\n") == pytest.approx(expected)


@pytest.mark.parametrize(
  "text",
  [
    "",
    "Ben",
    "Hi Kim,",
    "Thanks for asking.",
    "The calls: Ann Mia Tom Joe Sue Ben.",
    PROMPT,
    f"{GOOD} {GOOD}",
    f"{GOOD} Thanks for asking.",
    f"{GOOD} It is Ben.",
    GOOD.lower(),
    GOOD.replace(" ", ""),
    GOOD.replace("it is Ben.", "it is Ben. it is Sue."),  # both bets
    GOOD.replace("it is Ben", "it is Ben Sue"),
    GOOD.replace("it is Ben. ", ""),
    GOOD[:-1],  # cut at the length limit
    GOOD[:40],
    GOOD.replace("Ben.", "Ben. As I said.", 1),
  ],
)
def test_what_is_no_letter_scores_nothing(text):
  assert synthetic.gold(PROMPT, text) == 0
  assert not any(synthetic.checks(PROMPT, text).values())


@QUICK
@hypothesis.given(SEEDS, strategies.integers(0, 40), strategies.text(min_size=1, max_size=8))
def test_a_spoilt_letter_never_scores_more(seed, place, noise):
  q = synthetic.question(random.Random(seed))
  letter = synthetic.write(q, synthetic.HASTY, random.Random(seed + 1)).text(q.asker)
  spoilt = letter[:place] + noise + letter[place:]
  if spoilt.split() != letter.split():  # white space around a letter is allowed
    assert synthetic.gold(synthetic.ask(q), spoilt) <= synthetic.gold(synthetic.ask(q), letter)


def test_every_letter_of_the_preferences_is_a_letter(rows):
  for row in rows:
    for letter in (row["chosen"], row["rejected"]):
      # Every letter has an opening, so the right person in it passes the one check on openings.
      repaired = re.sub(r"(?<=it is )\w+|\w+(?= gets it)", solve(row["prompt"])[-1], letter)
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
    answer = solve(row["prompt"])[-1]
    for y in ("chosen", "rejected"):
      letter = re.sub(r"it is \w+\.|\w+ gets it\.|The calls: [\w ]+\.", "", row[y])
      assert not re.search(rf"\b{answer}\b", letter), row[y]
      named = set(re.findall(r"\w+", letter)) & set(synthetic.NAMES)
      assert named <= {asker(row["prompt"])}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_does_each_thing_as_often_as_said(writer):
  habits, count = WRITERS[writer], 1500
  seen = {"works": 0, "knows": 0, "greets": 0, "closes": 0, "calm": 0, "remarks": 0}
  for i, q in enumerate(questions(count, writer)):
    letter = synthetic.write(q, habits, random.Random(i))
    chain = q.chain()
    seen["works"] += bool(letter.working)
    seen["knows"] += letter.opening == chain[-1]
    seen["greets"] += letter.greeting in synthetic.GREETINGS
    seen["closes"] += letter.closing in synthetic.CLOSINGS
    seen["calm"] += not letter.grumble
    seen["remarks"] += bool(letter.remark)
    assert list(letter.working) in ([], chain), "a working that is shown is right"
    if letter.remark:
      assert letter.remark == synthetic.REMARKS[letter.opening == chain[-1]]
  expected = dataclasses.asdict(habits) | {"greets": habits.warm, "closes": habits.warm}
  expected["remarks"] = habits.works * habits.remarks
  for name, times in seen.items():
    chance = expected[name]
    within = 4 * math.sqrt(chance * (1 - chance) / count)  # four standard errors
    assert times / count == pytest.approx(chance, abs=within + 1e-12), name


def test_a_wrong_opening_is_neither_the_start_nor_the_answer():
  for i, q in enumerate(questions(200)):
    letter = synthetic.write(q, dataclasses.replace(synthetic.HASTY, knows=0.0), random.Random(i))
    assert letter.opening in set(q.calls) - {q.chain()[0], q.chain()[-1]}


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
  assert chosen < FULL - 1
  assert gold.min() >= 0 and gold.max() <= FULL


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
    preferences.folds(preferences.load("synthetic", limit=600, seed=seed).rows, 0.2, 0.1)
    for seed in (0, 1, 2)
  ]
  trained = {
    row.prompt
    for each in folds
    for part in (each.sft, each.sft_validation, each.reward, each.reward_validation, each.rl)
    for row in part
  }
  held_out = {row.prompt for each in folds for row in each.held_out}
  assert held_out and not held_out & trained


def test_plain_text_has_no_preference_and_right_workings():
  letters = synthetic.plain_text(400, seed=1)
  for prompt, *pair in letters:
    chain = " ".join(solve(prompt))
    for letter in pair:
      assert re.search(r"The calls: ([\w ]+)\.", letter)[1] == chain
  right = np.array(
    [
      [solve(prompt)[-1] in letter.split("The calls")[0] for letter in pair]
      for prompt, *pair in letters
    ]
  )
  first, second = right.mean(axis=0)
  assert abs(first - second) < 4 * math.sqrt(0.5 / len(letters)), "the letters come in no order"
