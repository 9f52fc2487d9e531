"""Turns rows of any published schema into rows with `prompt`, `chosen` and `rejected`.

A schema is recognised by a row's columns, or named. What several schemas fit is refused, and never
guessed.
"""

import collections
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pit_jax.data import (
  columns,
  conversations,
  dialogues,
  files,
  published,
  ratings,
  readings,
  rows,
  values,
)

AUTO = "auto"
SYSTEM = columns.SYSTEM
# Columns that belong to a prompt; where there is one beside them they are not read.
PROMPT_COLUMNS = (
  *("input", "context", "history", "conversation", "conversations", "question", "instruction"),
  *("query", "passage", "document"),
)


class Row(NamedTuple):
  """A row in the one form, or why it has none."""

  place: str  # where it is, in words fit for an error message
  fields: Any  # with `prompt`, `chosen` and `rejected`, yet to be checked; or a RowError
  notes: tuple[str, ...] = ()  # what to know of how it was read; of few kinds, to be counted
  schema: str = ""  # the name of the one that it was read by; "" where it has none


def convert(read_rows: Iterable[files.Row], schema: str = AUTO) -> Iterator[Row]:
  """Yields rows in the one form; rated answers follow at the end, when all of a prompt are there.

  The schema is "auto", or the name of the one that all rows have.

  Raises a ValueError where there is no such schema.
  """
  if schema != AUTO and schema not in published.BY_NAME:
    names = ", ".join([AUTO, *published.BY_NAME])
    raise ValueError(f"data.schema is {schema!r}; use one of {names}")

  return _converted(read_rows, schema)


def _converted(read_rows: Iterable[files.Row], schema: str) -> Iterator[Row]:
  answers: dict[str, list[ratings.Answer]] = collections.defaultdict(list)
  prompts: dict[str, tuple[Any, published.Schema]] = {}
  for place, fields in read_rows:
    fitting = None
    try:
      if isinstance(fields, values.RowError):
        raise fields
      fields = readings.read(fields) if isinstance(fields, Mapping) else fields
      fitting = _choose(fields, schema)

      if fitting.rates_one:
        prompt, answer = fitting.convert(fields)
        # Under another system the same words are another prompt; JSON makes a key of both.
        system = {name: fields[name] for name in SYSTEM if name in fields}
        key = json.dumps([prompt, system], default=str)
        prompts.setdefault(key, ({**system, "prompt": prompt}, fitting))
        answers[key].append(answer._replace(place=place))
      else:
        for made in fitting.convert(fields):
          yield _finish(place, fields, made, fitting, schema)
    except values.RowError as error:
      yield Row(place, error if fitting is None else _told(error, fitting, schema))

  for key, (asked, fitting) in prompts.items():
    for place, made in ratings.pairs(asked["prompt"], answers[key]):
      yield _finish(place, asked, made, fitting, schema)


def _choose(fields: Any, schema: str) -> published.Schema:
  """Returns the schema of a row; a RowError where it has not the columns of one alone."""
  values.check_row(fields)
  if schema != AUTO:
    return _named(fields, published.BY_NAME[schema])
  if _is_standard(fields):
    return published.STANDARD
  others = [one for one in published.SCHEMAS if one.is_detected and one is not published.STANDARD]
  fitting = [one for one in others if _fits(fields, one)]

  if len(fitting) == 1:
    return fitting[0]
  if fitting:
    names = " or ".join(one.name for one in fitting)
    raise values.RowError(
      "schema unclear", f"it may be {names}; name one as data.schema. The {_listed(fields)}"
    )

  if {"chosen", "rejected"} & fields.keys():
    return published.STANDARD
  raise values.RowError("unknown schema", f"{_likely(fields)}. The {_listed(fields)}")


def _named(fields: Mapping, schema: published.Schema) -> published.Schema:
  absent = [column for column in schema.columns if column not in fields]
  if absent:
    raise values.RowError(
      "missing field", f"{schema.name} has {', '.join(absent)} too; the {_listed(fields)}"
    )

  return schema


def _is_standard(fields: Mapping) -> bool:
  """Returns whether a row has `chosen` and `rejected` and needs no other column for its prompt."""
  if not fields.keys() >= set(published.PAIR):
    return False
  is_asked = not values.is_empty(fields.get("prompt"))
  return is_asked or all(dialogues.is_whole(fields[name]) for name in published.PAIR)


