"""Timing and goodput: parts of a step, compiling, traces for XProf, and steps that were kept."""

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from pit_jax import compiling, hosts

SIGN_OF_LIFE = 10.0  # seconds between two that are written down, checkpoints apart

# (what was measured in a step, its seconds) → what its speed is known by.
Speed = Callable[[Mapping[str, float], float], Mapping[str, float]]


class Phases:
  """Seconds and speed of the parts of logged steps; between those nothing waits for the device."""

  def __init__(self, speed: Speed = lambda measured, seconds: {}):
    self._speed = speed
    self._is_on = False
    self._seconds: dict[str, float] = {}
    self._compiled = 0.0

  def begin(self, is_on: bool, pending: Any) -> None:
    """Begins a step; one that is measured first waits for what is under way."""
    self._is_on = is_on
    self._seconds = {}
    self._compiled = compiling.seconds()
    if is_on:
      jax.block_until_ready(pending)

  def time(self, name: str, function: Callable, *arguments: Any) -> Any:
    """Returns function(*arguments), whose seconds become perf/time_<name>."""
    if not self._is_on:
      return function(*arguments)
    began = time.monotonic()

    # Waiting leaves the device idle between parts, so only measured steps do it.
    result = jax.block_until_ready(function(*arguments))
    self._seconds[f"perf/time_{name}"] = time.monotonic() - began
    return result

  def metrics(self, measured: Mapping[str, float]) -> dict[str, float]:
    """Returns the seconds of a step that was measured, those of compiling too, and its speed."""
    if not self._seconds:
      return {}
    speed = self._speed(measured, sum(self._seconds.values()))
    return {**self._seconds, "perf/time_compile": compiling.seconds() - self._compiled, **speed}


@dataclasses.dataclass(frozen=True)
class Trace:
  """Steps that JAX's profiler looks at, into WORKDIR/profile/<stage>, which XProf opens."""

  first: int = 1  # of these steps, from 1
  last: int = 0  # 0 is none

  def __post_init__(self):
    if self.last and not 1 <= self.first <= self.last:
      raise ValueError(f"profile of steps {self.first} to {self.last}; use 1 ≤ first ≤ last")


class Tracing:
  """Traces the steps that it is told to; one that is under way when the run ends is written too."""

  def __init__(self, trace: Trace, directory: str | os.PathLike):
    self._trace = trace
    self._directory = os.fspath(directory)
    self._is_on = False

  def begin(self, step: int, pending: Any) -> None:
    """Begins before a step, when what is under way is done."""
    if not self._is_on and self._trace.first <= step <= self._trace.last:
      jax.block_until_ready(pending)
      jax.profiler.start_trace(self._directory)
      self._is_on = True

  def end(self, step: int, results: Any) -> None:
    """Ends after the last step, when its results are there."""
    if self._is_on and step == self._trace.last:
      jax.block_until_ready(results)
      self.stop()

  def stop(self) -> None:
    """Writes what was traced, if a trace is under way."""
    if self._is_on:
      self._is_on = False
      jax.profiler.stop_trace()


@dataclasses.dataclass(frozen=True)
class Left:
  """Estimated seconds of what is to come in a run."""

  training: float
  compiling: float
  evaluation: float

  @property
  def total(self) -> float:
    """All of them together."""
    return self.training + self.compiling + self.evaluation


class Outlook:
  """Estimated time of what is to come, by the speed of the stages that this process has seen.

  A stage of a kind that was not seen yet is taken to do its work, and to compile, as fast as the
  current one. Where one has fewer steps than were planned, since its rows are packed or some were
  dropped, further ones of its kind are taken to have as many fewer.

  Args:
    work: stage → (kind, steps, work of a step in any unit), in the order of the run.
    evaluation: work of the evaluation after them, in the same unit.
  """

  def __init__(self, work: Mapping[str, tuple[str, int, float]], evaluation: float = 0.0):
    self._work = dict(work)
    self._evaluation = evaluation
    self._seconds: dict[str, float] = {}  # kind → of a unit of work
    self._compiling: dict[str, float] = {}  # kind → of a stage
    self._shares: dict[str, float] = {}  # kind → of the steps that were planned, those taken

  def place(self, stage: str) -> str:
    """Returns which of the stages this is, as "[2/7] "; "" for one that was not announced."""
    names = list(self._work)
    return f"[{names.index(stage) + 1}/{len(names)}] " if stage in self._work else ""

  def left(
    self, stage: str, steps: int, seconds: float, compiling: float, total: int | None = None
  ) -> Left | None:
    """Returns what is left of the run in a stage, None in one that was not announced.

    Args:
      stage: the current one.
      steps: those that it has left.
      seconds: what one of them takes, without compiling.
      compiling: seconds that it has compiled for, which is over.
      total: steps that it takes in all; None: those that were planned.
    """
    if stage not in self._work:
      return None
    kind, planned, each = self._work[stage]
    self._shares[kind] = (total or planned) / max(planned, 1)
    self._seconds[kind] = speed = seconds / each
    self._compiling[kind] = compiling
    names = list(self._work)
    later = [self._work[name] for name in names[names.index(stage) + 1 :]]
    speeds = [self._seconds.get(other, speed) for other, _, _ in later]
    counts = [many * self._shares.get(other, 1.0) for other, many, _ in later]

    return Left(
      steps * seconds
      + math.fsum(
        many * work * s for many, (_, _, work), s in zip(counts, later, speeds, strict=True)
      ),
      math.fsum(self._compiling.get(other, compiling) for other, _, _ in later),
      self._evaluation * speed,
    )


