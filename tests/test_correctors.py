"""Correctors of the embedded task err as often as is said, and change only what they name."""

import collections
import random

import numpy as np
import pytest

from pit_jax.data import critiques
from pit_jax.tasks import correctors, synthetic, words

COUNT = 2_000


@pytest.fixture(scope="module")
def letters():
  """Letters of all kinds, a tenth of which work first, with a text that is none now and then."""
  found = []
  for number in range(COUNT):
    chance = random.Random(number)
    q = synthetic.question(chance)
    habits = synthetic.writer_named("hasty", first=0.1)
    text = synthetic.write(q, habits, chance).text(q.asker)
    found.append((synthetic.ask(q), "Oak, I think." if number % 50 == 7 else text))
  return found


def test_the_parts_of_a_letter_are_the_letter(letters):
  for _, text in letters:
    parts = synthetic.parts(text)
    assert (parts is None) == (not synthetic.is_letter(text))
    if parts:
      assert " ".join(filter(None, parts.values())) == text
      assert {*parts} == {*synthetic.WEIGHTS}


def test_what_is_not_named_is_left_as_it_is_and_what_is_named_passes(letters):
  sure = correctors.Corrector(misses=0.3, invents=0.2, right=1.0)
  for prompt, text in letters:
    made = sure.correct(prompt, text, 0)
    before, after = synthetic.parts(text), synthetic.parts(made.letter)
    passed = synthetic.checks(prompt, made.letter)
    assert all(passed[name] for name in made.weak)
    if before:
      kept = [name for name in before if name not in made.weak]
      assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
      assert [*after] == [*before], "the order stays"
    else:
      assert all(passed.values()), "nothing is kept of what is no letter"


def test_errors_are_as_frequent_as_is_said(letters):
  made = correctors.Corrector()
  counts = collections.Counter()
  for prompt, text in letters:
    named = made.correct(prompt, text, 0)
    for name, passed in synthetic.checks(prompt, text).items():
      counts[passed, name in named.weak] += 1
    if "answer" in named.weak:
      counts["answer", synthetic.checks(prompt, named.letter)["answer"]] += 1

  def share(*keys):
    hits, others = (counts[key] for key in keys)
    return hits / (hits + others), 3 * np.sqrt(0.25 / (hits + others))

  for expected, keys in (
    (0.1, ((False, False), (False, True))),
    (0.05, ((True, True), (True, False))),
    (0.9, (("answer", True), ("answer", False))),
  ):
    found, error = share(*keys)
    assert found == pytest.approx(expected, abs=error)


def test_the_score_is_of_what_is_not_named_and_each_name_has_a_change(letters):
  for prompt, text in letters[:200]:
    made = correctors.Corrector().correct(prompt, text, 0)
    left = {name: weight for name, weight in synthetic.WEIGHTS.items() if name not in made.weak}
    assert made.score == sum(left.values()) and len(made.changes) == len(made.weak)
    for name, change in zip(made.weak, made.changes, strict=True):
      is_said = name not in ("working", "tone")
      assert change in made.letter if is_said else change == words.PRINCIPLES[name][0]


def test_it_says_the_same_again_and_another_seed_says_other_things(letters):
  one = correctors.Corrector()
  said = [[one.correct(*letter, seed) for letter in letters[:100]] for seed in (0, 0, 1)]
  assert said[0] == said[1] != said[2]
  flawless = correctors.Corrector(misses=0, invents=0, right=1)
  for prompt, text in letters[:100]:
    made = flawless.correct(prompt, text, 0)
    assert synthetic.gold(prompt, made.letter) == 8 and made.score == synthetic.gold(prompt, text)


def test_what_it_says_is_said_in_the_words_that_a_base_knows():
  form = critiques.Form("Weak: {weaknesses}. Score {score}. Change: {changes}", 0, 8)
  for weak, score, changes in (
    (("answer", "tone"), 4, ("it is Oak.", "Nobody grumbles.")), ((), 8, ()),
  ):  # fmt: skip
    critique = critiques.Critique(
      ", ".join(weak) or words.NONE, score, " ".join(changes) or words.NOTHING
    )
    assert form.write(critique) == words.feedback(weak, score, changes)


@pytest.mark.parametrize("name", ["misses", "invents", "right"])
def test_a_share_is_from_0_to_1(name):
  with pytest.raises(ValueError, match=f"{name}=1.5; use a share"):
    correctors.Corrector(**{name: 1.5})


def test_what_is_no_question_is_refused():
  with pytest.raises(ValueError, match="not a question"):
    correctors.Corrector().correct("Hello?", "Hi Kim,", 0)
