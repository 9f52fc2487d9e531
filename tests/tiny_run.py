"""The smallest run that has every part: three steps per stage on a hundred rows."""

import contextlib
import dataclasses
import importlib
import json
import pathlib
import re
import types
from unittest import mock

import markupsafe
import matplotlib.text
import ml_collections

from pit_jax import hosts
from pit_jax.recipes import pit, recipe, running
from pit_jax.recipes.pit import training
from pit_jax.report import plots, summary
from pit_jax.rollout import inference
from pit_jax.run import checks, made_rows
from pit_jax.run import context as contexts
from pit_jax.run import models as run_models
from pit_jax.run import rows as run_rows
from pit_jax.stages import reward, sft, trained
from pit_jax.tasks import synthetic
from pit_jax.types import Params

STEPS = 3
SMALL = {
  "log_every": 1,
  "log_every_rl": 1,
  "save_every": 2,
  "save_every_rl": 2,
  "inference_batch_size": 32,
  "model.base": "none",
  "model.width": 16,
  "model.layers": 1,
  "model.heads": 2,
  "model.kv_heads": 1,
  "model.head_width": 8,
  "model.hidden": 16,
  "mesh.shape": (1, 1, 1),
  "data.rows": 150,
  "data.held_out": 0.15,
  "data.validation": 0.3,
  "data.vocabulary": 400,
  "data.max_prompt_length": 32,
  "data.max_response_length": 32,
  "sft.steps": STEPS,
  "sft.batch_size": 8,
  "reward.steps": STEPS,
  "reward.batch_size": 8,
  "gap_reward.steps": STEPS,
  "gap_reward.batch_size": 8,
  "rl.steps": STEPS,
  "rl.batch_size": 8,
  "rl.value_warmup": 1,
  "dpo.steps": STEPS,
  "dpo.batch_size": 8,
  "evaluation.prompts": 16,
  "evaluation.rounds": 2,
  "evaluation.temperatures": (0.5, 1.0),
  "evaluation.temperature_prompts": 8,
  "frontier.checkpoints": 2,
  "frontier.prompts": 12,
}


def config(recipe: str = "pit", *size: str, **changes) -> ml_collections.ConfigDict:
  """Returns a configuration cut down to seconds; changes as `data__rows=30` for data.rows."""
  made = importlib.import_module(f"pit_jax.configs.{recipe}").get_config(*size)
  changed = {name.replace("__", "."): value for name, value in changes.items()}
  small = {name: value for name, value in SMALL.items() if name.split(".")[0] in made}
  made.update_from_flattened_dict(small | changed)
  for stage in made.get("curriculum", ()):
    stage.steps = STEPS
  return made


