"""Reads questions with or without an answer to improve: one JSON object per line.

A row that cannot be used is yielded with the reason and never ends the reading: whoever improves a
file of a million answers wants to hear of the bad ones at the end, beside the good ones.
"""

import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from pit_jax.data import conversations, rows, schemas, values


@dataclasses.dataclass(frozen=True)
class Question:
  """One row of the input.

  Attributes:
    line: where it stands, counted from 1.
    fields: everything the row holds; empty where it is no JSON object.
    prompt: x, a text without outer white space or a conversation; "" in a row that cannot be used.
    response: the answer to improve, without outer white space; None when absent or empty.
    error: why the row cannot be used; None when it can.
  """

  line: int
  fields: dict[str, Any]
  prompt: conversations.Prompt = ""
  response: str | None = None
  error: str | None = None


CheckPrompt = Callable[[conversations.Prompt], None]  # raises a values.RowError


def read(stream: io.BufferedReader, check_prompt: CheckPrompt | None = None) -> Iterator[Question]:
  """Yields the rows of a stream of JSON lines, gzipped or not; empty lines do not count as rows.

  Args:
    stream: a file opened for reading bytes, or the standard input's buffer.
    check_prompt: raises a `values.RowError` for a prompt that the models cannot be shown.
  """
  number = 0
  is_gzip = stream.peek(2)[:2] == b"\x1f\x8b"
  lines = gzip.GzipFile(fileobj=stream) if is_gzip else stream

  try:
    for number, line in enumerate(lines, start=1):
      if line.strip():
        yield parse(line, number, check_prompt)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    detail = f"truncated gzip: the compressed data end here ({error})"
    yield Question(number + 1, {}, error=detail)


def parse(line: bytes, number: int, check_prompt: CheckPrompt | None = None) -> Question:
  """Returns the question that one line holds, or what is wrong with it."""
  try:
    # A byte order mark may stand before the first row only.
    fields = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
  except UnicodeDecodeError as error:
    return Question(number, {}, error=f"invalid UTF-8: {error}")
  except (ValueError, RecursionError) as error:
    return Question(number, {}, error=f"broken JSON: {error}")

  if not isinstance(fields, dict):
    kind = type(fields).__name__
    return Question(number, {}, error=f"wrong type: a row must be an object, not {kind}")

  return check(fields, number, check_prompt)


def check(fields: dict[str, Any], number: int, check_prompt: CheckPrompt | None = None) -> Question:
  """Returns the question that a row's fields hold, or what is wrong with them.

  Args:
    fields: `prompt`, a text or a list of messages, perhaps `system`, which is the system's turn
      before it, and, unless the policy is to write the first answer, `response`.
    number: the row's line, counted from 1.
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
