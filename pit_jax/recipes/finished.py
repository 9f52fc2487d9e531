"""Finished runs, evaluated again: models are loaded by the stages that trained them."""

import pathlib

from pit_jax.evaluate import findings, report
from pit_jax.recipes import pit, reward, rlhf
from pit_jax.stages import context as contexts
from pit_jax.stages import workdirs

RECIPES = {
  "pit": (pit.train, findings.of_improver),
  "rlhf": (rlhf.train_policy, findings.of_policy),
  "reward": (reward.train, findings.of_rewards),
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
