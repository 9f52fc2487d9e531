"""Runs a command as a process of its own, and says what it took.

Linux counts the process that starts another one in that one's memory, so that this file, which is
small, stands between a command and the tests.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple


class Took(NamedTuple):
  """What a command took, with all processes that it started."""

  seconds: float  # by the clock
  cpu: float  # seconds of CPU, of all cores together
  peak: float  # GiB of memory, at most at any time, of one process

  def __str__(self) -> str:
    return f"{self.seconds:.0f} s, {self.cpu:.0f} s of CPU, {self.peak:.1f} GiB"


def run(words: Sequence[str | os.PathLike], log: pathlib.Path, **where) -> Took:
  """Runs a command whose output goes into a file, and fails with its end where the command does.

  `where` is that of `subprocess.run`: cwd and env.
  """
  took = log.with_suffix(".took")
  with log.open("w") as output:
    told = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
    done = subprocess.run([sys.executable, __file__, took, *words], **told, **where)
  assert done.returncode == 0, log.read_text()[-4_000:]
  return Took(**json.loads(took.read_text()))


def main() -> None:
  """Runs a command and writes what it took into the file before it."""
  file, *words = sys.argv[1:]
  begun = time.monotonic()
  code = subprocess.run(words).returncode
  seconds = time.monotonic() - begun
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  took = Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)  # in KiB by Linux
  pathlib.Path(file).write_text(json.dumps(took._asdict()))
  sys.exit(code)


if __name__ == "__main__":
  main()
