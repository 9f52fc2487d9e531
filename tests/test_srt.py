"""Recipe `srt`: what each arm learns, what stage 2 prefers, what is counted, what a stop costs."""

import collections
import json
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import tiny_run

from pit_jax.data import critiques
from pit_jax.feedback import named, writers
from pit_jax.recipes import running, srt
from pit_jax.recipes.srt import arms, measures, page
from pit_jax.run import checks
from pit_jax.stages import criticism, dpo, sft, trained
from pit_jax.tasks import correctors, synthetic

SMALL = {
  "data__rows": 260, "evaluation__prompts": 12, "data__max_response_length": 80,
  "data__fold_sizes": (1.0, 1.0, 1.0), "tuning__steps": 3, "tuning__batch_size": 8,
  "data__length_buckets": False,
}  # fmt: skip
NOBODY = trained.Trained({}, {})
ARMS = ("plain", "score", "weaknesses", "shuffled")
STAGES = ["sft", "stage_1", *(f"stage_1_{arm}" for arm in ARMS), "srt", "srt_sft", "srt_redrawn"]
OWN = "stage_1_refined"
TWICE = "stage_1_plain_refined_twice"
REFINED = {OWN, TWICE, "srt_refined", *(f"stage_1_{arm}_refined" for arm in ARMS)}


def config(**changes):
  return tiny_run.config("srt", **SMALL | changes)


def telling():
  """Has models of the run criticise as correctors do: those that learnt for three steps cannot.

  What they score is theirs alone: the number of letters in a draft decides, and not the gold score.
  """

  def of_model(context, name, params, c):
    form = critiques.form_of(context.config.critique)
    whole = writers.corrector(name, correctors.Corrector(), form, seed=len(name))

    def answer(asked, *how):
      written = whole.answer(asked, *how)
      replies = []
      for one, (reply,) in zip(asked, written.texts, strict=True):
        critique, _ = form.read(reply)
        score = len(one.texts[-1]) % 9
        replies.append([form.write(critiques.Critique(**{**vars(critique), "score": score}))])
      return writers.Written(replies)

    return writers.Writer(name, answer)

  return mock.patch.object(criticism, "of_model", of_model)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("srt") / "run"
  with telling(), tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What the stages of pairs and of imitation were given, by name, and what the recipe returns."""
  with telling(), tiny_run.watching(dpo, sft) as seen:
    study = srt.RECIPE.train(tiny_run.build(config(), run))  # read back
  return seen, study


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def test_every_arm_is_trained_and_compared(results):
  assert [*results["stages"]] == STAGES
  assert results["headline"] == [OWN, "stage_1_plain_refined"]
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert pairs == {
    *((OWN, other) for other in REFINED - {OWN, "srt_refined"}), (OWN, "sft"),
    ("stage_1_plain_refined", "sft"), ("srt", "stage_1"), ("srt", "sft"), ("stage_1", "sft"),
    ("srt_refined", OWN), ("srt", "srt_sft"), ("srt", "srt_redrawn"), ("srt_sft", "stage_1"),
    ("srt_resampled", "srt"),
  }  # fmt: skip
  assert {*results["systems"]} >= REFINED
  assert "without feedback" in results["about"]["stage_1_plain_refined"]


def test_without_controls_two_arms_and_one_policy_are_left():
  few = config(srt__controls=False)
  assert [stage.name for stage in arms.stages(few)] == ["sft", "stage_1", "stage_1_plain", "srt"]
  assert not {"srt_sft", "stage_1_score_refined"} & {
    name for pair in arms.compared(few) for name in pair
  }
  assert [stage.name for stage in arms.stages(config(srt__author=""))] == STAGES[1:]


@pytest.fixture(scope="module")
def taught(run):
  """The teacher's critiques, read by hand, with the lessons of every arm made of them."""
  context = tiny_run.build(config(), run)
  form = critiques.form_of(context.config.critique)
  rows = made(run, "critiques")
  validating = {row.prompt for row in context.rows.fold("tuning").validation}
  by_part = {"rows": [], "validation": []}
  for row in rows:
    text, critique, outcome = form.refine(row["draft"], row["critique"])
    by_part["validation" if row["prompt"] in validating else "rows"].append(
      criticism.Criticised(row["prompt"], row["draft"], critique, outcome, text, row["critique"])
    )
  policy = context.rows.settings.formats["policy"]
  how = {"form": form, "policy": policy, "seed": 3}
  lessons = {arm.name: arms.lessons(arm, by_part, is_direct=True, **how)["rows"]
             for arm in arms.of(context.config)}  # fmt: skip
  return by_part["rows"], lessons


