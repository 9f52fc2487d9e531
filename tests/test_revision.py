"""MARV as a stage by itself: any preferences, any revisers, written once, scored at will."""

import dataclasses

import numpy as np
import pytest
import tiny_run

from pit_jax.data import conversations, critiques, preferences, prompt_formats, rows
from pit_jax.feedback import writers
from pit_jax.stages import feedback, revision


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The context of a run of which nothing is trained."""
  return tiny_run.build(tiny_run.config("irft"), tmp_path_factory.mktemp("revision"))


@pytest.fixture
def context(whole, tmp_path):
  return dataclasses.replace(whole, workdir=tmp_path)


def echo(name, failing=()):
  """A reviser that repeats what it is shown last, with its name and the number of the sample."""
  asked = []

  def answer(chats, key, temperature, samples, top_p):
    asked.extend(chats)
    return writers.Written([
      [None if one.texts[-1] in failing else f"{one.texts[-1]} {name} {sample}"
       for sample in range(samples)] for one in chats
    ])  # fmt: skip

  return writers.Writer(name, answer), asked


def length_of(questions, answers):
  """A reward model that likes what is long, and has a table of which answers it was shown."""
  assert len(questions) == len(answers) == len({*zip(questions, answers, strict=True)})
  return np.array([len(answer) for answer in answers], np.float32)


FOLD = preferences.Fold(
  (
    rows.Preference("a?", "long enough", "short"),
    rows.Preference("b?", "no", "yes!"),
    rows.Preference("c?", "same", "size"),
    rows.Preference("a?", "long enough", "of that"),
  ),
  (rows.Preference("d?", "well well", "well"),),
)
HOW = {"samples": 3, "temperature": 1.0, "most_failed": 0.0}


def revisions(context, name, pairs, *others, **how):
  return revision.revisions(context, {name: pairs}, *others, **how)[name]


def test_answers_are_kept_where_an_improver_makes_more_of_the_chosen_one(context):
  shown = context.rows.settings.formats["improver"]
  revisers = [echo("x"), echo("yy")]
  pairs = revision.of_preferences(FOLD)
  made = revisions(context, "marv", pairs, [one for one, _ in revisers], shown, **HOW)
  for _, asked in revisers:
    assert [(one.prompt, one.texts) for one in asked[:2]] == [
      ("a?", ("long enough",)), ("a?", ("short",)),
    ]  # fmt: skip
    assert len(asked) == 10
  scores = made.scores(length_of)
  assert scores["rows"]["chosen"].shape == (4, 2, 3) == scores["rows"]["rejected"].shape
  for part, expected in (("rows", FOLD.rows), ("validation", FOLD.validation)):
    for place, row in enumerate(expected):
      for side in revision.SIDES:
        by_hand = [
          [len(f"{getattr(row, side)} {name} {i}") for i in range(3)] for name in ("x", "yy")
        ]
        np.testing.assert_array_equal(scores[part][side][place], by_hand)
  kept = made.kept(length_of)
  assert kept["rows"].tolist() == [True, False, False, True]
  assert kept["validation"].tolist() == [True]
  assert made.kept(length_of, 5)["rows"].tolist() == [True, False, False, False]
  left = revision.filtered(FOLD, kept)
  assert left.rows == (FOLD.rows[0], FOLD.rows[3]) and left.validation == FOLD.validation


def test_revisions_are_written_once_and_others_are_refused(context):
  shown = context.rows.settings.formats["improver"]
  one, asked = echo("x")
  pairs = revision.of_preferences(FOLD)
  first = revisions(context, "marv", pairs, [one], shown, **HOW)
  again = revisions(context, "marv", pairs, [one], shown, **HOW)
  assert len(asked) == 10 and again.made.hash == first.made.hash
  turned = {**pairs, "rows": pairs["rows"][::-1]}
  with pytest.raises(ValueError, match=r"marv.jsonl holds revisions of other pairs; remove it"):
    revisions(context, "marv", turned, [one], shown, **HOW)
  fewer = {**pairs, "validation": []}
  with pytest.raises(ValueError, match="holds revisions of other pairs"):
    revisions(context, "marv", fewer, [one], shown, **HOW)


def test_what_failed_does_not_count_and_too_much_of_it_ends_the_run(context):
  shown = context.rows.settings.formats["improver"]
  pairs = revision.of_preferences(FOLD)
  some = [echo("x", failing=("long enough", "yes!"))[0], echo("y", failing=("yes!",))[0]]
  made = revisions(context, "marv", pairs, some, shown, **HOW | {"most_failed": 0.5})
  scores = made.scores(length_of)["rows"]["chosen"]
  assert np.isnan(scores[0, 0]).all() and np.isfinite(scores[0, 1]).all()
  # The second pair has no revision of what was not preferred.
  assert made.kept(length_of)["rows"].tolist() == [True, False, False, True]
  with pytest.raises(ValueError, match="revisers failed on 12 of 60 revisions"):
    revisions(context, "other", pairs, some, shown, **HOW | {"most_failed": 0.1})


def test_critiques_are_shown_beside_their_draft(context):
  shown = prompt_formats.Format(
    "reviser", ("reference", "critique"), "{prompt} {reference} {critique}"
  )
  one, asked = echo("x")
  pairs = {"rows": [revision.Pair("q", "good", "bad", ("draft",))], "validation": []}
  made = revisions(context, "marv", pairs, [one], shown, **HOW)
  assert [chat.texts for chat in asked] == [("draft", "good"), ("draft", "bad")]
  assert {part: len(some["chosen"]) for part, some in made.scores(length_of).items()} == {
    "rows": 1, "validation": 0,
  }  # fmt: skip
  assert [*made.kept(length_of)] == list(feedback.PARTS)


def test_a_copy_of_what_was_shown_or_asked_is_no_revision_and_the_draft_may_stay(context):
  """One reviser for each, by the number of the sample."""
  request = "Write a better reply as these remarks say."
  turns = (prompt_formats.Text("assistant", "reference"), prompt_formats.Text("user", "critique"),
           conversations.Turn("user", request))  # fmt: skip
  shown = prompt_formats.Format("reviser", ("reference", "critique"), turns=turns)

  def answer(chats, *rest):
    return writers.Written([
      [one.prompt.upper(), one.texts[1], f"{request} Well, so.", " ", None, one.texts[0], "better"]
      for one in chats
    ], {1: "too many requests (429)"})  # fmt: skip

  pairs = {"rows": [revision.Pair("why?", "good", "bad", ("draft",))], "validation": []}
  how = HOW | {"samples": 7, "most_failed": 0.8}
  made = revisions(context, "marv", pairs, [writers.Writer("x", answer)], shown, **how)
  (row,) = made.made.rows
  kept = [[*[None] * 3, " ", None, "draft", "better"]]
  assert row["revisions"] == {"chosen": kept, "rejected": kept}
  assert made.failures == row["failures"] == {
    critiques.COPIED_ANSWER: 6, writers.NOTHING: 1,
    "too many requests (429)": 1,
  }  # fmt: skip
  with pytest.raises(ValueError, match=r"8 of 14 revisions \(answer copies its prompt: 6, "):
    revisions(context, "marv", pairs, [], shown, **how | {"most_failed": 0.5})


def test_of_no_pairs_none_are_kept(context):
  none = {"rows": [], "validation": []}
  shown = context.rows.settings.formats["improver"]
  made = revisions(context, "marv", none, [echo("x")[0]], shown, **HOW)
  assert all(not len(mask) for mask in made.kept(length_of).values())
