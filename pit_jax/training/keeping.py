"""Retention of checkpoints: how many of a stage stay on disk."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from orbax.checkpoint.checkpoint_managers import preservation_policy

from pit_jax.storage import buckets

COMMITTED = "commit_success.txt"  # the last object of a checkpoint in a bucket, as Orbax names it


@dataclasses.dataclass(frozen=True)
class Keeping:
  """Which checkpoints of a stage stay on disk, and how long one may take."""

  # How many of the newest stay, at least 1. Two or more leave something to fall back on when the
  # newest is damaged.
  newest: int = 2
  # "lowest" or "highest" keeps one more, of all that were saved with a score that with the best
  # one; "" keeps none.
  best: str = ""
  timeout: float = 600.0  # seconds a background save may take before it counts as failed
  # Bytes of a state up to which it is saved with checksums: computing them holds up the step.
  checksum_limit: int = 1 << 30

  def __post_init__(self):
    if self.newest < 1:
      raise ValueError(f"newest={self.newest} would leave no checkpoint; use 1 or more")
    if self.best not in ("", "lowest", "highest"):
      raise ValueError(f'best={self.best!r}; use "lowest", "highest", or "" for none')

  @property
  def policy(self) -> Any:
    """The same as Orbax is told it."""
    newest = preservation_policy.LatestN(self.newest)
    if not self.best:
      return newest

    # Checkpoints without a score would all stay otherwise.
    best = preservation_policy.BestN(
      get_metric_fn=self.rank, n=1, keep_checkpoints_without_metrics=False
    )
    return preservation_policy.AnyPreservationPolicy([newest, best])

  def rank(self, metrics: Mapping[str, float]) -> float:
    """Returns the larger a number the better the score; the smallest if there is none."""
    score = metrics["score"]
    if score is None or not math.isfinite(score):
      return -math.inf
    return score if self.best == "highest" else -score


def last_good(directory: Any) -> str:
  """Says which step is the newest complete one, which after a failed save Orbax does not know.

  Args:
    directory: of the steps, as Orbax knows it, a path with `iterdir`.
  """
  is_remote = os.fspath(directory).startswith(buckets.SCHEME)
  try:
    with buckets.reaching(os.fspath(directory)):
      steps = [path for path in directory.iterdir() if path.name.isdecimal()]
      # In a bucket a folder is there with its first object, and whole with its last.
      complete = [path for path in steps if not is_remote or (path / COMMITTED).exists()]
  except buckets.UnreachableError:
    return "Which one is the newest complete one cannot be seen now."

  newest = max((int(path.name) for path in complete), default=None)
  return "there is none yet." if newest is None else f"step {newest} is the newest complete one."


def remedy(directory: str) -> str:
  """Returns advice on a checkpoint that could not be written into a folder."""
  is_remote = directory.startswith(buckets.SCHEME)
  return f"See that {'the bucket can be written to' if is_remote else 'there is room on the disk'}"
