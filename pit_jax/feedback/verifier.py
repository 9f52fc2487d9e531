"""A file of right answers as a rater: of two texts it prefers the one that comes to a right one."""

import os

import numpy as np

from pit_jax.data import conversations
from pit_jax.feedback import judges, writers
from pit_jax.tasks import verify

ABSENT = "no right answer in the file"


def rater(
  name: str,
  path: str | os.PathLike,
  form: str,
  *,
  prompt: str = "prompt",
  answer: str = "answer",
) -> judges.Judge:
  """Returns a file of right answers as a rater; see `verify.final` for how answers are found.

  A text is worth 1 if its final answer is right and 0 if not, so two that are both right, or both
  wrong, are a tie. Of a prompt that the file does not have nothing is said.

  Args:
    name: of the rater.
    path: rows, in JSON lines, one JSON list, CSV or Parquet, of a text or messages in the column
      `prompt` and a text in the column `answer`, by the names that these have; several of one
      prompt are all right.
    form: of the answers, one of `verify.FORMS`.
    prompt: name of the column of prompts.
    answer: name of the column of right answers.

  Raises:
    ValueError: it cannot be read, or an answer in it has not this form.
  """
  right = writers.read(path, prompt=prompt, response=answer)
  for asked, answers in right.items():
    for one in answers:
      try:
        verify.check(one, form)
      except ValueError as error:
        raise ValueError(f"{path}: of the prompt {asked[:60]!r}: {error}") from None

  def verdicts(questions, a, b):
    keys = [writers.said_in(conversations.turns(question)) for question in questions]
    failures = {place: ABSENT for place, key in enumerate(keys) if key not in right}
    worth = [
      [np.nan if key not in right else float(verify.is_right(text, right[key], form))
       for key, text in zip(keys, texts, strict=True)]
      for texts in (a, b)
    ]  # fmt: skip
    return judges.Verdicts(np.subtract(*np.array(worth, float)), failures=failures)

  return judges.Judge(name, verdicts, None, judges.EXACT_TIE)