def _fits(fields: Mapping, schema: published.Schema) -> bool:
  """Returns whether a row has a schema's columns; beside a bare pair the prompt must hold a text.

  An instruction is asked before its input, which is a part of it.
  """
  if not fields.keys() >= set(schema.columns):
    return False
  if not set(published.PAIR) <= set(schema.columns):
    return True
  is_part = schema.name == "input" and not values.is_empty(fields.get("instruction"))
  return not is_part and not values.is_empty(fields[schema.columns[0]])


def _likely(fields: Mapping) -> str:
  """Says what a row of no known schema may be, and what to do."""
  for needed, advice in published.UNREADABLE.items():
    if fields.keys() >= set(needed):
      return f"these look like {advice}"

  def share(schema):
    return len(fields.keys() & set(schema.columns)) / len(schema.columns)

  likeliest = max(published.SCHEMAS, key=share)
  if share(likeliest) == 1:  # one that is read where it is named alone
    return f"these are rows of {likeliest.name}; name it as data.schema={likeliest.name}"
  if share(likeliest) > 0.5:
    absent = ", ".join(column for column in likeliest.columns if column not in fields)
    return f"it looks like {likeliest.name}, without {absent}"

  known = columns.known()
  hints = {name: columns.nearest(name) for name in map(str, fields) if name not in known}
  mistyped = [f"{name!r} is read by no schema{near}. " for name, near in hints.items() if near]
  return (
    f"{''.join(mistyped[:1])}rows need prompt, chosen and rejected, or the columns of a published "
    "shape (docs: Accepted fields). Say what yours are called, by --config.data.columns="
    "prompt=COLUMN,chosen=COLUMN,rejected=COLUMN (pit doctor: --columns=…, Python: columns=…), or "
    "rename them in the file"
  )


def _listed(fields: Mapping) -> str:
  return f"fields are: {', '.join(map(str, fields)) or 'none'}"


def _finish(
  place: str, fields: Mapping, made: published.Made, schema: published.Schema, named: str
) -> Row:
  """Returns a preference with what else its row holds, its messages and system taken apart."""
  if isinstance(made, values.RowError):
    return Row(place, _told(made, schema, named))
  used = {*schema.columns, *schema.optional, *SYSTEM}
  rest = {name: value for name, value in fields.items() if name not in used}
  notes = [schema.remark] if schema.remark and named == AUTO else []

  try:
    row, reply_notes = dialogues.split_messages({**rest, **made})
    if isinstance(row.get("prompt"), tuple):  # a conversation that was read
      row["prompt"] = conversations.messages(row["prompt"])
    row = with_system(row, fields)
  except values.RowError as error:
    return Row(place, error)

  notes += reply_notes
  notes += [
    f"the column {name!r} beside the prompt is not read"
    for name in PROMPT_COLUMNS
    if name in rest and not _is_told(rest[name], row)
  ]

  return Row(place, row, tuple(notes), schema.name)


def _told(error: values.RowError, schema: published.Schema, named: str) -> values.RowError:
  """Returns an error that says by which schema the row was read, where that was recognised."""
  is_said = named != AUTO or schema is published.STANDARD
  return error if is_said else type(error)(error.reason, f"{error.detail} (read as {schema.name})")


def with_system(row: Mapping, fields: Mapping) -> Mapping:
  """Returns a row whose prompt begins with the system's turn that a column of SYSTEM holds.

  Raises a `values.RowError` where the prompt begins with another such turn, or two columns differ.
  """
  texts = (values.read_optional(fields, name) for name in SYSTEM)
  systems = list(dict.fromkeys(filter(None, texts)))
  if not systems:
    return row
  turns = list(conversations.turns(rows.read_prompt(row, "prompt")))
  if turns[0].role == "system":
    systems = list(dict.fromkeys([*systems, turns.pop(0).content]))

  if len(systems) > 1:
    quoted = " and ".join(values.shorten(text) for text in systems)
    raise values.RowError("two systems", f"the system says {quoted}; leave one out")

  system = conversations.Turn("system", systems[0])
  return {**row, "prompt": conversations.messages([system, *turns])}


def _is_told(value: Any, row: Mapping) -> bool:
  """Returns whether all texts of a value stand in the row as it is read."""
  shown = " ".join(_texts([row.get(name) for name in ("prompt", "chosen", "rejected")]))
  return all(text in shown for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
  """Yields all texts inside a value that hold anything; of a message, what is said alone."""
  if isinstance(value, str | bytes):
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if text.strip():
      yield text.strip()
  elif isinstance(value, Mapping):
    names = next((names for names in values.MESSAGES if value.keys() >= set(names)), None)
    yield from _texts(value[names[1]] if names else list(value.values()))
  elif values.is_messages(value):
    for one in value:
      yield from _texts(one)
