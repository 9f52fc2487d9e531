"""A run of recipe `instructors` as small as it comes, whose students write letters."""

import json
from unittest import mock

import tiny_run

from pit_jax.feedback import writers
from pit_jax.tasks import kinds, synthetic

SMALL = {
  "data__rows": 260, "evaluation__prompts": 40, "instructors__exercises": 20,
  "practice__batch_size": 8, "practice__steps": tiny_run.STEPS, "instructors__most_failed": 0.0,
}  # fmt: skip
ARMS = ("le", "lec", "augmented", "le_right", "le_shuffled")


def config(**changes):
  return tiny_run.config("instructors", **SMALL | changes)


def writing(knows=("calls 3", "calls 4", "calls 5")):
  """Has students answer right on some kinds of problems, and on the others leave their guess."""
  whole = writers.model

  def model(name, asking, params):
    def answer(asked, *_):
      prompts = [one.turns[0].content for one in asked]
      able = synthetic.STRONG
      others = synthetic.writer_named("hasty", knows=0.0)
      habits = [able if kinds.kind_of(prompt) in knows else others for prompt in prompts]
      rows = zip(prompts, habits, strict=True)
      return writers.Written([[synthetic.letter_to(*row, name)] for row in rows])

    return writers.Writer(whole(name, asking, params).name, answer)

  return mock.patch.object(writers, "model", model)


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]
