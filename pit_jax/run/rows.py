"""The preferences of a run: loaded and looked at, in folds, and how they become tokens."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterable

import ml_collections

from pit_jax.data import conversations, encode, preferences, suspects, tables, text
from pit_jax.storage import places

BELOW = "workdir:"  # a data source: JSON lines, by their path below the workdir of the run
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Rows:
  """The preferences of a run."""

  data: preferences.PreferenceSet  # all that was loaded
  folds: preferences.Folds  # the same by fold
  settings: encode.Settings  # tokenizer, template and length limits
  tokens: pathlib.Path  # where encoded data sets are kept

  def fold(self, name: str) -> preferences.Fold:
    """Returns the rows of a fold, or of several ("sft+reward"), with the parts that validate."""
    rows = ()
    validation = ()
    for one in preferences.folds_in(name):
      rows += self.folds[one]
      validation += self.folds.get(f"{one}{preferences.VALIDATION}", ())

    return preferences.Fold(rows, validation)

  def prompts(self, fold: preferences.Fold) -> tables.Table:
    """Returns the prompts of a fold as the policy sees them."""
    shown = self.settings.formats["policy"].conversations(fold.prompts)
    return encode.prompts(shown, self.settings, self.tokens)

  def over_long(self) -> dict[str, int]:
    """Returns how many preference rows were cut or dropped because they were too long."""
    encoded = self._encoded(self.folds.keys() - {preferences.SET_ASIDE})
    counts = [table.contents.counts for table in encoded]
    return {name: sum(count[name] for count in counts) for name in ("cut", "dropped")}

  def longest(self, names: Iterable[str]) -> int:
    """Returns the most tokens that a response may have: those of some folds, within the limit.

    Where no fold's responses are read it is the limit.
    """
    limit = self.settings.max_response_length  # a bucket may be longer than allowed
    return min(limit, max((table.widths[1] for table in self._encoded(names)), default=limit))

  def _encoded(self, names: Iterable[str]) -> list[tables.Table]:
    parts = [part for name in sorted(names) if (part := self.folds[name])]
    return [encode.preferences(part, self.settings, self.tokens) for part in parts]


def source(named: str, workdir: pathlib.Path) -> str:
  """Returns where rows are: those below a workdir are named by their place there; it may move."""
  return f"jsonl:{workdir / named.removeprefix(BELOW)}" if named.startswith(BELOW) else named


def load(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  check: Callable[[conversations.Prompt], None],
) -> preferences.PreferenceSet:
  """Loads the preferences; `check` refuses prompts that the models cannot be shown."""
  return preferences.load(
    source(config.data.source, workdir),
    on_bad_row=config.data.on_bad_row,
    limit=config.data.rows,
    seed=config.seed,
    is_streamed=config.data.streaming,
    schema=config.data.schema,
    columns=config.data.columns,
    against_scores=config.data.against_scores,
    check_prompt=check,
  )


def warn(data: preferences.PreferenceSet, words: text.Tokenizer) -> None:
  """Logs how many rows hold texts that are not what they seem, as the doctor finds them."""
  for kind, numbers in suspects.count(data.rows, suspects.spelled(words)).items():
    _LOG.warning(
      "%s: %s (%d rows, the first at %s); they are trained on as they are, pit doctor says more",
      data.source,
      kind,
      len(numbers),
      data.rows[numbers[0]].place,
    )


def token_folder(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
  """Returns where a run keeps its encoded data sets."""
  return places.local("data.cache", config.data.cache or workdir / "tokens")
