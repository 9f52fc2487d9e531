"""Recipe `instructors`: what each arm's instructor is shown, what is learnt, what is done once."""

import collections
import json
import random
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import test_resume
import tiny_run
from instructors_run import ARMS, config, made, writing

from pit_jax.feedback import exercises, writers
from pit_jax.recipes import instructors, running
from pit_jax.recipes.instructors import arms, lessons, measures, page
from pit_jax.report import diagram
from pit_jax.rollout import embedding
from pit_jax.stages import feedback, sft
from pit_jax.tasks import classes, kinds

ROUNDS = [f"{arm}_{number}" for number in (1, 2) for arm in ARMS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run: read it."""
  workdir = tmp_path_factory.mktemp("instructors") / "run"
  with writing(), tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What each stage was given, by its name, what the recipe returns, and the context; read back."""
  asked = mock.Mock(side_effect=AssertionError("asked again"))
  files = tiny_run.files(run / "rows")
  context = tiny_run.build(config(), run)
  with (
    tiny_run.watching(sft) as seen,
    mock.patch.object(writers.Writer, "write_all", asked),
    mock.patch.object(embedding, "embeddings", asked),
  ):
    study = instructors.RECIPE.train(context)
  assert tiny_run.files(run / "rows") == files
  return seen, study, context


def requests(workdir, name):
  turns = [row["prompt"] for row in made(workdir, f"{name}_replies")]
  assert all([turn["role"] for turn in row] == ["system", "user"] for row in turns)
  return [exercises.read(row[1]["content"]) for row in turns]


def is_right(row):
  """By hand: the answer follows from the working, and the working from the question."""
  pair = row["prompt"], row["response"]
  return classes.answer_follows(*pair) and classes.calls_are_facts(*pair)


def test_every_arm_is_compared_and_has_as_many_steps_and_rows(run, results):
  assert [*results["stages"]] == ["target", *ROUNDS]
  own = {("le", other) for other in ("target", *ARMS[1:])}
  own |= {("lec", other) for other in ("target", "le", *ARMS[2:])}
  own |= {(arm, "target") for arm in ARMS}
  assert {(row["a"], row["b"]) for row in results["comparisons"]} == own | {("le_resampled", "le")}
  assert results["headline"] == ["le", "augmented"]
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "right"}
  assert results["labellers"] == ["follows", "sound", "steps"]
  assert {results["stages"][name]["steps"] for name in ROUNDS} == {tiny_run.STEPS}
  for name in ROUNDS:
    outcomes = collections.Counter(row["outcome"] for row in made(run, f"{name}_exercises"))
    assert outcomes[lessons.TRAINED] == 20 and outcomes[lessons.VALIDATES] == 6


