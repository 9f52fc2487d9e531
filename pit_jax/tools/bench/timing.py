"""Times cases, ours and a peer's in turn, so that both meet the same machine; compares medians."""

import contextlib
import dataclasses
import multiprocessing
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from pit_jax import costs, progress
from pit_jax.report import cells


@dataclasses.dataclass(frozen=True)
class Case:
  """One thing to measure."""

  name: str  # what it does
  amount: int  # how much one call does
  # Returns the function that does it once and waits for it. What that function holds, an
  # optimiser's moments for one, goes with it.
  start: Callable[[], Callable[[], Any]]
  cost: costs.Cost | None = None  # what one call asks of the device; None is not known
  unit: str = "tokens"  # real ones that are generated, or read in training; or what else it counts


def choose(cases: Sequence[Case], words: Sequence[str]) -> list[Case]:
  """Returns the cases whose names contain one of the words; the empty word is in all.

  Raises:
    ValueError: if a word is in no name.
  """
  for word in words:
    if not any(word in case.name for case in cases):
      raise ValueError(f"no case has {word!r} in its name; there are {[c.name for c in cases]}")

  return [case for case in cases if any(word in case.name for word in words)]


def measure(
  ours: Sequence[Case],
  theirs: dict[str, Case],
  repeats: int,
  trace: str | None = None,
  peak: costs.Peak | None = None,
) -> list[dict[str, Any]]:
  """Times every case, its peer in between, and returns a row for each.

  Args:
    ours: what to measure.
    theirs: case's name → the peer's case.
    repeats: measured calls; one more before them compiles.
    trace: folder for an XProf trace of the measured calls; None is none.
    peak: what the device can do at most; None is not known.

  Returns:
    Rows with name, unit, per_second, seconds (median), spread (largest over smallest), mfu and
    bandwidth (shares of the peaks, None where not known), and with a peer peer_per_second and
    ratio.
  """
  rows = []
  for number, case in enumerate(ours, start=1):
    named = f"case {number} of {len(ours)}, {case.name}"
    pair = [case, *([theirs[case.name]] if case.name in theirs else [])]
    runs = [one.start() for one in pair]
    seconds: list[list[float]] = [[] for _ in pair]
    count = progress.Count(named, len(pair) * (repeats + 1), "calls")

    # Compiles, and is not counted.
    for run in runs:
      run()
      count.add(1)
    with contextlib.nullcontext() if trace is None else jax.profiler.trace(trace):
      for _ in range(repeats):
        for run, times in zip(runs, seconds, strict=True):
          began = time.perf_counter()
          run()
          times.append(time.perf_counter() - began)
          count.add(1)

    rows.append(_row(case, peak, *seconds))
    progress.say(progress.joined(f"{named}: {_rates(rows[-1])}"))

  return rows


def _row(
  case: Case, peak: costs.Peak | None, ours: list[float], theirs: list[float] | None = None
) -> dict[str, Any]:
  median = statistics.median(ours)
  row = {
    "name": case.name,
    "unit": case.unit,
    "per_second": case.amount / median,
    "seconds": median,
    "spread": max(ours) / min(ours),
    **costs.shares(case.cost, median, peak),
  }

  if theirs is not None:
    peer = statistics.median(theirs)
    row |= {"peer_per_second": case.amount / peer, "ratio": peer / median}

  return row


def _rates(row: dict[str, Any]) -> str:
  """Returns how fast a case was, and its peer, in words."""
  text = f"{rate(row['per_second'])} {row['unit']}/s"
  return f"{text}, the peer {rate(row['peer_per_second'])}" if "ratio" in row else text


def rate(number: float | int | None) -> str:
  """Returns a rate in words, with three digits where it has fewer before the point."""
  if number is None:
    return cells.BLANK
  return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}".rstrip(".")


def in_own_process(function: Callable, *arguments: Any) -> Any:
  """Returns function(*arguments) of a new process, which ends with it; both can be pickled."""
  # Forked, it would begin with all that this one holds.
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    return pool.apply(function, arguments)


def peak_bytes() -> int:
  """Returns the most memory used so far, of the first device if it tells, else of the host."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]

  # Linux counts the process that started this one in `ru_maxrss`, and not here.
  status = pathlib.Path("/proc/self/status")
  if status.is_file():
    peaks = [
      line.split()[1]
      for line in status.read_text(encoding="utf-8").splitlines()
      if line.startswith("VmHWM")
    ]
    return int(*peaks) * 1024
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

  # macOS counts bytes, Linux KiB.
  return used if sys.platform == "darwin" else used * 1024
