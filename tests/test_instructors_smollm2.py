"""A real chat model learns from exercises that an endpoint writes from its own errors."""

import math
import random
import re

import chat_teacher
import pytest
import smollm2
import tiny_run

from pit_jax.feedback import endpoint, exercises
from pit_jax.recipes import instructors
from pit_jax.recipes.instructors import measures

pytestmark = pytest.mark.slow

ASKED = "What is {} {} {}? Answer with the number alone."
SUMS = [ASKED.format(a, "+", b) for a, b in zip(range(2, 9), range(3, 10), strict=True)]
PRODUCTS = [ASKED.format(a, "*", b) for a in range(13, 18) for b in (27, 38, 46)]
UNSURE = "I am not sure."


def worth(question):
  """Returns the right answer to a question."""
  a, sign, b = re.search(r"(\d+) ([+*]) (\d+)\?", question).groups()
  return int(a) + int(b) if sign == "+" else int(a) * int(b)


def kind_of(question):
  return "products" if "*" in question else "sums"


def right_answers(questions, answers):
  """Scores 1 where the last number is right."""
  said = [re.findall(r"\d+", answer) for answer in answers]
  rows = zip(questions, said, strict=True)
  return [float(bool(found) and int(found[-1]) == worth(question)) for question, found in rows]


def reply(contents, _):
  """Returns like problems with other numbers; every fifth reply has none."""
  request = exercises.read(contents[-1])
  rng = random.Random(request.question)
  a, sign, b = re.search(r"(\d+) ([+*]) (\d+)", request.question).groups()
  made = []
  for _ in range(request.count):
    numbers = [str(rng.randrange(10 ** (len(one) - 1) + 1, 10 ** len(one))) for one in (a, b)]
    question = ASKED.format(numbers[0], sign, numbers[1])
    made.append((question, f"{numbers[0]} {sign} {numbers[1]} = {worth(question)}"))
  return UNSURE if rng.random() < 0.2 else f"Here you are.\n\n{exercises.write(made)}"


def configured(folder, url):
  answers = {question: str(worth(question)) for question in SUMS + PRODUCTS}
  source = chat_teacher.source(folder, chat_teacher.problems(answers))
  return tiny_run.config(
    "instructors", "smollm2_135m_smoke", model__base=str(smollm2.directory()), model__lora__rank=4,
    data__source=source, data__rows=None, data__validation=0.1, data__length_buckets=False,
    data__max_prompt_length=64, data__max_response_length=24, temperature=0.0,
    practice__steps=2, instructors__classify=f"{__name__}:kind_of",
    instructors__writing_temperature=0.0, instructors__temperature=0.0, evaluation__prompts=6,
    feedback__writers__instructor__base_url=url,
    feedback__raters__sound__path=source.removeprefix("jsonl:"),
  )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_smollm2_learns_from_its_errors_and_no_request_is_paid_twice(tmp_path, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, "none")
  with chat_teacher.replying(reply) as server:
    context = tiny_run.build(configured(tmp_path, server.url), tmp_path / "run")
    study = instructors.RECIPE.train(context)
    paid = len(server.bodies)
    again = instructors.RECIPE.train(tiny_run.build(context.config, tmp_path / "run"))
    assert len(server.bodies) == paid
  assert [*study.policies] == [*again.policies] == ["target", "le", "lec", "augmented", "le_right"]

  answered = study.answered["target"]
  assert answered.places(0) and answered.places(1)
  shown = [exercises.read(body["messages"][-1]["content"]) for body in server.bodies]
  # It can add, mostly, and cannot multiply.
  failed = [kind_of(one.question) for one in shown if one.is_right is False]
  assert failed.count("products") > failed.count("sums")
  assert any(len(one.solved) == 2 for one in shown)
  held_out = {row.prompt for row in context.rows.folds["held_out"]}
  assert not held_out & {text for one in shown for text in (one.question, *one.solved)}

  finished = instructors.of_run(context, study)
  told = measures.measure_lessons(finished)["lessons"]
  outcomes = {row["arm"]: row["outcomes"] for row in told}
  assert all(row["trained on"] == 12 for row in outcomes.values())
  assert any(exercises.NO_EXERCISE in row for row in outcomes.values())
  by_kind = measures.measure_kinds(finished)
  assert {row["kind"] for row in by_kind["kinds"]} <= {"sums", "products", "in", "out"}
  assert all(math.isfinite(row["right"]) for row in by_kind["kinds"])
  learnt = study.policies["le"].facts
  assert learnt["steps"] == 2 and math.isfinite(learnt["validation/loss"])
