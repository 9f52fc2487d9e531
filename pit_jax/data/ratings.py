"""Answers that were rated one by one, or ranked: of one prompt every two are a preference.

All pairs of answers with different ratings count, as in Ouyang et al. 2022, §3.5.
"""

import itertools
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pit_jax.data import comparisons, dialogues, values


class Answer(NamedTuple):
  """One answer to a prompt."""

  content: Any  # a text, or messages
  rating: float  # more is better
  writer: str | None = None
  place: str = ""  # where it came from, if not with its prompt


def pairs(
  prompt: Any, answers: Sequence[Answer]
) -> Iterator[tuple[str, dict[str, Any] | values.RowError]]:
  """Yields of every two answers the chosen one's place, and a preference or why there is none.

  The prompt is a text, or messages. The margin is the difference of the ratings, which are the
  scores.
  """
  if len(answers) == 1:
    detail = "the prompt has no other answer to compare it with"
    yield answers[0].place, values.LeftOut("only answer", detail)

  for one, other in itertools.combinations(answers, 2):
    if one.rating == other.rating:
      detail = f"two answers to one prompt are both rated {one.rating:g}"
      yield one.place, values.LeftOut("equal ratings", detail)
      continue

    better, worse = (one, other) if one.rating > other.rating else (other, one)
    preference = {
      "prompt": prompt,
      "chosen": better.content,
      "rejected": worse.content,
      "margin": better.rating - worse.rating,
      "score_chosen": better.rating,
      "score_rejected": worse.rating,
      "chosen_generator": better.writer,
      "rejected_generator": worse.writer,
    }

    yield better.place, preference


def of_list(
  fields: Mapping,
  prompt: str,
  answers: str,
  *,
  content: str,
  rating: str,
  writer: str = "model",
  sign: int = 1,
) -> Iterator[dict[str, Any] | values.RowError]:
  """Yields the pairs of a row that lists the answers to its prompt; a bad one spoils itself only.

  Args:
    fields: of the row.
    prompt: the column of the prompt, a text or a dialogue that ends in "Assistant:".
    answers: the column of the list.
    content, rating, writer: fields of each of the list; the writer may be absent.
    sign: 1 where more is better, -1 where less is, as of ranks.
  """
  asked = dialogues.read_prompt(fields, prompt)
  listed = fields[answers]
  if not hasattr(listed, "__len__") or isinstance(listed, str | bytes):
    raise values.wrong_type(answers, "a list", listed)
  readable = []
  wrong = []
  for i, answer in enumerate(values.as_list(listed)):
    place = f"{answers}[{i}]"
    try:
      _check_answer(answer, place, content, rating)
      # Named by their place, so that an error says which answer of the list it means.
      named = {f"{place}.{name}": answer.get(name) for name in (content, rating, writer)}
      text = values.read_text(named, f"{place}.{content}")
      rated = sign * _read_rating(named, f"{place}.{rating}")
      readable.append(Answer(text, rated, values.read_optional(named, f"{place}.{writer}")))
    except values.RowError as error:
      wrong.append(error)

  # Of a row of which nothing can be used one is enough: it is counted as one.
  yield from wrong if readable else wrong[:1]
  yield from (preference for _, preference in pairs(asked, readable))


def _check_answer(answer: Any, place: str, content: str, rating: str) -> None:
  """Raises a `values.RowError` that names all an answer needs where it lacks a part."""
  needed = f"an object with {content!r}, a text, and {rating!r}, a number"
  if not isinstance(answer, Mapping):
    raise values.wrong_type(place, needed, answer)
  absent = [name for name in (content, rating) if answer.get(name) is None]
  if absent:
    there = ", ".join(map(str, answer)) or "none"
    raise values.RowError("missing field", f"{place!r} must be {needed}; its fields are: {there}")


def of_row(
  fields: Mapping, prompt: str, content: str, rating: str, context: str | None = None
) -> tuple[Any, Answer]:
  """Returns the prompt and the answer of a row that rates one answer.

  Prompt and content are the columns of texts or messages; the rating's holds a number or a truth
  value; the context's what belongs to the prompt and may be absent: it follows it.

  Raises a `values.RowError` where one of them is missing or of the wrong type.
  """
  asked = comparisons.read_prompt(fields, prompt, context)
  is_listed = values.is_messages(fields.get(content))
  answer = fields[content] if is_listed else values.read_text(fields, content)
  return asked, Answer(answer, _read_rating(fields, rating))


def of_talk(fields: Mapping, messages: str, rating: str) -> tuple[Any, Answer]:
  """Returns the prompt and the answer of a row that rates the last reply of a conversation.

  Raises:
    values.RowError: one of the two is missing or of the wrong type, or the last messages are not
      the user's and the assistant's.
  """
  if not values.is_messages(fields[messages]):
    raise values.wrong_type(messages, "a list of messages", fields[messages])
  asked, reply = dialogues.split_reply(fields, messages)
  if not asked or asked[-1].role != "user":
    detail = f"{messages!r} must hold a message of the user before the last, the assistant's"
    raise values.RowError("not a conversation", detail)

  return tuple(asked), Answer(reply, _read_rating(fields, rating))


def _read_rating(fields: Mapping, name: str) -> float:
  """Returns a number; false and true, or their names, are 0 and 1."""
  value = fields.get(name)
  truth = {"false": 0.0, "true": 1.0}
  # NumPy's truth values are no numbers of Python.
  if isinstance(value, bool) or not isinstance(value, numbers.Number | str | bytes | None):
    value = str(value)
  if isinstance(value, str) and value.strip().lower() in truth:
    return truth[value.strip().lower()]
  number = values.read_number({**fields, name: value}, name)
  if number is None:
    raise values.RowError("missing field", f"{name!r} holds no rating")

  return number
