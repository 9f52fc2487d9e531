"""Files of rows that writers write, nothing being learnt between: each writer asked in one pass."""

import collections
import concurrent.futures
import contextvars
import functools
from collections.abc import Callable, Mapping, Sequence

from pit_jax import hosts
from pit_jax.feedback import writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows

Requests = Mapping[str, writers.Request]  # by file of rows


def together(
  context: contexts.Context, passes: Sequence[tuple[writers.Writer, Requests]]
) -> list[Callable[[str], writers.Written]]:
  """Returns of each writer name → what it writes for the rows of this name.

  These are to lie in WORKDIR/rows/NAME.jsonl. All of a writer's that is not made yet is asked in
  one pass as soon as any of it is wanted, and the writers behind endpoints are at work at the same
  time. Others, such as a model of this run, are asked alone.

  Args:
    context: of the run.
    passes: who is asked what.

  Raises, where it is wanted:
    ValueError: a writer cannot be asked. The others are stopped; what they had replied is kept.
  """
  # Several hosts agree on replies in one order, which threads do not keep.
  at_once = tuple(
    place for place, (writer, _) in enumerate(passes) if writer.behind and hosts.is_alone()
  )

  @functools.cache
  def written(places: tuple[int, ...]) -> dict[int, dict[str, writers.Written]]:
    absent = {}
    for place in places:
      writer, requests = passes[place]
      names = [name for name in requests if not made_rows.is_made(context, f"rows/{name}")]
      absent[place] = (writer, {name: requests[name] for name in names})
    return _asked(absent)

  def written_by(place: int, name: str) -> writers.Written:
    return written(at_once if place in at_once else (place,))[place][name]

  return [functools.partial(written_by, place) for place in range(len(passes))]


def _asked(
  passes: Mapping[int, tuple[writers.Writer, Requests]],
) -> dict[int, dict[str, writers.Written]]:
  """Returns what each writer writes, by name; a thread asks those that are one model."""
  found = {}

  def ask(places: Sequence[int]) -> None:
    for place in places:
      writer, requests = passes[place]
      found[place] = dict(zip(requests, writer.write_all([*requests.values()]), strict=True))

  by_model = collections.defaultdict(list)
  for place, (writer, _) in passes.items():
    by_model[writer.behind].append(place)
  if len(by_model) == 1:
    ask([*passes])
    return found

  with concurrent.futures.ThreadPoolExecutor(len(by_model)) as pool:
    # A thread says as much of its progress as this one would.
    asking = [
      pool.submit(contextvars.copy_context().run, ask, places) for places in by_model.values()
    ]
    try:
      for done in concurrent.futures.as_completed(asking):
        done.result()
    except BaseException:  # nobody wants the rest
      for writer, _ in passes.values():
        writer.stop()
      raise
  return found
