"""Constraints on texts: read back from their words, met by hand-made texts, mended by edits."""

import itertools
import random
import re

import pytest

from pit_jax.tasks import constraints, instructions

# Kind → slots, texts that meet it, texts that do not.
CASES = {
  "sentences": (
    {"n": "two"},
    ["One. Two!", "Dr. Lee came. He left, e.g. at 3.50.", "First line\nsecond line"],
    ["One.", "One. Two. Three.", ""],
  ),
  "few sentences": ({"n": "two"}, ["One.", "One. Two?"], ["", "One. Two. Three."]),
  "few words": ({"n": "3"}, ["don't say well-known", "a b"], ["", "a b c d"]),
  "many words": ({"n": "three"}, ["a b c", "one, two, three, four"], ["a b", "a - b - !"]),
  "between": ({"low": "2", "high": "3"}, ["a b", "a b c"], ["a", "a b c d"]),
  "holds": ({"word": "ladder"}, ["A Ladder.", "(ladder)"], ["ladders", "stepladder", ""]),
  "avoids": ({"word": "it"}, ["Its item is bitter."], ["So is it.", "IT!", ""]),
  "begins": ({"word": "Honestly"}, ["Honestly, no.", '"honestly" yes'], ["No, honestly.", ""]),
  "ends": ({"phrase": "as ever"}, ["Yours, as ever.", "As ever"], ["as ever so", "ever", ""]),
  "small letters": ({}, ["all small. 3"], ["One", ""]),
  "capitals": ({}, ["ALL OF IT 3!"], ["ALL of it", "123", ""]),
  "list": ({"n": "two"}, ["- a\n- b", "So:\n - a\n - b"], ["- a", "-a\n-b", "- a\n- b\n- c"]),
  "numbered": ({"n": "two"}, ["1. a\n2. b", "So:\n1) a\n2) b"], ["1. a\n3. b", "2. a\n1. b"]),
  "paragraphs": ({"n": "two"}, ["a\n\nb", "a\nb\n \nc"], ["a\nb", "a\n\nb\n\nc", ""]),
  "question": ({}, ["So?", '"Is it so?"'], ["So? Yes.", ""]),
  "no commas": ({}, ["a b"], ["a, b", ""]),
  "no digits": ({}, ["a b"], ["a 1", ""]),
  "no exclamation": ({}, ["a b."], ["a b!", ""]),
  "name": ({"name": "Ines"}, ["Ines, hi. Bye, ines."], ["Ines", "Ines Ines Ines", "Inesa Inesb"]),
  "quoted": ({}, ['"It is so."', "“So.”"], ['"It" is so.', '""', ""]),
  "title": ({}, ["*A title*\nText."], ["*A title*", "A title\nText.", "*A* title\nText."]),
  "postscript": ({}, ["Text.\nP.S. Bye."], ["P.S. Bye.\nText.", "Text. P.S. Bye.", ""]),
}  # fmt: skip


def test_every_kind_has_texts_that_meet_it_and_texts_that_do_not():
  assert CASES.keys() == constraints.KINDS.keys() and len(CASES) >= 15
  for name, (slots, met, failed) in CASES.items():
    kind = constraints.KINDS[name]
    assert [kind.met(text, slots) for text in met] == [True] * len(met), name
    assert [kind.met(text, slots) for text in failed] == [False] * len(failed), name


def drawn(name, seed):
  rng = random.Random(seed)
  kind = constraints.KINDS[name]
  slots = instructions._slots(rng, name)
  return kind, slots, rng.choice(kind.wordings).format(**slots)


@pytest.mark.parametrize("name", CASES)
def test_a_constraint_is_read_back_from_its_words_by_its_own_kind_alone(name):
  for seed in range(30):
    _, slots, said = drawn(name, seed)
    found = {
      (other, tuple(match.groupdict().items()))
      for other, kind in constraints.KINDS.items()
      for wording in kind.wordings
      for match in constraints.pattern(wording).finditer(f"Describe tea. {said} Be brief.")
    }
    assert found == {(name, tuple(slots.items()))}


# Of these the edit makes what it is to make of any text; others need enough of it.
ALWAYS = {
  *("holds", "begins", "ends", "small letters", "capitals", "question", "no commas"),
  *("no digits", "no exclamation", "name", "quoted", "title", "postscript", "few words"),
  *("few sentences", "avoids"),
}
TEXTS = [
  "It is 3, or so I think! Ines said it, and Ines knows. Ines likes ladders.\nIt is very good.",
  "- One thing\n- another, 2 of it\n- a third",
  "*Title*\nWell, people always say: it is good. Is it? Yes!",
]


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_an_edit_makes_a_text_meet_its_constraint(name):
  for seed, text in itertools.product(range(10), TEXTS):
    kind, slots, said = drawn(name, seed)
    assert kind.met(kind.mended(text, slots), slots), (said, kind.mended(text, slots))


def test_lists_paragraphs_and_sentences_are_made_of_texts_that_have_enough():
  text = "One is here. Two are there, so. Three! Four? Five. Six."
  for name in ("list", "numbered", "paragraphs", "sentences"):
    for n in ("two", "three", "4"):
      kind, slots = constraints.KINDS[name], {"n": n}
      assert kind.met(kind.mended(text, slots), slots)
      assert kind.mended("One.", slots) == "One."  # and nothing is made up
  kind = constraints.KINDS["between"]
  assert kind.met(kind.mended(text, {"low": "3", "high": "8"}), {"low": "3", "high": "8"})


def test_words_are_those_a_slow_reader_counts():
  for text in (*TEXTS, "don’t—well-known 3.5 x_y", "", "…"):
    letters = "".join(c if c.isalnum() or c in "'’-" else " " for c in text)
    slow = [w.strip("'’-").casefold() for w in re.split(r"\s+|(?<![^\W_])-|-(?![^\W_])", letters)]
    assert constraints.words(text) == [word for word in slow if word]
