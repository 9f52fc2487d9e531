"""Who lists, classes and mends flaws of letters errs as often as is said, and where it is said."""

import collections
import random

import jax
import numpy as np
import pytest

from pit_jax.data import critiques, prompt_formats, units
from pit_jax.feedback import unit_writers
from pit_jax.tasks import faults, synthetic

COUNT = 2_000
FORM = units.Form("Weak: {place}. Score {severity}. Change: {suggestion}", "Weak: none.")


@pytest.fixture(scope="module")
def letters():
  found = []
  for number in range(COUNT):
    chance = random.Random(number)
    q = synthetic.question(chance)
    text = synthetic.write(q, synthetic.writer_named("hasty", first=0.3), chance).text(q.asker)
    found.append((synthetic.ask(q), "Oak, I think." if number % 50 == 7 else text))
  return found


def share(hits: int, others: int) -> tuple[float, float]:
  count = hits + others
  return hits / count, 3 * np.sqrt(0.25 / count)


def test_a_finder_never_names_its_hole_and_errs_elsewhere_as_is_said(letters):
  finder = faults.Finder("working", misses=0.2, invents=0.1)
  counts = collections.Counter()
  severities = []
  for prompt, text in letters:
    found = finder.find(prompt, text, 0)
    named = {fault.place for fault in found}
    assert "working" not in named
    for name, passed in synthetic.checks(prompt, text).items():
      if name != "working":
        counts[passed, name in named] += 1
    severities += [fault.severity for fault in found if fault.place == "answer"]
  for expected, passed in ((0.8, False), (0.1, True)):
    found, error = share(counts[passed, True], counts[passed, False])
    assert found == pytest.approx(expected, abs=error)
  assert np.mean(severities) == pytest.approx(3, abs=0.1) and {*severities} == {1, 2, 3, 4, 5}


def test_without_noise_severities_are_the_weights_and_changes_mend_what_is_wrong(letters):
  sure = faults.Finder("", misses=0, invents=0, right=1, noise=0)
  follows = faults.Reviser(follows=1, right=1)
  for prompt, text in letters[:300]:
    found = sure.find(prompt, text, 0)
    failed = [name for name, passed in synthetic.checks(prompt, text).items() if not passed]
    assert [fault.place for fault in found] == failed
    assert all(fault.severity == synthetic.WEIGHTS[fault.place] for fault in found)
    changes = {fault.place: fault.suggestion for fault in found}
    assert synthetic.gold(prompt, follows.revise(prompt, text, changes, 0)) == 8


def test_what_is_invented_breaks_a_letter_where_it_can(letters):
  invents = faults.Finder("", misses=1, invents=1, right=1, noise=0)
  follows = faults.Reviser(follows=1, right=1)
  for prompt, text in letters[:300]:
    passed = synthetic.checks(prompt, text)
    found = invents.find(prompt, text, 0)
    assert {fault.place for fault in found} == {
      name for name, is_right in passed.items() if is_right
    }
    changes = {fault.place: fault.suggestion for fault in found}
    after = synthetic.checks(prompt, follows.revise(prompt, text, changes, 0))
    broken = {"answer", "greeting", "closing"}
    assert {name: after[name] for name in after if name not in broken} == {
      name: passed[name] for name in after if name not in broken
    }
    assert not any(after[name] for name in broken)


def test_a_checker_believes_as_often_as_is_said(letters):
  checker = faults.Checker()
  counts = collections.Counter()
  for prompt, text in letters:
    for name, passed in synthetic.checks(prompt, text).items():
      counts[passed, checker.accept(prompt, text, name, f"Weak: {name}.", 0)] += 1
  for expected, passed in ((0.9, False), (0.15, True)):
    found, error = share(counts[passed, True], counts[passed, False])
    assert found == pytest.approx(expected, abs=error)
  never = faults.Checker(accepts=1, believes=0)
  assert not never.accept(*letters[0], "the weather", "Weak: the weather.", 0)


def test_a_reviser_follows_in_part_and_changes_nothing_else(letters):
  reviser = faults.Reviser(follows=0.7, right=0.6)
  counts = collections.Counter()
  for prompt, text in letters:
    before = synthetic.parts(text)
    if before is None:
      continue
    revised = reviser.revise(
      prompt, text, {"closing": "All is well.", "working": "", "sea": "x"}, 0
    )
    counts["closing", revised.endswith("All is well.")] += 1
    other = reviser.revise(prompt, text, {"working": "?"}, 1)
    after = synthetic.parts(other)
    assert {**after, "working": ""} == {**before, "working": ""} and [*after] == [*before]
    if after["working"] != before["working"]:
      counts["right", synthetic.checks(prompt, other)["working"]] += 1
    assert reviser.revise(prompt, text, {}, 0) == text
  found, error = share(counts["closing", True], counts["closing", False])
  assert found == pytest.approx(0.7, abs=error)
  # A working that was right and is written anew wrongly counts, and one written as it was cannot.
  assert counts["right", False] > 50 < counts["right", True]


def test_writers_read_and_write_the_form(letters):
  (prompt, text) = next(one for one in letters if synthetic.gold(*one) < 6)
  shown = prompt_formats.Format("", ("reference",), "{prompt} {reference}")
  found = unit_writers.finder("f", faults.Finder(misses=0, invents=0, noise=0), FORM, 3)
  written = found.write(shown.conversations([prompt], [text]), jax.random.key(0), 1.0, samples=2)
  (samples,) = written.texts
  read = FORM.read(samples[0])
  failed = {name for name, passed in synthetic.checks(prompt, text).items() if not passed}
  assert {unit.place for unit in read.units} == failed and not read.failures
  assert {unit.place for unit in FORM.read(samples[1]).units} == failed

  grades = critiques.Form("Score {score}", 1, 7)
  checker = unit_writers.checker("c", faults.Checker(1, 0), FORM, grades)
  one_more = prompt_formats.Format("", ("reference", "unit"), "{prompt} {reference} {unit}")
  passed = ({*synthetic.WEIGHTS} - failed).pop()
  lines = [FORM.line(read.units[0]), FORM.line(units.Unit(passed, None, 1, "x")), "It is bad."]
  asked = one_more.conversations([prompt] * 3, [text] * 3, lines)
  said = [texts for (texts,) in checker.write(asked, jax.random.key(0), 0.0).texts]
  assert said == ["Score 7", "Score 1", "Score 1"]

  reviser = unit_writers.reviser("r", faults.Reviser(1, 1), FORM)
  asked = one_more.conversations([prompt] * 2, [text] * 2, [samples[0], "It is bad."])
  better, same = (texts for (texts,) in reviser.write(asked, jax.random.key(0), 1.0).texts)
  assert same == text and synthetic.gold(prompt, better) > synthetic.gold(prompt, text)


def test_the_same_is_said_again_and_another_seed_says_other_things(letters):
  finder = faults.Finder("tone")
  said = [[finder.find(*letter, seed) for letter in letters[:60]] for seed in (0, 0, 1)]
  assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: faults.Finder("manners"), "blind='manners'; use one of"),
    (lambda: faults.Finder(misses=2), "misses=2; use a share"),
    (lambda: faults.Finder(noise=-1), "noise=-1; use a number of 0 or more"),
    (lambda: faults.Checker(accepts=-1), "accepts=-1; use a share"),
    (lambda: faults.Reviser(follows=1.5), "follows=1.5; use a share"),
  ],
)
def test_errors_that_cannot_be_are_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
