"""Critics of the embedded task: how often each is right, and what it is blind to."""

import math
import random

import numpy as np
import pytest
import reading

from pit_jax.feedback import judges, labels
from pit_jax.tasks import critics, synthetic

COUNT = 1200
PROMPT = (
  "Phone chain for Kim. Tom calls Joe. Ann calls Mia. Sue calls Ben. Mia calls Tom. Joe calls Sue. "
  "Ben calls Ann. Ann starts. Which street gets call 5?"
)
WORKING = "The calls: Ann Mia Tom Joe Sue Ben of Elm. "
GOOD = f"Hi Kim, it is Elm. {WORKING}Thanks for asking."
ALL = ("answer", "working", *critics.MANNERS)
# The letter without one check, or with a word that no letter has.
FAULTS = {
  "answer": GOOD.replace("it is Elm", "it is Oak"),
  "working": GOOD.replace(WORKING, ""),
  "greeting": GOOD.replace("Kim", "Tom"),
  "tone": GOOD.replace("Thanks", "I am too busy. Thanks"),
  "closing": GOOD.replace(" Thanks for asking.", ""),
  "letter": f"{GOOD} Bye.",
}


@pytest.fixture(scope="module")
def pairs():
  """Returns questions, each with two letters of a hasty writer that differ."""
  prompts = [synthetic.ask(q) for q in reading.questions(COUNT, "critics")]
  columns = [[synthetic.letter_to(x, synthetic.HASTY, seed) for x in prompts] for seed in (0, 1)]
  return [row for row in zip(prompts, *columns, strict=True) if row[1] != row[2]]


def values(name, prompt, letter):
  """Returns a critic's value of a letter, written the slow way."""
  passed = synthetic.checks(prompt, letter)
  if name == "weak":
    return sum(passed[check] for check in critics.MANNERS) - 0.02 * len(letter)
  if name == "even":
    return sum(passed.values())
  return 0.0 if name == "random" else synthetic.gold(prompt, letter)


NOISE = {"strong": 0.5, "weak": 1.0, "first": 0.5, "random": 1.0, "even": 1.0}


@pytest.mark.parametrize("name", critics.CRITICS)
def test_a_critic_prefers_as_often_as_its_formula_says(name, pairs):
  differences = np.array([critics.CRITICS[name].difference(*row, 3) for row in pairs])
  gaps = np.array([values(name, x, a) - values(name, x, b) for x, a, b in pairs])
  chances = 1 / (1 + np.exp(-gaps / NOISE[name]))
  # In a tenth of the pairs whichever stands first.
  likes = 0.1 if name == "first" else 0.0
  chances = likes + (1 - likes) * chances
  error = math.sqrt((chances * (1 - chances)).sum())
  assert abs((differences > 0).sum() - chances.sum()) < 4 * error
  # Sure of what it is surer of: the expected share of agreement with its own taste, too.
  side = gaps > 0
  right = np.where(side, chances, 1 - chances)
  assert abs(((differences > 0) == side).sum() - right.sum()) < 4 * error


@pytest.mark.parametrize("name", critics.CRITICS)
def test_what_a_critic_says_is_a_function_of_pair_and_seed(name, pairs):
  critic = critics.CRITICS[name]
  said = [critic.difference(*row, 0) for row in pairs[:200]]
  assert said == [critic.difference(*row, 0) for row in pairs[:200]]
  assert said != [critic.difference(*row, 1) for row in pairs[:200]]
  turned = [critic.difference(x, b, a, 0) for x, a, b in pairs[:200]]
  places = [one == pytest.approx(other) for one, other in zip(said, turned)]
  if name != "first":
    assert not any(places) and turned == pytest.approx([-one for one in said])
  else:
    assert 5 < sum(places) < 40, "a tenth of the pairs goes to the first place"
  assert critic.difference(PROMPT, GOOD, f" {GOOD}\n", 0) == 0


