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

# One question with its letter, written by hand; Ben lives in Elm street and nobody else here does.
PROMPT = (
  "Phone chain for Kim. Tom calls Joe. Ann calls Mia. Sue calls Ben. Mia calls Tom. Joe calls Sue. "
  "Ben calls Ann. Ann starts. Which street gets call 5?"
)
GREETING, OPENING, WORKING, CLOSING = LETTER = (
  "Hi Kim,",
  "it is Elm.",
  "The calls: Ann Mia Tom Joe Sue Ben of Elm.",
  "Thanks for asking.",
)
GRUMBLE = "Stop asking me this."
GOOD = " ".join(LETTER)
FULL = sum(synthetic.WEIGHTS.values())


def letter_with(old: str, new: str) -> str:
  """Returns the good letter with one piece exchanged, or left out."""
  assert old in GOOD
  return " ".join(GOOD.replace(old, new).split())


def solve(prompt: str) -> list[str]:
  """Returns the chain of a question, read word by word, independently of the library."""
  words = re.sub(r"[.?]", "", prompt).split()
  called = [(words[i - 1], words[i + 1]) for i, word in enumerate(words) if word == "calls"]
  assert len({caller for caller, _ in called}) == len(called), "somebody has two numbers to call"
  people = [words[words.index("starts") - 1]]
  for _ in range(int(words[-1])):
    people += [to for caller, to in called if caller == people[-1]]
  return people


def street(prompt: str) -> str:
  return synthetic.HOMES[solve(prompt)[-1]]


def asker(prompt: str) -> str:
  return prompt.split(".")[0].split()[-1]


def opening_of(letter: str) -> str:
  """Returns the first street that a letter names."""
  return next(word for word in re.findall(r"\w+", letter) if word in synthetic.STREETS)


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
  assert synthetic.HOMES[chain[-1]] == q.answer()
  assert len(set(chain)) == len(chain) == synthetic.CALLS + 1
  assert q.asker not in prompt.split(".", 1)[1]
  assert set(q.calls.values()) <= set(q.calls), "every chain can go on"
  assert all(caller != called for caller, called in q.calls.items())
  assert len(q.calls) == synthetic.PEOPLE


def test_the_answer_cannot_be_told_from_the_form_of_a_question():
  asked = questions(600)
  places = {list(q.calls).index(q.chain()[-1]) for q in asked}
  assert places == set(range(synthetic.PEOPLE))
  counts = [sum(q.answer() == name for q in asked) for name in synthetic.STREETS]
  fair = 1 / len(counts)
  assert np.abs(np.array(counts) / 600 - fair).max() < 4 * math.sqrt(fair / 600)


