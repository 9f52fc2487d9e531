"""Saves and restores training states, so that a killed run goes on as if nothing had happened.

A checkpoint is one directory per step, written by Orbax under a temporary name and renamed when
complete, so a process may die at any moment without leaving a half-written one under a step's
name; in a bucket, where nothing is renamed, a last object marks a complete one. Beside the arrays
it keeps a JSON record: the caller's metadata (what the state was trained on), the shape and type
of every array, and its checksum.
"""

import dataclasses
import itertools
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from pit_jax import hosts
from pit_jax.storage import buckets, places
from pit_jax.training import keeping as keepings
from pit_jax.training import record

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Resumed:
  """The training state that was read back from the newest readable checkpoint."""

  step: int  # completed training steps
  state: Any  # pytree of arrays, sharded like the state it replaces
  metadata: dict[str, Any]


class DamagedError(ValueError):
  """A checkpoint was found and cannot be read back as it was written."""


class SaveError(OSError):
  """A checkpoint could not be written; the complete ones before it are as they were."""


class HangingError(SaveError):
  """A checkpoint was not written in time; its writer may never end, nor a process that waits."""

  is_hanging = True  # a command that meets it ends without waiting


class Checkpoints:
  """The checkpoints of one training stage, newest last.

  Saving copies the state to the host before it returns, so the next step may donate its buffers,
  and writes in the background; `wait` and `close` block until the files are complete.

  Args:
    directory: where the steps are kept, a folder or gs://…; created if absent, unless `read_only`.
    keeping: which checkpoints stay on disk.
    read_only: leave the directory exactly as it is; for readers of a run that may be going on.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    keeping: keepings.Keeping = keepings.Keeping(),  # noqa: B008, it cannot be changed
    *,
    read_only: bool = False,
  ):
    path = os.fspath(directory)
    self._directory = path if "://" in path else os.path.abspath(path)
    self._read_only = read_only
    self._keeping = keeping
    self._is_hanging = False

    with buckets.reaching(self._directory):
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=keeping.policy,
          best_fn=keeping.rank if keeping.best else None,
          create=not read_only,
          cleanup_tmp_directories=not read_only,  # what a killed save left behind
          # Orbax takes whole seconds.
          async_options=ocp.AsyncOptions(timeout_secs=max(1, round(keeping.timeout))),
        ),
        item_names=("state", "record"),
      )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    try:
      self.close()
    except SaveError:
      if kind is None:  # else it is this error, or a consequence of the one under way
        raise

  def save(
    self, step: int, state: Any, metadata: Mapping[str, Any], score: float | None = None
  ) -> None:
    """Starts writing a state; an error of the previous save is raised here.

    Args:
      step: completed training steps, larger than that of every checkpoint present.
      state: pytree of jax arrays.
      metadata: JSON-serialisable description of what the state depends on, compared on restore.
      score: what the best checkpoint is chosen by; None leaves this one out of the choice.

    Raises:
      ValueError: the directory is read-only, or holds this step or a later one.
      SaveError: this or the previous save failed, or the previous one takes too long.
    """
    if self._read_only:
      raise ValueError(f"{self._directory} was opened with read_only=True; open it without to save")
    self.wait()  # for the save before, which Orbax would await without end
    self._in_time(places.push)  # what the state was made from is there before it
    latest = self.latest()

    if latest is not None and step <= latest:
      raise ValueError(
        f"{self._directory} already holds step {latest}, so step {step} cannot be saved; "
        "restore first, or use another directory"
      )

    sidecar: dict[str, Any] = {
      "metadata": record.as_json(metadata),
      "arrays": record.describe(state),
    }
    if sum(leaf.nbytes for leaf in jax.tree.leaves(state)) <= self._keeping.checksum_limit:
      sidecar["checksums"] = record.checksums(state)

    # On CPU Orbax's host copy is a view, which a donating step cannot overwrite: JAX does not give
    # away a buffer that has one (tests/test_checkpoint.py holds it to that).
    items = {"state": ocp.args.StandardSave(state), "record": ocp.args.JsonSave(sidecar)}
    metrics = None if score is None else {"score": score}
    try:
      self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
    except Exception as error:
      raise self._failed(error) from error

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, or None when there is none."""
    return self._manager.latest_step()

  def newest_folder(self) -> str | None:
    """Returns the folder of the newest checkpoint, once it is complete, or None without one."""
    self.wait()
    step = self.latest()
    return None if step is None else os.path.join(self._directory, str(step))

  def best(self) -> int | None:
    """Returns the step with the best score, or None when none was saved with one."""
    return self._manager.best_step() if self._keeping.best else None

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the state of a checkpoint and the metadata it was saved with.

    Args:
      step: a step that was saved.
      like: pytree of arrays or `jax.ShapeDtypeStruct`s with the structure, shapes, types and
        shardings the state is to have.

    Raises:
      FileNotFoundError: there is no such step.
      ValueError: the saved arrays differ from `like` in name, shape or type.
      DamagedError: files are missing, cut short or altered.
      UnreachableError: the bucket does not answer.
    """
    self.wait()
    steps = self._manager.all_steps()
    if step not in steps:
      present = f"steps {list(steps)}" if steps else "no checkpoint"
      raise FileNotFoundError(f"{self._directory} has {present}, not step {step}")

    sidecar = self._read(step, "record", ocp.args.JsonRestore())
    metadata = sidecar.get("metadata")
    arrays = sidecar.get("arrays")
    if not isinstance(metadata, dict) or not isinstance(arrays, dict):
      raise DamagedError(f"{self._directory}/{step}: the record is incomplete")
    record.check_arrays(arrays, record.describe(like), f"{self._directory}/{step}")
    state = self._read(step, "state", ocp.args.StandardRestore(jax.tree.map(record.abstract, like)))

    # Of several hosts none has all bytes, so there is nothing to compare.
    checksums = sidecar.get("checksums")
    if checksums and record.is_addressable(state) and checksums != record.checksums(state):
      raise DamagedError(f"{self._directory}/{step}: the arrays differ from their checksums")
    return state, metadata

  def resume(self, like: Any, metadata: Mapping[str, Any] | None = None) -> Resumed | None:
    """Returns the newest readable checkpoint, or None; it passes over damaged ones with a warning.

    A damaged checkpoint newer than the one returned is renamed `<step>.damaged`, so that its step
    can be saved again.

    Args:
      like: as in `restore`.
      metadata: what the run would save now; refused when it differs from what was saved.

    Raises:
      ValueError: metadata or arrays differ from the saved ones.
      DamagedError: there are checkpoints and none can be read.
    """
    damaged: dict[int, DamagedError] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        # Before the arrays are read: a changed model is named as such, not by its shapes.
        if metadata is not None:
          saved = self._read(step, "record", ocp.args.JsonRestore()).get("metadata")
          if isinstance(saved, dict):
            record.check_metadata(saved, metadata, where=f"{self._directory}/{step}")
        state, saved = self.restore(step, like)
      except DamagedError as error:
        LOG.warning("%s; trying the checkpoint before it", error)
        damaged[step] = error
        continue

      self._set_aside(damaged)
      return Resumed(step, state, saved)

    if damaged:
      raise DamagedError(
        f"{self._directory}: none of the checkpoints {sorted(damaged)} can be read; remove the "
        "directory to train this stage again"
      ) from damaged[max(damaged)]

    return None

  def wait(self) -> None:
    """Blocks until every save is complete on disk.

    Raises:
      SaveError: a save failed, or is not complete within the time given.
    """
    self._in_time(self._manager.wait_until_finished)
    self._in_time(self._manager.check_for_errors)

  def close(self) -> None:
    """Waits for the saves and frees the writer's threads."""
    if not self._is_hanging:
      self._in_time(self._manager.close)

  def _in_time(self, work: Callable[[], None]) -> None:
    """Does what may wait for the writer, in a thread: Orbax itself waits as long as it takes."""
    errors: list[Exception] = []

    def attempt():
      try:
        work()
      except Exception as error:
        errors.append(error)

    # A daemon, since a process must be able to end while its writer hangs.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(self._keeping.timeout)

    if thread.is_alive():
      self._is_hanging = True
      raise HangingError(
        f"{self._directory}: a checkpoint is not complete after {self._keeping.timeout:g} s; "
        f"{keepings.last_good(self._manager.directory)} Look at the file system, then start the "
        "same command again"
      )

    if errors:
      raise self._failed(errors[0]) from errors[0]

  def _failed(self, error: Exception) -> SaveError:
    return SaveError(
      f"{self._directory}: a checkpoint could not be written ({_cause(error)}); "
      f"{keepings.last_good(self._manager.directory)} {keepings.remedy(self._directory)}, then "
      "start the same command again"
    )

  def _read(self, step: int, item: str, how: Any) -> Any:
    place = f"{self._directory}/{step}"
    try:
      with buckets.reaching(place):
        return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
    except buckets.UnreachableError:  # nothing is known of the files
      raise
    except Exception as error:  # tensorstore raises bare Exception, OSError, KeyError, ValueError
      raise DamagedError(f"{place}: the {item} cannot be read ({_cause(error)})") from error

  def _set_aside(self, damaged: Mapping[int, DamagedError]) -> None:
    if not damaged or self._read_only:
      return
    # One host renames, the others wait, and all read the directory anew.
    if hosts.is_first():
      for step in damaged:
        source = self._manager.directory / str(step)
        source.rename(_free_name(source.parent / f"{step}.damaged"))

    hosts.wait("damaged checkpoints set aside")
    self._manager.reload()


def _cause(error: Exception) -> str:
  """Returns an error in one line, of which the paths in the middle are left out if it is long."""
  line = (str(error).splitlines() or [""])[0]
  return f"{type(error).__name__}: {line if len(line) <= 250 else f'{line[:120]} … {line[-120:]}'}"


def _free_name(path: Any) -> Any:
  """Returns the path, with a number added when an earlier damaged checkpoint has the name."""
  later = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
  return next(free for free in itertools.chain([path], later) if not free.exists())
