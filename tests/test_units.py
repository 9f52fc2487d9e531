"""Critiques as units: written and read back, broken ones counted, several merged into one."""

import collections
import random

import hypothesis
import pytest
from hypothesis import strategies

from pit_jax.data import conversations, critiques, units

LONG = units.Form(
  "Place: {place}. Flaw: {flaw}. Severity: {severity}. Change: {suggestion}",
  "No flaws.",
  request="List its flaws:\n{form}",
)
SHORT = units.Form("Weak: {place}. Score {severity}. Change: {suggestion}", "Weak: none.")
WELL = units.Unit("the end", "it breaks off", 3, "say why.")
QUESTION = "What moves the sea?"
WORDS = strategies.text(alphabet="mulyfy ,;0123é漢{}()", min_size=1, max_size=20).map(str.strip)
UNITS = strategies.lists(
  strategies.builds(
    units.Unit,
    place=WORDS.filter(bool),
    flaw=WORDS.filter(bool),
    severity=strategies.integers(1, 5),
    suggestion=WORDS.filter(bool),
  ),
  max_size=6,
)


@pytest.mark.parametrize("form", [LONG, SHORT], ids=["long", "short"])
@hypothesis.settings(deadline=None)
@hypothesis.given(UNITS)
def test_what_is_written_is_read_back_the_most_severe_first(form, listed):
  read = form.read(form.write(listed))
  kept = [unit if "flaw" in form.names else unit._replace(flaw=None) for unit in listed]
  assert sorted(read.units) == sorted(kept) and not read.failures and read.is_useful
  severities = [unit.severity for unit in read.units]
  assert severities == sorted(severities, reverse=True)


@pytest.mark.parametrize(
  "reply",
  ["No flaws.", " no  FLAWS", "**No flaws.**", "- No flaws!"],
)
def test_who_finds_nothing_says_so(reply):
  assert LONG.read(reply) == units.Listed(())
  assert LONG.write([]) == "No flaws." and LONG.read("").failures == (critiques.NO_FEEDBACK,)


def test_units_are_found_in_lists_headings_and_among_prose():
  reply = (
    "Here is what I found.\n\n1. **Place:** the end. Flaw: it breaks off. severity: 3/5. change: "
    "say why.\n- Place: line 2. Flaw: too long. Severity: 1. Change: cut it"
  )
  second = units.Unit("line 2", "too long", 1, "cut it")
  assert LONG.read(reply) == units.Listed((WELL, second))


def broken(**values):
  return LONG.template.format(**{**WELL._asdict(), **values})


BROKEN = (  # what breaks a unit, and the failure that it is
  (broken(place=""), units.NO_PLACE),
  (broken(flaw=" "), units.NO_FLAW),
  (broken(severity=""), units.NO_SEVERITY),
  (broken(severity="high"), units.NO_NUMBER),
  (broken(severity="3 or 4"), units.NO_NUMBER),
  (broken(severity=6), units.OUT_OF_RANGE),
  (broken(severity="3/10"), units.OUT_OF_RANGE),
  (broken(suggestion=""), units.NO_SUGGESTION),
  ("Place: the end. Flaw: it breaks off. Severity", units.NO_SEVERITY),
  ("Place: the end", units.NO_FLAW),
)
WHOLE = (
  ("", critiques.NO_FEEDBACK),
  (" \n", critiques.NO_FEEDBACK),
  ("It is fine.", critiques.NO_FORM),
  (QUESTION, critiques.COPIED_FEEDBACK),
  ("List its flaws: now", critiques.COPIED_FEEDBACK),
  (None, critiques.TOO_LONG),
)


def test_of_two_hundred_replies_every_broken_unit_is_counted_and_no_good_one_lost():
  chance = random.Random(0)
  expected = collections.Counter()
  outcomes = []
  for _ in range(200):
    if chance.random() < 0.3:
      reply, kind = chance.choice(WHOLE)
      read = LONG.read(reply, (QUESTION,), ("List its flaws:",))
      expected[kind] += 1
      assert not read.units and not read.is_useful, reply
    else:
      lines = [chance.choice([*BROKEN, (LONG.line(WELL), "")]) for _ in range(4)]
      read = LONG.read("\n".join(line for line, _ in lines))
      expected.update(kind for _, kind in lines if kind)
      good = sum(not kind for _, kind in lines)
      assert read.units == (WELL,) * good, lines
    outcomes += read.failures
  assert critiques.failures(outcomes, units.FAILURES) == dict(expected)
  assert {*expected} == {*units.FAILURES}


def classed(place, severity, suggestion="x", quality=7, is_accepted=True):
  return units.Classed(units.Unit(place, "f", severity, suggestion), quality, is_accepted)


