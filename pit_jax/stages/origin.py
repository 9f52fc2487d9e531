"""What a run takes from elsewhere: the base its models start from, and a published judge."""

import dataclasses
import importlib.resources
import pathlib

import jax
import ml_collections

from pit_jax import parallel
from pit_jax.data import chat, encode, template, text
from pit_jax.models import architecture, families, hf, pure
from pit_jax.rollout import inference
from pit_jax.types import Params

EMBEDDED = pathlib.Path(str(importlib.resources.files("pit_jax") / "assets" / "base"))


@dataclasses.dataclass(frozen=True)
class Base:
  """A pretrained language model.

  Attributes:
    params: its parameters, on the mesh; without adapters.
    fingerprint: of the files they were read from.
  """

  params: Params
  fingerprint: str


def directory(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """Returns the model directory to start from; None is a model that knows nothing."""
  named = config.model.base
  if named == "auto":
    named = "embedded" if config.data.source == "synthetic" else "none"
  return {"embedded": EMBEDDED, "none": None}.get(named, pathlib.Path(named))


def described(config: ml_collections.ConfigDict, vocabulary: int) -> architecture.ModelConfig:
  """Returns the shape that `config.model` describes, for so many tokens."""
  fields = {field.name for field in dataclasses.fields(architecture.ModelConfig)}
  chosen = {name: value for name, value in config.model.items() if name in fields}
  rope = architecture.Rope(theta=config.model.rope_theta)
  return architecture.ModelConfig(vocabulary=vocabulary, rope=rope, **chosen)


def shape(
  config: ml_collections.ConfigDict, base: pathlib.Path | None, vocabulary: int
) -> architecture.ModelConfig:
  """Returns the shape of a run's models, adapters included.

  Args:
    config: of the run.
    base: the base model's directory, or None.
    vocabulary: tokens of the tokenizer.

  Raises:
    ValueError: if adapters, base and tokenizer do not go together.
  """
  adapter, stored = _adapter(config), config.model.lora.base
  if base is None:
    if adapter is not None:
      raise ValueError(
        f"model.lora.rank={adapter.rank} adapts a base, and there is none; "
        "give a model directory as model.base, or rank 0 to train everything"
      )
    return described(config, vocabulary)
  if adapter is None and stored != "float32":
    raise ValueError(
      f"model.lora.base={stored!r} keeps a frozen base so, and without adapters nothing is frozen; "
      'use "float32", or set model.lora.rank'
    )
  own = {name: config.model[name] for name in ("dtype", "remat")}
  found = dataclasses.replace(families.read(base), stored=stored, adapter=adapter, **own)
  if found.vocabulary < vocabulary:
    raise ValueError(
      f"{base}: the model knows {found.vocabulary} tokens and its tokenizer has "
      f"{vocabulary}; give a model directory whose files belong together"
    )
  return found


def load(base: pathlib.Path, model: architecture.ModelConfig, mesh: jax.sharding.Mesh) -> Base:
  """Returns the base of models with this shape, on the mesh.

  Raises:
    ValueError: if its weights cannot be read or do not fit.
  """
  bare = pure.language_model(dataclasses.replace(model, adapter=None))
  abstract = jax.eval_shape(bare.init, jax.random.key(0))
  params = hf.load(base, bare, parallel.partition(abstract, bare.axes, mesh))
  return Base(params, hf.fingerprint(base))


@dataclasses.dataclass(frozen=True)
class Judge:
  """A published reward model, asked in its own tokens and its own template.

  Attributes:
    directory: where it lies.
    settings: its tokenizer, template and length limits.
    config: its shape.
  """

  directory: pathlib.Path
  settings: encode.Settings
  config: architecture.ModelConfig

  def load(self, like: inference.Inference) -> tuple[inference.Inference, Params]:
    """Returns how it is asked, and its parameters on the devices.

    Args:
      like: how the run's models are asked: batch size, response length and mesh.

    Raises:
      ValueError: its weights cannot be read or do not fit.
    """
    scalar = pure.scalar_model(self.config)
    abstract = jax.eval_shape(scalar.init, jax.random.key(0))
    places = parallel.partition(abstract, scalar.axes, like.mesh)
    language = pure.language_model(self.config)
    asking = dataclasses.replace(like, language=language, scalar=scalar, settings=self.settings)
    return asking, hf.load(self.directory, scalar, places)


def judge(config: ml_collections.ConfigDict, run: encode.Settings) -> Judge | None:
  """Returns the published reward model that a configuration names, its weights unread; or None.

  Args:
    config: of the run.
    run: the run's settings, for the length limits.

  Raises:
    ValueError: if the directory holds no classifier with one label, or no tokenizer.
  """
  named = config.evaluation.reward_model
  if not named:
    return None
  shape = dataclasses.replace(families.read(named), dtype=config.model.dtype)
  if not families.is_classifier(named):
    raise ValueError(
      f"evaluation.reward_model={named} holds no sequence classifier; give a directory whose "
      "config.json names an architecture …ForSequenceClassification"
    )
  c = config.data
  plain = template.Template(policy=c.policy_template, improver=c.improver_template)
  form, words = chat.choose("auto", text.load_tokenizer(named), plain, c.improver_turn)
  settings = dataclasses.replace(run, tokenizer=words, template=form)
  return Judge(pathlib.Path(named), settings, shape)


def _adapter(config: ml_collections.ConfigDict) -> architecture.Adapter | None:
  lora = config.model.lora
  if not lora.rank:
    return None
  return architecture.Adapter(lora.rank, lora.alpha, tuple(lora.targets))
