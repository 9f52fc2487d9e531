"""Reads questions with or without an answer to improve: one JSON object per line.

A row that cannot be used is yielded with the reason and never ends the reading: whoever improves a
file of a million answers wants to hear of the bad ones at the end, beside the good ones.
"""

import dataclasses
import gzip
import io
from collections.abc import Callable, Iterator
from typing import Any

from pit_jax.data import conversations, files, rows, schemas, values


@dataclasses.dataclass(frozen=True)
class Question:
  """One row of the input."""

  line: int  # where it stands, counted from 1
  fields: dict[str, Any]  # everything the row holds; empty where it is no JSON object
  # x, a text without outer white space or a conversation; "" in a row that cannot be used.
  prompt: conversations.Prompt = ""
  response: str | None = None  # to improve, without outer white space; None when absent or empty
  error: str | None = None  # why the row cannot be used; None when it can


CheckPrompt = Callable[[conversations.Prompt], None]  # raises a values.RowError


def read(stream: io.BufferedReader, check_prompt: CheckPrompt | None = None) -> Iterator[Question]:
  """Yields the rows of a stream of JSON lines, gzipped or not; empty lines do not count as rows.

  `check_prompt` raises a `values.RowError` for a prompt that the models cannot be shown.
  """
  is_gzip = stream.peek(2)[:2] == files.GZIP
  for number, fields in files.json_lines(gzip.GzipFile(fileobj=stream) if is_gzip else stream):
    if isinstance(fields, dict):
      yield check(fields, number, check_prompt)
    else:
      wrong = f"wrong type: a row must be an object, not {type(fields).__name__}"
      is_broken = isinstance(fields, values.RowError)
      yield Question(number, {}, error=str(fields) if is_broken else wrong)


def check(fields: dict[str, Any], number: int, check_prompt: CheckPrompt | None = None) -> Question:
  """Returns the question that a row's fields hold, or what is wrong with them.

  Args:
    fields: `prompt`, a text or a list of messages, perhaps `system`, which is the system's turn
      before it, and, unless the policy is to write the first answer, `response`.
    number: of the row, as whoever asks counts them.
    check_prompt: as for `read`.
  """
  try:
    prompt = rows.read_prompt(schemas.with_system(fields, fields), "prompt")
    if check_prompt is not None:
      check_prompt(prompt)
    response = values.read_optional(fields, "response")
  except values.RowError as error:
    return Question(number, fields, error=str(error))

  return Question(number, fields, prompt, response)