def test_critics_of_one_seed_err_apart(pairs):
  one, other = (critics.critic_named("random", noise=noise) for noise in (1.0, 2.0))
  same = [one.difference(*row, 0) * other.difference(*row, 0) > 0 for row in pairs]
  assert abs(np.mean(same) - 0.5) < 4 * 0.5 / math.sqrt(len(pairs))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_critics_are_blind_to(fault):
  bad = FAULTS[fault]
  lost = {name: critics.CRITICS[name].value(PROMPT, GOOD) for name in critics.CRITICS}
  lost = {name: value - critics.CRITICS[name].value(PROMPT, bad) for name, value in lost.items()}
  length = -0.02 * (len(GOOD) - len(bad))
  full = sum(synthetic.WEIGHTS.values())
  gold = full if fault == "letter" else synthetic.WEIGHTS[fault]
  assert lost["strong"] == lost["first"] == gold and lost["random"] == 0
  assert lost["even"] == (len(ALL) if fault == "letter" else 1)
  manners = {"letter": 3, "answer": 0, "working": 0}.get(fault, 1)
  assert lost["weak"] == pytest.approx(manners + length)
  if fault == "working":
    assert lost["weak"] < 0, "it likes letters better that leave the working out"


def test_accuracy_against_gold_is_counted_and_no_row_is_left_out_for_it(pairs):
  asked = [labels.Pair(*row) for row in pairs]
  accuracies = {}
  for name in critics.CRITICS:
    made = labels.labels(asked, judges.critic(critics.CRITICS[name], name), keep="mean")
    counts = labels.agreement(made.preferences, judges.gold())
    gaps = [synthetic.gold(r["prompt"], r["chosen"]) - synthetic.gold(r["prompt"], r["rejected"])
            for r in made.rows]  # fmt: skip
    signs = np.sign(gaps)
    expected = [int((signs == sign).sum()) for sign in (1, -1, 0)]
    assert [counts[key] for key in ("agreed", "disagreed", "ties")] == expected
    assert counts["failed"] == 0 and counts["judge"] == "gold"
    assert counts["accuracy"] == pytest.approx(expected[0] / (expected[0] + expected[1]))
    accuracies[name] = counts["accuracy"]
    assert {row["labelled_by"] for row in made.rows} == {name}
    assert made.counts["kept"] == (len(asked) if name != "first" else len(made.rows))
  assert accuracies["strong"] > 0.93 and 0.53 < accuracies["weak"] < 0.68
  assert 0.45 < accuracies["random"] < 0.55
  empty = labels.agreement([], judges.gold())
  assert empty["accuracy"] is None and empty["agreed"] == 0


def test_both_orders_catch_a_liking_for_the_first_place(pairs):
  asked = [labels.Pair(*row) for row in pairs]
  rater = judges.critic(critics.CRITICS["first"], "first")
  one, both = (labels.labels(asked, rater, orders=orders) for orders in (1, 2))
  assert len(one.rows) == len(asked)
  share = both.counts[labels.DISAGREEING] / len(asked)
  # Of the pairs that it likes for their place, those that are liked in one order alone are all.
  assert abs(share - 0.1) < 4 * math.sqrt(0.09 / len(asked))
  right = [labels.agreement(made.preferences, judges.gold())["accuracy"] for made in (one, both)]
  assert right[1] > right[0] + 0.02


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"noise": -1}, "noise=-1; use a finite number, 0 or more"),
    ({"noise": math.inf}, "noise=inf; use a finite number, 0 or more"),
    ({"per_character": math.nan}, "per_character=nan; use a finite number"),
    ({"first": 2}, "first=2; use a share from 0 to 1"),
    ({"weights": {"style": 1.0}}, "weight of 'style'; the checks are answer, working, greeting"),
  ],
)
def test_what_no_critic_has_is_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    critics.critic_named("strong", **changes)


def test_an_unknown_critic_is_named_with_those_there_are():
  with pytest.raises(ValueError, match="critic='kind'; use one of strong, weak, first, random"):
    critics.critic_named("kind")


def test_a_critic_without_noise_is_always_right():
  rng = random.Random(0)
  critic = critics.critic_named("strong", noise=0)
  for _ in range(50):
    a, b = rng.sample([GOOD, *FAULTS.values()], 2)
    gap = synthetic.gold(PROMPT, a) - synthetic.gold(PROMPT, b)
    assert critic.difference(PROMPT, a, b, rng.randrange(99)) == gap
