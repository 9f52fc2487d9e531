"""A recipe's stages as a planner sees them: their programs, how often, and what stays in memory."""

import dataclasses
import functools
from collections.abc import Callable

import ml_collections

from pit_jax.data import preferences
from pit_jax.run import abstract, kinds
from pit_jax.stages import programs


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a run."""

  planned: kinds.Stage  # as its recipe plans it
  steps: int
  makers: tuple[Callable[[], programs.Program], ...]  # of its programs, each called once per step
  kept: dict[str, int]  # role → bytes of each device that stay there while any of them runs

  @property
  def name(self) -> str:
    """As the run calls it."""
    return self.planned.name


def stages(run: abstract.Arrays, recipe: kinds.Method, rows: int) -> list[Stage]:
  """Returns the stages of a run, in order, on a data set of so many preferences.
  Models that later stages or the report need stay on the devices: they are the role `earlier`, and
  so is that of which all are made.
  """

  @functools.cache  # makes each program once, since the compiler need not see it twice
  def maker(make, *arguments):
    return functools.cache(lambda: make(run, *arguments))

  in_order = []
  base = abstract.device_bytes(run.base())
  for stage in recipe.stages(run.config):
    kind = kinds.kind_of(recipe, run.config, stage)
    makers = tuple(maker(*made) for made in kind.programs(run, stage))
    kept = {"earlier": abstract.device_bytes(run.kept(stage.kept)) + base}
    fold = _fold(run.config, rows, kinds.fold_of(run.config, stage))
    steps = max(kinds.steps_of(run.config, stage, fold), 1)
    in_order.append(Stage(stage, steps, makers, kept | kind.resident(run, stage)))

  return in_order


def _fold(config: ml_collections.ConfigDict, rows: int, name: str) -> int:
  """Returns the rows of a fold, or of several together, that are trained on."""
  return max(int(sum(rows * _share(config, one) for one in preferences.folds_in(name))), 1)


def _share(config: ml_collections.ConfigDict, name: str) -> float:
  """Returns the share of all rows that a fold trains on.

  It is so in expectation; the rows themselves are divided by a hash of their prompts.
  """
  data = config.data
  if name == preferences.JUDGE:
    return _share(config, preferences.JUDGED) * data.judge / (1 - data.judge)
  sizes = preferences.sizes_of(data)
  share = (1 - data.held_out) * sizes[name] / sum(sizes.values())
  share *= 1 - (name not in data.prompts_only) * data.validation

  return share * (1 - data.judge * (name == preferences.JUDGED))
