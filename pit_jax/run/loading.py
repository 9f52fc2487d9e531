"""The preferences of a run: loaded as its configuration says, and looked at before training."""

import logging
from collections.abc import Callable

import ml_collections

from pit_jax.data import conversations, preferences, suspects, text

_LOG = logging.getLogger(__name__)


def load(
  config: ml_collections.ConfigDict, check: Callable[[conversations.Prompt], None]
) -> preferences.PreferenceSet:
  """Loads the preferences; `check` refuses prompts that the models cannot be shown."""
  return preferences.load(
    config.data.source,
    on_bad_row=config.data.on_bad_row,
    limit=config.data.rows,
    seed=config.seed,
    is_streamed=config.data.streaming,
    schema=config.data.schema,
    against_scores=config.data.against_scores,
    check_prompt=check,
  )


def warn(data: preferences.PreferenceSet, words: text.Tokenizer) -> None:
  """Logs how many rows hold texts that are not what they seem, as the doctor finds them.

  Args:
    data: the rows of a run.
    words: its tokenizer, whose template marks turns.
  """
  for kind, numbers in suspects.count(data.rows, suspects.spelled(words)).items():
    _LOG.warning(
      "%s: %s (%d rows, the first at %s); they are trained on as they are, launch/doctor.py says "
      "more",
      data.source,
      kind,
      len(numbers),
      data.rows[numbers[0]].place,
    )
