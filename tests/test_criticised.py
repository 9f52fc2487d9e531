"""PIT with language feedback: what the improver is shown, what rewards it, what is refused."""

import dataclasses
import json

import chats
import jax
import numpy as np
import pytest
import tiny_run

from pit_jax import parallel
from pit_jax.data import chat, critiques, encode, template
from pit_jax.recipes import pit, running
from pit_jax.recipes.pit import criticised, curriculum, diagram, subject
from pit_jax.run import checks, workdirs
from pit_jax.stages import rl
from pit_jax.types import Prompts

SMALL = {"data__max_response_length": 240, "evaluation__prompts": 8, "frontier__checkpoints": 0}


def config(**changes):
  return tiny_run.config("pit_critique", **SMALL | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run, what its RL was given by stage, and what it trained."""
  context = tiny_run.build(config(), tmp_path_factory.mktemp("criticised"))
  with tiny_run.watching(rl) as seen:
    models = pit.RECIPE.train(context)
  return context, seen, models


def made(context, name):
  return [json.loads(line) for line in (context.workdir / "rows" / f"{name}.jsonl").open()]


def words(context, prompts: Prompts):
  tokenizer = context.rows.settings.tokenizer
  ids = [row[mask].tolist() for row, mask in zip(prompts.tokens, prompts.mask, strict=True)]
  return tokenizer.decode_batch(ids)


def test_the_improver_is_shown_draft_and_critique_and_no_better_answer(trained):
  context, seen, _ = trained
  rows = made(context, "critiques")
  references = (context.workdir / "references" / "policy.jsonl").read_text().splitlines()
  assert [row["draft"] for row in rows] == [json.loads(line)["response"] for line in references]
  table = seen["pit_policy"][0][0]
  shown = words(context, table[:])
  assert len(shown) == len(rows)
  form = critiques.form_of(context.config.critique)
  for text, row in zip(shown, rows, strict=True):
    said, _ = form.read(row["critique"])
    feedback = f"Weak: {said.weaknesses}. Score {said.score}. Change: {said.changes}"
    assert text.endswith(f"\nFeedback: {feedback}\nBetter:")
  # Of other sources nothing is said.
  assert all("Feedback:" not in text for text in words(context, seen["pit_data"][0][0][:]))


def test_the_improver_imitates_every_second_row_with_a_critique_of_its_draft(trained):
  context, _, _ = trained
  fold = context.rows.fold("sft")
  lessons, _ = criticised.lessons(context, fold)
  settings, form = context.rows.settings, critiques.form_of(context.config.critique)
  written = iter(made(context, "sft_critiques"))
  for part, rows in (("rows", fold.rows), ("validation", fold.validation)):
    assert [reply for _, reply in lessons[part]] == [row.chosen for row in rows]
    shown = words(context, encode.prompts([asked for asked, _ in lessons[part]], settings)[:])
    for place, (text, row) in enumerate(zip(shown, rows, strict=True)):
      assert row.rejected in text
      assert ("\nFeedback: Weak: " in text) == bool(place % 2)
      if place % 2:
        critique = next(written)
        assert (critique["draft"], critique["written_by"]) == (row.rejected, "dataset.rejected")
        assert f"Change: {form.read(critique['critique'])[0].changes}" in text
  assert not [*written]


def test_the_gap_reward_sees_drafts_alone(trained):
  context, _, _ = trained
  fold = context.rows.fold("rl")
  drafts = [f"draft {i}" for i in range(len(fold.rows))]
  stage = ("policy", criticised.SOURCE)
  questions, references = curriculum.texts(fold, stage, drafts)
  assert questions == fold.prompts * 2 and references == drafts * 2


def test_beside_it_an_improver_is_trained_that_never_sees_a_critique(trained):
  context, seen, models = trained
  shown = [words(context, seen[f"pit_uncriticised_{name}"][0][0][:]) for name in ("data", "policy")]
  assert all("Draft: " in text and "Feedback:" not in text for texts in shown for text in texts)
  # The same drafts, in the same order.
  told = words(context, seen["pit_policy"][0][0][:])
  assert [text.split("\nFeedback:")[0] + "\nBetter:" for text in told] == shown[1]
  stages = context.config.curriculum
  plain = curriculum.uncriticised(stages)
  assert [stage.references for stage in plain] == [
    ("dataset.rejected", "dataset.chosen"), ("policy",),
  ]  # fmt: skip
  assert [stage.steps for stage in plain] == [stage.steps for stage in stages]
  assert stages[1].references == (criticised.SOURCE,), "the run's own stay"
  # They imitate as many rows for as many steps, and are other models.
  assert models.uncriticised.facts["steps"] == models.improver.facts["steps"]
  first, second = (jax.tree.leaves(one.params)[0] for one in (models.improver, models.uncriticised))
  assert not np.array_equal(first, second)


def test_it_may_be_trained_when_the_rest_is_finished(trained):
  context, _, _ = trained
  assert not workdirs.is_new(config(uncriticised=False), context.workdir)
  assert not [stage for stage in pit.RECIPE.stages(config(uncriticised=False))
              if "uncriticised" in stage.name]  # fmt: skip


def test_plans_know_of_the_models_that_wait_beside_it():
  planned = {stage.name: stage for stage in pit.RECIPE.stages(config())}
  first, then = (planned[f"{name}_policy"].kept for name in ("pit", "pit_uncriticised"))
  assert [*then] == [*first, "language", "language"]
  kept = planned["sft_improver"].kept
  assert planned["sft_improver_uncriticised"].kept == (*kept, "language", "scalar", "language")


def test_what_is_said_of_a_draft_changes_no_reward(trained):
  context, seen, models = trained
  (table, rewards), _, _ = seen["pit_policy"]
  asked = context.rows.fold("rl").prompts[:8]
  drafts = [row["draft"] for row in made(context, "critiques")][:8]
  answers = [f"{draft} Thanks !" for draft in drafts]
  told = table[np.arange(8)]
  assert sum("Feedback:" in text for text in words(context, told)) > 0

  (_, score) = rewards["gap"]
  batch = parallel.put_batch((told, context.models.inference.responses(answers)), context.mesh)
  found = np.asarray(score(np.arange(8), *batch))
  reward = models.gap_rewards["pit"]
  expected = reward.gaps(asked, answers, drafts) + reward.facts["shift"]
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_held_out_drafts_are_improved_with_their_critiques(trained):
  context, _, models = trained
  run = subject.of_run(context, models)
  found = run.systems[subject.CRITICISED]
  assert len(found) == 8 and ("pit_critique", "pit") in run.pairs
  assert ("pit_critique", "original") in run.pairs
  assert [row["draft"] for row in made(context, "held_out_critiques")] == run.original


@pytest.mark.slow
def test_a_run_ends_in_a_page_that_compares_a_critique_with_a_second_round(trained):
  context, _, _ = trained
  running.run(context.config, context.workdir)  # evaluated alone: its stages are finished
  results = json.loads((context.workdir / "report" / "results.json").read_text())
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert {
    ("pit_critique", "pit"),
    ("pit_critique", "pit_again"),
    ("pit_critique", "pit_uncriticised"),
    ("pit_critique", "pit_uncriticised_again"),
    ("pit_uncriticised", "original"),
    ("pit_again", "original"),
  } <= pairs
  page = (context.workdir / "report" / "report.html").read_text()
  assert "improves criticised" in page


def test_every_source_of_references_has_a_name_on_the_page():
  assert {*diagram.REFERENCES} == {*curriculum.SOURCES}
  stages = [{"name": "a", "references": [source]} for source in curriculum.SOURCES]
  for stage, drawn in zip(stages, (False, False, True, True), strict=True):
    assert diagram._stage({"seconds": {}}, 0, stage).takes_samples == drawn


def test_a_draft_of_which_nothing_is_said_is_shown_as_ever(trained):
  settings = trained[0].rows.settings
  plain = settings.formats["improver"]
  both = criticised.shown(settings, ["q", "q"], ["a", "b"], ["", "weak"])
  assert both[0] == plain.conversations(["q"], ["a"])[0]
  assert both[1].texts == ("b", "weak") and both[1].format.plain == (
    "Question: {prompt}\nDraft: {reference}\nFeedback: {critique}\nBetter:"
  )


def test_a_chat_model_is_told_before_it_is_asked(tmp_path):
  tokenizer = chats.save(tmp_path, "chatml")
  form, tokenizer = chat.choose("model", tokenizer, template.Template(), "Now better.")
  settings = encode.Settings(tokenizer, form, 64, 32)
  (one,) = criticised.shown(settings, ["why ?"], ["rent"], ["Score 5"])
  said = [(turn.role, turn.content) for turn in one.turns]
  asked = ("user", "Score 5\n\nNow better.")
  assert said == [("user", "why ?"), ("assistant", "rent"), asked]
  assert np.asarray(encode.prompts([one], settings)[:].mask).any()


def test_critiques_are_asked_for_where_a_stage_shows_them(trained):
  c = config()
  assert criticised.is_used(c) and not criticised.is_used(tiny_run.config("pit"))
  context, _, _ = trained
  drafts = [row["draft"] for row in made(context, "critiques")]
  said, rows = criticised.asked(context, "critiques", context.rows.fold("rl").prompts, drafts)
  assert all(text.startswith("Weak: ") and "Better" not in text for text in said)
  assert rows.hash and dataclasses.asdict(rows)["name"] == "rows/critiques"


def test_an_improver_without_critiques_is_beside_one_with_them():
  with pytest.raises(ValueError, match="uncriticised=True, and no stage of the curriculum has ref"):
    checks.values(tiny_run.config("pit", uncriticised=True), pit.RECIPE)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (
      {"critic": ""},
      "critic='' with references 'policy+critique'; use a name of feedback.writers",
    ),
    ({"critic": "who"}, "use a name of feedback.writers, which has critic"),
    ({"critique__template": "Better: {answer}"}, "shows nothing beside a draft"),
    ({"critique__highest": 0}, "critique.lowest=0 with critique.highest=0"),
  ],
)
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), pit.RECIPE)
  assert said in str(error.value)
