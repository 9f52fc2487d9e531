"""Shows that a restart changes nothing: N steps of every stage against k, a restart, and N − k."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax import progress
from pit_jax.training import interruption


@dataclasses.dataclass(frozen=True)
class Link:
  """A saved step of a run."""

  stage: str
  step: int  # completed ones
  digest: str  # of its arrays and of all saved steps of the stage before it
  arrays: Mapping[str, int]  # name → CRC-32, of the whole state: parameters and optimiser's alike


def chain(workdir: str | os.PathLike) -> list[Link]:
  """Returns the checkpoints of a run, its stages in the order in which they ended.

  Raises:
    ValueError: a checkpoint has no checksums.
  """
  links = []
  logs = (pathlib.Path(workdir) / "metrics").glob("*.jsonl")
  for log in sorted(logs, key=lambda path: path.stat().st_mtime):
    digest = ""
    for folder in _steps(pathlib.Path(workdir) / "checkpoints" / log.stem):
      record = json.loads((folder / "record" / "metadata").read_text(encoding="utf-8"))
      if "checksums" not in record:
        raise ValueError(f"{folder} has no checksums; raise checkpoints.checksum_limit")
      arrays = dict(zip(record["arrays"], record["checksums"], strict=True))

      # Chained: equal digests say that all saved steps before are equal too.
      digest = hashlib.sha256(f"{digest} {sorted(arrays.items())}".encode()).hexdigest()
      links.append(Link(log.stem, int(folder.name), digest, arrays))

  return links


def _steps(folder: pathlib.Path) -> list[pathlib.Path]:
  steps = [path for path in folder.iterdir() if path.name.isdecimal()]
  return sorted(steps, key=lambda path: int(path.name))


def difference(whole: Sequence[Link], parts: Sequence[Link]) -> str | None:
  """Returns the first difference between two runs' checkpoints as a sentence, or None."""
  for one, other in zip(whole, parts, strict=False):
    if (one.stage, one.step) != (other.stage, other.step):
      return f"{one.stage} saved step {one.step}, after a restart {other.stage} {other.step}"
    names = one.arrays.keys() | other.arrays.keys()
    different = [name for name in sorted(names) if one.arrays.get(name) != other.arrays.get(name)]

    if different:
      others = f" and {len(different) - 1} more arrays" if len(different) > 1 else ""
      return f"{one.stage}, step {one.step}: {different[0]}{others} differ after a restart"

  if len(whole) != len(parts):
    return f"{len(whole)} steps were saved, with restarts {len(parts)}"
  return None


def tell(whole: Sequence[Link], parts: Sequence[Link]) -> int:
  """Prints both chains and what differs first; returns the exit code, 0 if nothing does."""
  print(f"{'stage':<16} {'step':>5}  {'undisturbed':<16}  {'restarted':<16}")
  for one, other in zip(whole, parts, strict=False):
    print(f"{one.stage:<16} {one.step:>5}  {one.digest[:16]}  {other.digest[:16]}")
  first = difference(whole, parts)
  stages = len({link.stage for link in whole})
  print(f"error: {first}" if first else f"{stages} stages: a restart changes no bit")

  return int(first is not None)


def changes(config: Mapping[str, Any], steps: int, folder: pathlib.Path) -> dict[str, Any]:
  """Returns the overrides of a run's configuration: few steps, all saved, little else.

  What both runs need is kept in the folder.
  """
  jobs = {name: job for name, job in config.items() if isinstance(job, Mapping)}
  changed: dict[str, Any] = {f"{name}.steps": steps for name, job in jobs.items() if "steps" in job}
  changed |= {f"curriculum[{i}].steps": steps for i in range(len(config.get("curriculum", ())))}
  changed |= {"save_every": 1, "save_every_rl": 1, "checkpoints.keep": steps}

  # Every state has checksums, however large.
  changed |= {"checkpoints.checksum_limit": 1 << 62}
  if "rl" in config:
    changed["rl.value_warmup"] = min(config["rl"]["value_warmup"], 1)

  if not config["data"]["cache"]:
    changed["data.cache"] = folder / "tokens"
  if not config["compilation"]["cache"]:
    changed["compilation.cache"] = str(folder / "programs")
  return changed


def run(
  config: Mapping[str, Any], workdir: pathlib.Path, command: Sequence[str], steps: int, stop: int
) -> int:
  """Runs a command twice below WORKDIR/verify, once with restarts, and compares.

  Every stage takes N steps, and is stopped once after k of them. The exit code, which is returned,
  is 0 if no bit differs.

  Args:
    config: of the run.
    workdir: of the run.
    command: that trains it; values, a workdir and when to stop are added.
    steps: N, at least 2.
    stop: k, from 1 to N − 1.

  Raises:
    ValueError: k is not between 1 and N − 1, or one of the runs fails.
  """
  if not 1 <= stop < steps:
    raise ValueError(f"verify_steps={steps}, stopped after {stop}; stop after 1 to {steps - 1}")
  if "model" not in config:
    raise ValueError("--verify_resume: this recipe trains no network, so nothing is resumed")
  folder = workdir / "verify"
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)

  values = [f"--config.{name}={value}" for name, value in changes(config, steps, folder).items()]
  # What is compared are the states of training: neither run is evaluated.
  values.append("--stages_only")
  ways = {"whole": ("undisturbed", []), "parts": ("with restarts", [f"--stop_after={stop}"])}
  with progress.shown():
    for number, (name, (how, options)) in enumerate(ways.items(), start=1):
      started = [*command, *values, f"--workdir={folder / name}", *options]
      with progress.finished(f"verify: run {number} of 2, {how}") as figures:
        starts = _finish(started, folder / f"{name}.log")
        figures.append(f"{starts} starts" if starts > 1 else "1 start")
  return tell(chain(folder / "whole"), chain(folder / "parts"))


def _finish(command: Sequence[str], log: pathlib.Path) -> int:
  """Runs a command until it ends by itself, and returns how often it was started.

  One that was stopped is started again. What it says is in the log; its last line is repeated now
  and then.
  """
  code: int | None = interruption.CODE
  starts = 0
  while code == interruption.CODE:
    starts += 1
    with (
      log.open("a", encoding="utf-8") as file,
      subprocess.Popen(command, stdout=file, stderr=file) as process,
    ):
      while (code := _waited(process)) is None:
        progress.say(progress.joined(f"  start {starts}: {_last(log)}"))

  if code:
    raise ValueError(f"{log} ends with exit code {code}: {_last(log)}")
  return starts


def _waited(process: subprocess.Popen) -> int | None:
  """Returns the exit code of a process; None where it does not end for a while."""
  with contextlib.suppress(subprocess.TimeoutExpired):
    return process.wait(progress.EVERY)
  return None


def _last(log: pathlib.Path) -> str:
  """Returns the last line of a log."""
  return "".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:])
