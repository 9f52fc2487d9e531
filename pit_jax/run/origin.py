"""What a run takes from elsewhere: the base its models start from, a language model that judges."""

import dataclasses
import functools
import importlib.resources
import pathlib
from typing import Any

import jax
import ml_collections

from pit_jax import config_keys, layout, parallel
from pit_jax.data import chat, encode, template, text
from pit_jax.exchange import directories, families, hf
from pit_jax.models import architecture, kernels, pure, remat
from pit_jax.rollout import inference
from pit_jax.types import Params

LOCAL = "local"  # the base_url of a language model that judges and lies in a directory
_ASSETS = pathlib.Path(str(importlib.resources.files("pit_jax") / "assets"))
EMBEDDED = _ASSETS / "base"
# The embedded task's base and one that was trained for less, by their names in a configuration.
SHIPPED = {
  "embedded": EMBEDDED,
  "embedded_weak": _ASSETS / "base_weak",
  "embedded_words": _ASSETS / "base_words",
}
# Banks of principles that are shipped, by their names in a configuration.
BANKS = {
  name: _ASSETS / "principles" / f"{name}.yaml" for name in ("embedded", "embedded_brief", "chat")
}


@dataclasses.dataclass(frozen=True)
class Base:
  """A pretrained language model."""

  params: Params  # on the mesh; without adapters
  fingerprint: str  # of the files they were read from


