"""How long it takes to sample a system's answers, apart from compiling the programs."""

import contextlib
import functools
import time
from collections.abc import Iterator

import jax

COMPILING = (
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  "/jax/core/compile/backend_compile_duration",
)


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str, prompts: int) -> Iterator[None]:
  """Notes how many seconds the block takes per prompt, less those of compiling.

  It is noted in `seconds` under the name of a system. Tracing a program for the first time still
  counts; what is sampled has to be on the host when the block ends.
  """
  compiling = _compiling()
  before = sum(compiling)
  began = time.monotonic()
  yield
  lasted = time.monotonic() - began - (sum(compiling) - before)
  seconds[name] = max(lasted, 0.0) / prompts


@functools.cache
def _compiling() -> list[float]:
  """Returns the seconds of all compilations of this process from the first call on."""
  durations: list[float] = []

  def note(event: str, seconds: float, **_: object) -> None:
    if event in COMPILING:
      durations.append(seconds)

  # One listener for the whole process: each further one would be called as well.
  jax.monitoring.register_event_duration_secs_listener(note)
  return durations
