"""A finished run as files: WORKDIR/models holds all that answering and improving needs.

  policy/ improver/ reward/ gap_reward/   each model as transformers reads it; see exchange/hf.py
  implicit_reward/ reference/             two language models, whose likelihoods reward
  base/                                   of models with adapters: these are as PEFT reads them, and
                                          the base they share lies here; see exchange/bundle.py
                                          a published reward model is whole, with its own tokenizer
  tokenizer/                              a Hugging Face tokenizer directory
  run.json                                template, length limits, zero point; see `save`

Reading needs neither the data nor the checkpoints, and works on any number of devices.
"""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import shutil
from typing import Any

import jax

from pit_jax import hosts, parallel
from pit_jax.data import chat, encode, principles, text
from pit_jax.exchange import bundle, classifier_files
from pit_jax.improve import improvement
from pit_jax.models import pure
from pit_jax.rollout import classifiers, implicit, inference
from pit_jax.storage import places
from pit_jax.types import Params

FORMAT = 7
FOLDER = "models"
RUN = "run.json"
# A reward of likelihoods, see `implicit.Reward`: π and π_ref.
IMPLICIT = ("implicit_reward", "reference")
LANGUAGE = ("policy", "improver", *IMPLICIT)  # the other models give a score
NAMES = ("policy", "reward", "improver", "gap_reward", *IMPLICIT)


@dataclasses.dataclass(frozen=True)
class _Run:
  """The fields of run.json, by the same names; `save` says what each is."""

  format: int
  template: dict
  template_hash: str
  tokenizer: str
  max_prompt_length: int
  max_response_length: int
  response_length: int
  zero_point: float | int | None
  dtype: str
  unroll: bool
  stored: str
  published: dict | None  # of a published reward model what `classifier_files.save` said
  principles: dict | None  # of models that read principles their bank, see `Bank.described`


def save(
  workdir: pathlib.Path,
  asking: inference.Inference,
  models: dict[str, Params],
  zero_point: float | int | None = None,
  published: classifiers.Classifier | None = None,
  bank: principles.Bank | None = None,
) -> None:
  """Writes the models of a finished run, all or nothing, in the place of an earlier export.

  Args:
    workdir: folder of the run.
    asking: how the models are asked.
    models: some of NAMES; with `improver` also `policy` and what stops it, `gap_reward` or both of
      IMPLICIT.
    zero_point: mean gap of identical pairs, in the exported gap reward's unit; None without one.
    published: what takes the place of `reward` where it is a published one, in the run's unit.
    bank: the principles that reward model, gap reward and improver read, if they do.

  Raises:
    ValueError: a model is missing or unknown, or the zero point does not go with the models.
  """
  _check_models(models, zero_point)
  folder, partial, old = (workdir / f"{FOLDER}{suffix}" for suffix in ("", ".partial", ".old"))
  if hosts.is_first():
    # What an export that was killed left behind.
    for leftover in (partial, old):
      shutil.rmtree(leftover, ignore_errors=True)

  settings = asking.settings
  # A published reward model keeps files of its own.
  bundled = {
    name: (asking.language if name in LANGUAGE else asking.scalar, params)
    for name, params in models.items()
    if name != "reward" or published is None
  }
  bundle.save(partial, bundled, settings.tokenizer.special_ids)
  described = classifier_files.save(partial / "reward", published) if published else None
  if not hosts.is_first():
    return
  settings.tokenizer.save(partial / "tokenizer")

  run = _Run(
    format=FORMAT,
    template=settings.template.describe(),
    template_hash=settings.template.hash,
    tokenizer=_hash(partial / "tokenizer" / "tokenizer.json"),
    max_prompt_length=settings.max_prompt_length,
    max_response_length=settings.max_response_length,
    response_length=asking.response_length,
    zero_point=zero_point,
    **{name: getattr(asking.language.config, name) for name in ("dtype", "unroll", "stored")},
    published=described,
    principles=bank and bank.described(),
  )

  (partial / RUN).write_text(json.dumps(dataclasses.asdict(run), indent=2) + "\n", encoding="utf-8")
  # A whole folder appears under its name; a kill between the two leaves none, and says so.
  if folder.exists():
    folder.rename(old)
  partial.rename(folder)
  shutil.rmtree(old, ignore_errors=True)


