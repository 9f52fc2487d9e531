"""Saves and restores training states, so that a killed run goes on as if nothing had happened.

A checkpoint is one directory per step, written by Orbax under a temporary name and renamed when
complete, so a process may die at any moment without leaving a half-written one under a step's
name. Beside the arrays it keeps a JSON record: the caller's metadata (what the state was trained
on), the shape and type of every array, and its checksum.
"""

import dataclasses
import json
import logging
import os
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

LOG = logging.getLogger(__name__)
SAVE_TIMEOUT = 600  # seconds a background save may take before it counts as failed
# Larger states are saved without checksums: computing them would hold up the training step.
CHECKSUM_LIMIT = 1 << 30  # bytes


@dataclasses.dataclass(frozen=True)
class Resumed:
  """What was read back from the newest readable checkpoint."""

  step: int  # completed training steps
  state: Any  # pytree of arrays, sharded like the state it replaces
  metadata: dict[str, Any]


class DamagedError(ValueError):
  """A checkpoint was found and cannot be read back as it was written."""


class Checkpoints:
  """The checkpoints of one training stage, newest last.

  Saving copies the state to the host before it returns, so the next step may donate its buffers,
  and writes in the background; `wait` and `close` block until the files are complete.

  Args:
    directory: where the steps are kept; created if absent, unless `read_only`.
    keep: how many of the newest checkpoints stay on disk, at least 1. Two or more leave something
      to fall back on when the newest is damaged.
    read_only: leave the directory exactly as it is; for readers of a run that may be going on.
  """

  def __init__(self, directory: str | os.PathLike, keep: int = 2, *, read_only: bool = False):
    if keep < 1:
      raise ValueError(f"keep={keep} would leave no checkpoint; use 1 or more")
    path = os.fspath(directory)
    self._directory = path if "://" in path else os.path.abspath(path)
    self._read_only = read_only
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=not read_only,
        cleanup_tmp_directories=not read_only,  # what a killed save left behind
        async_options=ocp.AsyncOptions(timeout_secs=SAVE_TIMEOUT),
      ),
      item_names=("state", "record"),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def save(self, step: int, state: Any, metadata: Mapping[str, Any]) -> None:
    """Starts writing a state; an error of the previous save is raised here.

    Args:
      step: completed training steps, larger than that of every checkpoint present.
      state: pytree of jax arrays.
      metadata: JSON-serialisable description of what the state depends on (template hash, data
        fingerprint, model), compared by `check_metadata` on restore.

    Raises:
      ValueError: the directory is read-only, or holds this step or a later one.
    """
    if self._read_only:
      raise ValueError(f"{self._directory} was opened with read_only=True; open it without to save")
    latest = self.latest()
    if latest is not None and step <= latest:
      raise ValueError(
        f"{self._directory} already holds step {latest}, so step {step} cannot be saved; "
        "restore first, or use another directory"
      )
    record = {"metadata": _as_json(metadata), "arrays": _describe(state)}
    if sum(leaf.nbytes for leaf in jax.tree.leaves(state)) <= CHECKSUM_LIMIT:
      record["checksums"] = _checksums(state)
    # On CPU Orbax's host copy is a view, which a donating step cannot overwrite: JAX does not give
    # away a buffer that has one (tests/test_checkpoint.py holds it to that).
    items = {"state": ocp.args.StandardSave(state), "record": ocp.args.JsonSave(record)}
    self._manager.save(step, args=ocp.args.Composite(**items))

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, or None when there is none."""
    return self._manager.latest_step()

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads one checkpoint.

    Args:
      step: a step that was saved.
      like: pytree of arrays or `jax.ShapeDtypeStruct`s with the structure, shapes, types and
        shardings the state is to have.

    Returns:
      The state and the metadata it was saved with.

    Raises:
      FileNotFoundError: there is no such step.
      ValueError: the saved arrays differ from `like` in name, shape or type.
      DamagedError: files are missing, cut short or altered.
    """
    self.wait()
    steps = self._manager.all_steps()
    if step not in steps:
      found = f"steps {list(steps)}" if steps else "no checkpoint"
      raise FileNotFoundError(f"{self._directory} has {found}, not step {step}")
    record = self._read(step, "record", ocp.args.JsonRestore())
    metadata, arrays = record.get("metadata"), record.get("arrays")
    if not isinstance(metadata, dict) or not isinstance(arrays, dict):
      raise DamagedError(f"{self._directory}/{step}: the record is incomplete")
    _check_arrays(arrays, _describe(like), f"{self._directory}/{step}")
    state = self._read(step, "state", ocp.args.StandardRestore(jax.tree.map(_abstract, like)))
    checksums = record.get("checksums")
    if checksums and _is_addressable(state) and checksums != _checksums(state):
      raise DamagedError(f"{self._directory}/{step}: the arrays differ from their checksums")
    return state, metadata

  def resume(self, like: Any, metadata: Mapping[str, Any] | None = None) -> Resumed | None:
    """Reads the newest readable checkpoint, passing over damaged ones with a warning.

    A damaged checkpoint newer than the one returned is renamed `<step>.damaged`, so that its step
    can be saved again.

    Args:
      like: as in `restore`.
      metadata: what the run would save now; refused when it differs from what was saved.

    Returns:
      The checkpoint, or None when the directory has none.

    Raises:
      ValueError: metadata or arrays differ from the saved ones.
      DamagedError: there are checkpoints and none can be read.
    """
    damaged: dict[int, DamagedError] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        if metadata is not None:
          self._check_saved_metadata(step, metadata)
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
    """Blocks until every save is complete on disk and raises the error of one that failed."""
    self._manager.wait_until_finished()
    self._manager.check_for_errors()

  def close(self) -> None:
    """Waits for the saves and frees the writer's threads."""
    self._manager.close()

  def _read(self, step: int, item: str, how: Any) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
    except Exception as error:  # tensorstore raises bare Exception, OSError, KeyError, ValueError
      cause = (str(error).splitlines() or [""])[0][:200]
      raise DamagedError(
        f"{self._directory}/{step}: the {item} cannot be read ({type(error).__name__}: {cause})"
      ) from error

  def _check_saved_metadata(self, step: int, metadata: Mapping[str, Any]) -> None:
    """Compares before reading arrays: a changed model is named as such, not by its shapes."""
    saved = self._read(step, "record", ocp.args.JsonRestore()).get("metadata")
    if isinstance(saved, dict):
      check_metadata(saved, metadata, where=f"{self._directory}/{step}")

  def _set_aside(self, damaged: Mapping[int, DamagedError]) -> None:
    if not damaged or self._read_only:
      return
    if jax.process_index() == 0:
      for step in damaged:
        source = self._manager.directory / str(step)
        source.rename(_free_name(source.parent / f"{step}.damaged"))
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("damaged checkpoints set aside")
    self._manager.reload()


