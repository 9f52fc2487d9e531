"""Finished runs, asked again: models are loaded by the stages that trained them."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import ml_collections

from pit_jax import progress
from pit_jax.evaluate import findings
from pit_jax.exchange import export
from pit_jax.feedback import language_models
from pit_jax.recipes import pit
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes.pit import next_round, subject
from pit_jax.report import pages, presentation
from pit_jax.run import checks, workdirs
from pit_jax.run import context as contexts
from pit_jax.storage import places
from pit_jax.training import interruption

ADDING = ("ablations", "uncriticised")  # keys that say whether there are systems beside the others
# Of a language judge: how it is reached and what it may cost, on which no verdict depends.
HOW_ASKED = frozenset((
  "cache", "budget_requests", "budget_tokens", "requests_per_minute", "retries", "wait", "timeout",
  "concurrency", "input_price", "output_price",
))  # fmt: skip
# What is to be done where a report was made under other values of `evaluation` than are asked for.
ANEW = "leave --experiment out, so that all are made anew under the same ones, or give"
REPORT_FIRST = (
  "finish that evaluation with `pit evaluate`, which makes all experiments anew, or repeat "
  "one --experiment with"
)


def evaluate(
  workdir: pathlib.Path, experiment: str | None, config: ml_collections.ConfigDict | None = None
) -> None:
  """Repeats one experiment of a finished run, or all of them, and rewrites its report.

  Args:
    workdir: folder of the run.
    experiment: one of its recipe's; None for all.
    config: the run's, in which values of `evaluation` may be other ones; None: as it is.

  Raises:
    ValueError: the folder holds no finished run, its recipe has no such experiment, other values
      than those of `evaluation` differ, or one experiment would be made under other values than
      the report's others.
  """
  config = config or workdirs.saved(workdir)
  recipe = recipes.of(config)
  if not recipe.kinds:
    raise ValueError(
      f"recipe {recipe.name} trains no model that could be asked again; `pit train` computes anew"
    )
  checks.values(config, recipe)
  language_models.check(config.evaluation.language_judge)
  findings.check(recipe, workdir, experiment)
  if experiment:
    _check_current(config, workdir, ANEW)
  with workdirs.programs(config, workdir), progress.shown():
    context = contexts.build(config, workdir, recipe)
    trained = recipe.train(context)
    with interruption.told("evaluation"):
      results = findings.of_run(context, recipe, trained, experiment)

  pages.publish(results, workdir, recipe.page)


def presentation_of(workdir: pathlib.Path) -> presentation.Presentation:
  """Returns what cards of exported models say of the method of a run.

  Raises:
    ValueError: its recipe is not known, or exports nothing.
  """
  paths = (workdir / "report" / "results.json", workdir / "config.json")
  record = next((export.read_object(path) for path in paths if path.is_file()), {})
  if "recipe" not in record:  # an export that somebody took from its workdir
    return presentation.ANY
  recipe = recipes.named(record["recipe"])
  if recipe.exported is not None:
    return recipe.page

  exporting = [name for name in recipes.names() if recipes.named(name).exported is not None]
  raise ValueError(
    f"{places.address(workdir)} is a run of recipe {recipe.name}, which exports no models; "
    f"{', '.join(exporting)} do"
  )


def results(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict | None:
  """Returns the results of a finished run of a configuration; None where they are to be made.

  Raises:
    ValueError: the folder holds a run of another configuration.
  """
  workdirs.is_new(config, workdir)
  path = workdir / "report" / "results.json"
  report = workdirs.read_object(path) if path.exists() else None
  return report if report is not None and is_current(config, report) else None


def is_current(config: ml_collections.ConfigDict, results: Mapping) -> bool:
  """Returns whether results have a configuration's systems and its values of `evaluation`."""
  reported = results.get("config", {})
  are_alike = all(bool(config.get(name)) == bool(reported.get(name)) for name in ADDING)
  return are_alike and not _changed(config, results)


def _check_current(config: ml_collections.ConfigDict, workdir: pathlib.Path, remedy: str) -> None:
  """Raises a ValueError if a run's report was made under other values of `evaluation`.

  An evaluation under new values claims the run's configuration when it begins, as training does,
  so one that did not end leaves a report of the old ones.
  """
  path = workdir / "report" / "results.json"
  if changed := _changed(config, workdirs.read_object(path)):
    raise ValueError(
      f"{path} was made under other values of `evaluation`; {remedy} the report's own "
      f"{', '.join(changed)} as --config.evaluation.…"
    )


def _changed(config: ml_collections.ConfigDict, results: Mapping) -> list[str]:
  """Returns which values of `evaluation` are others than those that results were measured under."""
  reported = _deciding(results.get("config", {}).get("evaluation", {}))
  current = _deciding(json.loads(config.evaluation.to_json()))
  named = sorted(reported | current)
  # What one of them lacks differs from a null.
  return [name for name in named if reported.get(name, ...) != current.get(name, ...)]


def _deciding(values: Mapping) -> dict:
  """Returns the values of `evaluation` on which a figure depends, as results.json has them."""
  judge = {k: v for k, v in values.get("language_judge", {}).items() if k not in HOW_ASKED}
  kept = {**values, "language_judge": judge}
  # JSON has no infinity: results.json holds null for it.
  infinite = [k for k, v in kept.items() if isinstance(v, float) and not math.isfinite(v)]
  return {**kept, **dict.fromkeys(infinite)}


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
    ValueError: the folder holds no finished run of pit, its report was made under other values of
      `evaluation`, or an argument is not allowed.
  """
  next_round.check(folds, minimum_margin)
  config = workdirs.saved(workdir)
  if config.recipe != "pit":
    raise ValueError(f"{workdir} is a run of recipe {config.recipe}; only pit improves answers")
  findings.check(pit.RECIPE, workdir, "ledger")
  _check_current(config, workdir, REPORT_FIRST)
  checks.values(config, pit.RECIPE)
  context = contexts.build(config, workdir, pit.RECIPE)
  run = subject.of_run(context, pit.RECIPE.train(context))

  limits = {"rounds": config.evaluation.rounds, "minimum_margin": minimum_margin}
  made = next_round.make(run.suite, context.rows.folds, folds, **limits)
  next_round.write(made, output, context.rows.data.rows if with_data else ())