def test_arms_learn_the_parts_that_they_are_about(taught):
  rows, lessons = taught
  count = len(rows)
  assert count > 20 and all(len(learnt) == 2 * count for learnt in lessons.values())
  for row, *said in zip(rows, *(learnt[:count] for learnt in lessons.values()), strict=True):
    asked = {(one.prompt, one.texts) for one, _ in said}
    assert asked == {(row.prompt, (row.draft,))}
    weak, score = row.critique.weaknesses, row.critique.score
    replies = dict(zip(lessons, (reply for _, reply in said), strict=True))
    assert replies[""] == row.reply and replies["plain"] == row.critique.answer
    assert replies["score"] == f"Score {score}. Better: {row.critique.answer}"
    assert replies["weaknesses"] == f"Weak: {weak}. Better: {row.critique.answer}"
    assert replies["shuffled"].endswith(f" Better: {row.critique.answer}")
  for learnt in lessons.values():
    direct = [(one.prompt, one.texts, reply) for one, reply in learnt[count:]]
    assert direct == [(row.prompt, (), row.text) for row in rows]


def test_feedback_of_others_is_the_same_feedback_and_nobody_keeps_their_own(taught):
  rows, lessons = taught

  def feedback(arm):
    return [reply.partition(" Better: ")[0] for _, reply in lessons[arm][: len(rows)]]

  own, others = feedback(""), feedback("shuffled")
  assert collections.Counter(own) == collections.Counter(others) and own != others
  numbered = [critiques.Critique(str(i), i, str(i), str(i)) for i in range(50)]
  turned = arms.shuffled(numbered, 0)
  assert [one.answer for one in turned] == [one.answer for one in numbered]
  assert all(one.score != own.score for one, own in zip(turned, numbered, strict=True))
  assert {one.score for one in turned} == {*range(50)} and turned == arms.shuffled(numbered, 0)
  assert all(one.weaknesses == one.changes == str(one.score) for one in turned)


def test_stage_2_prefers_own_refinements_that_its_second_score_puts_higher(run, given):
  stages, study = given
  first, second = (
    {row["prompt"]: row for row in made(run, f"own_{name}")}
    for name in ("critiques", "second_critiques")
  )
  form = critiques.form_of(config().critique)
  expected = {}
  for prompt, row in first.items():
    critique, _ = form.read(row["critique"])
    if prompt not in second:
      assert critiques.plain(critique.answer) == critiques.plain(row["draft"])
      continue
    assert second[prompt]["draft"] == critique.answer
    again, _ = form.read(second[prompt]["critique"])
    if again.score > critique.score:
      expected[prompt] = (critique.answer, row["draft"])

  assert 0 < len(expected) < len(second)
  for name in ("srt", "srt_sft"):
    fold = stages[name][0][0]
    pairs = {row.prompt: (row.chosen, row.rejected) for row in (*fold.rows, *fold.validation)}
    assert pairs == expected
  redrawn = {row["prompt"]: row["response"] for row in made(run, "own_redrawn_drafts")}
  fold = stages["srt_redrawn"][0][0]
  for row in (*fold.rows, *fold.validation):
    assert (row.chosen, row.rejected) == (expected[row.prompt][0], redrawn[row.prompt])
  start = study.models["stage_1"].params
  for name in ("srt", "srt_redrawn"):
    how = stages[name][1]
    assert how["start"] is start and how["reference"] is start
  assert stages["srt_sft"][1]["start"] is start


def test_unfiltered_all_refinements_are_preferred(run):
  context = tiny_run.build(config(), run)
  context.config.unlock().srt.filtered = False
  with telling():
    own = srt._own_pairs(context, critiques.form_of(context.config.critique), NOBODY)
  assert sum(map(len, own.kept.values())) == len(made(run, "own_second_critiques"))


def test_imitation_takes_the_steps_of_dpo(results):
  assert results["stages"]["srt_sft"]["steps"] == results["stages"]["srt"]["steps"]
  assert dict(arms.imitated_values(config(dpo__epochs=2.0))) == {
    "steps": 3, "epochs": 2.0, "batch_size": 8, "packing": False,
  }  # fmt: skip


def test_a_model_that_finds_nothing_better_ends_the_run_in_words(run):
  context = tiny_run.build(config(), run)
  form = critiques.form_of(context.config.critique)
  none = mock.patch.object(measures, "is_higher", lambda *_: False)
  with telling(), none, pytest.raises(ValueError) as error:
    srt._own_pairs(context, form, NOBODY)
  assert "and finds 0 better, too few to learn from" in str(error.value)


