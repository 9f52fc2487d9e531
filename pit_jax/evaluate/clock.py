"""How long it takes to sample a system's answers, apart from compiling the programs."""

import contextlib
import time
from collections.abc import Iterator

from pit_jax import compiling


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str, prompts: int) -> Iterator[None]:
  """Notes how many seconds the block takes per prompt, less those of compiling.

  It is noted in `seconds` under the name of a system. Tracing a program for the first time still
  counts; what is sampled has to be on the host when the block ends.
  """
  before = compiling.seconds()
  began = time.monotonic()
  yield
  lasted = time.monotonic() - began - (compiling.seconds() - before)
  seconds[name] = max(lasted, 0.0) / prompts
