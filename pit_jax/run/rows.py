"""The preferences of a run: what was loaded, its folds, and how they become tokens."""

import dataclasses
import pathlib

import ml_collections

from pit_jax.data import encode, preferences, tables
from pit_jax.storage import places


@dataclasses.dataclass(frozen=True)
class Rows:
  """The preferences of a run.

  Attributes:
    data: all that was loaded.
    folds: the same by fold.
    settings: tokenizer, template and length limits.
    tokens: where encoded data sets are kept.
  """

  data: preferences.PreferenceSet
  folds: preferences.Folds
  settings: encode.Settings
  tokens: pathlib.Path

  def fold(self, name: str) -> preferences.Fold:
    """Returns the rows of a fold, with the part of it that validates."""
    validation = self.folds.get(f"{name}{preferences.VALIDATION}", ())
    return preferences.Fold(self.folds[name], validation)

  def prompts(self, fold: preferences.Fold) -> tables.Table:
    """Returns the prompts of a fold as the policy sees them."""
    shown = self.settings.formats["policy"].conversations(fold.prompts)
    return encode.prompts(shown, self.settings, self.tokens)

  def over_long(self) -> dict[str, int]:
    """Returns how many preference rows were cut or dropped because they were too long."""
    names = sorted(self.folds.keys() - {preferences.SET_ASIDE})
    parts = [part for name in names if (part := self.folds[name])]
    encoded = [encode.preferences(part, self.settings, self.tokens) for part in parts]
    counts = [table.contents.counts for table in encoded]
    return {name: sum(count[name] for count in counts) for name in ("cut", "dropped")}


def token_folder(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
  """Returns where a run keeps its encoded data sets."""
  return places.local("data.cache", config.data.cache or workdir / "tokens")
