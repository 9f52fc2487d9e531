"""Recipe `multicritique`: what is refused, what is of no use, and how chat models are asked."""

from unittest import mock

import numpy as np
import pytest
import tiny_run
from test_multicritique import NOTHING_MADE, config, form

from pit_jax import configurations
from pit_jax.data import critiques, preferences, rows, units
from pit_jax.feedback import named
from pit_jax.recipes import multicritique
from pit_jax.recipes.multicritique import arms, measures, pairing
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.stages import feedback


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"multicritique__meta": "who"}, "multicritique.meta names 'who'; use names of feedback.wr"),
    ({"multicritique__critics": ("first",)}, "compared; use two or more"),
    ({"multicritique__critics": ("first", "first")}, "one writer or more, each once"),
    ({"multicritique__critics": ("union", "first")}, "names 'union', as critics of this recipe"),
    ({"multicritique__revisers": ("me",)}, "multicritique.revisers names 'me'; use names"),
    ({"critic_reward__model": "a/b"}, "rewards of critiques are learnt from the pairs"),
    ({"units__template": "{place} {severity}"}, "units.template='{place} {severity}'; use a text"),
    ({"units__template": "Weak: {place}. Change: {suggestion}"}, "has no {severity}, by which"),
    ({"units__none": "!!"}, "units.none='!!'; use one line of text with a word in it"),
    ({"units__max_tokens": 81}, "is more than data.max_response_length=80"),
    ({"grades__accepted": 8}, "grades.accepted=8 is no grade from grades.lowest=1"),
    ({"grades__template": "Good"}, "grades.template='Good'; use a text with the one slot {score}"),
    ({"revision__plain": "{prompt}"}, "revision.plain='{prompt}'; use a text with {prompt}"),
    ({"critic_reward__focal": -1.0}, "critic_reward.focal=-1.0; use"),
    ({"feedback__writers__first__blind": "x"}, "blind='x'; use one of answer"),
    ({"feedback__writers__meta__believes": 2.0}, "believes=2.0; use a share from 0 to 1"),
    ({"data__source": "example"}, "nobody else the answers to example; name a judge"),
  ],
)
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), multicritique.RECIPE)
    named.check(config(**changes))
  assert said in str(error.value)


def test_writers_of_flaws_need_a_recipe_that_asks_for_units(tmp_path):
  other = tiny_run.config("irft", data__rows=150)
  with other.unlocked():
    other.feedback.writers.expert = {"kind": "finder"}
  with pytest.raises(ValueError, match="the recipe asks for no units of critiques"):
    named.build(tiny_run.build(other, tmp_path), "writers", "expert")


def test_a_critique_of_no_use_is_no_lesson_and_no_pair():
  unit = units.Unit("answer", None, 3, "x")
  good, bad = units.Listed((unit,)), units.Listed((), (critiques.NO_FORM,))
  review = measures.unit_criticism.Review
  reviews = [
    measures.unit_criticism.Reviews(
      NOTHING_MADE, {part: [review("q", "d", one, "")] for part in feedback.PARTS}
    )
    for one in (good, bad)
  ]
  classed = ((units.Classed(unit, 7, True),), ())
  classes = measures.unit_criticism.Classes(
    NOTHING_MADE, {part: [classed] for part in feedback.PARTS}, {}
  )
  taught = measures.Criticised(reviews, classes, ())
  assert taught.units("b", "rows", ("a", "b")) == [None]
  arm = arms.Arm("b", "", "b")
  assert multicritique.lessons(arm, taught, form(), ("a", "b")) == {"rows": [], "validation": []}
  fold = pairing.by_severity(reviews, classes, form(), 0)
  assert not fold.rows and not fold.validation


def test_a_filter_that_leaves_too_few_pairs_is_named_before_a_model_learns_of_them():
  three = (rows.Preference("x", "a", "b"),) * 3
  whole = dict.fromkeys(feedback.PARTS, np.ones(3, bool))
  few = {"rows": np.ones(3, bool), "validation": np.array([False, True, False])}
  paired = pairing.Paired(preferences.Fold(three, three), {"all": whole, "marv": few}, {}, ())
  said = (
    "filter marv keeps 3 of 3 pairs of critiques to learn from and 1 of 3 to validate, which ne"
  )
  with pytest.raises(ValueError, match=said):
    multicritique._check_kept(mock.Mock(spec=contexts.Context, config=config()), paired)


def test_a_chat_model_is_asked_in_turns_that_alternate():
  c = configurations.load("multicritique:smollm2_135m")
  checks.values(c, multicritique.RECIPE)
  form_of_chat = units.form_of(c.units)
  graded, _ = measures.unit_criticism.grading(c.grades, form_of_chat)
  shown = (form_of_chat.format, graded, pairing.shown_to_revisers(c.revision, form_of_chat))
  for one in shown:
    (asked,) = one.conversations(["x"], *([name] for name in one.texts))
    roles = [turn.role for turn in asked.turns]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert "{form}" not in asked.turns[-1].content and [*one.texts] == [
      turn.content for turn in asked.turns if turn.role == "assistant"
    ]
