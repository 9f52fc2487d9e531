"""What one preference row must be: the checks every source passes through."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pit_jax.data import conversations, values

NUMBERS = ("margin", "label_probability", "pair_weight")  # of a label
# What sources call the same two columns, "{}" being `chosen` or `rejected`.
SIDES = ("chosen", "rejected")
WRITERS = ("{}_generator", "{}_model", "{}-model")
SCORES = ("score_{}", "{}_score", "{}_rating", "rating_{}", "{}-rating", "{}_avg_rating")


@dataclasses.dataclass(frozen=True)
class Preference:
  """A prompt with a preferred and a dispreferred response; what is absent is None."""

  # x, a text without outer white space or a conversation that ends with the user's turn.
  prompt: conversations.Prompt
  chosen: str  # y_w
  rejected: str  # y_l
  response: str | None = None  # a third answer to the prompt, not compared with the two
  margin: float | None = None  # how much better `chosen` is, on the annotators' scale
  position: int | None = None  # where `chosen` stood when the two were judged, 1 or 2
  writers: tuple[str, str] | None = None  # who wrote `chosen` and `rejected`
  scores: tuple[float, float] | None = None  # of `chosen` and `rejected`, more being better
  label_probability: float | None = None  # how likely `chosen` is the better one, in [0, 1]
  pair_weight: float | None = None  # how much the pair counts, at least 0
  place: str = dataclasses.field(default="", compare=False)  # where it came from, for messages


def check(fields: Any, place: str) -> Preference:
  """Returns the preference that a row's fields hold, of a row from a place.

  They are `prompt` (a text, or a conversation as `read_prompt` reads it), `chosen`, `rejected` and
  optionally `response`, those of NUMBERS, `chosen_position`, and columns of WRITERS and SCORES. An
  optional field that is empty is absent, and further ones are ignored.

  Raises:
    values.RowError: a field is missing, empty, of the wrong type or not valid Unicode, or the two
      responses are the same text.
  """
  values.check_row(fields)
  prompt = read_prompt(fields, "prompt")
  chosen = values.read_text(fields, "chosen")
  rejected = values.read_text(fields, "rejected")
  if chosen == rejected:
    raise values.RowError("chosen equals rejected", f"both are {values.shorten(chosen)}")

  return Preference(
    prompt,
    chosen,
    rejected,
    response=values.read_optional(fields, "response"),
    margin=values.read_number(fields, "margin"),
    label_probability=_read_within(fields, "label_probability", 1.0, "a number from 0 to 1"),
    pair_weight=_read_within(fields, "pair_weight", math.inf, "a number of 0 or more"),
    position=_read_position(fields),
    writers=_read_writers(fields),
    scores=_read_scores(fields),
    place=place,
  )


def written(row: Preference) -> dict[str, Any]:
  """Returns a row as `jsonl:` reads it, a conversation as messages; what is not known is absent."""
  is_text = isinstance(row.prompt, str)
  optional = {"response": row.response, "chosen_position": row.position}
  optional |= {name: getattr(row, name) for name in NUMBERS}
  for column, pair in ((WRITERS[0], row.writers), (SCORES[0], row.scores)):
    optional |= {column.format(side): value for side, value in zip(SIDES, pair or (), strict=False)}

  return {
    "prompt": row.prompt if is_text else [turn._asdict() for turn in row.prompt],
    "chosen": row.chosen,
    "rejected": row.rejected,
    **{name: value for name, value in optional.items() if value is not None},
  }


def read_prompt(fields: Mapping, name: str) -> conversations.Prompt:
  """Returns a text (`values.read_text`), or messages that end with the user's (`read_turns`)."""
  is_listed = values.is_messages(fields.get(name))
  return read_turns(fields, name, "user") if is_listed else values.read_text(fields, name)


def read_turns(fields: Mapping, name: str, last: str) -> tuple[conversations.Turn, ...]:
  """Returns the messages of a field, which end with one of the role `last`.

  A message is {"role", "content"} or {"from", "value"}; its content a text, or a list of parts
  {"type": "text", "text"}, which are joined by line breaks, without its outer white space. A
  system's message that says nothing is left out.

  Raises:
    values.RowError: a message is no object with a known role and a text, a system's is not the
      first, the last is another's, or columns of messages differ in length.
  """
  turns = []
  for i, message in enumerate(values.as_list(fields[name])):
    place = f"{name}[{i}]"
    if not isinstance(message, Mapping):
      needed = "must be an object with role and content"
      raise values.RowError("wrong type", f"{name!r}[{i}] {needed}, not {values.describe(message)}")

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

  if not turns or turns[-1].role != last:
    roles = ", ".join(turn.role for turn in turns) or "none"
    needed = f"{name!r} must end with a message of the {last}"
    raise values.RowError("not a conversation", f"{needed}; its roles are: {roles}")

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
      raise values.wrong_type(place, "of type text", part)
    texts.append(values.read_optional({f"{place}.text": part.get("text")}, f"{place}.text"))

  return values.read_text({name: "\n".join(filter(None, texts))}, name)


def _read_within(fields: Mapping, name: str, most: float, needed: str) -> float | None:
  """Returns a number from 0 on; None where it is absent."""
  number = values.read_number(fields, name)
  if number is None or 0 <= number <= most:
    return number
  raise values.wrong_type(name, needed, fields[name])


def _read_position(fields: Mapping) -> int | None:
  position = fields.get("chosen_position")
  if values.is_empty(position):
    return None
  if not isinstance(position, bool) and position in (1, 2, "1", "2"):
    return int(position)
  raise values.wrong_type("chosen_position", "1 or 2", position)


def _read_writers(fields: Mapping) -> tuple[str, str] | None:
  """Returns the first two writers that are both named."""
  for column in WRITERS:
    writers = [values.read_optional(fields, column.format(side)) for side in SIDES]
    if None not in writers:
      return tuple(writers)

  return None


def _read_scores(fields: Mapping) -> tuple[float, float] | None:
  """Returns the first two scores that are both numbers: what else stands there is no score."""
  for column in SCORES:
    try:
      scores = [values.read_number(fields, column.format(side)) for side in SIDES]
    except values.RowError:
      continue

    if None not in scores:
      return tuple(scores)

  return None