def test_accepted_units_are_merged_by_place():
  merged = units.merged([
    classed("End", 3, "a"), classed("end ", 5, "b"), classed("END", 4, "b"),
    classed("start", 1, "c", quality=5), classed("start", 2, "d", quality=6),
    classed("middle", 2, is_accepted=False, quality=1),
  ])  # fmt: skip
  assert merged == (units.Unit("end ", "f", 4, "b"), units.Unit("start", "f", 2, "d"))
  assert units.merged([]) == ()


def test_worth_by_hand():
  severities = {"end": 4, "start": 2}
  both = [classed("end", 1), classed("Start", 1), classed("end", 5)]
  assert units.worth(both, severities) == 6
  invents = [classed("end", 3), classed("middle", 2, is_accepted=False)]
  assert units.worth(invents, severities) == 4 - 2
  # Of a place whose flaw is accepted a second unit costs nothing, and one that is silent gets 0.
  assert units.worth([*invents, classed("end", 9, is_accepted=False)], severities) == 2
  assert units.worth([], severities) == 0


def test_a_critic_is_shown_the_answer_and_the_form():
  (one,) = LONG.format.conversations([QUESTION], ["It is the moon."])
  form = "Place: …. Flaw: …. Severity: …. Change: …"
  assert one.turns[-1] == conversations.Turn("user", f"List its flaws:\n{form}")
  assert one.turns[1] == conversations.Turn("assistant", "It is the moon.")


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (("", "none"), "has the slots []"),
    (("{place} {severity}", "none"), "has no word before {severity}"),
    (("{place}. Score {severity}", "none"), "begins with no word before {place}"),
    (("Flaw: {flaw}. Score {severity}", "none"), "begins with no word before {place}"),
    (("Score {severity} at {place}", "none"), "in this order, each once"),
    (("At {place}", " "), "says nothing, in one line"),
    (("At {place}", "none", 2, 2), "severities from 2 to 2"),
  ],
)
def test_a_form_that_cannot_be_read_back_is_refused(arguments, said):
  with pytest.raises(ValueError) as error:
    units.Form(*arguments)
  assert said in str(error.value)
  with pytest.raises(ValueError, match="lacks suggestion"):
    SHORT.write([units.Unit("a", "b", 1)])


SHIPPED = units.Form(
  "Place: {place}. Flaw: {flaw}. Severity: {severity}. Change: {suggestion}", "No flaws."
)
LINE = "Place: x. Flaw: y. Severity: 2. Change: z"


@pytest.mark.parametrize(
  ("reply", "severities", "failures"),
  [
    ("**Place**: x. **Flaw**: y. **Severity**: 3. **Change**: z", (3,), ()),
    ("**Place:** x. **Flaw:** y. **Severity:** 3. **Change:** z", (3,), ()),
    ("- **Place:** x.\n  **Flaw:** y.\n  **Severity:** **3**/5.\n  **Change:** z", (3,), ()),
    ("_Place_: x. _Flaw_: y. _Severity_: _3_. _Change_: z", (3,), ()),
    (f"• {LINE}\n+ {LINE}\na) {LINE}", (2, 2, 2), ()),
    (f"{LINE}. {LINE}. {LINE}", (2, 2, 2), ()),
    (f"{LINE}\n- Flaw: e. Severity: 4. Change: f", (2,), (units.NO_PLACE,)),
    (f"{LINE}\n\nFlaw: e. Severity: 4. Change: f\n\n{LINE}", (2, 2), (units.NO_PLACE,)),
    (f"```\n{LINE}\n```\nLet me know!", (2,), ()),
    (f"{LINE}\n\nI hope that this helps: do ask.", (2,), ()),
    ("Place: x.\nFlaw: y.\nSeverity: 2.\nChange:\n\nz", (2,), ()),
  ],
)
def test_units_end_where_something_else_begins(reply, severities, failures):
  listed = SHIPPED.read(reply)
  assert tuple(unit.severity for unit in listed.units) == severities
  assert listed.failures == failures
  for unit in listed.units:
    assert (unit.place, unit.flaw, unit.suggestion.rstrip(".")) == ("x", "y", "z")


def test_a_place_that_a_change_names_begins_no_unit():
  (unit,) = SHIPPED.read(f"{LINE}: name the place: Rome.").units
  assert unit.suggestion == "z: name the place: Rome."


def test_the_severity_of_merged_units_is_rounded_as_severities_are_written():
  def both(*severities):
    ones = [units.Unit("x", "y", one, "z") for one in severities]
    (unit,) = units.merged([units.Classed(one, 5, True) for one in ones])
    return unit.severity

  assert [both(1, 2), both(2, 3), both(4, 5, 5)] == [2, 2, 5]
  assert both(0.25, 0.5) == 0.38 and both(0.2, 0.3) == 0.25