def load(
  workdir: pathlib.Path, *, mesh: jax.sharding.Mesh, batch_size: int
) -> improvement.Improver:
  """Returns the trained models of a run, placed on the devices and ready to improve.

  When improvement stops is the improver's default, which `dataclasses.replace` changes.

  `batch_size` is rows per compiled call, a multiple of the mesh's data × fsdp sizes.

  Raises:
    ValueError: the run is not finished, has no improver, or a file is missing, cannot be read or
      does not fit the others; the message names it.
  """
  run, reader = _opened(workdir, mesh)
  if "improver" not in reader.names:
    raise ValueError(
      f"{reader.folder} holds no improver, because its recipe trains none, or none unless a key "
      "asks for it; give the --workdir of a run that has one"
    )

  settings = _settings(run, reader.folder / "tokenizer")
  language, policy = _model("policy", reader, settings.tokenizer)
  same, improver = _model("improver", reader, settings.tokenizer)

  if same.config != language.config:
    raise ValueError(
      f"{reader.folder}: policy/config.json and improver/config.json describe different models; "
      "both must come from one run"
    )

  kinds = (language, pure.scalar_model(language.config))
  asking = inference.Inference(*kinds, settings, run.response_length, batch_size, mesh)
  if run.zero_point is None:
    return improvement.Improver(asking, policy, improver, _implicit(reader, asking), 0.0)
  scalar, gap_reward = _model("gap_reward", reader, settings.tokenizer)
  asking = dataclasses.replace(asking, scalar=scalar)
  return improvement.Improver(asking, policy, improver, gap_reward, float(run.zero_point))


def names(workdir: pathlib.Path) -> list[str]:
  """Returns the names of the models that a finished run has; raises a ValueError where none is."""
  _read(workdir)
  there = workdir / FOLDER
  return [name for name in NAMES if (there / name).is_dir()]


def bank(workdir: pathlib.Path) -> principles.Bank | None:
  """Returns the principles that the models of a finished run read; None where they read none."""
  run = _read(workdir)
  return None if run.principles is None else principles.restored(run.principles)


@dataclasses.dataclass(frozen=True)
class Exported:
  """One model of a run, by itself."""

  model: pure.PureModel  # its shape
  params: Params  # its parameters, placed on the devices
  asking: inference.Inference  # how it is asked; a reward model by `Inference.rate`


def load_one(
  workdir: pathlib.Path, name: str, *, mesh: jax.sharding.Mesh, batch_size: int = 1
) -> Exported:
  """Returns one model of a run, one of NAMES; see `load`.

  Raises:
    ValueError: as `load`, or the run has no such model, or its reward model is a published one.
  """
  run, reader = _opened(workdir, mesh)
  if name not in reader.names:
    raise ValueError(f"{reader.folder} holds no model {name!r}; it has {', '.join(reader.names)}")
  if name == "reward" and run.published is not None:
    raise ValueError(f"{reader.folder}: the reward model is a published one; use `load_published`")
  settings = _settings(run, reader.folder / "tokenizer")

  model, params = _model(name, reader, settings.tokenizer)
  kinds = (pure.language_model(model.config), pure.scalar_model(model.config))
  asking = inference.Inference(*kinds, settings, run.response_length, batch_size, mesh)
  return Exported(model, params, asking)


def load_implicit(
  workdir: pathlib.Path, *, mesh: jax.sharding.Mesh, batch_size: int = 1
) -> implicit.Reward:
  """Returns the reward of likelihoods of a run that has both of IMPLICIT.

  Raises:
    ValueError: as `load`.
  """
  run, reader = _opened(workdir, mesh)
  settings = _settings(run, reader.folder / "tokenizer")
  shape = reader.describe(IMPLICIT[0]).config
  kinds = (pure.language_model(shape), pure.scalar_model(shape))
  asking = inference.Inference(*kinds, settings, run.response_length, batch_size, mesh)
  return _implicit(reader, asking)


def load_published(
  workdir: pathlib.Path, *, mesh: jax.sharding.Mesh, batch_size: int = 1
) -> classifiers.Classifier | None:
  """Returns the published reward model of a run, in its unit; None where one was trained."""
  run, reader = _opened(workdir, mesh)
  if run.published is None:
    return None
  is_ours = run.published["gain"] is None  # one of our families
  shape = reader.describe("reward").config if is_ours else None
  saved = (reader.folder / "reward", run.published)
  return classifier_files.load(*saved, shape, mesh=mesh, batch_size=batch_size)


def _check_models(models: dict[str, Params], zero_point: float | int | None) -> None:
  halves = models.keys() & {*IMPLICIT}
  stops = models.keys() & {"gap_reward", *IMPLICIT}
  is_whole = (
    0 < len(models) == len(models.keys() & {*NAMES})
    and len(halves) in (0, len(IMPLICIT))
    # An improver improves what its policy writes, and stops where a reward says so.
    and ("improver" not in models or ("policy" in models and bool(stops)))
    and ("gap_reward" in models) == (zero_point is not None)
  )
  if not is_whole:
    raise ValueError(
      f"models {sorted(models)} with zero point {zero_point} are no whole run; give some of "
      f"{', '.join(NAMES)}, with an improver its policy and gap_reward too, or both of "
      f"{' and '.join(IMPLICIT)}, and a zero point where there is a gap_reward and nowhere else"
    )

  if zero_point is not None and not math.isfinite(zero_point):
    raise ValueError(f"zero point {zero_point} cannot stop any improvement; it must be finite")


