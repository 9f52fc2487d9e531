"""What every stage returns: parameters, and facts that it measured of them."""

import dataclasses
from typing import Any

from pit_jax import hosts
from pit_jax.run import context as contexts
from pit_jax.training import writers
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Trained:
  """What a stage trained, and what it measured.

  Attributes:
    params: of the step that was kept: the best one where the section selects it, else the last.
    facts: JSON-serialisable. `steps` are those of the stage and `step` is the one that was kept;
      the others are what was logged of it, or of a reward model its calibration.
  """

  params: Params
  facts: dict[str, Any]


def measured(context: contexts.Context, name: str, *, steps: int, step: int) -> dict[str, Any]:
  """Returns the facts of a stage, and leaves them to the report.

  They are read from the metrics on disk, so that a finished stage which is read back has the same.
  How fast a step was is no fact of a model: another process takes other seconds for it.

  Args:
    name: the stage's name.
    steps: those that it takes.
    step: the one that was kept.
  """
  rows = writers.read(context.workdir / "metrics" / f"{name}.jsonl")
  row = next((row for row in rows if row["step"] == step), {})
  logged = {metric: value for metric, value in row.items() if not metric.startswith("perf/")}
  # One host writes the metrics, and where disks are not shared no other one has them.
  facts = hosts.agree({**logged, "steps": steps, "step": step})
  context.facts[name] = facts
  return facts


def ended(context: contexts.Context, result: Trained) -> Trained:
  """Returns what stays of a stage that nothing carries on: optimizer state, if any, is let go.

  The parameters wait where the run has models wait that are not trained.
  """
  return Trained(context.models.waiting(result.params), result.facts)
