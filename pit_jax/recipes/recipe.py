"""What a recipe declares of itself, which commands, checks, plans, experiments and exports read."""

import dataclasses
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from pit_jax import ranges
from pit_jax.feedback import ceilings
from pit_jax.report import presentation
from pit_jax.run import kinds

ROOM = pathlib.Path(__file__).parent
PARTS = (
  "recipe",
  "schedule",
  "finished",
  "running",
  "systems",
)  # files of this room that are no recipe


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A method: its stages, training, experiments, exports and report.

  Attributes:
    name: what a configuration's `recipe` calls it.
    kinds: kind of job → what sections of it are; see `kinds.Kind`.
    stages: configuration → the stages of a run, in order.
    train: context → what it trained, or reads back from the checkpoints of a finished run: a
      `stages.trained.Trained` of each model, by name or in a record. Nothing, where `run` does all.
    exported: what was trained → arguments of `export.save`: models, zero_point, published; None:
      nothing is exported.
    subject: (context, what was trained) → the finished run as its experiments see it.
    experiments: name → what measures its part of the results, in the order of the report.
    headline: the two systems whose comparison a run is about; None: it compares none.
    page: what its reports say beside figures.
    pooled: section of the results → (seed → what it found, what tells the seeds' prompts
      apart) → that of all together.
    caveat: configuration → what is to be added where none but the reward models that it trains can
      judge a run.
    needs: experiment → (the flag of a training that it needs, whether a configuration has it).
    allowed: key of a configuration that no other recipe has → what it may be; in
      "curriculum[].steps" it is one of every section of a tuple.
    problems: configuration → what is wrong with its values together.
    asks: (configuration, rows of every fold, those held out as many as are evaluated) → what a run
      asks of writers and raters of the section `feedback`, at most.
    own_texts: whether models write, and learn, texts that the data know nothing of; their responses
      then have as many tokens as data.max_response_length says, however short the data's are.
    run: (configuration, workdir) → None; for a recipe whose run is not to train, export and report.
  """

  name: str
  kinds: Mapping[str, kinds.Kind]
  stages: Callable[[ml_collections.ConfigDict], Sequence[kinds.Stage]]
  train: Callable[[Any], Any] = lambda context: None
  exported: Callable[[Any], dict[str, Any]] | None = None
  subject: Callable[[Any, Any], Any] | None = None
  experiments: Mapping[str, Callable[[Any], dict]] = dataclasses.field(default_factory=dict)
  headline: tuple[str, str] | None = None
  page: presentation.Presentation = presentation.ANY
  pooled: Mapping[str, Callable[[Mapping, Sequence], Any]] = dataclasses.field(default_factory=dict)
  caveat: Callable[[ml_collections.ConfigDict], str] = lambda config: ""
  needs: Mapping[str, tuple[str, Callable[[Mapping], bool]]] = dataclasses.field(
    default_factory=dict
  )
  allowed: Mapping[str, ranges.Range] = dataclasses.field(default_factory=dict)
  problems: Callable[[ml_collections.ConfigDict], Iterator[str]] = lambda config: iter(())
  asks: Callable[[ml_collections.ConfigDict, ceilings.Rows], Iterable[ceilings.Asked]] = (
    lambda config, rows: ()
  )
  own_texts: bool = False
  run: Callable[[ml_collections.ConfigDict, pathlib.Path], None] | None = None


def of(config: ml_collections.ConfigDict) -> Recipe:
  """Returns the recipe that a configuration names.

  It is a file of this room by its name, or any other Python file by its path; either holds a
  RECIPE.

  Raises:
    ValueError: there is none of this name, or it declares nothing.
  """
  return named(config.get("recipe"))


def named(name: Any) -> Recipe:
  """Returns a recipe by its name; see `of`."""
  if isinstance(name, str) and name.endswith(".py"):
    module = _module(pathlib.Path(name))
  elif name in names():
    # Imported when it is asked for: a recipe brings in all that its experiments want.
    module = importlib.import_module(f"pit_jax.recipes.{name}")
  else:
    known = f"one of {', '.join(names())}, or the path of a Python file that holds a RECIPE"
    raise ValueError(f"recipe {name!r} is not known; use {known}")

  recipe = getattr(module, "RECIPE", None)
  if not isinstance(recipe, Recipe):
    raise ValueError(f"recipe {name!r}: the file has no RECIPE, a record of recipes/recipe.py")
  return recipe


def names() -> list[str]:
  """Returns the names of the recipes that the library has."""
  files = [path.stem for path in ROOM.glob("*.py") if not path.stem.startswith("_")]
  folders = [path.parent.name for path in ROOM.glob("*/__init__.py")]
  return sorted({*files, *folders} - {*PARTS})


def _module(path: pathlib.Path) -> Any:
  """Returns the module in a file that no package holds."""
  if not path.is_file():
    raise ValueError(f"recipe {str(path)!r}: there is no such file")
  spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
  # Not entered in sys.modules: two files of one name do not get in each other's way.
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
