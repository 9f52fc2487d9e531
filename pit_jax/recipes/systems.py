"""Systems of a finished run as files: the policy of one of those that a report compares."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from pit_jax.evaluate import findings
from pit_jax.exchange import export
from pit_jax.recipes import recipe as recipes
from pit_jax.run import checks, workdirs
from pit_jax.run import context as contexts


@contextlib.contextmanager
def exported(workdir: pathlib.Path, system: str) -> Iterator[pathlib.Path]:
  """Gives a folder with a finished run whose policy is that of one of its systems.

  It holds what an export reads, and is removed after the block; the run stays as it is.

  Raises:
    ValueError: the folder holds no finished run, or no model of it answers as this system.
  """
  config = workdirs.saved(workdir)
  recipe = recipes.of(config)
  if recipe.subject is None:
    raise ValueError(f"{workdir} is a run of recipe {recipe.name}, which compares no systems")
  findings.check(recipe, workdir, None)
  checks.values(config, recipe)
  context = contexts.build(config, workdir, recipe)
  run = recipe.subject(context, recipe.train(context))
  models = getattr(run, "models", {})
  if system not in models:
    there = f"those with one are {', '.join(models)}" if models else "leave --system out"
    raise ValueError(f"--system={system}: no model of {workdir} answers as this system; {there}")

  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder)
    export.save(copy, context.models.inference, {"policy": models[system]})
    shutil.copytree(workdir / "report", copy / "report")
    yield copy
