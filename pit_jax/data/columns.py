"""Gives columns the names that a schema has, as in "prompt=frage,chosen=gut,rejected=schlecht".

Renaming comes before a schema is recognised. Nothing is renamed in silence: a column that is not
there, a name that nothing reads and a name that two columns would have are refused.
"""

import collections
import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping

from pit_jax.data import files, published, rows

SYSTEM = ("system", "system_prompt", "system_message")  # columns with what the system says first
HOW = "write it as prompt=COLUMN,chosen=COLUMN,rejected=COLUMN"
LOOKED_AT = 100  # rows in which a column may be absent at first: JSON lines leave optional ones out


def known() -> list[str]:
  """Returns every name under which some schema reads a column."""
  names = ["prompt", *published.PAIR, "response", *rows.NUMBERS, "chosen_position", *SYSTEM]
  names += [column.format(side) for column in (*rows.WRITERS, *rows.SCORES) for side in rows.SIDES]
  for schema in published.SCHEMAS:
    names += [*schema.columns, *schema.optional]
  return list(dict.fromkeys(names))


def parse(text: str) -> dict[str, str]:
  """Returns name → the column that gets it, as `data.columns` says; {} for "".

  Raises:
    ValueError: the text has another form, a name is one that nothing reads, or a name or a column
      is there twice.
  """
  pairs = [part.partition("=") for part in text.split(",") if part.strip()]
  named = [(name.strip(), column.strip()) for name, _, column in pairs]
  for name, column in named:
    if not name or not column:
      raise ValueError(f"data.columns={text!r}; {HOW}")
    if name not in known():
      raise ValueError(
        f"data.columns calls {column!r} {name!r}, which nothing reads{nearest(name)}; {HOW}"
      )

  for place, what in ((0, "name"), (1, "column")):
    counts = collections.Counter(pair[place] for pair in named)
    if twice := [one for one, times in counts.items() if times > 1]:
      raise ValueError(f"data.columns has the {what} {twice[0]!r} twice; {HOW}, each once")
  return dict(named)


def nearest(name: str) -> str:
  """Returns a clause with the known name that another is like; "" where there is none."""
  lower = {one.lower(): one for one in known()}
  near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75)
  return f"; near it is {lower[near[0]]!r}" if near else ""


def renamed(read: Iterable[files.Row], text: str) -> Iterator[files.Row]:
  """Yields rows whose columns have the names that `data.columns` gives them.

  Raises:
    ValueError: as `parse`; and, once rows are read, where none has a column, or one has a column of
      its own under a name that another gets.
  """
  names = parse(text)
  return _renamed(iter(read), names) if names else iter(read)


def _renamed(read: Iterator[files.Row], names: Mapping[str, str]) -> Iterator[files.Row]:
  first = list(_looked_at(read, set(names.values())))
  there = {name for _, fields in first if isinstance(fields, Mapping) for name in fields}
  absent = [column for column in names.values() if column not in there]
  if there and absent:
    raise ValueError(
      f"{first[0][0]}: there is no column {absent[0]!r} to be {_name_of(names, absent[0])!r}; the "
      f"fields are: {', '.join(sorted(map(str, there)))}. Correct data.columns"
    )

  for place, fields in itertools.chain(first, read):
    yield place, _with_names(place, fields, names) if isinstance(fields, Mapping) else fields


def _looked_at(read: Iterator[files.Row], wanted: set[str]) -> Iterator[files.Row]:
  """Yields the first rows, no more than it takes to see every column."""
  for place, fields in itertools.islice(read, LOOKED_AT):
    yield place, fields
    wanted -= fields.keys() if isinstance(fields, Mapping) else set()
    if not wanted:
      return


def _with_names(place: str, fields: Mapping, names: Mapping[str, str]) -> Mapping:
  given = {column: name for name, column in names.items() if column in fields}
  for column, name in given.items():
    if name in fields and name not in given:
      raise ValueError(
        f"{place}: data.columns calls {column!r} {name!r}, and there is a column {name!r} already; "
        "leave one of them out of the file"
      )
  return {given.get(column, column): value for column, value in fields.items()}


def _name_of(names: Mapping[str, str], column: str) -> str:
  return next(name for name, one in names.items() if one == column)