class Ledger:
  """Writes into WORKDIR/goodput.jsonl how long processes lived and what of it was kept.

  Kept are the seconds of steps that a checkpoint holds, less those of evaluating, logging and
  saving, and less the first step of a process, in which programs are compiled. What came after the
  completed steps that a stage starts with was not kept.
  """

  def __init__(self, workdir: str | os.PathLike, stage: str, start: int):
    self._path = os.path.join(workdir, "goodput.jsonl")
    self._stage = stage
    self._since: float | None = None
    self._worked = 0.0
    self._write({"from": start})

  def step(self) -> None:
    """Notes the end of a step's dispatch; the first one starts the clock."""
    # The first step compiles, so its seconds are not counted.
    if self._since is None:
      self._since = time.monotonic()
    elif time.monotonic() - self._written > SIGN_OF_LIFE:
      self._write({})

  @contextlib.contextmanager
  def aside(self, pending: Any) -> Iterator[None]:
    """What is done within the block is no training; it begins when `pending` is computed."""
    jax.block_until_ready(pending)
    if self._since is not None:
      self._worked += time.monotonic() - self._since
    yield
    if self._since is not None:
      self._since = time.monotonic()

  def save(self, step: int) -> None:
    """Notes that the steps so far are being saved."""
    self._write({"step": step, "kept": self._worked})
    self._worked = 0.0

  def _write(self, row: Mapping[str, Any]) -> None:
    self._written = time.monotonic()
    _append(self._path, {"at": time.time(), "stage": self._stage, **row})


def begin(workdir: str | os.PathLike) -> None:
  """Writes down that a process begins to work on a run."""
  _append(os.path.join(workdir, "goodput.jsonl"), {"at": time.time(), "begins": True})


def alive(workdir: str | os.PathLike, name: str) -> None:
  """Writes down that a process still works on a run, at something that is no training."""
  _append(os.path.join(workdir, "goodput.jsonl"), {"at": time.time(), "stage": name})


def ended(workdir: str | os.PathLike, name: str) -> None:
  """Writes down that a process stops working on a run, in a stage that is not finished."""
  _append(os.path.join(workdir, "goodput.jsonl"), {"at": time.time(), "stage": name, "ends": True})


def goodput(workdir: str | os.PathLike) -> dict[str, float | int] | None:
  """Returns the goodput of a run by its ledger, or None where there is none.

  `sessions` are processes that worked on the run; `seconds` they lived, from their begin to their
  end, one that was killed to its last sign of life; `kept` are seconds too, of which they are a
  `share`.
  """
  try:
    with open(os.path.join(workdir, "goodput.jsonl"), encoding="utf-8") as file:
      # A line without an end was cut off by a kill.
      rows = [json.loads(line) for line in file if line.endswith("\n")]
  except FileNotFoundError:
    return None

  sessions = 0
  seconds = 0.0
  kept_seconds: dict[tuple[str, int], float] = {}

  for before, row in zip([None, *rows], rows, strict=False):
    # Two signs of life of one process: it lived in between.
    begins = before is None or "begins" in row
    sessions += begins
    seconds += 0.0 if begins else row["at"] - before["at"]

    if "from" in row:  # a save after this step was not completed
      kept_seconds = {
        at: s for at, s in kept_seconds.items() if at[0] != row["stage"] or at[1] <= row["from"]
      }

    if "kept" in row:
      kept_seconds[row["stage"], row["step"]] = row["kept"]

  total = sum(kept_seconds.values())
  share = total / seconds if seconds else 0.0
  return {"sessions": sessions, "seconds": seconds, "kept": total, "share": share}


def _append(path: str, row: Mapping[str, Any]) -> None:
  if hosts.is_first():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
      file.write(json.dumps(row) + "\n")