def directory(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """Returns the model directory to start from; None is a model that knows nothing.

  Raises:
    ValueError: there is no such directory.
  """
  found = named(config)
  if found not in (None, *SHIPPED.values()):
    directories.check("model.base", config.model.base)
  return found


def named(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """Returns what `directory` does, whether there is such a directory or not."""
  name = config.model.base
  # The embedded task has a base of its own, which knows its words and nothing else.
  if name == "auto":
    name = "embedded" if config_keys.is_embedded(config.data.source) else "none"
  return {**SHIPPED, "none": None}.get(name, pathlib.Path(name))


def _new(config: ml_collections.ConfigDict, vocabulary: int) -> architecture.ModelConfig:
  """Returns the shape that `config.model` describes, for so many tokens."""
  # What computes attention and what is kept is for the devices to say; see `shape`.
  fields = {field.name for field in dataclasses.fields(architecture.ModelConfig)} - {
    "attention",
    "remat",
  }
  chosen = {name: value for name, value in config.model.items() if name in fields}
  rope = architecture.Rope(theta=config.model.rope_theta)
  try:
    return architecture.ModelConfig(vocabulary=vocabulary, rope=rope, **chosen)
  except ValueError as error:  # which begins with the name of a field
    raise ValueError(f"model.{error}") from error


def _placed(
  config: ml_collections.ConfigDict, platform: str, found: architecture.ModelConfig
) -> architecture.ModelConfig:
  """Returns a shape with the attention of the devices that it will be computed on."""
  kernel = kernels.choose(config.model.attention, platform, found)
  return dataclasses.replace(found, attention=kernel)


def published_shape(
  config: ml_collections.ConfigDict, platform: str, model: str | pathlib.Path
) -> architecture.ModelConfig:
  """Returns the shape of a published model in a directory, computed as the run computes its own.

  It is asked and never trained, so nothing of it is computed again.
  """
  # How it is computed is for the run to say; what it is, for its files.
  run_settings = {name: config.model[name] for name in ("dtype", "unroll")}
  return _placed(config, platform, dataclasses.replace(hf.read(model), **run_settings))


def check_vocabulary(named: Any, known: int, tokens: int) -> None:
  """Raises a ValueError where a tokenizer has more tokens than its model knows.

  An embedding may be padded beyond the tokenizer; shorter it cannot be.
  """
  if tokens > known:
    raise ValueError(
      f"{named}: the model knows {known} tokens and its tokenizer has {tokens}; give a model "
      "directory whose files belong together"
    )


def shape(
  config: ml_collections.ConfigDict,
  base: pathlib.Path | None,
  vocabulary: int | None,
  platform: str,
) -> architecture.ModelConfig:
  """Returns the shape of a run's models, adapters included.

  Args:
    config: of the run.
    base: the base model's directory, or None.
    vocabulary: tokens of the tokenizer; None, where there is a base: as many as that knows.
    platform: of the devices: "cpu", "gpu" or "tpu".

  Raises:
    ValueError: if adapters, base and tokenizer do not go together, or attention and devices.
  """
  model = _new(config, vocabulary) if base is None else hf.read(base)
  model = _placed(config, platform, _adapted(config, model, base))
  model = dataclasses.replace(model, remat=remat.choose(config.model.remat, platform))
  if vocabulary is not None:
    check_vocabulary(base, model.vocabulary, vocabulary)
  return model


def _adapted(
  config: ml_collections.ConfigDict, found: architecture.ModelConfig, base: pathlib.Path | None
) -> architecture.ModelConfig:
  """Returns a shape with the run's adapters, and its ways to compute and to keep a base."""
  lora = config.model.lora
  if lora.rank and base is None:
    raise ValueError(
      f"model.lora.rank={lora.rank} adapts a base, and there is none; "
      "give a model directory as model.base, or rank 0 to train everything"
    )

  if base is None:
    return found
  if not lora.rank and lora.base != "float32":
    raise ValueError(
      f"model.lora.base={lora.base!r} keeps a frozen base so, and without adapters nothing is "
      'frozen; use "float32", or set model.lora.rank'
    )

  adapter = architecture.Adapter(lora.rank, lora.alpha, tuple(lora.targets)) if lora.rank else None
  run_settings = {name: config.model[name] for name in ("dtype", "unroll")}
  return dataclasses.replace(found, stored=lora.base, adapter=adapter, **run_settings)


def load(
  base: pathlib.Path, model: architecture.ModelConfig, mesh: jax.sharding.Mesh, waits: bool
) -> Base:
  """Returns the base of models with this shape, on the mesh, or waiting beside it.

  Raises:
    ValueError: if its weights cannot be read or do not fit.
  """
  # Files hold no adapters; these are drawn, and trained on top.
  bare = pure.language_model(dataclasses.replace(model, adapter=None))
  params = hf.load(base, bare, parallel.homes(bare, mesh))
  return Base(layout.to_hosts(params) if waits else params, hf.fingerprint(base))


@dataclasses.dataclass(frozen=True)
class Published:
  """A published language model, asked in its own tokens and its own template."""

  directory: pathlib.Path
  settings: encode.Settings  # its tokenizer, template and length limits
  config: architecture.ModelConfig

  @functools.cached_property
  def metadata(self) -> dict[str, str]:
    """Everything that decides what it says: of the weights' files a fingerprint."""
    return {
      "model": hf.fingerprint(self.directory),
      "tokenizer": self.settings.tokenizer.fingerprint,
      "template": self.settings.template.hash,
    }

  def load(self, like: inference.Inference) -> tuple[inference.Inference, Params]:
    """Returns the inference of the model, asked like the run's, and its parameters on the devices.

    Raises:
      ValueError: its weights cannot be read or do not fit.
    """
    language = pure.language_model(self.config)
    scalar = pure.scalar_model(self.config)
    asking = dataclasses.replace(like, language=language, scalar=scalar, settings=self.settings)
    return asking, hf.load(self.directory, language, parallel.homes(language, like.mesh))


def language_judge(config: ml_collections.ConfigDict, platform: str) -> Published | None:
  """Returns the language model in a directory that is to judge, as `published` does; or None."""
  c = config.evaluation.language_judge
  if not c.model or c.base_url != LOCAL:
    return None
  limits = (c.max_prompt_tokens, c.max_tokens)
  return published(config, platform, "evaluation.language_judge.model", c.model, limits)


def published(
  config: ml_collections.ConfigDict, platform: str, key: str, model: str, limits: tuple[int, int]
) -> Published:
  """Returns the language model in a directory, its weights unread.

  A key of the configuration names it; the limits are the most tokens of a prompt and of a reply.

  Raises:
    ValueError: if the directory holds no language model with its tokenizer.
  """
  directories.check(key, model)
  if families.is_classifier(model):
    raise ValueError(
      f"{key}={model} holds a sequence classifier, which can say nothing; give it as "
      "evaluation.reward_model, or a language model here"
    )

  shape = published_shape(config, platform, model)
  plain = template.Template(config.data.policy_template, config.data.improver_template)

  try:
    words = text.load_tokenizer(model)
    form, words = chat.choose("auto", words, plain, config.data.improver_turn)
  except ValueError as error:
    raise ValueError(f"{key}={model} cannot be asked: {error}") from error

  check_vocabulary(f"{key}={model}", shape.vocabulary, words.vocab_size)
  return Published(pathlib.Path(model), encode.Settings(words, form, *limits), shape)
