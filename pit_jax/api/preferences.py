"""Preference rows in a Python program's own hands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pit_jax import arguments
from pit_jax.data import columns as naming
from pit_jax.data import preferences as preference_data
from pit_jax.data import rows as data_rows
from pit_jax.data import schemas, sources
from pit_jax.run import workdirs


class Preferences:
  """Preference rows in a program's own hands, checked as those of a file are.

  Attributes:
    rows: what can be trained on.
    skipped: reason → how many rows cannot.
  """

  def __init__(
    self,
    rows: Iterable[Mapping[str, Any]],
    *,
    schema: str = schemas.AUTO,
    columns: str = "",
    source: str = "rows",
  ):
    """Checks rows; those that cannot be used are left out, counted and logged.

    Args:
      rows: a list of mappings, a `datasets.Dataset`, or any other iterable of mappings: `prompt` (a
        text, or messages), `chosen` and `rejected`, or the columns of another published schema.
      schema: the name of the one that all rows have; "auto" goes by the columns.
      columns: what its columns are called in a schema's words, such as
        "prompt=frage,chosen=gut,rejected=schlecht".
      source: what to call the rows in messages.

    Raises:
      ValueError: none can be used, the schema is not known, the columns are not there, or a file's
        name was given for rows.
    """
    _check_rows(rows)
    numbered = ((f"{source}, row {i}", fields) for i, fields in enumerate(rows, start=1))
    read = schemas.convert(naming.renamed(numbered, columns), schema)
    self._hold(preference_data.gather(source, read, on_bad_row="skip"))

  @classmethod
  def read(
    cls,
    source: str,
    *,
    limit: int | None = None,
    schema: str = schemas.AUTO,
    columns: str = "",
  ) -> Preferences:
    """Returns the rows of a source as `data.source` names it, such as "jsonl:mine.jsonl".

    Args:
      source: a file, a data set of a hub, or the embedded task; see `sources.read`.
      limit: the most usable rows to take, from the beginning; None for all.
      schema, columns: as above.

    Raises:
      ValueError: the source is not known, or none of its rows can be used.
    """
    if not isinstance(source, str):
      file = os.fspath(source) if isinstance(source, os.PathLike) else "my.jsonl"
      such_as = f"jsonl:{file}"
      raise ValueError(f"source={source!r}; give it as data.source names it, such as {such_as!r}")
    if limit is not None:
      arguments.whole("limit", limit, 1)

    read = cls.__new__(cls)
    given = {"limit": limit, "schema": schema, "columns": columns}
    read._hold(preference_data.load(source, on_bad_row="skip", **given))
    return read

  def _hold(self, loaded: preference_data.PreferenceSet) -> None:
    self.rows = loaded.rows
    self.skipped = loaded.skipped

  def __len__(self) -> int:
    return len(self.rows)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the rows as JSON lines, which `data.source=jsonl:PATH` reads; replaces a file.

    Raises:
      ValueError: there can be no such file.
    """
    file = arguments.output("path", arguments.place("path", path, "rows.jsonl"))
    lines = (json.dumps(data_rows.written(row), ensure_ascii=False) + "\n" for row in self.rows)
    workdirs.write_text(file, "".join(lines))


def _check_rows(rows: Any) -> None:
  """Refuses what is no list of rows, with what to give in its place.

  Raises:
    ValueError: it is none.
  """
  if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
    raise ValueError("rows is a table; give its rows, as by rows.to_dict('records')")
  if isinstance(rows, Mapping):
    keys = ", ".join(map(str, rows))[:60]
    problem = f"rows is {type(rows).__name__} with {keys}"
    raise ValueError(f"{problem}; give a list of rows, or one split of a data set, such as train")
  if isinstance(rows, str | os.PathLike):
    raise ValueError(
      f"rows={os.fspath(rows)!r} names a file, and rows are mappings; read it by "
      f'Preferences.read("{sources.named(os.fspath(rows))}")'
    )
  if isinstance(rows, bytes) or not hasattr(rows, "__iter__"):
    raise ValueError(f"rows={rows!r}; give a list of mappings")
