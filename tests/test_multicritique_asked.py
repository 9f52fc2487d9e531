"""Drafts, critiques, grades and revisions of MultiCritique as they are asked: nothing is learnt."""

from unittest import mock

import jax
import numpy as np
import pytest
import tiny_run

from pit_jax.data import critiques, units
from pit_jax.feedback import named, writers
from pit_jax.recipes import multicritique
from pit_jax.recipes.multicritique import arms, measures, pairing
from pit_jax.stages import revision, reward, trained
from pit_jax.tasks import synthetic

FOLDS = ("tuning", "preference")
HASTY = synthetic.writer_named("hasty", first=0.2)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
  """The context of a run, what critics say of drafts, and the pairs with what filters keep."""
  config = tiny_run.config(
    "multicritique", data__rows=300, data__max_response_length=80, data__length_buckets=False,
    data__fold_sizes=(1.0, 1.0, 1.0, 1.5, 0.6),
  )  # fmt: skip
  context = tiny_run.build(config, tmp_path_factory.mktemp("multicritique"))
  form = units.form_of(config.units)
  author = trained.Trained({}, {})
  model = mock.Mock(spec=reward.RewardModel)

  def rating(questions, answers):
    pairs = zip(questions, answers, strict=True)
    return np.array([synthetic.gold(*one) for one in pairs], float)

  with (
    mock.patch.object(writers, "model", lambda name, *rest: writers.grammar(name, HASTY, seed=5)),
    mock.patch.object(reward, "rating", lambda *rest: rating),
  ):
    criticised = multicritique._criticised(context, FOLDS, author, form)
    own = criticised["preference"]
    fold = pairing.by_severity(own.reviews, own.classes, form, 0)
    return context, criticised, pairing.filtered(context, fold, model, model)


def test_every_critic_and_the_meta_critic_are_asked_about_the_drafts_of_both_folds(asked):
  context, criticised, _ = asked
  c = context.config.multicritique
  for fold in FOLDS:
    own = criticised[fold]
    assert [one.made.name for one in own.reviews] == [
      f"rows/{fold}_critiques_of_{name}" for name in c.critics
    ]
    assert {row["criticised_by"] for row in own.reviews[1].made.rows} == {c.critics[1]}
    drafts = [row["response"] for row in own.own[0].rows]
    for one in own.reviews:
      assert [row["draft"] for row in one.made.rows] == drafts
      assert not one.failures
    assert not own.classes.failures
    assert {row["graded_by"] for row in own.classes.made.rows} == {c.meta}


def test_what_rules_write_is_no_copy_of_what_was_shown(asked):
  _, _, paired = asked
  assert paired.failures == {name: {} for name in ("marv", "marv_random_reward", "marv_shuffled")}
  assert [one.name for one in paired.made] == ["rows/revisions", "rows/revisions_shuffled"]
  for one in paired.made:
    assert all("failures" not in row for row in one.rows) and len(one.rows) > 20
  kept = {name: sum(mask.sum() for mask in masks.values()) for name, masks in paired.kept.items()}
  assert 0 < kept["marv"] == kept["random"] < kept["all"]


def test_a_held_out_draft_stays_where_its_revision_failed_or_there_is_no_critique(asked):
  context, criticised, _ = asked
  rows = criticised["tuning"].reviews[0].parts["rows"][:4]
  silent = [row._replace(listed=units.Listed(())) for row in rows]
  run = mock.Mock(spec=measures.Subject, context=context, suite=mock.Mock(key=jax.random.key(0)))
  stages = [arm.stage for arm in arms.of(context.config)]
  run.criticised = dict.fromkeys(stages, rows) | {stages[-1]: silent}
  request = context.config.revision.request

  def answer(chats, *rest):
    return writers.Written([[request], [f"better {chats[1].prompt}"], [chats[2].texts[0]], [None]])

  with mock.patch.object(named, "build", lambda *rest: writers.Writer("x", answer)):
    run.revised = measures.Subject.revised.func(run)
  assert [one.failure for one in run.revised[stages[0]]] == [
    critiques.COPIED_ANSWER, "", "", writers.NOTHING,
  ]  # fmt: skip
  assert run.revised[stages[-1]] == [revision.Revision(None)] * 4
  run.drafted = {}
  systems = measures.Subject.systems.func(run)
  first, second, third, fourth = (row.draft for row in rows)
  first_arm, *_, last = arms.of(context.config)
  assert systems[first_arm.revised] == [first, f"better {rows[1].prompt}", third, fourth]
  assert systems[last.revised] == [first, second, third, fourth]