def test_critics_are_told_by_hand(run, results):
  rows = {row["system"]: row for row in results["critics"]}
  assert {*rows} == REFINED | {"teacher"}
  form = critiques.form_of(config().critique)
  drafts = made(run, "critiques")
  read = [form.read(row["critique"])[0] for row in drafts]
  gold = [synthetic.gold(row["prompt"], row["draft"]) for row in drafts]
  tau = scipy.stats.kendalltau([one.score for one in read], gold).statistic
  expected = None if np.isnan(tau) else pytest.approx(tau)
  assert rows["teacher"]["tau"] == expected
  hits = failing = named_ones = 0
  for row, one in zip(drafts, read, strict=True):
    failed = {n for n, ok in synthetic.checks(row["prompt"], row["draft"]).items() if not ok}
    said = {*one.weaknesses.split(", ")} - {"none"}
    hits, failing, named_ones = (
      hits + len(said & failed),
      failing + len(failed),
      named_ones + len(said),
    )
  assert rows["teacher"]["named"] == pytest.approx(hits / failing)
  assert rows["teacher"]["fail"] == pytest.approx(hits / named_ones)
  for row in rows.values():
    assert row["refined"] + row["unchanged"] + row["fallback"] == pytest.approx(1)
    assert sum(row["kinds"].values()) == round(row["fallback"] * row["drafts"])


def test_pairs_of_stage_2_are_told_with_how_right_they_are(run, results, given):
  own = {row["what"]: row for row in results["own"]}
  assert own["refined"]["pairs"] == len(made(run, "own_second_critiques"))
  kept = [row for part in given[1].own.kept.values() for row in part]
  assert own["kept"]["pairs"] == len(kept)
  gains = [synthetic.gold(row.prompt, row.text) - synthetic.gold(row.prompt, row.draft)
           for row in kept]  # fmt: skip
  assert own["kept"]["better"] == pytest.approx(np.mean(np.array(gains) > 0))
  assert own["kept"]["worse"] == pytest.approx(np.mean(np.array(gains) < 0))


def test_a_run_that_was_stopped_asks_nobody_twice(tmp_path):
  """The teacher, and the model about its own drafts, are asked once over both processes."""
  asked = []
  whole = named.build

  def counting(context, part, name, **how):
    writer = whole(context, part, name, **how)

    def answer(chats, *rest):
      asked.extend((name, one.prompt) for one in chats)
      return writer.answer(chats, *rest)

    return writers.Writer(name, answer)

  few = {"srt__controls": False}
  stopping = mock.patch.object(dpo, "run", side_effect=KeyboardInterrupt)
  with telling(), mock.patch.object(named, "build", counting):
    with stopping, pytest.raises(KeyboardInterrupt):
      srt.RECIPE.train(tiny_run.build(config(**few), tmp_path))
    before = tiny_run.files(tmp_path / "rows")
    once = list(asked)
    study = srt.RECIPE.train(tiny_run.build(config(**few), tmp_path))
  assert asked == once and len(once) == len({*once})
  after = tiny_run.files(tmp_path / "rows")
  assert {name: after[name] for name in before} == before
  assert {*study.models} == {"sft", "stage_1", "stage_1_plain", "srt"}


def test_the_page_has_critics_pairs_and_claims(run, results):
  # No letter of so small a run is worth anything, so that there is no order for scores to have.
  scored = [{**row, "tau": 0.5, "tau_ci95": [0.4, 0.6]} for row in results["critics"]]
  table = page.critics(results | {"critics": scored})
  assert [row[0] for row in table.rows][:2] == ["teacher", OWN] and "τ" in table.columns
  assert [row[0] for row in page.own(results).rows] == ["refined", "kept"]
  titles = [column.title for column in page.pipeline(results)]
  assert titles == ["Drafts", "Stage 1", "Stage 2"]
  text = (run / "report" / "report.html").read_text()
  assert "Criticism and refinement" in text and "Pairs of stage 2" in text
  found, _ = page.said(results)
  assert len(found) == 8


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"srt__teacher": "who"}, "srt.teacher='who'; use a name of feedback.writers, which has "),
    ({"srt__author": "who"}, "srt.author='who'; use a name of feedback.writers"),
    ({"critique__template": "Better: {answer}"}, "has no {weaknesses}, which recipe srt teaches"),
    ({"critique__template": "{weaknesses} {score}"}, "use a text with slots for some of weakne"),
    ({"critique__plain": "{prompt}"}, "critique.plain='{prompt}'; use a text with {prompt} and"),
    ({"critique__max_tokens": 81}, "is more than data.max_response_length=80"),
    ({"critique__lowest": 8}, "critique.lowest=8 with critique.highest=8; use a higher"),
    ({"data__source": "example"}, "nobody else scores the answers"),
  ],
)
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), srt.RECIPE)
  assert said in str(error.value)


def test_a_corrector_of_impossible_errors_is_refused():
  with pytest.raises(ValueError, match="teacher: misses=1.5; use a share from 0 to 1"):
    named.check(config(feedback__writers__teacher__misses=1.5))


def test_a_corrector_needs_a_recipe_that_asks_for_critiques(tmp_path):
  other = tiny_run.config("irft", data__rows=150)
  with other.unlocked():
    other.feedback.writers.expert = {"kind": "corrector"}
  with pytest.raises(ValueError, match="the recipe asks for no critiques"):
    named.build(tiny_run.build(other, tmp_path), "writers", "expert")
