"""The models of one run in a folder: whole, or as adapters beside the base they share."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from pit_jax import progress
from pit_jax.exchange import families, hf, peft
from pit_jax.models import kernels, pure
from pit_jax.types import Params

BASE = "base"


def save(
  folder: pathlib.Path,
  models: Mapping[str, tuple[pure.PureModel, Params]],
  special_ids: Mapping[str, int | None],
) -> None:
  """Writes every model into a directory of its own name, and with adapters the base into `base`.

  Models with adapters share one base. Every config.json names the special tokens.
  """
  has_base = False
  count = progress.Count("exporting", len(models), "models")
  for name, (model, params) in models.items():
    if model.config.adapter is None:
      hf.save(folder / name, model, params, **special_ids)
      count.add(1)
      continue

    # From a language model, since a scalar one lacks the head over the vocabulary.
    if not pure.is_scalar(model) and not has_base:
      has_base = True
      bare = pure.language_model(dataclasses.replace(model.config, adapter=None))
      hf.save(folder / BASE, bare, pure.split(model, params)[1], **special_ids)

    peft.save(folder / name, model, params, base=BASE, **special_ids)
    count.add(1)


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads the models of a folder, the base that they may share once for all."""

  folder: pathlib.Path  # where `save` wrote them
  dtype: str  # of matrix products
  unroll: bool  # is cached generation compiled layer by layer?
  stored: str  # how matrices of the base are kept; see `architecture.ModelConfig`
  platform: str  # of the devices
  places: Callable[[pure.PureModel], Params]  # model → where each of its parameters lives

  @property
  def names(self) -> list[str]:
    """The models there are."""
    models = (path.parent.name for path in self.folder.glob("*/config.json"))
    return sorted(name for name in models if name != BASE)

  def describe(self, name: str) -> pure.PureModel:
    """Returns the model of a directory, without reading its weights.

    Raises:
      ValueError: if config.json or adapter_config.json is missing or not supported.
    """
    directory = self.folder / name
    adapter = peft.read(directory) if peft.is_adapter(directory) else None
    # Only what adapters leave frozen may be kept in less than float32.
    stored = self.stored if adapter or name == BASE else "float32"
    overrides = {"dtype": self.dtype, "unroll": self.unroll, "stored": stored, "adapter": adapter}
    config = dataclasses.replace(families.read(directory), **overrides)
    config = dataclasses.replace(config, attention=kernels.choose("auto", self.platform, config))
    make = pure.scalar_model if families.is_classifier(directory) else pure.language_model
    return make(config)

  def load(self, name: str) -> Params:
    """Returns the parameters of a model, on the devices.

    Raises:
      ValueError: if they cannot be read or do not fit the model.
    """
    model = self.describe(name)
    directory = self.folder / name
    if model.config.adapter is None:
      return hf.load(directory, model, self.places(model))
    trained, frozen = pure.split(model, self.places(model))
    base = pure.named(self._base)
    shared = pure.nested({leaf: base[leaf] for leaf in pure.named(frozen)})

    return pure.join(peft.load(directory, model, trained), shared)

  @functools.cached_property
  def _base(self) -> Params:
    model = self.describe(BASE)
    return hf.load(self.folder / BASE, model, self.places(model))
