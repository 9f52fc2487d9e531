"""Rows that a run makes for itself: references, samples, texts of teachers, labels, pairs.

They are written once and whole below WORKDIR, and read back when the run goes on. What is trained
on them depends on their content: their hash enters the metadata of its checkpoints, so that a
stage whose rows were changed is refused.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pit_jax import hosts
from pit_jax.run import context as contexts
from pit_jax.run import workdirs
from pit_jax.storage import places


@dataclasses.dataclass(frozen=True)
class MadeRows:
  """Rows of a run's own making, as they lie on disk."""

  name: str  # of their file below the workdir, without its ending
  rows: list[dict[str, Any]]  # as JSON holds them
  hash: str  # a sha256 (16 hex digits) of the file

  def column(self, name: str) -> list[Any]:
    """Returns one field of every row."""
    return [row[name] for row in self.rows]


def is_made(context: contexts.Context, name: str, *, is_list: bool = False) -> bool:
  """Returns whether the rows of a name are there; see `once`."""
  return hosts.agree(_path(context, name, is_list).exists())


def _path(context: contexts.Context, name: str, is_list: bool) -> pathlib.Path:
  return context.workdir / f"{name}{'.json' if is_list else '.jsonl'}"


def once(
  context: contexts.Context,
  name: str,
  make: Callable[[], Iterable[Mapping[str, Any]]],
  *,
  is_list: bool = False,
) -> MadeRows:
  """Returns the rows of a name, which are made and written first if they are not there.

  "rows/labels" lie in WORKDIR/rows/labels.jsonl, or, where they are to be one JSON list, as others'
  programs want it, in WORKDIR/rows/labels.json. All hosts make them together; the first writes.

  Raises:
    ValueError: what lies there is no file of rows.
  """
  path = _path(context, name, is_list)
  if not is_made(context, name, is_list=is_list):
    lines = [json.dumps(dict(row)) for row in make()]
    whole = "[\n" + ",\n".join(lines) + "\n]\n"
    workdirs.write_text(path, whole if is_list else "".join(f"{line}\n" for line in lines))

  # Read back even if just written: a run that goes on must see the very same values.
  content = path.read_bytes()
  try:
    rows = json.loads(content) if is_list else [json.loads(line) for line in content.splitlines()]
  except ValueError as error:
    raise ValueError(
      f"{places.address(path)} is damaged ({error}); remove it, and it is made again"
    ) from error

  return MadeRows(name, rows, hashlib.sha256(content).hexdigest()[:16])


def check_of(made: MadeRows, wanted: Sequence[Mapping[str, Any]], what: str) -> None:
  """Raises a ValueError for rows that are not of these texts, in their order.

  Args:
    made: the rows.
    wanted: what each of them has to say in the fields that are named, as JSON holds it.
    what: they are, and of what else, in words: "completions of other prompts".
  """
  told = zip(wanted, made.rows, strict=False)
  if len(made.rows) != len(wanted) or any(
    {key: row.get(key) for key in one} != dict(one) for one, row in told
  ):
    raise ValueError(f"{made.name}.jsonl holds {what}; remove it, and they are made again")


def depending(context: contexts.Context, *made: MadeRows) -> contexts.Context:
  """Returns the context of stages that are trained on rows: their checkpoints know the hashes."""
  hashes = {one.name: one.hash for one in made}
  return dataclasses.replace(context, made_rows={**context.made_rows, **hashes})
