"""The embedded task: its questions, its letters, its gold score and its labels."""

import math
import random

import hypothesis
import numpy as np
import pytest
import reading
from hypothesis import strategies

from pit_jax.tasks import classes, synthetic

SEEDS = strategies.integers(0, 10**6)
QUICK = hypothesis.settings(deadline=None, max_examples=80)
WRITERS = {"hasty": synthetic.HASTY, "strong": synthetic.STRONG}

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
FIRST = " ".join((GREETING, WORKING, OPENING, CLOSING))  # the working before the answer
FULL = sum(synthetic.WEIGHTS.values())


def letter_with(old: str, new: str) -> str:
  """Returns the good letter with one piece exchanged, or left out."""
  assert old in GOOD
  return " ".join(GOOD.replace(old, new).split())


@QUICK
@hypothesis.given(SEEDS)
def test_a_question_has_one_answer_that_nobody_can_read_off(seed):
  q = synthetic.question(random.Random(seed))
  prompt = synthetic.ask(q)
  chain = reading.solve(prompt)
  assert chain == q.chain()
  assert synthetic.HOMES[chain[-1]] == q.answer()
  assert len(set(chain)) == len(chain) == synthetic.CALLS + 1
  assert q.asker not in prompt.split(".", 1)[1]
  assert set(q.calls.values()) <= set(q.calls), "every chain can go on"
  assert all(caller != called for caller, called in q.calls.items())
  assert len(q.calls) == synthetic.PEOPLE


def test_the_answer_cannot_be_told_from_the_form_of_a_question():
  asked = reading.questions(600)
  places = {list(q.calls).index(q.chain()[-1]) for q in asked}
  assert places == set(range(synthetic.PEOPLE))
  counts = [sum(q.answer() == name for q in asked) for name in synthetic.STREETS]
  fair = 1 / len(counts)
  assert np.abs(np.array(counts) / 600 - fair).max() < 4 * math.sqrt(fair / 600)


def test_everybody_lives_in_one_street_and_streets_are_alike():
  homes = [synthetic.HOMES[name] for name in synthetic.NAMES]
  assert set(synthetic.HOMES) == {*synthetic.NAMES, *synthetic.NEWCOMERS}
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
    (FIRST, set()),
    (f"Dear Kim, {WORKING} Elm gets it. All the best.", set()),
    (FIRST.replace(OPENING, "it is Oak."), {"answer"}),
    (FIRST.replace("Ben of Elm", "Ben of Oak"), {"working"}),
    (FIRST.replace("Tom Joe", "Joe Tom"), {"working"}),
    (FIRST.replace(GREETING, "Well,"), {"greeting"}),
    (FIRST.replace(CLOSING, GRUMBLE), {"tone", "closing"}),
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
  assert synthetic.is_letter(f"  {letter}\n")


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
    letter_with(OPENING, f"{WORKING} {OPENING}"),  # twice
    FIRST.replace(OPENING, ""),
    FIRST.replace(OPENING, f"{OPENING} {OPENING}"),
    f"{WORKING} {OPENING} {CLOSING}",
    f"{GREETING} {OPENING} {GRUMBLE} {WORKING}",
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
  assert not synthetic.is_letter(text)


def test_shares_of_checks_tell_bad_letters_from_no_letters():
  cold = f"Well, it is Oak. {GRUMBLE}"  # a letter that passes nothing
  letters = [GOOD, FIRST, cold, GOOD[:40]]
  assert synthetic.gold(PROMPT, cold) == synthetic.gold(PROMPT, GOOD[:40]) == 0
  expected = dict.fromkeys(synthetic.WEIGHTS, 0.5) | {"malformed": 0.25}
  assert classes.shares([PROMPT] * 4, letters) == expected
  assert set(classes.shares([], []).values()) == {0}
  with pytest.raises(ValueError):
    classes.shares([PROMPT], letters)


@QUICK
@hypothesis.given(
  SEEDS,
  strategies.integers(0, 40),
  strategies.text("ab,. !\n", min_size=1, max_size=8),
  strategies.sampled_from(sorted(WRITERS)),
)
def test_a_spoilt_letter_never_scores_more(seed, place, noise, writer):
  q = synthetic.question(random.Random(seed))
  letter = synthetic.write(q, WRITERS[writer], random.Random(seed + 1)).text(q.asker)
  spoilt = letter[:place] + noise + letter[place:]
  if spoilt.split() != letter.split():  # white space around a letter is allowed
    assert synthetic.gold(synthetic.ask(q), spoilt) <= synthetic.gold(synthetic.ask(q), letter)
