"""Recipe `instructors`: what is no exercise is counted, and what cannot be is refused."""

import collections
import dataclasses
import json
from unittest import mock

import pytest
import tiny_run
from instructors_run import ARMS, config, made, writing

from pit_jax.feedback import exercises, named, verifier, writers
from pit_jax.recipes import instructors, running
from pit_jax.recipes.instructors import arms, lessons, page
from pit_jax.run import checks

RIGHT = "the worked answer"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return tiny_run.build(config(instructors__most_failed=0.5), tmp_path_factory.mktemp("run"))


def written(context, tmp_path, replies, *, seen=(), questions=None):
  """What becomes of replies to as many requests; None is a request that failed."""
  context = tiny_run.with_values(context, tmp_path)

  def answer(asked, *_):
    failures = {place: "no reply" for place, reply in enumerate(replies) if reply is None}
    return writers.Written([[reply] for reply in replies], failures)

  names = questions or [f"q{i}" for i in range(len(replies))]
  ask = lambda: [exercises.Request(name, "wrong", False, (), 9) for name in names]  # noqa: E731
  teacher = writers.Writer("teacher", answer)
  made = lessons.asked(context, {"le_1": ask}, teacher)
  return lessons.written(context, "le_1", made["le_1"], teacher, {*seen})


def test_stages_come_round_by_round_and_plans_count_what_lives_meanwhile():
  planned = arms.stages(config())
  assert [stage.name for stage in planned] == [
    "target", *(f"{arm}_{number}" for number in (1, 2) for arm in ARMS),
  ]  # fmt: skip
  # The base; target and the arms that are trained; from the second round on all of them.
  assert [len(stage.kept) for stage in planned] == [1, *range(2, 2 + len(ARMS)), *[7] * len(ARMS)]


def block(*questions, answer=RIGHT):
  return exercises.write([(question, answer) for question in questions])


def test_what_is_no_exercise_is_counted_by_its_reason(whole, tmp_path):
  (held_out, *_) = (row.prompt for row in whole.rows.folds["held_out"])
  long = "word " * 200
  replies = [
    block(*(f"how many {i}?" for i in range(20))),
    "I would rather not.",
    None,
    "Question: why?\nQuestion:\nAnswer: 3",
    block(f" {held_out.upper()}", "how  MANY 3?", "of the split", "fresh?"),
    block("long?", answer=long) + "\n" + block(*(f"more {i}?" for i in range(20))),
  ]
  found = written(whole, tmp_path, replies, seen={"of the split"})
  assert found.requests == 6 and found.failures == {"no reply": 1}
  assert found.outcomes == {
    lessons.TRAINED: 20, lessons.VALIDATES: 6, lessons.LEFT: 15, lessons.REPEATED: 2,
    lessons.HELD_OUT: 1, lessons.TOO_LONG: 1, exercises.NO_EXERCISE: 1, exercises.NO_ANSWER: 1,
    exercises.NO_QUESTION: 1,
  }  # fmt: skip
  assert sum(found.outcomes.values()) == 20 + 1 + 2 + 4 + 21
  rows = made(tmp_path, "le_1_exercises")
  assert rows == found.rows
  # In turn: those that are used are of either reply alike.
  used = [row["request"] for row in rows if row["outcome"] in ("trained on", "validates")]
  assert abs(collections.Counter(used)[0] - collections.Counter(used)[5]) <= 1
  assert {row.chosen for row in found.fold.rows} == {RIGHT}


def test_a_form_of_final_answers_is_asked_for_where_one_is_named(whole, tmp_path):
  context = tiny_run.with_values(whole, tmp_path, instructors__form="number")
  replies = [
    block(*(f"q {i}?" for i in range(30)), answer="So it is 4."),
    block("x?", answer="four"),
  ]
  found = written(context, tmp_path, replies)
  assert found.outcomes[exercises.NO_FINAL] == 1 and len(found.fold.rows) == 20


def test_replies_without_exercises_end_the_run(whole, tmp_path):
  with pytest.raises(ValueError) as error:
    found = written(whole, tmp_path, ["No.", "Question: why?", block("how?")])
    lessons.check_enough("le_1", found, writers.Writer("teacher", mock.Mock()))
  assert str(error.value).startswith(
    "le_1: of what teacher wrote too little is an exercise to train on (no exercise in the reply: "
    "1, no answer: 1, validates: 1); read rows/le_1_replies.jsonl"
  )
  assert "replies are kept, so start in another workdir" in str(error.value)