def _hash(path: pathlib.Path) -> str:
  """Hashes the file and not what a library reads in it, which may change with its version."""
  return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _read(workdir: pathlib.Path) -> _Run:
  """Reads and checks run.json."""
  path = workdir / FOLDER / RUN
  named = places.address(workdir)
  if not path.is_file():
    if any((workdir / name / "config.json").is_file() for name in ("", *NAMES)):
      raise ValueError(
        f"{named} holds models for transformers and vLLM, as pit convert export writes them, and "
        f"no finished run; give the --workdir of the run that they are from, or {FOLDER}/ in it"
      )
    raise ValueError(
      f"{named} holds no finished run: there is no {path}; finish the run by repeating its "
      f"`pit train --config=… --workdir={named}`"
    )

  content = read_object(path)
  if content.get("format") != FORMAT:
    raise ValueError(f"{path} has format {content.get('format')!r}; this version reads {FORMAT}")
  run = _fields(path, content)

  try:
    current = chat.restore(run.template).hash
  except (TypeError, AttributeError, ValueError) as error:
    raise ValueError(f"{path}: the template cannot be used: {error}") from error

  if current != run.template_hash:
    raise ValueError(
      f"{path}: the models were trained with template {run.template_hash}, its text now makes "
      f"{current}; restore the text, or use the version of the library that wrote it"
    )

  return run


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Returns the JSON object that a file holds; raises a ValueError where it holds none."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error

  if not isinstance(content, dict):
    raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}")
  return content


def _fields(path: pathlib.Path, content: dict[str, Any]) -> _Run:
  """Checks that every field of run.json is there and of its type."""
  wrong = []
  for field in dataclasses.fields(_Run):
    if field.name not in content:
      wrong.append(f"{field.name} is missing")
    elif not isinstance(content[field.name], field.type):
      kind = getattr(field.type, "__name__", field.type)
      wrong.append(f"{field.name} is {content[field.name]!r}, not of type {kind}")

  if wrong:
    raise ValueError(f"{path} is damaged: {'; '.join(wrong)}")
  return _Run(**{field.name: content[field.name] for field in dataclasses.fields(_Run)})


def _settings(run: _Run, directory: pathlib.Path) -> encode.Settings:
  """Returns tokenizer, template and limits of a run; the directory holds the tokenizer."""
  tokenizer = text.load_tokenizer(directory)
  digest = _hash(directory / "tokenizer.json")
  if digest != run.tokenizer:
    raise ValueError(
      f"{directory / 'tokenizer.json'} is not the tokenizer of this run (hash {digest}, not "
      f"{run.tokenizer}); put back the file that was exported"
    )

  form = chat.restore(run.template)
  return encode.Settings(tokenizer, form, run.max_prompt_length, run.max_response_length)


def _opened(workdir: pathlib.Path, mesh: jax.sharding.Mesh) -> tuple[_Run, bundle.Reader]:
  """Returns run.json and the reader of the models beside it."""
  run = _read(workdir)
  kept = (run.dtype, run.unroll, run.stored, mesh.devices.flat[0].platform)
  places = functools.partial(parallel.homes, mesh=mesh)
  return run, bundle.Reader(workdir / FOLDER, *kept, places)


def _model(
  name: str, reader: bundle.Reader, tokenizer: text.Tokenizer
) -> tuple[pure.PureModel, Params]:
  """Reads one model, checks it, and places its parameters once for all calls."""
  model = reader.describe(name)
  path = reader.folder / name / "config.json"
  if pure.is_scalar(model) == (name in LANGUAGE):
    kind = "language model" if name in LANGUAGE else "classifier"
    raise ValueError(f"{path} is of another kind of model; {name} is a {kind}")

  if model.config.vocabulary < tokenizer.vocab_size:
    raise ValueError(
      f"{path}: vocabulary {model.config.vocabulary} is smaller than the "
      f"{tokenizer.vocab_size} tokens of its tokenizer"
    )

  return model, reader.load(name)


def _implicit(reader: bundle.Reader, asking: inference.Inference) -> implicit.Reward:
  tokenizer = asking.settings.tokenizer
  return implicit.Reward(asking, *(_model(name, reader, tokenizer)[1] for name in IMPLICIT))
