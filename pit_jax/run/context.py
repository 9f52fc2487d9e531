"""What every stage of a run shares: data, tokenizer, models, mesh, and where things are written."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_collections

from pit_jax import config_keys, hosts, parallel, progress
from pit_jax.data import encode, preferences, sources
from pit_jax.models import pure
from pit_jax.rollout import inference
from pit_jax.run import abstract, checks, forms, kinds, memory, origin, published_models, workdirs
from pit_jax.run import models as run_models
from pit_jax.run import rows as run_rows
from pit_jax.storage import places
from pit_jax.training import flight, interruption, keeping, loop, operations, timing, writers
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Context:
  """A run: its configuration, its folder and its random keys, beside its rows, models and devices.

  Stages read it and write only below `workdir`.
  """

  config: ml_collections.ConfigDict
  workdir: pathlib.Path
  recipe: kinds.Method
  mesh: jax.sharding.Mesh
  rows: run_rows.Rows  # its preferences, in folds and in tokens
  models: run_models.Models  # its networks at work, and what others trained
  outlook: timing.Outlook | None = None  # what is left to be trained, for the progress shown
  # Hashes of what the run made for itself and a stage is trained on, by name; see made_rows.py.
  made_rows: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # Stage → its facts, which stages leave here as they end, for the report; see stages/trained.py.
  facts: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

  def announced(
    self, lines: Iterable[str], work: Mapping[str, tuple[str, int, float]], evaluation: float
  ) -> "Context":
    """Prints what the run will do, and returns it with an outlook; see `timing.Outlook`."""
    for line in lines:
      progress.say(line)
    return dataclasses.replace(self, outlook=timing.Outlook(work, evaluation))

  @functools.cached_property
  def metadata(self) -> dict[str, Any]:
    """What a checkpoint depends on; one saved under another is refused."""
    model = dataclasses.asdict(self.models.language.config)
    for name in ("attention", "remat"):  # those of the devices: a checkpoint is for any of them
      del model[name]
    made = {"made rows": dict(self.made_rows)} if self.made_rows else {}
    return made | {
      "template": self.rows.settings.template.hash,
      "tokenizer": self.rows.settings.tokenizer.fingerprint,
      "data": self.rows.data.fingerprint,
      "model": model,
      "base": self.models.base and self.models.base.fingerprint,
      "reward": self.models.reward and self.models.reward.metadata,
      "seed": self.config.seed,
    }

  def fit(
    self,
    name: str,
    advance: loop.Advance,
    state: Any,
    *,
    best: str = "",
    score: str = "",
    phases: timing.Phases | None = None,
    **arguments: Any,
  ) -> Any:
    """Trains a stage of this run and returns its last state, or its best one.

    Args:
      name: the stage's name.
      advance: as for `loop.fit`, as are the state and the other arguments.
      best: which checkpoint is kept beside the newest, as for `keeping.Keeping`.
      score: the metric by which it is the best.
      phases: measures the parts of `advance`.

    Raises:
      ValueError: the recipe does not declare the stage: plans and the report would know nothing of
        it.
    """
    declared = {stage.name: stage for stage in self.recipe.stages(self.config)}
    if name not in declared:
      raise ValueError(
        f"recipe {self.recipe.name} trains a stage {name!r} and declares {', '.join(declared)}; "
        "give it the name in `stages` of the recipe"
      )

    c = self.config.checkpoints
    profile = self.config.profile
    surroundings = operations.Operations(
      keeping=keeping.Keeping(c.keep, best, c.timeout, c.checksum_limit),
      score=score,
      recorder=flight.Recorder(**self.config.recorder),
      phases=phases,
      trace=timing.Trace(profile.first, profile.last if profile.stage == name else 0),
      extra_writers=functools.partial(self._extra_writers, name),
      outlook=self.outlook,
      figures=kinds.kind_of(self.recipe, self.config, declared[name]).figures,
    )

    arguments |= {"workdir": self.workdir, "metadata": self.metadata, "surroundings": surroundings}
    with self.timed(name):
      return loop.fit(name, advance, state, **arguments)

  def _extra_writers(self, name: str) -> tuple[writers.Writer, ...]:
    """Returns the writers of a stage that only some configurations want."""
    project = self.config.wandb.project
    if not project:
      return ()

    # Workdirs of one name in two places are two runs.
    place = str(places.address(self.workdir))
    digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
    return (writers.WeightsAndBiases(project, f"{self.workdir.name}-{digest}-{name}"),)

  def seed(self, name: str) -> int:
    """Returns the seed of a stage: a fixed function of the run's seed and the stage's name."""
    # Python salts `hash` anew in each process; this one is the same after a restart.
    digest = hashlib.blake2b(f"{self.config.seed} {name}".encode(), digest_size=4).digest()
    # 31 bits fit a signed 32-bit integer, which is what JAX makes keys of.
    return int.from_bytes(digest, "big") >> 1

  def key(self, name: str) -> jax.Array:
    """Returns the random key of a stage."""
    return jax.random.key(self.seed(name))

  def initial_policy(self) -> Params:
    """Returns the language model every policy starts from."""
    return self.models.initial_policy(self.key("initial policy"))

  @contextlib.contextmanager
  def timed(self, name: str) -> Iterator[None]:
    """Adds the seconds that the block took to those of `name` in seconds.json.

    So it does where the block is interrupted: then all hosts stop at the same step.
    """
    began = time.monotonic()
    try:
      yield
    except interruption.Interrupted:
      self._add_seconds(name, began)
      raise

    self._add_seconds(name, began)

  def _add_seconds(self, name: str, began: float) -> None:
    if flight.asked() is not None:  # a replay is no part of the run
      return
    seconds = self.read_json("seconds.json") or {}
    seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - began, 2)
    self.write_json(seconds, "seconds.json")

  def read_json(self, *path: str) -> Any:
    """Returns the content of a JSON file below workdir, or None where there is none."""
    file = self.workdir.joinpath(*path)
    return hosts.agree(json.loads(file.read_text(encoding="utf-8")) if file.exists() else None)

  def write_json(self, content: Any, *path: str) -> None:
    """Writes a JSON file below workdir, whole or not at all."""
    workdirs.write_text(self.workdir.joinpath(*path), json.dumps(content, indent=1))


def build(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, recipe: kinds.Method
) -> Context:
  """Loads the data and prepares the models of a run; nothing is trained but a tokenizer.

  The values of the configuration are within their ranges; see `checks.values`.

  Raises:
    ValueError: if the workdir belongs to a run with another configuration, the data, the base
      model or the mesh cannot be used, or the models cannot fit the devices.
  """
  new = hosts.agree(workdirs.is_new(config, workdir))
  c = config.data
  sources.check(run_rows.source(c.source, workdir))
  base_directory = origin.directory(config)
  form, words = forms.choose(config, base_directory)
  platform = jax.devices()[0].platform

  # Known before the data is loaded: a prompt that R_P cannot be shown is a bad row.
  others = (*published_models.find(config, platform), origin.language_judge(config, platform))
  data = run_rows.load(config, workdir, functools.partial(forms.check, form, words, others[0]))
  folds = preferences.Division.of(c).divide(data.rows)
  settings = encode.Settings(
    tokenizer=words or forms.learnt(config, folds, workdir, new),
    template=form,
    max_prompt_length=c.max_prompt_length,
    max_response_length=c.max_response_length,
    over_long=c.over_long,
  )

  rows = run_rows.Rows(data, folds, settings, run_rows.token_folder(config, workdir))
  run_rows.warn(data, settings.tokenizer)
  checks.lengths(next(part for part in folds.values() if part), settings)
  checks.packing(config, recipe, rows)
  shape = origin.shape(config, base_directory, settings.tokenizer.vocab_size, platform)
  language = pure.language_model(shape)
  scalar = pure.scalar_model(shape)
  mesh = parallel.make_mesh(config.mesh.shape, language, slices=config.mesh.slices)
  checks.batches(config, recipe, mesh)
  checks.offload(config)
  memory.check(abstract.Arrays(config, mesh, language, scalar, others[0]), recipe)

  waits = config.model.offload
  base = origin.load(base_directory, shape, mesh, waits) if base_directory else None
  jobs = [config[name] for name in kinds.sections(config)]
  reading = [job.fold for job in jobs if recipe.kinds[job.kind].reads_responses]
  read = {fold for name in reading for fold in preferences.folds_in(name)}
  # Letters of the embedded task are as long as those of its data, whoever writes them.
  is_free = recipe.own_texts and not config_keys.is_embedded(c.source)
  asking = inference.Inference(
    language=language,
    scalar=scalar,
    settings=settings,
    response_length=c.max_response_length if is_free else rows.longest(read),
    batch_size=config.inference_batch_size,
    mesh=mesh,
    by_length=c.length_buckets,
  )

  workdirs.begin(config, workdir)  # only now: what fails above claims no workdir
  models = run_models.Models(asking, waits, base, *others)
  models.prepare()
  return Context(config, workdir, recipe, mesh, rows, models)
