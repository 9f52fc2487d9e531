"""Several files of rows that one writer writes, nothing being learnt between: asked in one pass."""

import functools
from collections.abc import Callable, Mapping

from pit_jax.feedback import writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows


def together(
  context: contexts.Context, writer: writers.Writer, requests: Mapping[str, writers.Request]
) -> Callable[[str], writers.Written]:
  """Returns name → what the writer writes for the rows of this name, WORKDIR/rows/NAME.jsonl.

  All that is not made yet is asked in one pass as soon as any of it is wanted.

  Args:
    context: of the run.
    writer: who is asked.
    requests: what for each file of rows.
  """

  @functools.cache
  def written() -> dict[str, writers.Written]:
    absent = {name: one for name, one in requests.items()
              if not made_rows.is_made(context, f"rows/{name}")}  # fmt: skip
    return dict(zip(absent, writer.write_all([*absent.values()]), strict=True))

  return lambda name: written()[name]
