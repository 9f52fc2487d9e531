"""The log of a stage that trains: metrics, samples, its progress, and steps that went wrong."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from pit_jax import hosts, progress
from pit_jax.training import checkpoint, flight, interruption, operations, timing, writers

LOG = logging.getLogger(__name__)

State = Any  # pytree of jax arrays
Evaluate = Callable[[State, int], Mapping[str, Any]]
Samples = Callable[[State, int], Iterable[Mapping[str, Any]]]


class Log:
  """The log around the steps of one stage: it tells, measures, records and saves.

  It begins after `start` of so many steps, and keeps `saved`, the stage's checkpoints.
  """

  def __init__(
    self,
    stage: str,
    start: int,
    steps: int,
    workdir: str | os.PathLike,
    saved: checkpoint.Checkpoints,
    surroundings: operations.Operations,
  ):
    self._stage = stage
    self._steps = steps
    self._workdir = workdir
    self._saved = saved
    self._with = surroundings
    self._phases = surroundings.phases or timing.Phases()
    self._tracing = timing.Tracing(surroundings.trace, os.path.join(workdir, "profile", stage))
    self._ledger = timing.Ledger(workdir, stage, start)
    self._recorded = 0
    self._began = time.monotonic()
    self._latest: dict[str, float] = {}  # of every metric its last value

    self._watched: list[tuple[int, Mapping[str, Any], Any]] = []
    self._seconds: dict[str, float] = {}
    self._writers: list[writers.Writer] = []
    self._samples = self._progress = None

    # Files and the terminal belong to one host.
    if not hosts.is_first():
      return
    if start:
      progress.say(f"{stage}: continues after step {start} of {steps}")
    self._samples = writers.JsonLines(os.path.join(workdir, "samples", f"{stage}.jsonl"), start)
    self._progress = writers.Progress(stage, start, steps, surroundings.outlook)

    self._writers = [
      writers.JsonLines(os.path.join(workdir, "metrics", f"{stage}.jsonl"), start),
      writers.TensorBoard(os.path.join(workdir, "tensorboard", stage), start),
      self._progress,
      *surroundings.extra_writers(),
    ]

  def __enter__(self) -> "Log":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    self._tracing.stop()
    try:
      # A host that fails alone must not ask the others for anything.
      if kind is None or jax.process_count() == 1:
        self.report()
    finally:
      for writer in [*self._writers, *([self._samples] if self._samples else [])]:
        writer.close()

  def begin(self, step: int, state: State, is_due: bool) -> None:
    """Begins a step; is it due to be logged, its parts are measured."""
    self._phases.begin(is_due, state)
    self._tracing.begin(step, state)

  def end(
    self,
    step: int,
    state: State,
    metrics: Mapping[str, Any],
    given: Any,
    evaluate: Evaluate | None,
    samples: Samples | None,
    *,
    is_due: bool,
  ) -> float | None:
    """Ends a step: evaluates and samples where asked to, and logs what is due.

    Returns the score of an evaluated step, if the best one is to be kept.
    """
    self._tracing.end(step, (state, metrics))
    self._ledger.step()
    self._watched.append((step, metrics, given))
    evaluation: dict[str, float] = {}

    # A step of which nothing is told is not waited for, and stays under way.
    with self._ledger.aside(metrics if is_due or evaluate or samples else ()):
      if evaluate:
        evaluation = numbers(evaluate(state, step))
      if evaluation or is_due:
        self._write(step, {**metrics, **evaluation})
      if samples:
        rows = samples(state, step)  # by all hosts, and written by one
        if self._samples is not None:
          self._samples.write_rows(step, rows)

    if self._progress is not None:
      self._progress.advance(step)
    return evaluation[self._with.score] if self._with.keeping.best and evaluation else None

  def report(self) -> None:
    """Says loudly which steps since the last report went wrong, and records the first few."""
    watched = self._watched
    self._watched = []
    # One transfer for all steps, and of watched metrics alone.
    telling = [
      {name: value for name, value in metrics.items() if self._with.recorder.watches(name)}
      for _, metrics, _ in watched
    ]

    for (step, metrics, inputs), values in zip(watched, jax.device_get(telling), strict=True):
      broken = self._with.recorder.broken({name: float(value) for name, value in values.items()})
      if broken:
        self._tell(step, broken, metrics, inputs)

  def _tell(
    self, step: int, broken: Mapping[str, float], metrics: Mapping[str, Any], given: Any
  ) -> None:
    values = ", ".join(f"{name} = {value:g}" for name, value in broken.items())
    note = ""
    self._recorded += 1

    if self._recorded <= flight.MOST:
      failed = (self._stage, step, numbers(metrics), given)
      place = (self._workdir, self._saved.newest_folder())
      note = f"; {flight.write(self._with.recorder, *failed, *place)}"

    if hosts.is_first():
      LOG.warning("%s: STEP %d WENT WRONG: %s%s", self._stage, step, values, note)

  def _write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Fetches the metrics of a step and hands them to every writer."""
    self.report()
    values = numbers(metrics)
    if self._progress is not None and (rate := self._progress.rate(step)) is not None:
      values["perf/steps_per_second"] = rate

    # The seconds of a save are logged with the step that is logged next.
    values |= self._seconds | self._phases.metrics(values)
    self._seconds = {}
    self._latest |= values
    for writer in self._writers:
      writer.write(step, values)

  def save(self, step: int, state: State, metadata: Mapping[str, Any], score: float | None) -> None:
    """Saves once nothing is left to say about earlier steps, and logs the seconds it took."""
    self.report()
    with self._ledger.aside(state):
      self._ledger.save(step)  # first: what is written after a save is not kept with it
      began = time.monotonic()
      self._saved.save(step, state, metadata, score)
      self._seconds["perf/time_checkpoint"] = time.monotonic() - began

  def finish(self) -> None:
    """Returns when all saves are complete, and says what the stage is known by."""
    self._saved.wait()
    if self._progress is None:
      return

    kept = self._saved.best() or self._steps
    values = self._latest
    if kept != self._steps:
      # Read back: a process before this one may have logged it.
      rows = writers.read(os.path.join(self._workdir, "metrics", f"{self._stage}.jsonl"))
      values = next((row for row in rows if row["step"] == kept), {})

    labels = self._with.figures
    figures = {labels[name]: values[name] for name in labels if values.get(name) is not None}
    self._progress.end(time.monotonic() - self._began, kept, figures)

  def stop(self, step: int) -> None:
    """Ends the run, which was saved after this step."""
    self._saved.wait()
    timing.ended(self._workdir, self._stage)
    progress.say(f"{self._stage}: saved after step {step} and stopped; the same command continues")
    raise interruption.Interrupted


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Fetches metrics from the devices."""
  return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
