"""What a run says of its work: lines of at most 80 columns on the standard output of one host."""

import contextlib
import contextvars
import time
from collections.abc import Iterator

from pit_jax import compiling, hosts

WIDTH = 80  # columns of a line
EVERY = 15.0  # seconds of silence after which a piece of work says how far it is
_IS_SHOWN: contextvars.ContextVar[bool] = contextvars.ContextVar("is_shown", default=False)


class _Silence:
  """Since when nobody has said anything."""

  since = time.monotonic()


def say(text: str) -> None:
  """Prints a line, on one host."""
  said()
  if hosts.is_first():
    print(text, flush=True)


def said() -> None:
  """Notes that a line was printed, by whomever: others need not say that the run is alive."""
  _Silence.since = time.monotonic()


@contextlib.contextmanager
def shown() -> Iterator[None]:
  """Within the block, pieces of work say how far they are; elsewhere they are silent."""
  token = _IS_SHOWN.set(True)
  try:
    yield
  finally:
    _IS_SHOWN.reset(token)


class Count:
  """How far a piece of work is, of which the size is known.

  What is left is told by the speed so far, for which seconds of compiling do not count: programs of
  the first parts serve the others.

  Args:
    name: what is done.
    total: how much there is of it.
    unit: of what, in the plural.
  """

  def __init__(self, name: str, total: int, unit: str):
    self._name = name
    self._total = total
    self._unit = unit
    self._done = 0
    self._began = _working()

  def add(self, amount: int) -> None:
    """Notes that so much more is done, and says it if nothing was said for a while."""
    self._done += amount
    now = time.monotonic()
    if not _IS_SHOWN.get() or now - _Silence.since < EVERY or self._done >= self._total:
      return

    left = (_working() - self._began) / self._done * (self._total - self._done)
    done = f"{self._done:,} of {self._total:,} {self._unit}"
    say(joined(f"  {self._name}: {done}", f"about {duration(left)} left"))


def _working() -> float:
  """Returns the seconds of a clock that stands still while programs are compiled."""
  return time.monotonic() - compiling.seconds()


@contextlib.contextmanager
def finished(name: str) -> Iterator[list[str]]:
  """Says after the block how long it took, with what was added to the list that it is given."""
  began = time.monotonic()
  figures: list[str] = []
  yield figures
  if _IS_SHOWN.get():
    say(joined(f"{name}: {duration(time.monotonic() - began)}", *figures))


def joined(text: str, *parts: str) -> str:
  """Returns a line of a text and as many of the parts as have room, in their order."""
  line = text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
  for part in parts:
    if len(line) + len(part) + 2 <= WIDTH:
      line += f"  {part}"
  return line


def duration(seconds: float | int) -> str:
  """Returns a time in the largest unit of which it has several: "42 s", "7 min", "3.4 h"."""
  if seconds < 120:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
