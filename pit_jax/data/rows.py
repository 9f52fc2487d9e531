"""What one preference row must be: the checks every source passes through."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pit_jax.data import conversations, values

# What sources call the same two columns, of `chosen` and of `rejected`.
WRITERS = (
  ("chosen_generator", "rejected_generator"),
  ("chosen_model", "rejected_model"),
  ("chosen-model", "rejected-model"),
)
SCORES = (
  ("score_chosen", "score_rejected"),
  ("chosen_score", "rejected_score"),
  ("chosen_rating", "rejected_rating"),
  ("rating_chosen", "rating_rejected"),
  ("chosen-rating", "rejected-rating"),
  ("chosen_avg_rating", "rejected_avg_rating"),
)


@dataclasses.dataclass(frozen=True)
class Preference:
  """A prompt with a preferred and a dispreferred response.

  Attributes:
    prompt: x, a text without outer white space or a conversation that ends with the user's turn.
    chosen: y_w.
    rejected: y_l.
    response: a third answer to the prompt, not compared with the two; None when absent.
    margin: how much better `chosen` is than `rejected`, on the annotators' scale; None when absent.
    position: where `chosen` stood when the two were judged, 1 or 2; None when absent.
    writers: who wrote `chosen` and `rejected`; None when absent.
    scores: what the annotators gave `chosen` and `rejected`, more being better; None when absent.
    place: where the row came from, for messages.
  """

  prompt: conversations.Prompt
  chosen: str
  rejected: str
  response: str | None = None
  margin: float | None = None
  position: int | None = None
  writers: tuple[str, str] | None = None
  scores: tuple[float, float] | None = None
  place: str = dataclasses.field(default="", compare=False)


def check(fields: Any, place: str) -> Preference:
  """Returns the preference that a row's fields hold.

  Args:
    fields: a mapping with `prompt` (a text, or a conversation as `read_prompt` reads it), `chosen`,
      `rejected` and optionally `response`, `margin`, `chosen_position`, and columns of WRITERS and
      SCORES; an optional field that is empty is absent, and further ones are ignored.
    place: where the row came from.

  Raises:
    values.RowError: a field is missing, empty, of the wrong type or not valid Unicode, or the two
      responses are the same text.
  """
  if not isinstance(fields, Mapping):
    detail = f"a row must be an object with fields, not {values.describe(fields)}"
    raise values.RowError("wrong type", detail)

  prompt = read_prompt(fields, "prompt")
  chosen = values.read_text(fields, "chosen")
  rejected = values.read_text(fields, "rejected")
  if chosen == rejected:
    raise values.RowError("chosen equals rejected", f"both are {values.shorten(chosen)}")

  return Preference(
    prompt,
    chosen,
    rejected,
    values.read_optional(fields, "response"),
    values.read_number(fields, "margin"),
    _read_position(fields),
    _read_writers(fields),
    _read_scores(fields),
    place,
  )


def written(row: Preference) -> dict[str, Any]:
  """Returns a row as `jsonl:` reads it, a conversation as messages; what is not known is absent."""
  is_text = isinstance(row.prompt, str)
  optional = {"response": row.response, "margin": row.margin, "chosen_position": row.position}
  optional |= zip(WRITERS[0], row.writers or (), strict=False)
  optional |= zip(SCORES[0], row.scores or (), strict=False)

  return {
    "prompt": row.prompt if is_text else [turn._asdict() for turn in row.prompt],
    "chosen": row.chosen,
    "rejected": row.rejected,
    **{name: value for name, value in optional.items() if value is not None},
  }


def read_prompt(fields: Mapping, name: str) -> conversations.Prompt:
  """Returns a text field, or a field that is a list of messages, as `read_turns` reads them.

  Raises:
    values.RowError: as `read_text` and `read_turns`, or the last message is not the user's.
  """
  if not values.is_messages(fields.get(name)):
    return values.read_text(fields, name)
  turns = read_turns(fields, name)

  if not turns or turns[-1].role != "user":
    roles = ", ".join(turn.role for turn in turns) or "none"
    raise values.RowError(
      "not a conversation", f"{name!r} must end with a message of the user; its roles are: {roles}"
    )

  return turns


def read_turns(fields: Mapping, name: str) -> tuple[conversations.Turn, ...]:
  """Returns the messages of a field, each content without its outer white space.

  A message is {"role", "content"} or {"from", "value"}; its content a text, or a list of parts
  {"type": "text", "text"}, which are joined by line breaks. A system's message that says nothing is
  left out.

  Raises:
    values.RowError: a message is no object with a known role and a text, a system's is not the
      first, or columns of messages differ in length.
  """
  turns = []
  for i, message in enumerate(values.as_list(fields[name])):
    place = f"{name}[{i}]"
    if not isinstance(message, Mapping):
      detail = (
        f"{name!r}[{i}] must be an object with role and content, not {values.describe(message)}"
      )
      raise values.RowError("wrong type", detail)

    names = values.MESSAGES[1] if "from" in message else values.MESSAGES[0]
    inside = {f"{place}.{field}": message.get(field) for field in names}
    # The keys, which tell errors the place: of the role and of the content.
    named, content = inside
    role = conversations.ROLES.get(values.read_text(inside, named))

    if role is None or (role == "system" and i > 0):
      raise values.RowError(
        "not a conversation",
        f"{name!r}[{i}] has the role {inside[named]!r}; known are "
        f"{', '.join(conversations.ROLES)}, and the system's is at the beginning only",
      )

    if role == "system" and values.is_empty(inside[content]):
      continue
    turns.append(conversations.Turn(role, _read_content(inside, content)))

  return tuple(turns)


def _read_content(fields: Mapping, name: str) -> str:
  """Returns a message's text, or the texts of its parts."""
  value = fields[name]
  are_columns = isinstance(value, Mapping) and value.keys() >= {"type", "text"}
  if not (are_columns or values.is_messages(value)):
    return values.read_text(fields, name)
  texts = []

  for i, part in enumerate(values.as_list(value)):
    place = f"{name}[{i}]"
    if not isinstance(part, Mapping) or values.read_optional(part, "type") != "text":
      detail = f"{place!r} must be of type text, not {values.describe(part)}"
      raise values.RowError("wrong type", detail)

    texts.append(values.read_optional({f"{place}.text": part.get("text")}, f"{place}.text"))

  return values.read_text({name: "\n".join(filter(None, texts))}, name)


def _read_position(fields: Mapping) -> int | None:
  position = fields.get("chosen_position")
  if values.is_empty(position):
    return None

  if isinstance(position, bool) or position not in (1, 2, "1", "2"):
    detail = f"'chosen_position' must be 1 or 2, not {values.describe(position)}"
    raise values.RowError("wrong type", detail)

  return int(position)


def _read_writers(fields: Mapping) -> tuple[str, str] | None:
  """Returns the first two writers that are both named."""
  for names in WRITERS:
    writers = [values.read_optional(fields, name) for name in names]
    if None not in writers:
      return tuple(writers)

  return None


def _read_scores(fields: Mapping) -> tuple[float, float] | None:
  """Returns the first two scores that are both numbers: what else stands there is no score."""
  for names in SCORES:
    try:
      scores = [values.read_number(fields, name) for name in names]
    except values.RowError:
      continue

    if None not in scores:
      return tuple(scores)

  return None