@pytest.mark.parametrize("name", ROUNDS)
def test_an_instructor_is_shown_what_its_arm_says_and_nothing_held_out(run, given, name):
  *_, context = given
  arm, _, number = name.rpartition("_")
  looked_at = {"le_shuffled": "le_shuffled"}.get(arm, "target")
  looked_at = name if number == "2" and arm in ("le", "lec", "le_right") else looked_at
  answers = {row["prompt"]: row for row in made(run, f"{looked_at}_answers")}
  asked = requests(run, name)
  most = sum(not is_right(row) for row in made(run, "target_answers"))
  assert 0 < len(asked) <= min(most, 26) and len({one.question for one in asked}) == len(asked)
  for one in asked:
    row = answers[one.question]
    assert one.count == -(-26 // len(asked)) + 1
    if arm == "augmented":
      assert (one.answer, one.is_right) == ("", None)
    else:
      assert one.answer == row["response"]
      assert one.is_right == is_right(row) == (arm == "le_right")
    assert len(one.solved) == (3 if arm == "lec" else 0)
    assert all(is_right(answers[question]) for question in one.solved)

  held_out = {row.prompt for row in context.rows.folds["held_out"]}
  text = (run / "rows" / f"{name}_replies.jsonl").read_text()
  assert held_out and not any(prompt in text for prompt in held_out)


def test_errors_are_drawn_from_all_kinds_that_are_not_known(run):
  shown = collections.Counter(kinds.kind_of(one.question) for one in requests(run, "le_1"))
  assert {*shown} == {"calls 6", kinds.NEWCOMER}
  assert {kinds.kind_of(one.question) for one in requests(run, "le_right_1")} == {
    "calls 3", "calls 4", "calls 5",
  }  # fmt: skip


def test_solved_problems_are_those_nearest_by_the_states_of_the_target(run, given):
  """By hand: each question alone and without padding, each pair by itself."""
  _, study, context = given
  params = study.policies["target"].params
  model = context.models.inference.language
  rows = {row["prompt"]: row for row in made(run, "target_answers")}
  shown = context.rows.settings.formats["policy"]
  points = {}
  for question in rows:
    (ids,) = context.rows.settings.encode(shown.conversations([question])).ids
    tokens = jnp.array([ids])
    hidden = model.apply(params, tokens, tokens >= 0, method="hidden")
    points[question] = np.asarray(hidden, np.float64)[0].mean(axis=0)
  right = [question for question, row in rows.items() if is_right(row)]
  for one in requests(run, "lec_1"):
    near = [points[one.question] @ points[other] / np.linalg.norm(points[other]) for other in right]
    best = sorted(near, reverse=True)[:3]
    found = [near[right.index(other)] for other in one.solved]
    np.testing.assert_allclose(found, best, rtol=1e-5)


def test_a_round_begins_with_the_policy_of_the_one_before_and_learns_its_exercises(run, given):
  stages, study, _ = given
  for arm in ARMS:
    before = study.policies["target"]
    for number in (1, 2):
      (fold,), how, policy = stages[f"{arm}_{number}"]
      assert how["start"] is before.params
      rows = made(run, f"{arm}_{number}_exercises")
      for part, outcome in ((fold.rows, "trained on"), (fold.validation, "validates")):
        expected = [(row["prompt"], row["response"]) for row in rows if row["outcome"] == outcome]
        assert [(row.prompt, row.chosen) for row in part] == expected
      before = policy
    assert study.policies[arm] is before
  trained = [row["prompt"] for name in ("le_1", "le_2") for row in made(run, f"{name}_exercises")
             if row["outcome"] == "trained on"]  # fmt: skip
  assert len({*trained}) == len(trained) == 40


def test_kinds_and_domains_are_counted_by_hand(results, given):
  _, study, context = given
  finished = instructors.of_run(context, study)
  questions = finished.suite.questions
  names = [kinds.kind_of(question) for question in questions]
  told = {(row["system"], row["kind"]): row for row in results["kinds"]}
  sides = {"in": ("calls 6", kinds.NEWCOMER), "out": ("calls 3", "calls 4", "calls 5")}
  for system in ("target", *ARMS):
    right = kinds.right_answers(questions, finished.texts[system])
    for label in (*kinds.KINDS, *sides):
      own = [value for value, name in zip(right, names, strict=True)
             if name in sides.get(label, (label,))]  # fmt: skip
      assert told[system, label]["prompts"] == len(own) > 0
      np.testing.assert_allclose(told[system, label]["right"], np.mean(own))
    for kind in kinds.KINDS:
      assert told[system, kind]["domain"] == ("in" if kind in sides["in"] else "out")
  compared = {(row["a"], row["b"], row["domain"]): row for row in results["domains"]}
  assert len(compared) == len(results["domains"]) == 2 * len(finished.compared)
  for (a, b, side), row in compared.items():
    change = 100 * (told[a, side]["right"] - told[b, side]["right"])
    np.testing.assert_allclose(row["delta"], change, atol=1e-9)
    assert row["n"] == told[a, side]["prompts"] and row["judge"] == "right"


def test_what_became_of_exercises_is_told_of_every_round(run, results):
  told = {f"{row['arm']}_{row['round']}": row for row in results["lessons"]}
  assert [*told] == ROUNDS
  for name, row in told.items():
    rows = made(run, f"{name}_exercises")
    assert row["outcomes"] == collections.Counter(one["outcome"] for one in rows)
    assert (
      sum(row["outcomes"].values()) == len(rows) == row["requests"] * requests(run, name)[0].count
    )
    used = [one for one in rows if one["outcome"] == "trained on"]
    np.testing.assert_allclose(row["right"], np.mean([is_right(one) for one in used]))
    assert row["of"] == collections.Counter(kinds.kind_of(one["prompt"]) for one in used)
  wrong = np.mean([not is_right(row) for row in made(run, "target_answers")])
  np.testing.assert_allclose(told["le_1"]["wrong"], wrong)


def test_seeds_are_pooled_with_an_interval_over_them(results):
  rows = results["domains"]
  pooled = measures.pool_domains({0: rows, 1: rows}, ["prompts of 0", "prompts of 1"])
  whole, alone = pooled[: len(rows)], pooled[len(rows) :]
  for row, seed in zip(whole, rows, strict=True):
    assert (row["domain"], row["n"]) == (seed["domain"], 2 * seed["n"])
    assert row["over_seeds"]["seeds"] == 2
    np.testing.assert_allclose(row["delta"], seed["delta"], atol=1e-9)
  assert [row["seed"] for row in alone] == [0] * len(rows) + [1] * len(rows)

  first = results["lessons"]
  told = measures.pool_lessons({0: first, 1: first[:-1]}, ["a", "b"])
  assert [(row["arm"], row["round"]) for row in told] == [
    (row["arm"], row["round"]) for row in first
  ]
  assert told[0]["outcomes"]["trained on"] == 40 and told[-1]["outcomes"]["trained on"] == 20
  np.testing.assert_allclose(told[0]["right"], first[0]["right"])


def test_the_page_has_arms_kinds_and_rounds(run, results):
  text = (run / "report" / "report.html").read_text()
  assert "Arms, in and out of domain" in text and "What was written" in text
  assert "(calls 6, newcomer)" in text and "problems that another student failed on" in text
  columns = instructors.RECIPE.page.diagram(results)
  assert [column.title for column in columns] == ["Target", "Round 1", "Round 2", "Held out"]


def test_a_run_that_ends_while_an_instructor_writes_goes_on_to_the_same_models(run, tmp_path):
  whole = lessons.written

  def ending(context, name, *rest):
    if name == "lec_2":
      raise KeyboardInterrupt
    return whole(context, name, *rest)

  with writing():
    with mock.patch.object(lessons, "written", ending), pytest.raises(KeyboardInterrupt):
      running.run(config(), tmp_path, stages_only=True)
    begun = tiny_run.files(tmp_path / "rows")
    # All arms of the round asked before any was trained.
    assert "le_2_exercises.jsonl" in begun and "lec_2_exercises.jsonl" not in begun
    assert "le_shuffled_2_replies.jsonl" in begun
    with tiny_run.watching(sft) as seen:
      running.run(config(), tmp_path, stages_only=True)
  assert [*seen] == ["target", *ROUNDS]
  assert tiny_run.files(tmp_path / "rows") == tiny_run.files(run / "rows")
  assert begun.items() <= tiny_run.files(run / "rows").items()
  states = (test_resume.final_states(path, tiny_run.STEPS) for path in (tmp_path, run))
  assert next(states) == next(states)


def test_a_target_that_fails_on_nothing_stays_as_it_was(tmp_path):
  changes = {"instructors__other": "", "instructors__rounds": 1}
  with writing(knows=kinds.KINDS):
    context = tiny_run.build(config(**changes), tmp_path)
    study = instructors.RECIPE.train(context)
  assert [*study.policies] == ["target", *ARMS[:4]]
  assert study.policies["le"] is study.policies["lec"] is study.policies["target"]
  assert study.policies["augmented"] is not study.policies["target"]
  told = measures.about(context, study)
  assert told["le"] == "as the target: there was no problem to show an instructor"
  assert told["augmented"] == "after 1 round of exercises like problems drawn at random"


def test_who_solved_nothing_is_shown_no_neighbours():
  made = mock.Mock(spec=feedback.Completions)
  answered = arms.Answered(made, ["a?", "b?"], ["1", "2"], [0.0, 0.0])
  embed = mock.Mock(side_effect=AssertionError("nothing is near"))
  made = arms.requests("lec", answered, config(), 2, random.Random(0), embed)
  assert [one.question for one in made] == ["a?", "b?"] and not any(one.solved for one in made)


@pytest.mark.parametrize("ended", ["le_1", "le_2", "augmented_2"])
def test_the_picture_has_both_chains_where_an_arm_ended_early(results, ended):
  told = {**results, "stages": {name: one for name, one in results["stages"].items()
                                if name != ended}}  # fmt: skip
  columns = page.pipeline(told)
  assert [len(column.chains) for column in columns] == [2] * len(columns)
  assert "nothing to write about" in str(columns) and diagram.draw(columns, wide=True)
