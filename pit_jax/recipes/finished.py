"""Finished runs, asked again: models are loaded by the stages that trained them."""

import pathlib
from collections.abc import Sequence

from pit_jax.evaluate import findings, next_round, report, subject
from pit_jax.recipes import pit, rlhf
from pit_jax.stages import context as contexts
from pit_jax.stages import workdirs

RECIPES = {
  "pit": (pit.train, findings.of_improver),
  "rlhf": (rlhf.train_policy, findings.of_policy),
}


def evaluate(workdir: pathlib.Path, experiment: str) -> None:
  """Repeats one experiment of a finished run and rewrites its report.

  Args:
    workdir: folder of the run.
    experiment: one of findings.EXPERIMENTS of its recipe.

  Raises:
    ValueError: if the folder holds no finished run, or its recipe has no such experiment.
  """
  config = workdirs.saved(workdir)
  findings.check(config.recipe, workdir, experiment)
  train, results = RECIPES[config.recipe]
  context = contexts.build(config, workdir)
  report.publish(results(context, train(context), only=experiment), workdir)


def export_preferences(
  workdir: pathlib.Path,
  output: pathlib.Path,
  folds: Sequence[str] = next_round.DEFAULT,
  minimum_margin: float = 0.0,
  with_data: bool = False,
) -> None:
  """Writes the pairs that a finished run makes for the next round, and says what was left out.

  Args:
    workdir: folder of the run.
    output: JSON lines; an older file is replaced.
    folds: whose prompts are answered and improved, some of next_round.FOLDS.
    minimum_margin: of R_PIT between the two responses, in deviations of the gap reward, at least 0.
    with_data: whether the run's own rows follow, so that the file alone can be trained on.

  Raises:
    ValueError: the folder holds no finished run of pit, or an argument is not allowed.
  """
  next_round.check(folds, minimum_margin)
  config = workdirs.saved(workdir)
  if config.recipe != "pit":
    raise ValueError(f"{workdir} is a run of recipe {config.recipe}; only pit improves answers")
  findings.check(config.recipe, workdir, "ledger")
  context = contexts.build(config, workdir)
  run = subject.of_improver(context, pit.train(context))
  rounds = config.evaluation.rounds
  made = next_round.make(
    run.suite, context.folds, folds, rounds=rounds, minimum_margin=minimum_margin
  )
  next_round.write(made, output, context.data.rows if with_data else ())
