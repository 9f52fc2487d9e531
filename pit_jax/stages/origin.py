"""What a run takes from elsewhere: the base its models start from, published reward models."""

import dataclasses
import importlib.resources
import os
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
    ValueError: if adapters, base, tokenizer and a published reward model do not go together.
  """
  found = described(config, vocabulary) if base is None else families.read(base)
  found = _adapted(config, found, base)
  if found.vocabulary < vocabulary:
    raise ValueError(
      f"{base}: the model knows {found.vocabulary} tokens and its tokenizer has "
      f"{vocabulary}; give a model directory whose files belong together"
    )
  _check_reward(config, found, base)
  return found


def _adapted(
  config: ml_collections.ConfigDict, found: architecture.ModelConfig, base: pathlib.Path | None
) -> architecture.ModelConfig:
  """Returns a shape with the run's adapters, and its ways to compute and to keep a base."""
  adapter, stored = _adapter(config), config.model.lora.base
  if adapter is not None and base is None:
    raise ValueError(
      f"model.lora.rank={adapter.rank} adapts a base, and there is none; "
      "give a model directory as model.base, or rank 0 to train everything"
    )
  if adapter is None and stored != "float32" and base is not None:
    raise ValueError(
      f"model.lora.base={stored!r} keeps a frozen base so, and without adapters nothing is frozen; "
      'use "float32", or set model.lora.rank'
    )
  if base is None:
    return found
  own = {name: config.model[name] for name in ("dtype", "remat", "unroll")}
  return dataclasses.replace(found, stored=stored, adapter=adapter, **own)


def load(base: pathlib.Path, model: architecture.ModelConfig, mesh: jax.sharding.Mesh) -> Base:
  """Returns the base of models with this shape, on the mesh.

  Raises:
    ValueError: if its weights cannot be read or do not fit.
  """
  bare = pure.language_model(dataclasses.replace(model, adapter=None))
  params = hf.load(base, bare, parallel.homes(bare, mesh))
  return Base(params, hf.fingerprint(base))


def reward(directory: str | os.PathLike, scalar: pure.PureModel, mesh: jax.sharding.Mesh) -> Params:
  """Returns a published reward model's parameters, on the mesh.

  Raises:
    ValueError: if its weights cannot be read or do not fit.
  """
  return hf.load(directory, scalar, parallel.homes(scalar, mesh))


def _check_reward(
  config: ml_collections.ConfigDict, model: architecture.ModelConfig, base: pathlib.Path | None
) -> None:
  """Refuses a published reward model that cannot be the run's R_P.

  R_P reads the policy's tokens, the value model of the policy starts from it, and R_PIT from its
  trunk: it is of the base's shape and has its tokenizer.

  Args:
    config: of the run.
    model: the shape of the run's models.
    base: the base model's directory, or None.

  Raises:
    ValueError: `reward.model` names a model that is another.
  """
  named = config.reward.model
  if not named:
    return
  other = "evaluation.reward_model lets any judge the results"
  found = _classifier(named, "reward.model", model.dtype)
  if model.adapter is not None:
    raise ValueError(
      f"reward.model={named} has a trunk of its own, and adapters share that of the base; "
      f"set model.lora.rank=0, or train R_P ({other})"
    )
  wrong = {
    name: (value, getattr(model, name))
    for name, value in vars(found).items()
    if name not in ("tied", "remat", "unroll") and value != getattr(model, name)
  }
  if wrong:
    said = ", ".join(f"{name} {a!r} and not {b!r}" for name, (a, b) in wrong.items())
    raise ValueError(
      f"reward.model={named} is no model of the base's shape: it has {said}; {other}"
    )
  if (
    base is None or text.load_tokenizer(named).fingerprint != text.load_tokenizer(base).fingerprint
  ):
    raise ValueError(
      f"reward.model={named} has another tokenizer than the run; give the base whose tokenizer it "
      f"has as model.base ({other})"
    )


def _classifier(named: str, key: str, dtype: str) -> architecture.ModelConfig:
  """Returns the shape of the classifier that a configuration names under a key."""
  shape = dataclasses.replace(families.read(named), dtype=dtype)
  if not families.is_classifier(named):
    raise ValueError(
      f"{key}={named} holds no sequence classifier; give a directory whose "
      "config.json names an architecture …ForSequenceClassification"
    )
  return shape


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
    language = pure.language_model(self.config)
    asking = dataclasses.replace(like, language=language, scalar=scalar, settings=self.settings)
    return asking, reward(self.directory, scalar, like.mesh)


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
  shape = _classifier(named, "evaluation.reward_model", config.model.dtype)
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
