"""PIT's improver beside self-refinement: what R_PIT learns, what RL is shown, what is compared."""

from unittest import mock

import numpy as np
import pytest
import test_srt
import tiny_run

from pit_jax import parallel
from pit_jax.data import critiques, preferences
from pit_jax.recipes import srt
from pit_jax.recipes.srt import arms, improving, measures
from pit_jax.run import checks
from pit_jax.stages import criticism, feedback, reward, rl


def config(**changes):
  return test_srt.config(srt__improver=True, srt__controls=False, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run, what its RL and R_PIT were given, and what it trained."""
  context = tiny_run.build(config(), tmp_path_factory.mktemp("srt"))
  folds = []
  whole = reward.gap

  def gap(context, name, fold, **how):
    folds.append((name, fold, whole(context, name, fold, **how)))
    return folds[-1][-1]

  with test_srt.telling(), tiny_run.watching(rl) as seen, mock.patch.object(reward, "gap", gap):
    study = srt.RECIPE.train(context)
  return context, seen, folds, study


def test_the_gap_reward_learns_that_refinements_are_better_than_drafts(trained):
  context, _, [(name, fold, _)], study = trained
  assert name == arms.GAP
  for part in feedback.PARTS:
    pairs = [(row.prompt, row.chosen, row.rejected) for row in getattr(fold, part)]
    refined = [row for row in study.taught.parts[part] if row.outcome == critiques.REFINED]
    assert pairs == [(row.prompt, row.text, row.draft) for row in refined]
    assert pairs and all(better != draft for _, better, draft in pairs)
  assert [stage.name for stage in srt.RECIPE.stages(context.config)][-2:] == [
    arms.GAP, arms.IMPROVER,
  ]  # fmt: skip
  assert not improving.stages(test_srt.config(), ())


def test_rl_improves_drafts_of_the_policy_from_the_model_without_feedback(trained):
  context, seen, _, study = trained
  (table, _), how, _ = seen[arms.IMPROVER]
  assert how["reference"] is study.models[arms.PLAIN.stage].params
  rows = test_srt.made(context.workdir, "references")
  texts = [
    context.rows.settings.tokenizer.decode_batch([ids[mask].tolist()])[0]
    for ids, mask in zip(table[:].tokens, table[:].mask, strict=True)
  ]
  prompts = {row.prompt for row in context.rows.fold("preference").rows}
  drafts = {row["prompt"]: row["response"] for row in rows}
  assert {*drafts} >= prompts and len(texts) == len(prompts)
  for text, row in zip(texts, rows, strict=False):
    # Noise has more tokens than there is room for: prompts lose their beginning, drafts their end.
    assert row["prompt"] in prompts and text.endswith("\nFeedback:")
    assert f"\nDraft: {row['response'][:8]}" in text


def test_its_reward_is_the_gap_of_draft_and_version(trained):
  context, seen, [(_, _, model)], _ = trained
  (table, rewards), _, _ = seen[arms.IMPROVER]
  rows = test_srt.made(context.workdir, "references")[:8]
  answers = [f"{row['response']} Thanks !" for row in rows]
  (_, score) = rewards["gap"]
  batch = (table[np.arange(8)], context.models.inference.responses(answers))
  found = np.asarray(score(np.arange(8), *parallel.put_batch(batch, context.mesh)))

  prompts, drafts = ([row[name] for row in rows] for name in ("prompt", "response"))
  gaps = context.models.inference.gaps(model.params, prompts, answers, drafts)
  np.testing.assert_allclose(found, gaps + model.facts["shift"], atol=1e-4)
  # Another text beside the draft, which R_PIT is not shown, changes nothing.
  other = (table[np.arange(8)[::-1]], batch[1])
  again = np.asarray(score(np.arange(8), *parallel.put_batch(other, context.mesh)))
  np.testing.assert_array_equal(found, again)


def test_drafts_are_refined_by_it_once_and_twice(trained):
  context, _, _, study = trained
  with test_srt.telling():
    run = measures.of_run(context, study)
    texts = run.systems
  assert {arms.PIT, arms.PIT_TWICE} <= {*texts}
  first, twice = (run.refined[name] for name in (arms.PIT, arms.PIT_TWICE))
  assert [row.draft for row in twice] == [row.text for row in first]
  assert [row.draft for row in first] == texts[arms.DRAFTS]
  assert {(arms.METHOD.refined, arms.PIT), (arms.METHOD.refined, arms.PIT_TWICE),
          (arms.PIT, arms.PLAIN.refined), (arms.PIT, arms.DRAFTS)} <= {*run.pairs}  # fmt: skip


def test_what_it_is_rewarded_by_and_whose_prompts_it_sees_is_checked():
  wrong = config(rl__rewards=(("gpa", 1.0),))
  with pytest.raises(ValueError, match="rl.rewards"):
    checks.values(wrong, srt.RECIPE)
  checks.values(test_srt.config(rl__rewards=(("gpa", 1.0),)), srt.RECIPE)  # nobody is rewarded
  for name, other in (("gap_reward", "tuning"), ("rl", "dpo")):
    with pytest.raises(ValueError, match=rf"{name}.fold='sft': it sees the prompts of {other}.fo"):
      checks.values(config(**{f"{name}__fold": "sft"}), srt.RECIPE)


def test_a_teacher_that_refined_nothing_is_told():
  left = criticism.Criticised("q", "a", critiques.Critique(), critiques.UNCHANGED, "a", "")
  with pytest.raises(ValueError, match="the teacher refined 0 drafts to learn from and 0 to valid"):
    improving._preferred({"rows": [left], "validation": [left]})
  better = left._replace(text="b", outcome=critiques.REFINED)
  fold = improving._preferred({"rows": [better, left], "validation": [better] * 2})
  assert fold.rows == (preferences.Preference("q", "b", "a"),) and len(fold.validation) == 2