def test_a_control_about_which_nothing_of_use_is_written_ends_and_the_others_go_on(
  tmp_path, caplog
):
  whole = exercises.instructor

  def instructor(*given):
    teacher = whole(*given)

    def answer(asked, *more):
      said = teacher.answer(asked, *more).texts
      about = [exercises.read(one.turns[-1].content) for one in asked]
      return writers.Written(
        [["No."] if one.is_right else text for one, text in zip(about, said, strict=True)]
      )

    return writers.Writer(teacher.name, answer)

  with writing(), mock.patch.object(exercises, "instructor", instructor):
    study = instructors.RECIPE.train(tiny_run.build(config(instructors__rounds=1), tmp_path))
  assert {*study.policies} == {"target", *ARMS} and not [*tmp_path.glob("checkpoints/le_right_1")]
  assert study.policies["le_right"] is study.policies["target"]
  assert "le_right_1: nothing that was written can be trained on; the arm ends" in caplog.text


def test_a_file_of_replies_teaches_who_asks_in_its_words_alone(whole, tmp_path):
  request = exercises.Request("why?", "so", False, ("how?",), 2)
  role = {"role": "system", "content": whole.config.instructors.role}
  asked = [role, {"role": "user", "content": exercises.ask(request)}]
  path = tmp_path / "replies.jsonl"
  path.write_text(json.dumps({"prompt": asked, "response": block("what?")}))
  changed = config(instructors__instructor="mine").unlock()
  changed.feedback.writers.mine = {"kind": "file", "path": str(path)}
  checks.values(changed.lock(), instructors.RECIPE)
  context = dataclasses.replace(whole, workdir=tmp_path, config=changed)
  teacher = named.build(context, "writers", "mine")

  found = lessons.asked(context, {"le_1": lambda: [request]}, teacher)["le_1"]
  assert [(row["prompt"], row["response"]) for row in found.rows] == [(asked, block("what?"))]
  # A run's own replies are such a file.
  again = writers.file("again", tmp_path / "rows" / "le_1_replies.jsonl")
  assert {*again.prompts} == {*teacher.prompts}
  with pytest.raises(ValueError, match="fewer than 1 completions of 1 of 1 prompts"):
    lessons.asked(context, {"le_2": lambda: [request._replace(answer="no")]}, teacher)
  context = tiny_run.with_values(context, tmp_path, instructors__role="teach")
  with pytest.raises(ValueError, match="fewer than 1 completions of 1 of 1 prompts"):
    lessons.asked(context, {"le_2": lambda: [request]}, teacher)


@pytest.mark.parametrize("rows", ["", '{"prompt": "q"}\n', '{"prompt": "q", "answer": "4"}\n'])
def test_a_judge_without_right_answers_is_refused_before_anything_is_trained(rows, tmp_path):
  path = tmp_path / "right.jsonl"
  path.write_text(rows)
  made = config(evaluation__judges=("right",)).unlock()
  made.feedback.raters.right = {"kind": "verifier", "path": str(path), "form": "number",
                                "scores": True}  # fmt: skip
  with writing(), pytest.raises(ValueError, match="right") as error:
    running.run(made.lock(), tmp_path / "run")
  assert "right.jsonl" in str(error.value) or "no right answer in the file" in str(error.value)
  assert not [*tmp_path.glob("run/checkpoints/*")] and not [*tmp_path.glob("run/rows/*")]


def test_too_many_failed_requests_end_the_run(whole, tmp_path):
  with pytest.raises(ValueError, match="writer teacher failed on 2 of 3 requests .no reply: 2."):
    written(whole, tmp_path, [None, None, block("how?")])


def test_an_instructor_is_not_asked_about_what_is_held_out(whole, tmp_path):
  (held_out, *_) = (row.prompt for row in whole.rows.folds["held_out"])
  count = len({row.prompt for row in whole.rows.folds["held_out"]})
  said = f"le_1: the instructor would be shown 1 of the {count} held-out questions, such as"
  for questions, solved, role in (
    ([held_out], (), "teach"), (["q"], ["p", held_out.upper()], "teach"),
    (["q"], (), f"Teach. As in: {held_out} Well?"),
  ):  # fmt: skip
    context = tiny_run.with_values(whole, tmp_path, instructors__role=role)
    asked = [exercises.Request(questions[0], "wrong", False, solved, 2)]
    with pytest.raises(ValueError) as error:
      lessons.check_unseen(context, "le_1", asked)
    assert str(error.value).startswith(said) and "what is judged must not be taught" in str(
      error.value
    )
  with pytest.raises(ValueError, match="what is judged must not be taught"):
    written(whole, tmp_path, [block("a?")], questions=[held_out])
  assert not [*tmp_path.glob("rows/*")]