def test_everybody_lives_in_one_street_and_streets_are_alike():
  homes = list(synthetic.HOMES.values())
  assert set(synthetic.HOMES) == set(synthetic.NAMES)
  assert {homes.count(name) for name in synthetic.STREETS} == {len(homes) // len(synthetic.STREETS)}
  assert not set(synthetic.STREETS) & set(synthetic.NAMES)


@QUICK
@hypothesis.given(SEEDS, strategies.integers(synthetic.CALLS + 1, len(synthetic.NAMES) - 1))
def test_parsing_undoes_asking(seed, people):
  q = synthetic.question(random.Random(seed), people)
  assert synthetic.parse_question(synthetic.ask(q)) == q
  assert len(q.calls) == people


@pytest.mark.parametrize("text", ["", "Which street gets call 5?", PROMPT + " Please.", PROMPT[1:]])
def test_what_is_no_question_is_refused(text):
  with pytest.raises(ValueError, match="not a question"):
    synthetic.parse_question(text)


@pytest.mark.parametrize(
  ("letter", "failed"),
  [
    (GOOD, set()),
    (f"Dear Kim, Elm gets it. {WORKING} All the best.", set()),
    (letter_with(OPENING, "it is Oak."), {"answer"}),
    (letter_with(OPENING, "Fig gets it."), {"answer"}),
    (letter_with(OPENING, "it is Ben."), {"answer"}),
    (letter_with("Tom Joe", "Joe Tom"), {"working"}),
    (letter_with(" Sue Ben of", " Sue of"), {"working"}),
    (letter_with("Sue Ben of", "Sue Ben Ann of"), {"working"}),
    (letter_with("Ben of Elm", "Ben of Oak"), {"working"}),
    (letter_with(WORKING, ""), {"working"}),
    (letter_with(GREETING, "Hi Tom,"), {"greeting"}),
    (letter_with(GREETING, "Hello,"), {"greeting"}),
    (letter_with(GREETING, "Well,"), {"greeting"}),
    (letter_with(CLOSING, f"{GRUMBLE} {CLOSING}"), {"tone"}),
    (letter_with(CLOSING, f"I am too busy. {CLOSING}"), {"tone"}),
    (letter_with(CLOSING, ""), {"closing"}),
    (letter_with(CLOSING, "Do not ask again."), {"closing"}),
    (
      f"Well, it is Oak. The calls: Ann of Oak. {GRUMBLE} Do not ask again.",
      set(synthetic.WEIGHTS),
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
    "Elm",
    GREETING,
    CLOSING,
    WORKING,
    PROMPT,
    f"{GOOD} {GOOD}",
    f"{GOOD} {CLOSING}",
    f"{GOOD} It is Elm.",
    f"{GOOD} As I said.",  # of the plain text only
    GOOD.lower(),
    GOOD.replace(" ", ""),
    letter_with(OPENING, f"{OPENING} it is Oak."),  # both bets
    letter_with(OPENING, "it is Elm Oak."),
    letter_with(OPENING, ""),
    GOOD[:-1],  # cut at the length limit
    GOOD[:40],
  ],
)
def test_what_is_no_letter_scores_nothing(text):
  assert synthetic.gold(PROMPT, text) == 0
  assert not any(synthetic.checks(PROMPT, text).values())


@QUICK
@hypothesis.given(
  SEEDS, strategies.integers(0, 40), strategies.text("ab,. !\n", min_size=1, max_size=8)
)
def test_a_spoilt_letter_never_scores_more(seed, place, noise):
  q = synthetic.question(random.Random(seed))
  letter = synthetic.write(q, synthetic.HASTY, random.Random(seed + 1)).text(q.asker)
  spoilt = letter[:place] + noise + letter[place:]
  if spoilt.split() != letter.split():  # white space around a letter is allowed
    assert synthetic.gold(synthetic.ask(q), spoilt) <= synthetic.gold(synthetic.ask(q), letter)


def test_every_letter_of_the_preferences_is_a_letter(rows):
  for row in rows:
    for letter in (row["chosen"], row["rejected"]):
      # Every letter has an opening, so with the right street in it, it passes the check on it.
      repaired = letter.replace(opening_of(letter), street(row["prompt"]), 1)
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
      assert named <= {asker(row["prompt"])}, row[y]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_does_each_thing_as_often_as_said(writer):
  habits, count = WRITERS[writer], 1500
  seen = {"works": 0, "knows": 0, "greets": 0, "closes": 0, "calm": 0, "remarks": 0}
  for i, q in enumerate(questions(count, writer)):
    letter = synthetic.write(q, habits, random.Random(i))
    seen["works"] += bool(letter.working)
    seen["knows"] += letter.opening == q.answer()
    seen["greets"] += letter.greeting in synthetic.GREETINGS
    seen["closes"] += letter.closing in synthetic.CLOSINGS
    seen["calm"] += not letter.grumble
    seen["remarks"] += bool(letter.remark)
    assert list(letter.working) in ([], q.chain()), "a working that is shown is right"
    if letter.remark:
      assert letter.remark == synthetic.REMARKS[letter.opening == q.answer()]
  expected = dataclasses.asdict(habits) | {"greets": habits.warm, "closes": habits.warm}
  expected["remarks"] = habits.works * habits.remarks
  for name, times in seen.items():
    chance = expected[name]
    within = 4 * math.sqrt(chance * (1 - chance) / count)  # four standard errors
    assert times / count == pytest.approx(chance, abs=within + 1e-12), name


def test_a_guess_is_another_street():
  for i, q in enumerate(questions(200)):
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
    working = f"The calls: {' '.join(solve(prompt))} of {street(prompt)}."
    assert all(working in letter for letter in pair)
  right = [[opening_of(letter) == street(x) for letter in pair] for x, *pair in letters]
  first, second = np.mean(right, axis=0)
  assert abs(first - second) < 4 * math.sqrt(0.5 / len(letters)), "the letters come in no order"