def build(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> contexts.Context:
  """Returns the context of a run of whatever recipe, its values checked as for a run."""
  method = recipe.of(config)
  checks.values(config, method)
  return contexts.build(config, workdir, method)


def changed(
  context: contexts.Context, *, rows: dict | None = None, models: dict | None = None
) -> contexts.Context:
  """Returns the context with other attributes of its rows and of its models."""
  return dataclasses.replace(
    context,
    rows=dataclasses.replace(context.rows, **rows or {}),
    models=dataclasses.replace(context.models, **models or {}),
  )


def pretended(asking: inference.Inference) -> contexts.Context:
  """Returns as much of a context as is known of models alone: no run, and no preferences."""
  rows = mock.Mock(spec=run_rows.Rows, settings=asking.settings, tokens=None)
  made = run_models.Models(asking)
  return mock.Mock(spec=contexts.Context, rows=rows, models=made, mesh=asking.mesh)


@contextlib.contextmanager
def watching(*modules: types.ModuleType):
  """Yields a dict to which every `run` of the modules of stages adds what it was given, by name.

  An entry is positional arguments, named ones, and the result.
  """
  seen = {}

  def watched_run(whole):
    def watch(context, name, *columns, **how):
      result = whole(context, name, *columns, **how)
      seen[name] = (columns, how, result)
      return result

    return watch

  with contextlib.ExitStack() as stack:
    for module in modules:
      stack.enter_context(mock.patch.object(module, "run", watched_run(module.run)))
    yield seen


@contextlib.contextmanager
def watched(module: types.ModuleType):
  """Yields a list to which every run of a recipe adds its context and what it trained."""
  kept, train = [], module.RECIPE.train

  def keep(context):
    kept.append((context, train(context)))
    return kept[-1][1]

  with mock.patch.object(module, "RECIPE", dataclasses.replace(module.RECIPE, train=keep)):
    yield kept


@contextlib.contextmanager
def here():
  """Lets commands train in this process, where other tests have traced what a tiny run computes.

  A process that computes already can join no hosts.
  """
  with mock.patch.object(hosts, "start", lambda *_, **__: None):
    yield


@contextlib.contextmanager
def unrendered():
  """Has reports drawn in full, but their figures laid out and painted nowhere.

  An <svg> has its label and every text that it would show but the numbers at ticks, which come with
  the layout, and the PNGs are empty files: painting takes longer than a run of this size, and no
  test of words or numbers looks at it.
  """

  def svg(figure, label, kind=""):
    texts = [artist.get_text() for artist in figure.findobj(matplotlib.text.Text)]
    shown = "".join(f"<text>{markupsafe.escape(text)}</text>" for text in texts)
    return f'<svg class="{kind}" role="img" aria-label="{markupsafe.escape(label)}">{shown}</svg>'

  with (
    mock.patch.object(plots, "lay_out", lambda figure: None),
    mock.patch.object(plots, "svg", svg),
    mock.patch.object(plots, "save", lambda figure, path: path.touch()),
    mock.patch.object(summary, "save", lambda results, shown, method, path: path.touch()),
  ):
    yield


def imitate(context: contexts.Context) -> trained.Trained:
  """Returns M_P^SFT, trained or read back."""
  job, start = context.config.sft, context.initial_policy()
  return sft.run(context, "sft_policy", context.rows.fold("sft"), start=start, job=job)


def compare(context: contexts.Context, start: Params, sampler: Params) -> reward.RewardModel:
  """Returns R_PIT, trained or read back."""
  given = {"start": start, "sampler": sampler, "job": context.config.gap_reward}
  return reward.gap(context, "gap_reward", context.rows.fold("reward"), **given)


def flags(recipe: str = "pit", **changes) -> list[str]:
  """Returns the same changes as arguments of launch/train.py."""
  made = importlib.import_module(f"pit_jax.configs.{recipe}").get_config()
  changed = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
  changed |= {f"curriculum[{i}].steps": STEPS for i in range(len(made.get("curriculum", ())))}
  kept = {name: value for name, value in changed.items() if re.split(r"[.\[]", name)[0] in made}
  return [f"--config.{name}={value}" for name, value in kept.items()]


@contextlib.contextmanager
def experimenting(module: types.ModuleType, *names: str):
  """Has the runs of a recipe make only these of its experiments: reports take long."""
  kept = {name: module.RECIPE.experiments[name] for name in names}
  with mock.patch.object(module, "RECIPE", dataclasses.replace(module.RECIPE, experiments=kept)):
    yield


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run of recipe pit, ablations included."""

  context: contexts.Context
  models: training.Models

  @property
  def workdir(self) -> pathlib.Path:
    return self.context.workdir


def finish(workdir: pathlib.Path) -> Run:
  """Runs recipe pit to its report; training that asks for a gold score fails."""
  kept, train = [], pit.RECIPE.train

  def guarded(context):
    with mock.patch.object(synthetic, "checks", _forbidden):
      kept.append(Run(context, train(context)))
    return kept[0].models

  with mock.patch.object(pit, "RECIPE", dataclasses.replace(pit.RECIPE, train=guarded)):
    running.run(config(ablations=True), workdir)
  return kept[0]


def read(workdir: pathlib.Path) -> Run:
  """Returns the run that `finish` left in a workdir, its models read back."""
  context = build(config(ablations=True), workdir)
  return Run(context, pit.RECIPE.train(context))


def references(texts) -> made_rows.MadeRows:
  """Returns texts as if the policy had written them as references."""
  rows = [{"response": text} for text in texts]
  return made_rows.MadeRows("references/policy", rows, hash="of a test")


def _forbidden(*_):
  raise AssertionError("training asked for the gold score")


def files(workdir: pathlib.Path) -> dict[str, bytes]:
  """Returns every file below a folder with its content."""
  return {
    path.relative_to(workdir).as_posix(): path.read_bytes()
    for path in sorted(workdir.rglob("*"))
    if path.is_file()
  }


def with_values(context, workdir, **changes):
  """Returns the context in another workdir, with some values of its configuration changed."""
  config = context.config.copy_and_resolve_references()
  changed = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict(changed)
  return dataclasses.replace(context, workdir=workdir, config=config)


def last_step(workdir, stage):
  """Returns the last step that a stage logged."""
  return json.loads((workdir / "metrics" / f"{stage}.jsonl").read_text().splitlines()[-1])["step"]