def test_a_verifier_says_of_single_answers_whether_they_pass(tmp_path):
  path = tmp_path / "right.jsonl"
  path.write_text(json.dumps({"prompt": "2 + 2?", "answer": "4"}) + "\n")
  rater = verifier.rater("exact", path, "number")
  asked = ["2 + 2?", "2 + 2?", "3 + 3?"]
  passed = rater.passes(asked, ["It is 4.", "It is 5.", "It is 6."]).tolist()
  assert passed[:2] == [1.0, 0.0] and passed[2] != passed[2]  # of which nothing is known
  steps = lambda questions, texts: verifier.np.array(["so" in text for text in texts], float)  # noqa: E731
  both = verifier.of("both", [verifier.in_file(path, "number"), steps])
  said = both.passes(["2 + 2?"] * 3, ["so 4", "4", "so 5"]).tolist()
  assert said == [1.0, 0.0, 0.0]


def test_raters_that_verify_nothing_have_no_say_about_single_answers(whole):
  assert named.build(whole, "raters", "right").passes is None
  assert named.build(whole, "raters", "sound").passes is not None


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"instructors__author": "who"}, "instructors.author='who'; use a name of feedback.writers"),
    ({"instructors__instructor": "who"}, "instructors.instructor='who'; use a name of feedback."),
    ({"instructors__other": "who"}, "instructors.other='who'; use a name of feedback.writers"),
    ({"instructors__verifier": "who"}, "instructors.verifier='who'; use a name of feedback.raters"),
    ({"instructors__verifier": "right"}, "instructors.verifier='right' is of kind function, which"),
    ({"instructors__judge": "sound"}, "instructors.judge='sound'; use a name of evaluation.judges"),
    ({"instructors__judge": "follows", "evaluation__judges": ("follows",)},
     "instructors.judge='follows' chooses what is trained on"),
    ({"instructors__judge": "sound", "evaluation__judges": ("sound",)},
     "instructors.judge='sound' only compares; name a judge that scores single answers"),
    ({"instructors__classify": ""}, "instructors.classify='' tells no kinds apart, and instru"),
    ({"instructors__classify": "nowhere:kind"},
     "instructors.classify='nowhere:kind': nowhere:kind cannot be imported"),
    ({"practice__fold": "sft"}, "practice.fold='sft' with sft.fold='sft': errors on what was"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), instructors.RECIPE)
  assert said in str(error.value)


def test_kinds_that_nobody_asked_for_cannot_be_imitated(tmp_path):
  context = tiny_run.build(config(instructors__taught=("calls 9",)), tmp_path)
  with pytest.raises(
    ValueError, match=r"instructors.taught=\('calls 9',\) leaves no prompt of the"
  ):
    instructors.RECIPE.train(context)


def row(a, b, delta, side, **more):
  counts = {"n": 900, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  about = {"a": a, "b": b, "judge": "right", "domain": side}
  return about | {"delta": delta, "ci95": (delta - 4, delta + 4)} | counts | more


@pytest.mark.parametrize(
  ("gain", "loss", "outcomes"),
  [
    (20.0, -8.0, ["for these models"] * 5 + ["not shown", "for these models"]),
    (-20.0, 20.0, ["opposite"] * 2 + ["for these models"] * 3 + ["not shown", "opposite"]),
  ],
)
def test_claims_are_of_each_domain_by_itself(gain, loss, outcomes):
  inside = [row("le", "augmented", gain, "in"), row("lec", "augmented", gain, "in")]
  inside += [row("le", other, 20.0, "in") for other in ("target", "le_right", "le_shuffled")]
  outside = [row("lec", "le", 1.0, "out"), row("target", "le", loss, "out")]
  decoys = [row("le", "augmented", -90.0, "out"), row("lec", "le", 90.0, "in")]
  results = {"comparisons": [], "systems": {}, "domains": [*inside, *outside, *decoys]}
  with mock.patch.object(page.claims, "remark", lambda results: "so"):
    found, remark = page.said(results)
  assert remark == "so"
  for claim, expected in zip(found, outcomes, strict=True):
    assert expected in claim.outcome, claim.sentence
