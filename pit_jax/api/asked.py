"""What a finished run is asked by a Python program, checked before the models see it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax import arguments
from pit_jax.data import questions, values
from pit_jax.rollout import inference

# A text, or messages {"role", "content"} of which the last one is the user's.
Prompt = str | Sequence[Mapping[str, str]]


def sizes(mesh: Any) -> tuple[int, ...]:
  """Returns the sizes of a mesh; raises a ValueError where they are none."""
  try:
    return tuple(
      arguments.whole("mesh", size, -1) for size in arguments.several("mesh", mesh, "size")
    )
  except ValueError as error:
    problem = f"mesh={mesh!r}; give the sizes of data, fsdp and tensor, such as (-1, 1, 1)"
    raise ValueError(problem) from error


def texts(**columns: Any) -> dict[str, list]:
  """Returns name → texts as lists; raises a ValueError where one is none, such as a text itself."""
  return {name: arguments.several(f"{name}s", column, "text") for name, column in columns.items()}


def check(
  asking: inference.Inference | None,
  prompts: Sequence[Prompt],
  columns: Mapping[str, Sequence[Any]],
  *,
  optional: bool = False,
) -> list[questions.Question]:
  """Returns the rows of a call as the models take them; the first of the texts as `response`.

  Args:
    asking: who is asked, whose template has to be able to show the prompts; None: anything can.
    prompts: x.
    columns: name → one text per prompt; see `texts`.
    optional: whether a text may be None.

  Raises:
    ValueError: a row cannot be used; the message names it by its place, counted from 0.
  """
  asked = arguments.several("prompts", prompts, "prompt")
  if asked and all(map(values.is_message, asked)):
    raise ValueError("prompts is one conversation; give a list of prompts, such as [conversation]")
  for name, column in columns.items():
    if len(column) != len(asked):
      raise ValueError(
        f"there are {len(asked)} prompts and {len(column)} {name}s; give one for each"
      )

  checked = []
  for row, prompt in enumerate(asked):
    if isinstance(prompt, Mapping) and "prompt" in prompt:
      raise ValueError(
        f"row {row}: a prompt is a text or messages, and this is a row with fields; give "
        'prompts=[row["prompt"] for row in rows], and what else is asked for in the same way'
      )
    given = [_text(column[row], name, row, optional) for name, column in columns.items()]
    if isinstance(prompt, Mapping) or not (
      isinstance(prompt, str | bytes) or values.is_messages(prompt)
    ):
      raise ValueError(f"row {row}: a prompt must be a text or a list of messages, not {prompt!r}")

    fields = {"prompt": prompt, "response": given[0] if given else None}
    question = questions.check(fields, row, asking.check_prompt if asking else None)
    if question.error is not None:
      raise ValueError(f"row {row}: {question.error}")
    checked.append(question)

  return checked


def _text(value: Any, name: str, row: int, optional: bool) -> str | None:
  """Returns a text of a call; raises a ValueError for what is none."""
  is_empty = values.is_empty(value) and not isinstance(value, bytes)
  if is_empty and optional:
    return None
  if not isinstance(value, str):
    raise ValueError(f"row {row}: the {name} must be a text, not {values.describe(value)}")
  if is_empty:
    raise ValueError(f"row {row}: the {name} is empty")
  try:
    return values.read_text({name: value}, name)
  except values.RowError as error:
    raise ValueError(f"row {row}: {error}") from error
