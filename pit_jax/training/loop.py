"""The training loop around every stage: step, log, evaluate, save, and continue after a kill."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax

from pit_jax import progress
from pit_jax.storage import places
from pit_jax.training import checkpoint, flight, interruption, operations, record, timing
from pit_jax.training import log as logs

State = Any  # pytree of jax arrays
# (state, completed steps) → (next state, metrics as device scalars, what the step was given)
Advance = Callable[[State, int], tuple[State, Mapping[str, Any], Any]]


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
  evaluate: logs.Evaluate | None = None,
  evaluate_every: int = 0,
  samples: logs.Samples | None = None,
  surroundings: operations.Operations = operations.Operations(),  # noqa: B008, it never changes
) -> State:
  """Trains one stage to its last step, continuing from its newest checkpoint when there is one.

  The result does not depend on how often the run was interrupted, as long as `advance` is a
  function of its arguments alone: randomness and data must follow from the step. A stage that is
  already finished is read back without a step. Under `workdir` it writes checkpoints/<stage>,
  metrics/<stage>.jsonl, tensorboard/<stage> and samples/<stage>.jsonl. Returned is the state after
  the last step; or after the best evaluated one, if that is kept.

  Args:
    stage: the stage's name, unique in the workdir.
    advance: takes a step, see `Advance`, and may donate the state; what the step was given is a
      pytree of arrays, recorded if it goes wrong.
    state: before the first step, with the structure, shapes and shardings of one that is restored;
      it is used up.
    steps: training steps in all, at least 1.
    metadata: JSON-serialisable description of what the stage depends on; a checkpoint saved under
      another one is refused. The number of steps is added, since schedules depend on it.
    log_every: steps between two logged ones, at least 1; the last step is always logged.
    save_every: steps between two checkpoints, at least 1; the last step is always saved.
    evaluate: maps (state, completed steps) to metrics, logged beside those of the step.
    evaluate_every: steps between two evaluations; 0 evaluates after the last step alone.
    samples: maps (state, completed steps) to rows worth reading; called when evaluation is due.
    surroundings: checkpoints that stay, records of steps that went wrong, measurements.

  Raises:
    ValueError: an argument is out of range, or the checkpoint belongs to another run.
    SaveError: a checkpoint could not be written, or not in time.
    Replayed: within `flight.replaying`, once the step was taken again.
    Interrupted: SIGTERM came; the state was saved after the step that was under way.
  """
  _check_arguments(steps, log_every, save_every, evaluate_every)
  metadata = {**metadata, "steps": steps}
  if replay := flight.asked():
    return _again(replay, stage, advance, state, steps, workdir, metadata, surroundings.keeping)

  with contextlib.ExitStack() as stack:
    folder = places.address(os.path.join(workdir, "checkpoints", stage))
    saved = stack.enter_context(checkpoint.Checkpoints(folder, surroundings.keeping))
    start, state = _resumed(saved, state, metadata)
    if start == steps:
      progress.say(f"{surroundings.place(stage)}{stage}: finished before, {steps} steps")
      return _chosen(saved, state, steps)

    def finish():
      saved.wait()
      timing.ended(workdir, stage)

    watch = stack.enter_context(interruption.Watch(stage, start, finish))
    log = stack.enter_context(logs.Log(stage, start, steps, workdir, saved, surroundings))
    for step in range(start + 1, steps + 1):
      is_logged = _is_due(step, log_every, steps)
      looks = (evaluate, samples) if _is_due(step, evaluate_every, steps) else (None, None)
      log.begin(step, state, is_logged)

      # It may donate the state: from here on only the next one exists.
      state, metrics, inputs = advance(state, step - 1)
      score = log.end(step, state, metrics, inputs, *looks, is_due=is_logged)
      # Asked first, and so at every step: several hosts must all ask after the same steps.
      if (is_over := watch.is_due(step)) or score is not None or _is_due(step, save_every, steps):
        with watch.saving():
          log.save(step, state, metadata, score)
      if is_over:
        log.stop(step)

    log.finish()
    return _chosen(saved, state, steps)


def _again(replay: flight.Replay, stage, advance, state, steps, workdir, metadata, keeping):
  """Takes a recorded step of this stage again and ends; another, finished stage is read back."""
  # The stage begins at the checkpoint kept with its record; those before it are finished.
  is_it = stage == replay.stage
  subfolder = os.path.join("checkpoints", "" if is_it else stage)
  folder = os.path.join(replay.folder(workdir) if is_it else workdir, subfolder)

  with checkpoint.Checkpoints(places.address(folder), keeping, read_only=True) as saved:
    start, state = _resumed(saved, state, metadata)
    if not is_it and start < steps:
      raise ValueError(f"stage {stage} is not finished, so no step of {replay.stage} is recorded")
    if not is_it:
      return _chosen(saved, state, steps)

  for step in range(start, replay.step):
    state, metrics, _ = advance(state, step)
  raise flight.Replayed(int(replay.compare(workdir, logs.numbers(metrics)) > 0))


def _resumed(
  saved: checkpoint.Checkpoints, state: State, metadata: Mapping[str, Any]
) -> tuple[int, State]:
  """Returns steps and state of the newest checkpoint; without one, 0 and the given state."""
  if saved.latest() is None:
    return 0, state
  # Whoever made the state holds it, and a device with room for one need not have room for two.
  resumed = cast(checkpoint.Resumed, saved.resume(_freed(state), metadata))  # there is one
  return resumed.step, resumed.state


def _chosen(saved: checkpoint.Checkpoints, state: State, steps: int) -> State:
  """Returns the state of the best checkpoint if there is one, else the last."""
  best = saved.best()
  if best in (None, steps):
    return state
  saved.wait()  # the state may be what is being written
  return saved.restore(best, _freed(state))[0]


def _freed(state: State) -> State:
  """Frees the arrays of a state, and returns their shapes, types and places."""
  like = jax.tree.map(record.abstract, state)
  for leaf in jax.tree.leaves(state):
    leaf.delete()
  return like


def _check_arguments(steps: int, log_every: int, save_every: int, evaluate_every: int) -> None:
  for name, value in (("steps", steps), ("log_every", log_every), ("save_every", save_every)):
    if value < 1:
      raise ValueError(f"{name}={value}; use 1 or more")

  if evaluate_every < 0:
    raise ValueError(f"evaluate_every={evaluate_every}; use 0 (only at the end) or more")


def _is_due(step: int, every: int, steps: int) -> bool:
  return step == steps or (every > 0 and step % every == 0)
