"""Turns preference rows into the records each model trains on, and responses back into text."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pit_jax import types
from pit_jax.data import batches, conversations, rows, template, text


@dataclasses.dataclass(frozen=True)
class Settings:
  """How text becomes rows of tokens.

  Attributes:
    tokenizer: turns text into ids.
    template: shows a model a prompt, with or without a reference.
    max_prompt_length: the most tokens of a policy prompt, its template included; the improver sees
      the same x.
    max_response_length: the most tokens of a response, end-of-sequence included, and of a
      reference.
    over_long: "cut" shortens what is longer, as `template.Form` says; "drop" leaves the row
      out.
  """

  tokenizer: text.Tokenizer
  template: template.Form
  max_prompt_length: int
  max_response_length: int
  over_long: str = "cut"

  def __post_init__(self):
    if self.over_long not in ("cut", "drop"):
      raise ValueError(f'over_long is {self.over_long!r}; use "cut" or "drop"')


class Encoded(NamedTuple):
  """A data set in memory, padded to one shape: the bucket of its longest row."""

  record: Any  # a record of types.py holding NumPy arrays over all kept rows
  counts: dict[str, int]  # kept; cut (of the kept); dropped
  index: np.ndarray  # of each kept row, its place among the rows given


def policy_demonstrations(preferences: Sequence[rows.Preference], settings: Settings) -> Encoded:
  """Encodes x → chosen, for supervised fine-tuning of the policy (types.Demonstrations)."""
  prompts, chosen, _ = _texts(preferences)
  return _encode(
    types.Demonstrations, [_policy(prompts, settings)], [_responses(chosen, settings)], settings
  )


def improver_demonstrations(preferences: Sequence[rows.Preference], settings: Settings) -> Encoded:
  """Encodes x, rejected → chosen, for fine-tuning of the improver (types.Demonstrations)."""
  prompts, chosen, rejected = _texts(preferences)
  given_rejected = _improver(prompts, rejected, settings)
  return _encode(types.Demonstrations, [given_rejected], [_responses(chosen, settings)], settings)


def preferences(preferences: Sequence[rows.Preference], settings: Settings) -> Encoded:
  """Encodes x with both responses, for the reward model (types.Preferences).

  Pairs that become equal by cutting teach nothing and are dropped.
  """
  prompts, chosen, rejected = _texts(preferences)
  pair = [_responses(chosen, settings), _responses(rejected, settings)]
  return _encode(types.Preferences, [_policy(prompts, settings)], pair, settings)


def gap_preferences(preferences: Sequence[rows.Preference], settings: Settings) -> Encoded:
  """Encodes both responses given either as the reference (types.GapPreferences).

  Pairs that become equal by cutting teach nothing and are dropped.
  """
  prompts, chosen, rejected = _texts(preferences)
  given = [_improver(prompts, reference, settings) for reference in (chosen, rejected)]
  pair = [_responses(chosen, settings), _responses(rejected, settings)]
  return _encode(types.GapPreferences, given, pair, settings)


def policy_prompts(prompts: Sequence[conversations.Prompt], settings: Settings) -> Encoded:
  """Encodes what the policy is asked (types.Prompts)."""
  return _encode(types.Prompts, [_policy(prompts, settings)], [], settings)


def improver_prompts(
  prompts: Sequence[conversations.Prompt], references: Sequence[str], settings: Settings
) -> Encoded:
  """Encodes what the improver is asked (types.Prompts), one reference per prompt."""
  return _encode(types.Prompts, [_improver(prompts, references, settings)], [], settings)


def decode_responses(tokenizer: text.Tokenizer, responses: types.Responses) -> list[str]:
  """Returns the texts of responses, without special tokens and outer white space."""
  tokens, mask = np.asarray(responses.tokens), np.asarray(responses.mask)
  ids = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
  return [decoded.strip() for decoded in tokenizer.decode_batch(ids)]


def _texts(preferences: Sequence[rows.Preference]) -> tuple[list, list[str], list[str]]:
  """Returns the prompts, the chosen and the rejected responses."""
  prompts = [row.prompt for row in preferences]
  return prompts, [row.chosen for row in preferences], [row.rejected for row in preferences]


def _policy(prompts: Sequence[conversations.Prompt], settings: Settings) -> template.Encoding:
  return settings.template.encode_policy_prompts(
    settings.tokenizer, prompts, settings.max_prompt_length
  )


def _improver(
  prompts: Sequence[conversations.Prompt], references: Sequence[str], settings: Settings
) -> template.Encoding:
  lengths = (settings.max_prompt_length, settings.max_response_length)
  return settings.template.encode_improver_prompts(
    settings.tokenizer, prompts, references, *lengths
  )


def _responses(responses: Sequence[str], settings: Settings) -> template.Encoding:
  return settings.template.encode_responses(
    settings.tokenizer, responses, settings.max_response_length
  )


def _encode(
  make: Callable,
  prompts: list[template.Encoding],
  responses: list[template.Encoding],
  settings: Settings,
) -> Encoded:
  """Drops and pads rows, and makes a record of them.

  Args:
    make: the record's class; its fields are prompts first, then responses.
    prompts: one or more columns of prompts; all get the same padded length.
    responses: any number of columns of responses; all get the same padded length.
    settings: how to treat over-long rows, and what to pad with.
  """
  is_cut = np.any([column.is_cut for column in prompts + responses], axis=0)
  is_kept = ~is_cut if settings.over_long == "drop" else np.ones_like(is_cut)
  if len(responses) == 2:
    pairs = zip(responses[0].ids, responses[1].ids, strict=True)
    is_kept &= np.array([one != other for one, other in pairs], bool)
  index = np.flatnonzero(is_kept)
  if len(index) == 0:
    raise ValueError(
      f"of {len(is_cut)} rows none is left: {int(is_cut.sum())} are longer than max_prompt_length "
      f"{settings.max_prompt_length} or max_response_length {settings.max_response_length}; "
      'use longer limits or over_long="cut"'
    )
  counts = {
    "kept": len(index),
    "cut": int(is_cut[index].sum()),
    "dropped": len(is_cut) - len(index),
  }
  columns = _pad(batches.pad_prompts, prompts, index, settings.tokenizer.pad_id)
  columns += _pad(batches.pad_responses, responses, index, settings.tokenizer.pad_id)
  return Encoded(columns[0] if make is types.Prompts else make(*columns), counts, index)


def _pad(
  pad: Callable, columns: list[template.Encoding], index: np.ndarray, pad_id: int
) -> list[types.Prompts | types.Responses]:
  """Pads the kept rows of several columns to the bucket of the longest of them all."""
  kept = [[column.ids[i] for i in index] for column in columns]
  length = max((len(row) for column in kept for row in column), default=1)
  return [pad(column, batches.bucket(length), pad_id) for column in kept]