def check_metadata(
  saved: Mapping[str, Any], current: Mapping[str, Any], *, where: str = "the checkpoint"
) -> None:
  """Refuses to continue a run whose data, template or model has changed.

  Args:
    saved: metadata read from a checkpoint.
    current: metadata the run would save now.
    where: the checkpoint's name, for the message.

  Raises:
    ValueError: an entry differs or exists on one side only; the message has both values.
  """
  saved, current = _as_json(saved), _as_json(current)
  changed = [
    f"{key} was {_show(saved, key)} when it was saved and is {_show(current, key)} now"
    for key in sorted(saved.keys() | current.keys())
    if key not in saved or key not in current or saved[key] != current[key]
  ]
  if changed:
    raise ValueError(
      f"{where} belongs to another run: {'; '.join(changed)}. "
      "Restore the old setting, or start in a new workdir"
    )


def _show(metadata: Mapping[str, Any], key: str) -> str:
  return json.dumps(metadata[key]) if key in metadata else "absent"


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """Returns metadata as it will come back from disk: tuples as lists, keys as strings."""
  return json.loads(json.dumps(dict(metadata)))


def _describe(tree: Any) -> dict[str, str]:
  """Returns, for every array of a tree, its type and shape as `float32[3,4]`."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    for path, leaf in leaves
  }


def _check_arrays(saved: Mapping[str, str], wanted: Mapping[str, str], where: str) -> None:
  names = sorted(saved.keys() | wanted.keys())
  different = [name for name in names if saved.get(name) != wanted.get(name)]
  if different:
    shown = "; ".join(
      f"{name} is {saved.get(name, 'absent')}, wanted {wanted.get(name, 'absent')}"
      for name in different[:3]
    )
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    raise ValueError(f"{where} holds other arrays than the state: {shown}{more}")


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, "sharding", None)
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _is_addressable(state: Any) -> bool:
  return all(leaf.is_fully_addressable for leaf in jax.tree.leaves(state))


def _checksums(state: Any) -> list[int] | None:
  """Returns a CRC-32 per array, in tree order, or None where other hosts hold parts of them."""
  if not _is_addressable(state):
    return None
  return [zlib.crc32(_host_bytes(leaf)) for leaf in jax.tree.leaves(state)]


def _host_bytes(leaf: jax.Array) -> bytes:
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf).tobytes()


def _free_name(path: Any) -> Any:
  """Returns the path, with a number added when an earlier damaged checkpoint has the name."""
  number, free = 1, path
  while free.exists():
    number += 1
    free = path.with_name(f"{path.name}.{number}")
  return free
