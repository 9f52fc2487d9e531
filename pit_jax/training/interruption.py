"""A machine that is about to be taken away says so by SIGTERM; a run then saves and stops."""

import contextlib
import contextvars
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

CODE = 128 + signal.SIGTERM  # of a process that was stopped in good order
_STOP: contextvars.ContextVar[int | None] = contextvars.ContextVar("stop", default=None)
_COUNTER = itertools.count()  # of questions in this process; on all hosts the same


class Interrupted(SystemExit):
  """Ends the process as SIGTERM does, after everything was saved."""

  def __init__(self):
    super().__init__(CODE)


@contextlib.contextmanager
def stopping(after: int | None) -> Iterator[None]:
  """Within the block, a stage that begins is stopped after so many steps, as SIGTERM stops it."""
  token = _STOP.set(after)
  try:
    yield
  finally:
    _STOP.reset(token)


class Watch:
  """Knows whether the run is to stop; between `with` and its end SIGTERM does not kill.

  A SIGTERM that came after the last question ends the run when the block does.

  Args:
    start: completed steps of the stage at its begin.
  """

  def __init__(self, start: int):
    # Only a stage at its begin: the one that continues must not be stopped again.
    self._stop = _STOP.get() if start == 0 else None

  def __enter__(self) -> "Watch":
    self._is_asked = False
    # Of several hosts JAX watches over all: they must stop after the same step.
    is_main = threading.current_thread() is threading.main_thread()
    self._is_mine = is_main and jax.process_count() == 1
    if self._is_mine:
      self._before = signal.signal(signal.SIGTERM, self._note)

    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if self._is_mine:
      signal.signal(signal.SIGTERM, self._before)
      if self._is_asked and kind is None:
        raise Interrupted

  def is_due(self, step: int) -> bool:
    """Returns whether to stop now; asked once after every step, by all hosts."""
    # Counted before anything returns, so that all hosts number their questions alike.
    number = next(_COUNTER)
    if step == self._stop:
      return True
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(number)

    return self._is_asked

  def _note(self, number: int, frame: FrameType | None) -> None:
    self._is_asked = True
