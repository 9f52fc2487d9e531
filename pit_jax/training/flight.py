"""The flight recorder: what a step that went wrong was given, likely why, and how to repeat it.

WORKDIR/flight/<stage>-<step>/ holds record.json (the step, its metrics, the likely cause and the
command that replays it), inputs.npz (batch and key of the step) and the newest checkpoint before.
Steps are functions of state and number alone, so that checkpoint replays to the same numbers.
"""

import contextlib
import contextvars
import dataclasses
import json
import math
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from pit_jax import hosts
from pit_jax.storage import buckets, places

MOST = 3  # records of a stage and process; a run that is broken for good would fill the disk
FOLDER = "flight"


@dataclasses.dataclass(frozen=True)
class Recorder:
  """Limits of metrics beyond which a step of a stage is worth a record; 0 is none."""

  kl: float = 0.0  # nats per response between policy and reference
  negative_kl: float = 0.0  # nats below 0, where only chance can take that KL
  ratio: float = 0.0  # distance from 1 of the first minibatch's mean ratio

  def watches(self, name: str) -> bool:
    """Returns whether a metric can tell that a step went wrong."""
    limits = {"objective/kl": self.kl or self.negative_kl, "val/ratio_first": self.ratio}
    return name.rsplit("/", maxsplit=1)[-1] in ("loss", "skipped") or limits.get(name, 0.0) > 0

  def broken(self, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics of a step that are not as they should be."""
    return {
      name: value
      for name, value in metrics.items()
      if self.watches(name) and not self._is_sound(name, value)
    }

  def _is_sound(self, name: str, value: float) -> bool:
    # NaN fails each of these comparisons, and so is not sound.
    if name.endswith("skipped"):
      return value == 0
    if name == "objective/kl":
      return -(self.negative_kl or math.inf) < value <= (self.kl or math.inf)
    if name == "val/ratio_first":
      return abs(value - 1.0) <= self.ratio

    return math.isfinite(value)


def cause(broken: Mapping[str, float], inputs: Mapping[str, np.ndarray]) -> str:
  """Returns a sentence on why a step may have gone wrong, by its broken metrics and its inputs."""
  for name, value in inputs.items():
    if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
      rows = sorted({int(place[0]) for place in np.argwhere(~np.isfinite(np.atleast_1d(value)))})
      return (
        f"{name} was not finite in rows {rows[:8]} before the step began: look at what computed "
        "it, the reward or the model that sampled"
      )

  if any(name.endswith(("loss", "skipped")) for name in broken):
    return (
      "all that the step was given was finite, so its numbers overflowed on the way: the learning "
      "rate is too high, or the numbers of model.dtype are too narrow"
    )

  if "val/ratio_first" in broken:
    return (
      "before its first update a policy must find the log-probabilities it has just computed, and "
      "it found others: temperature, masks or precision differ between the two passes"
    )

  if broken["objective/kl"] < 0:
    return (
      "a KL is negative by chance alone, so the law that was sampled is not the one that scores: "
      "temperature, masks or positions under padding differ (see val/sampler_difference)"
    )

  return (
    "the policy has left the model it started from: the learning rate is too high or the KL "
    "coefficient too low, or it found a way to please the reward (read samples/)"
  )


def write(
  recorder: Recorder,
  stage: str,
  step: int,
  metrics: Mapping[str, float],
  given: Any,
  workdir: str | os.PathLike,
  checkpoint: str | None,
) -> str:
  """Records a step and returns a sentence on its cause, on where the record is and on its replay.

  Args:
    recorder: of the stage.
    stage: its name.
    step: completed steps after the one that went wrong.
    metrics: all its metrics.
    given: what the step was given, a pytree of arrays.
    workdir: of the run.
    checkpoint: the folder of the newest checkpoint before the step; None is the stage's start.
  """
  inputs = {
    jax.tree_util.keystr(path, simple=True, separator="."): _plain(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(hosts.fetch(given))
  }
  why = cause(recorder.broken(metrics), inputs)
  folder = pathlib.Path(workdir) / FOLDER / f"{stage}-{step}"
  command = shlex.join(["python", *sys.argv, f"--replay={stage}:{step}"])
  record = {"stage": stage, "step": step, "cause": why, "command": command}

  # As repr: a replay compares to the last bit, and JSON has no NaN.
  record["metrics"] = {name: repr(value) for name, value in metrics.items()}
  try:
    if hosts.is_first():
      _keep(folder, record, inputs, checkpoint)
  except OSError as error:  # a step that was skipped is no reason to end a run, nor is its record
    return f"{why}. It could not be recorded in {folder}: {error}"

  return f"{why}. Recorded in {places.address(folder)}; replay it with: {command}"


def _keep(folder: pathlib.Path, record, inputs, checkpoint: str | None) -> None:
  """Writes the files of a record."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  np.savez(folder / "inputs.npz", **inputs)

  if checkpoint is not None:
    copy = folder / "checkpoints" / os.path.basename(checkpoint)
    buckets.copy(checkpoint, places.address(copy))

  (folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _plain(leaf: Any) -> np.ndarray:
  # NumPy takes no keys, only their data.
  is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


# Replaying


class Replayed(SystemExit):
  """Ends the process after a replay; its code is 0 if the numbers were the recorded ones."""


@dataclasses.dataclass(frozen=True)
class Replay:
  """A step to take once more."""

  stage: str
  step: int

  def folder(self, workdir: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of the step's record; raises a ValueError where it was not recorded."""
    folder = pathlib.Path(workdir) / FOLDER / f"{self.stage}-{self.step}"
    if not (folder / "record.json").exists():
      there = sorted(path.name.replace("-", ":") for path in folder.parent.glob("*-*"))
      raise ValueError(
        f"step {self.step} of stage {self.stage} was not recorded in {folder.parent}; "
        f"recorded are {there or 'none'}"
      )

    return folder

  def compare(self, workdir: str | os.PathLike, metrics: Mapping[str, float]) -> int:
    """Prints recorded numbers beside those of the replay; returns how many differ."""
    record = json.loads((self.folder(workdir) / "record.json").read_text(encoding="utf-8"))
    print(f"{self.stage}, step {self.step}: {record['cause']}")
    different = 0

    for name, recorded in record["metrics"].items():
      # As text, so that NaN is the same as NaN.
      now = repr(metrics.get(name))
      different += now != recorded
      print(f"  {name:<28} {recorded:>24}  {'the same' if now == recorded else f'now {now}'}")

    return different


def parse(text: str | None) -> Replay | None:
  """Returns the step that STAGE:STEP names, None for None; raises a ValueError if it names none."""
  if text is None:
    return None
  stage, _, step = text.rpartition(":")
  if not stage or not step.isdecimal():
    raise ValueError(f"replay={text!r}; give STAGE:STEP, such as reward:37")

  return Replay(stage, int(step))


_ASKED: contextvars.ContextVar[Replay | None] = contextvars.ContextVar("replay", default=None)


def asked() -> Replay | None:
  """Returns the step that the stages run within `replaying` are to take once more."""
  return _ASKED.get()


@contextlib.contextmanager
def replaying(replay: Replay | None) -> Iterator[None]:
  """Within the block, `loop.fit` trains nothing and takes one recorded step of one stage again."""
  token = _ASKED.set(replay)
  try:
    yield
  finally:
    _ASKED.reset(token)
