"""Trials in processes of their own.

Such a process reads this file before it runs anything, so the file imports nothing that is large.
"""

import multiprocessing
import os
import pathlib
import runpy
import sys
import threading
from collections.abc import Sequence

LINES = 15  # of a failed run's log that are kept


class RunFailed(Exception):
  """A run that ended with an error."""


def train(command: Sequence[str], log: pathlib.Path) -> None:
  """Runs a Python file with arguments in a process of its own, which dies with this one.

  Raises:
    RunFailed: with the end of what it said.
  """
  log.parent.mkdir(parents=True, exist_ok=True)
  # Spawned: JAX does not survive a fork, and the child must have no copy of `ours`.
  spawning = multiprocessing.get_context("spawn")
  theirs, ours = spawning.Pipe(duplex=False)
  child = spawning.Process(target=_child, args=(theirs, list(command), str(log)))
  child.start()
  theirs.close()

  try:
    child.join()
  finally:
    ours.close()  # the child reads the end of the pipe, and stops

  if child.exitcode:
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    raise RunFailed(f"exit status {child.exitcode}; {log} ends with\n" + "\n".join(tail))


def _child(parent, command: list[str], log: str) -> None:
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  with open(log, "ab", buffering=0) as file:
    # The descriptors themselves, since libraries in C write past sys.stdout.
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)

  sys.argv = command
  runpy.run_path(command[0], run_name="__main__")


def _end_with(parent) -> None:
  """Ends this process when the other end of the pipe is gone, killed or not."""
  try:
    parent.recv()
  except EOFError:
    os._exit(1)
