"""A machine that is about to be taken away says so by SIGTERM; a run then saves and stops."""

import contextlib
import contextvars
import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from pit_jax import compiling, progress

LOG = logging.getLogger(__name__)

CODE = 128 + signal.SIGTERM  # of a process that was stopped in good order
GRACE = 15.0  # seconds between SIGTERM and the end of a process that compiles
LOOK = 0.5  # seconds between two looks at whether it does
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


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
  """Within the block, SIGTERM ends the process with a line that says so.

  A program that is being compiled or runs is not waited for longer than GRACE. Where several hosts
  run, and off the main thread, SIGTERM is left as it is.
  """
  if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
    yield
    return

  line = f"{what}: stopped; the same command begins it again, and trains nothing anew"

  def stop(number: int, frame: FrameType | None) -> None:
    progress.say(line)
    raise Interrupted

  def end() -> None:
    progress.say(line)
    os._exit(CODE)  # in a thread, SystemExit would end the thread alone

  before = signal.signal(signal.SIGTERM, stop)
  guard = _Guard(end)
  try:
    yield
  finally:
    guard.close()
    signal.signal(signal.SIGTERM, before)


class Watch:
  """Knows whether the run is to stop; between `with` and its end SIGTERM does not kill.

  A SIGTERM that came after the last question ends the run when the block does. A program that is
  being compiled lets no Python run, and nobody knows for how long: if one is on its way GRACE after
  the signal, the process ends without the step under way.

  Args:
    stage: its name.
    start: completed steps of the stage at its begin.
    finish: returns when every checkpoint that was begun is complete, and it is written down
      that the process ends.
  """

  def __init__(self, stage: str, start: int, finish: Callable[[], None]):
    self._stage = stage
    self._finish = finish
    # Only a stage at its begin: the one that continues must not be stopped again.
    self._stop = _STOP.get() if start == 0 else None
    self._saving = threading.Lock()

  def __enter__(self) -> "Watch":
    self._is_asked = False
    # Of several hosts JAX watches over all: they must stop after the same step.
    is_main = threading.current_thread() is threading.main_thread()
    self._is_mine = is_main and jax.process_count() == 1
    if self._is_mine:
      self._before = signal.signal(signal.SIGTERM, self._note)
      self._guard = _Guard(self._end_compiling)

    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if self._is_mine:
      self._guard.close()
      is_over = self._is_asked and kind is None
      if is_over:
        self._finish()
      signal.signal(signal.SIGTERM, self._before)
      if is_over:
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

  def saving(self) -> contextlib.AbstractContextManager[Any]:
    """Returns the block in which a checkpoint is begun: in it the process does not end."""
    return self._saving

  def _note(self, number: int, frame: FrameType | None) -> None:
    self._is_asked = True

  def _end_compiling(self) -> None:
    """Ends the process if it compiles, once what is being saved is complete."""
    main = threading.main_thread().ident
    # Else the program might be ready meanwhile, and a checkpoint begun that would be cut off.
    with self._saving:
      if not compiling.is_under_way(main):
        return
      try:
        self._finish()
      except Exception as error:
        LOG.warning("%s", error)
      if compiling.is_under_way(main):
        progress.say(f"{self._stage}: stopped while compiling; the same command continues")
        os._exit(CODE)  # in a thread, SystemExit would end the thread alone


class _Guard:
  """A thread that SIGTERM wakes while Python does not run in the main thread.

  Python's own part of a signal writes its number into a file at once; the handler has to wait for
  the main thread.

  Args:
    end: called again and again from GRACE after a SIGTERM on.
  """

  def __init__(self, end: Callable[[], None]):
    self._end = end
    self._ended = threading.Event()
    self._read, self._written = socket.socketpair()
    self._written.setblocking(False)
    self._others = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
    # A daemon: whoever forgets to close it can end all the same.
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def close(self) -> None:
    """Ends the thread, and leaves signals to whoever had them before."""
    signal.set_wakeup_fd(self._others)
    self._ended.set()
    self._written.close()
    self._thread.join()
    self._read.close()

  def _watch(self) -> None:
    is_asked = False
    while not is_asked and (numbers := self._read.recv(64)):  # none: it was closed
      is_asked = signal.SIGTERM in numbers
      if self._others != -1:
        with contextlib.suppress(OSError):
          os.write(self._others, numbers)

    if is_asked and not self._ended.wait(GRACE):
      while not self._ended.wait(LOOK):
        self._end()
