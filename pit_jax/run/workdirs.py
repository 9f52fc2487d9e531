"""Whose workdir it is: the configuration of its run, and files that a kill leaves whole."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import ml_collections
from ml_collections import config_dict

from pit_jax import compiling, hosts
from pit_jax.storage import places
from pit_jax.training import flight, timing

# Parts of a configuration on which nothing depends that is trained, but for the rounding of other
# devices: a run continues under other ones, and a finished run is evaluated anew. Of the models,
# `ablations` and `uncriticised` say which further ones are trained.
CHANGEABLE = (
  "ablations", "checkpoints", "compilation", "data.cache", "evaluation", "log_every",
  "log_every_rl", "mesh", "model.attention", "model.offload", "model.remat", "profile", "recorder",
  "save_every", "save_every_rl", "uncriticised", "wandb",
)  # fmt: skip
CONFIG = "config.json"  # below a workdir: the configuration of its run
NO_CACHE = "none"  # of compilation.cache
SHOWN = 5  # values in which configurations differ


def write_text(path: pathlib.Path, content: str) -> None:
  """Writes a file under a temporary name and renames it, so that a kill leaves no half file.

  The first host writes; all return when it is there for each of them.
  """
  if hosts.is_first():
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)

  places.share(path)


def is_new(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> bool:
  """Returns whether no run has claimed the workdir.

  Raises:
    ValueError: if a run with another configuration has; what is CHANGEABLE may differ.
  """
  path = workdir / "config.json"
  if not path.exists():
    return True
  saved = _flat(read_object(path))

  # Through JSON, where tuples are lists, as those of the file are.
  current = _flat(json.loads(config.to_json()))
  changed = [
    f"{name}: {saved.get(name)!r} there, {current.get(name)!r} now"
    for name in sorted(saved.keys() | current.keys())
    if saved.get(name) != current.get(name)
    # With the dot a part covers what lies below it, and no name that only begins alike.
    if not any(f"{name}.".startswith(f"{part}.") for part in CHANGEABLE)
  ]

  if changed:
    shown = "; ".join(changed[:SHOWN])
    if len(changed) > SHOWN:
      shown += f"; and {len(changed) - SHOWN} more"
    raise ValueError(
      f"{places.address(workdir)} holds a run with another configuration ({shown}); "
      "use that configuration to continue it, or another --workdir"
    )

  return False


def saved(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """Returns the configuration of the run in a workdir; raises a ValueError if there is none."""
  path = workdir / "config.json"
  if not path.is_file():
    raise ValueError(
      f"{places.address(workdir)} holds no run: there is no {path.name}; give the --workdir of one"
    )

  return _configuration(read_object(path)).lock()


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Returns the JSON object of a file; raises a ValueError if it holds what no run wrote."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{places.address(path)} cannot be read as JSON: {error}") from error

  if not isinstance(content, dict) or not content:
    raise ValueError(f"{places.address(path)} is of no run: it must hold a JSON object with fields")
  return content


def _configuration(content: Any) -> Any:
  """Returns what JSON holds as configurations hold it: mappings by attribute, lists as tuples."""
  if isinstance(content, dict):
    # A plain None would have no reference, by which keys are walked.
    empty = config_dict.placeholder(object)
    fields = {k: empty if v is None else _configuration(v) for k, v in content.items()}
    return ml_collections.ConfigDict(fields)
  return tuple(map(_configuration, content)) if isinstance(content, list) else content


def begin(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Writes down whose workdir this is, and that a process begins to work on it.

  A step that is replayed changes nothing of its run.
  """
  if flight.asked() is not None:
    return
  content = json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True)
  write_text(workdir / "config.json", content)
  timing.begin(workdir)


@contextlib.contextmanager
def programs(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Iterator[None]:
  """Within the block a run keeps its compiled programs; see `compiling.kept`.

  In the workdir they stay if a run claims it within the block: one that is refused leaves nothing.
  """
  # A recipe that trains no network has no such section, and no programs worth keeping.
  section = config.get("compilation")
  if section is None or section.cache == NO_CACHE:
    yield
    return

  own = workdir / "programs"
  was_there = own.exists()
  try:
    with compiling.kept(places.local("compilation.cache", section.cache or own), section.limit):
      yield
  finally:
    if not was_there and not (workdir / "config.json").exists():
      shutil.rmtree(own, ignore_errors=True)


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
  """Returns {"rl.steps": 60, "curriculum[0].name": "data", …} of nested mappings and lists."""
  if isinstance(tree, dict):
    parts = {f"{name}.{key}": sub for key, sub in tree.items()}
  elif isinstance(tree, list):
    parts = {f"{name}[{i}]": sub for i, sub in enumerate(tree)}
  else:
    return {name.removeprefix("."): tree}

  return {leaf: value for path, sub in parts.items() for leaf, value in _flat(sub, path).items()}
