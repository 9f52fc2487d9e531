"""The loop around every training stage: step, log, evaluate, save, and continue after a kill."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from pit_jax import hosts
from pit_jax.training import checkpoint, interruption, writers

LOG = logging.getLogger(__name__)

State = Any  # pytree of jax arrays
Advance = Callable[[State, int], tuple[State, Mapping[str, Any]]]
Evaluate = Callable[[State, int], Mapping[str, Any]]
Samples = Callable[[State, int], Iterable[Mapping[str, Any]]]


def fit(
  stage: str,
  advance: Advance,
  state: State,
  *,
  steps: int,
  workdir: str | os.PathLike,
  metadata: Mapping[str, Any],
  log_every: int,
  save_every: int,
  evaluate: Evaluate | None = None,
  evaluate_every: int = 0,
  samples: Samples | None = None,
  keep: int = 2,
  extra_writers: Sequence[writers.Writer] = (),
) -> State:
  """Trains one stage to its last step, continuing from its newest checkpoint when there is one.

  The result does not depend on how often the run was interrupted, as long as `advance` is a
  function of its arguments alone: randomness and data must follow from the step. A stage that is
  already finished is read back without a step. Under `workdir` it writes checkpoints/<stage>,
  metrics/<stage>.jsonl, tensorboard/<stage> and samples/<stage>.jsonl.

  Args:
    stage: the stage's name, unique in the workdir.
    advance: maps (state, completed steps) to (next state, metrics as device scalars). It may
      donate the state.
    state: the state before the first step; also gives the structure, shapes and shardings of the
      restored one.
    steps: training steps in all, at least 1.
    workdir: the run's directory.
    metadata: JSON-serialisable description of what the stage depends on; a checkpoint saved under
      another one is refused. The number of steps is added, since schedules depend on it.
    log_every: steps between two logged ones, at least 1; the last step is always logged.
    save_every: steps between two checkpoints, at least 1; the last step is always saved.
    evaluate: maps (state, completed steps) to metrics, logged beside those of the step.
    evaluate_every: steps between two evaluations; 0 evaluates after the last step alone.
    samples: maps (state, completed steps) to rows worth reading; called when evaluation is due.
    keep: checkpoints kept on disk.
    extra_writers: take the logged metrics too; closed at the end.

  Returns:
    The state after the last step.

  Raises:
    ValueError: an argument is out of range, or the checkpoint belongs to another run.
    Interrupted: SIGTERM came; the state was saved after the step that was under way.
  """
  _check_arguments(steps, log_every, save_every, evaluate_every)
  metadata, directory = {**metadata, "steps": steps}, os.path.join(workdir, "checkpoints", stage)
  with contextlib.ExitStack() as stack:
    saved = stack.enter_context(checkpoint.Checkpoints(directory, keep))
    resumed = saved.resume(state, metadata)
    start, state = (resumed.step, resumed.state) if resumed else (0, state)
    if start == steps:
      _say(f"{stage}: finished before, {steps} steps")
      return state
    watch = stack.enter_context(interruption.Watch())
    log = stack.enter_context(_Log(stage, start, steps, workdir, extra_writers))
    for step in range(start + 1, steps + 1):
      state, metrics = advance(state, step - 1)
      log.watch(step, metrics)
      looks = (evaluate, samples) if _is_due(step, evaluate_every, steps) else (None, None)
      log.observe(step, state, metrics, *looks, is_due=_is_due(step, log_every, steps))
      is_over = watch.is_due()
      if is_over or _is_due(step, save_every, steps):
        log.save(saved, step, state, metadata)
      log.advance(step)
      if is_over:
        _stop(saved, f"{stage}: saved after step {step}")
    saved.wait()
    return state


def _stop(saved: checkpoint.Checkpoints, done: str) -> None:
  saved.wait()
  _say(f"{done} and stopped by SIGTERM; the same command continues")
  raise interruption.Interrupted


def _check_arguments(steps: int, log_every: int, save_every: int, evaluate_every: int) -> None:
  for name, value in (("steps", steps), ("log_every", log_every), ("save_every", save_every)):
    if value < 1:
      raise ValueError(f"{name}={value}; use 1 or more")
  if evaluate_every < 0:
    raise ValueError(f"evaluate_every={evaluate_every}; use 0 (only at the end) or more")


def _is_due(step: int, every: int, steps: int) -> bool:
  return step == steps or (every > 0 and step % every == 0)


class _Log:
  """All writers of a stage, and the watch over steps that went wrong."""

  def __init__(
    self,
    stage: str,
    start: int,
    steps: int,
    workdir: str | os.PathLike,
    extra_writers: Sequence[writers.Writer],
  ):
    self._stage = stage
    self._watched: list[tuple[int, dict[str, Any]]] = []
    self._seconds: dict[str, float] = {}
    self._writers: list[writers.Writer] = []
    self._samples = self._progress = None
    if not hosts.is_first():
      return
    if start:
      _say(f"{stage}: continues after step {start} of {steps}")
    self._samples = writers.JsonLines(os.path.join(workdir, "samples", f"{stage}.jsonl"), start)
    self._progress = writers.Progress(stage, start, steps)
    self._writers = [
      writers.JsonLines(os.path.join(workdir, "metrics", f"{stage}.jsonl"), start),
      writers.TensorBoard(os.path.join(workdir, "tensorboard", stage), start),
      self._progress,
      *extra_writers,
    ]

  def __enter__(self) -> "_Log":
    return self

  def __exit__(self, *_: object) -> None:
    self.report()
    for writer in [*self._writers, *([self._samples] if self._samples else [])]:
      writer.close()

  def watch(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Remembers the scalars that tell a failed step, without waiting for the device."""
    kept = {name: value for name, value in metrics.items() if _is_watched(name)}
    if kept:
      self._watched.append((step, kept))

  def report(self) -> None:
    """Says loudly which steps since the last report were skipped or had no finite loss."""
    watched, self._watched = jax.device_get(self._watched), []
    if self._progress is None:
      return
    for step, metrics in watched:
      broken = {name: float(value) for name, value in metrics.items() if not _is_sound(name, value)}
      if broken:
        listed = ", ".join(f"{name} = {value:g}" for name, value in broken.items())
        LOG.warning("%s: STEP %d WENT WRONG: %s", self._stage, step, listed)

  def observe(
    self,
    step: int,
    state: State,
    metrics: Mapping[str, Any],
    evaluate: Evaluate | None,
    samples: Samples | None,
    *,
    is_due: bool,
  ) -> None:
    """Evaluates and samples where asked to, and logs what is due and what was evaluated."""
    evaluation = evaluate(state, step) if evaluate else {}
    if evaluation or is_due:
      self.write(step, {**metrics, **evaluation})
    if samples:
      self.write_samples(step, samples(state, step))

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Fetches the metrics of a step and hands them to every writer."""
    self.report()
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    if self._progress is not None:
      values["perf/steps_per_second"] = self._progress.rate(step)
    values.update(self._seconds)
    for writer in self._writers:
      writer.write(step, values)

  def write_samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows for people to read."""
    if self._samples is not None:
      self._samples.write_rows(step, rows)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    if self._progress is not None:
      self._progress.advance(step)

  def save(
    self, saved: checkpoint.Checkpoints, step: int, state: State, metadata: Mapping[str, Any]
  ) -> None:
    """Saves once nothing is left to say about earlier steps, and logs the seconds it took."""
    self.report()
    began = time.monotonic()
    saved.save(step, state, metadata)
    self._seconds["perf/time_checkpoint"] = time.monotonic() - began


def _say(text: str) -> None:
  if hosts.is_first():
    print(text, flush=True)


def _is_watched(name: str) -> bool:
  return name.rsplit("/", maxsplit=1)[-1] in ("loss", "skipped")


def _is_sound(name: str, value: Any) -> bool:
  return float(value) == 0 if name.endswith("skipped") else math.isfinite(float(value))
