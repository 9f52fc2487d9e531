"""What a sweep tries: keys of a configuration, the values of each, and how they are chosen."""

import dataclasses
import importlib.util
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from ml_collections.config_flags import config_path

from pit_jax import config_keys, configurations
from pit_jax.recipes import recipe as recipes
from pit_jax.run import checks

SAMPLERS = ("grid", "random", "tpe")
SEED = 0  # of random choices
COMBINED = 500  # trials, at most, whose values are tried together on the configuration

Stored = bool | int | float | str | None  # what a storage of optuna keeps


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers between two bounds, both included; whole ones if the bounds are."""

  low: float | int
  high: float | int
  log: bool = False

  def __post_init__(self):
    if not self.low < self.high or (self.log and self.low <= 0):
      raise ValueError(f"{self} is no range; low must be below high, and above 0 where log is set")

  @property
  def is_whole(self) -> bool:
    """Whether only whole numbers are meant."""
    return isinstance(self.low, int) and isinstance(self.high, int)

  def draw(self, source: np.random.Generator) -> float | int:
    """Returns a number, uniform in itself or in its logarithm."""
    low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
    drawn = source.uniform(low, high)
    drawn = float(np.exp(drawn) if self.log else drawn)
    return round(drawn) if self.is_whole else drawn


@dataclasses.dataclass(frozen=True)
class Sweep:
  """What is tried."""

  sampler: str  # "grid" tries every combination, "random" draws, "tpe" learns from trials before
  trials: int  # how many; of a grid all, whatever this says
  space: dict[str, tuple | Range]  # key, as on the command line → its values, or their range
  # The two systems whose comparison ranks trials; None: those that the recipe's runs are about.
  compared: tuple[str, str] | None = None

  def value(self, key: str, stored: Stored) -> Any:
    """Returns the value of a key that a storage holds; see `as_stored`."""
    values = self.space[key]
    if isinstance(values, Range):
      return stored
    return next(value for value in values if as_stored(value) == stored)

  def slots(self) -> list[dict[str, Any]]:
    """Returns the values of every trial, as far as they are known before the first one ends."""
    if self.sampler == "grid":
      combined = itertools.product(*self.space.values())
      return [dict(zip(self.space, values, strict=True)) for values in combined]

    if self.sampler == "tpe":
      return [{} for _ in range(self.trials)]
    source = np.random.default_rng(SEED)
    return [
      {key: _drawn(values, source) for key, values in self.space.items()}
      for _ in range(self.trials)
    ]


def as_stored(value: Any) -> Stored:
  """Returns a value as a storage keeps it: tuples and lists as text, all others as they are."""
  return value if isinstance(value, Stored) else repr(value)


def load(path: str | os.PathLike, config: ml_collections.ConfigDict) -> Sweep:
  """Returns the sweep over a configuration that `get_sweep` of a file describes.

  Raises:
    ValueError: if the file cannot be read, or what it describes is no sweep over this config.
  """
  spec = importlib.util.spec_from_file_location("sweep_file", pathlib.Path(path))
  module = importlib.util.module_from_spec(spec) if spec else None
  try:
    spec.loader.exec_module(module)
    described = dict(module.get_sweep())
  except (AttributeError, OSError, SyntaxError, TypeError) as error:
    raise ValueError(
      f"{path} holds no sweep: {error}; give a Python file whose get_sweep() returns a dict with "
      "sampler, trials and space"
    ) from error

  try:
    return _checked(described, config)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from error


def _checked(found: Mapping[str, Any], config: ml_collections.ConfigDict) -> Sweep:
  if {*found} - {"compared"} != {"sampler", "trials", "space"}:
    raise ValueError(
      f"it has {sorted(found)}; a sweep has sampler, trials, space, and may have compared"
    )
  sampler = found["sampler"]
  trials = found["trials"]
  if sampler not in SAMPLERS:
    raise ValueError(f"sampler {sampler!r} is not known; use one of {SAMPLERS}")
  space = {key: _values(key, values) for key, values in found["space"].items()}
  if not space:
    raise ValueError("its space is empty; name at least one key of the configuration")

  ranges = [key for key, values in space.items() if isinstance(values, Range)]
  if sampler == "grid" and ranges:
    raise ValueError(f"{ranges} are ranges, and a grid needs values; list them, or use random")
  if sampler != "grid" and trials < 1:
    raise ValueError(f"trials={trials} of sampler {sampler!r}; use 1 or more")
  compared = found.get("compared")
  if compared is not None and not _is_pair(compared):
    raise ValueError(f"compared={compared!r}; give the names of two systems, ('a', 'b')")
  sweep = Sweep(sampler, trials, space, compared and tuple(compared))
  _try(sweep, config)

  return sweep


def _is_pair(value: Any) -> bool:
  is_list = isinstance(value, list | tuple)
  return is_list and len(value) == 2 and all(isinstance(one, str) for one in value)


def _try(sweep: Sweep, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError for what no run could be given, before the first one begins."""
  for key, values in sweep.space.items():
    config_keys.check(key, config)
    for value in (values.low, values.high) if isinstance(values, Range) else values:
      _set(config, {key: value})

  # The empty slot is the configuration itself.
  for slot in [{}, *sweep.slots()[:COMBINED]]:
    _check_run(_set(config, slot), slot)


def _set(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns the configuration with some values, set as a run is given them.

  Raises:
    ValueError: one cannot be set, or would be read as another one.
  """
  changed = config.copy_and_resolve_references()
  for key, value in values.items():
    try:
      configurations.change(changed, [configurations.argument(key, value)])
    except (TypeError, ValueError) as error:
      raise ValueError(f"{key}={value!r} cannot be set: {error}") from error

    # A flag makes of a text what its key holds, which may be another value.
    read = config_path.get_value(key, changed)
    if _plain(read) != _plain(value):
      kind = type(config_path.get_value(key, config)).__name__
      raise ValueError(f"{key}={value!r} would be read as {read!r}; give values of type {kind}")

  return changed


def _check_run(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
  """Raises a ValueError where no run could have these values together."""
  recipe = recipes.of(config)
  if recipe.headline is None:
    able = [name for name in recipes.names() if recipes.named(name).headline]
    raise ValueError(
      f"recipe {recipe.name!r} has no comparison that runs could be ranked by; use one of "
      f"{', '.join(able)}"
    )

  if not values:  # what the first run has is checked with it
    return
  try:
    checks.values(config, recipe)
  except ValueError as error:
    together = ", ".join(f"{key}={value!r}" for key, value in values.items())
    raise ValueError(f"no run could have {together}: {error}") from error


def _plain(value: Any) -> Any:
  """Returns a value in which lists are tuples, so that both compare."""
  return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _values(key: str, values: Any) -> tuple | Range:
  if isinstance(values, Mapping):
    return Range(**values)
  if isinstance(values, np.ndarray):
    values = values.tolist()
  if isinstance(values, str) or not isinstance(values, Sequence) or not values:
    raise ValueError(f"{key}: {values!r}; give a tuple of values, or a dict with low and high")

  # NumPy's whole numbers are no int, and would be stored as texts.
  values = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
  if len(set(map(as_stored, values))) < len(values):
    raise ValueError(f"{key}: {values!r} has a value twice; give each once")
  return values


def _drawn(values: tuple | Range, source: np.random.Generator) -> Any:
  if isinstance(values, Range):
    return values.draw(source)
  return values[source.integers(len(values))]
