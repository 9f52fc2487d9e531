"""A run of any recipe: it is checked, announced, trained, exported, measured and reported."""

import functools
import pathlib

import ml_collections

from pit_jax import progress
from pit_jax.evaluate import findings, subject
from pit_jax.exchange import export
from pit_jax.feedback import language_models, named, router
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import schedule
from pit_jax.report import pages
from pit_jax.run import checks, workdirs
from pit_jax.run import context as contexts
from pit_jax.training import interruption


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, *, stages_only: bool = False
) -> None:
  """Trains, exports, evaluates and reports; what is finished of it is read back.

  Args:
    config: of the run.
    workdir: of the run.
    stages_only: trains, and neither exports nor evaluates, which a later call does; nothing is left
      out of a recipe that has a `run` of its own.

  Raises:
    ValueError: the configuration, its data or its models cannot be used, or the workdir belongs to
      another run.
  """
  recipe = recipes.of(config)
  # Before anything is loaded: a wrong value is told in seconds, not after the data.
  checks.values(config, recipe)
  with workdirs.programs(config, workdir), progress.shown():
    (recipe.run or functools.partial(_run, recipe, stages_only=stages_only))(config, workdir)


def _run(
  recipe: recipes.Recipe,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  stages_only: bool = False,
) -> None:
  language_models.check(config.evaluation.language_judge)
  named.check(config)
  context = schedule.announced(contexts.build(config, workdir, recipe))
  prompts = (row.prompt for rows in context.rows.folds.values() for row in rows)
  router.check(config, functools.partial(named.classifier, context), prompts)
  subject.check_judges(context)
  trained = recipe.train(context)
  if stages_only:
    return
  if recipe.exported is not None:
    with progress.finished("export"):
      export.save(workdir, context.models.inference, **recipe.exported(trained))
  if recipe.subject is not None:
    with interruption.told("evaluation"):
      pages.publish(findings.of_run(context, recipe, trained), workdir, recipe.page)
