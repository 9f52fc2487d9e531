"""Kinds of training jobs and the stages of a recipe, by which checks, memory and plans go."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import ml_collections

from pit_jax import ranges
from pit_jax.data import batches

# Formats of prompts: x alone, x with a reference response.
POLICY = "policy"
IMPROVER = "improver"
NONE = "none"  # the network of a reward that no device computes


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage of training as a recipe plans it."""

  name: str  # as checkpoints, metrics and progress have it
  section: str  # of the configuration, which says its kind, its fold and how it trains
  steps: int | None = None  # how many it takes; None: as many as its section says
  fold: str = ""  # whose rows it sees; "": that of its section
  made: int | None = None  # rows that are made of the fold's, where their number is settled
  prompts: str = POLICY  # or IMPROVER
  # Of RL, the network that gives the reward, as `abstract.Arrays.network` names it, or NONE.
  reward: str = "reward"
  kept: tuple[str, ...] = ()  # networks of the models that stay on the devices and have no part
  kind: str = ""  # "": that of its section
  part: str = ""  # of the configuration, whose values stand for the section's: "curriculum[0]"
  # Key of the section → what it is in this stage, where that is another value; as pairs.
  values: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Kind:
  """What all jobs of one kind have in common."""

  # Key of a section → what it may be; each has to be there.
  allowed: Mapping[str, ranges.Range]
  cuts: tuple[str, ...]  # the keys that say into how many parts a batch is cut, one in another
  # Section → how many networks a row passes in a step (there 1, there and back 3); progress
  # compares stages of different kinds by it.
  passes: Callable[[Any], float]
  # (arrays, stage) → phase → what is kept meanwhile → bytes of one device. No phase: the compiler
  # alone knows.
  needs: Callable[[Any, Stage], dict[str, dict[str, int]]]
  # (arrays, stage) → makers of the programs that a step runs, in order, with arguments.
  programs: Callable[[Any, Stage], Sequence[tuple]]
  # (arrays, stage) → role → bytes of one device that stay while any of them runs.
  resident: Callable[[Any, Stage], dict[str, int]] = lambda *_: {}
  # The same of keys that a section need not have.
  optional: Mapping[str, ranges.Range] = dataclasses.field(default_factory=dict)
  # (name, section) → what is wrong with values together, each of which is within its range.
  problems: Callable[[str, Any], Iterator[str]] = lambda *_: iter(())
  # Metrics that results keep over the steps; the first is drawn.
  curves: tuple[str, ...] = ("loss",)
  # Metrics that say how a finished stage turned out → what the line about it calls them, in order;
  # those that it logs.
  figures: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"loss": "loss"})
  unit: str = "steps"  # what a step is called
  reads_responses: bool = True  # learns from the data's responses; else it reads prompts alone
  learns: bool = True  # else it has no optimiser and no progress


@runtime_checkable
class Method(Protocol):
  """What a run has to know of its recipe."""

  name: str
  kinds: Mapping[str, Kind]
  allowed: Mapping[str, ranges.Range]  # of keys of its own; see `ranges.outside`

  def stages(self, config: ml_collections.ConfigDict) -> Sequence[Stage]:
    """Returns the stages of a run, in order."""

  def problems(self, config: ml_collections.ConfigDict) -> Iterator[str]:
    """Yields what is wrong with a configuration beside its sections."""

  def asks(self, config: ml_collections.ConfigDict, rows: Mapping[str, int]) -> Iterable[Any]:
    """Returns what a run asks of writers and raters at most, with so many rows of each fold."""


def sections(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the names of the sections by which a run trains."""
  parts = {name: config.get_ref(name).get() for name in config}
  return [name for name, part in parts.items() if hasattr(part, "keys") and "kind" in part]


def named(method: Method, kind: Any) -> Kind | None:
  """Returns a kind by what a section says, whatever that is; None where the method has no such."""
  return method.kinds.get(kind) if isinstance(kind, str) else None


def kind_of(method: Method, config: ml_collections.ConfigDict, stage: Stage) -> Kind:
  """Returns the kind of a stage."""
  return method.kinds[stage.kind or config[stage.section].kind]


def job_of(config: ml_collections.ConfigDict, stage: Stage) -> ml_collections.ConfigDict:
  """Returns the section by which a stage trains, with the stage's own values in it."""
  return changed(config[stage.section], stage.values)


def changed(
  job: ml_collections.ConfigDict, values: Sequence[tuple[str, Any]]
) -> ml_collections.ConfigDict:
  """Returns a section in which some keys have other values."""
  if not values:
    return job
  job = job.copy_and_resolve_references()
  job.update(dict(values))
  return job


def fold_of(config: ml_collections.ConfigDict, stage: Stage) -> str:
  """Returns the fold whose rows a stage sees."""
  return stage.fold or config[stage.section].fold


def steps_of(config: ml_collections.ConfigDict, stage: Stage, rows: int) -> int:
  """Returns how many steps a stage takes with so many rows in its fold."""
  job = job_of(config, stage)
  if stage.steps is not None:
    return stage.steps
  if stage.kind:  # every row once
    return math.ceil(rows / job.batch_size)

  return job.steps or batches.count_steps(rows, job.batch_size, job.epochs)
