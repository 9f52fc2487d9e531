"""Tokenises preference rows into the sets each model trains on, and decodes responses."""

import contextlib
import dataclasses
import functools
import gc
import operator
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pit_jax import progress, types
from pit_jax.data import cache, prompt_formats, rows, tables, template, text

Folder = str | os.PathLike | None  # the cache of encoded sets; None keeps a set in memory
OVER_LONG = ("cut", "drop")  # what is done with a text beyond its limit
PIECE = 2_048  # rows encoded at once


@dataclasses.dataclass(frozen=True)
class Settings:
  """How text becomes rows of tokens."""

  tokenizer: text.Tokenizer
  template: template.Form  # shows a model a prompt, with or without a reference
  # The most tokens of a policy prompt, its template included; the improver sees the same x.
  max_prompt_length: int
  # The most tokens of a response, end-of-sequence included, and of a text that a prompt shows
  # beside x; None for no limit.
  max_response_length: int | None
  # "cut" shortens what is longer, as `template.Form` says; "drop" leaves the row out.
  over_long: str = "cut"

  def __post_init__(self):
    if self.over_long not in OVER_LONG:
      raise ValueError(f'data.over_long is {self.over_long!r}; use "cut" or "drop"')

  @property
  def formats(self) -> dict[str, prompt_formats.Format]:
    """The prompt formats that the configuration words, by name; see `template.Form`."""
    return self.template.formats

  def encode(self, asked: Sequence[prompt_formats.Conversation]) -> template.Encoding:
    """Returns the ids of what a model is asked."""
    limits = (self.max_prompt_length, self.max_response_length)
    return self.template.encode(self.tokenizer, asked, *limits)

  def encode_responses(self, *columns: Sequence[str]) -> list[template.Encoding]:
    """Returns the ids of columns of responses."""
    limit = self.max_response_length
    return [self.template.encode_responses(self.tokenizer, texts, limit) for texts in columns]


def demonstrations(
  preferences: Sequence[rows.Preference],
  shown: prompt_formats.Format,
  settings: Settings,
  folder: Folder = None,
) -> tables.Table:
  """Encodes x → chosen for supervised fine-tuning (types.Demonstrations).

  What the format shows beside x is the rejected response. As everything here, the table holds its
  rows itself, or, where a folder is named, leaves them in the cache of encoded sets there and takes
  them from it when they are there already.
  """
  prompts, chosen, rejected = _texts(preferences)
  asked = shown.conversations(prompts, *[rejected] * len(shown.texts))
  return replies(asked, chosen, settings, folder)


def replies(
  asked: Sequence[prompt_formats.Conversation],
  responses: Sequence[str],
  settings: Settings,
  folder: Folder = None,
) -> tables.Table:
  """Encodes conversations, of whatever formats, with the reply to each (types.Demonstrations)."""
  names = "_".join(dict.fromkeys(one.format.name for one in asked))

  def encode(asked, responses):
    return [settings.encode(asked), *settings.encode_responses(responses)]

  kind = f"{names}_demonstrations"
  return _table(types.Demonstrations, kind, encode, (asked, responses), settings, folder)


def preferences(
  preferences: Sequence[rows.Preference],
  settings: Settings,
  folder: Folder = None,
  shown: str = "policy",
) -> tables.Table:
  """Encodes x with both responses, for the reward model and for DPO (types.Preferences).

  What the format of this name shows beside x is the rejected response. Pairs that become equal by
  cutting teach nothing and are dropped.
  """
  form = settings.formats[shown]

  def encode(prompts, chosen, rejected):
    asked = form.conversations(prompts, *[rejected] * len(form.texts))
    return [settings.encode(asked), *settings.encode_responses(chosen, rejected)]

  kind = f"{shown}_preferences"
  return _table(types.Preferences, kind, encode, _texts(preferences), settings, folder)


def pairs(
  asked: Sequence[prompt_formats.Conversation],
  chosen: Sequence[str],
  rejected: Sequence[str],
  settings: Settings,
  folder: Folder = None,
) -> tables.Table:
  """Encodes conversations, of whatever formats, with two replies to each (types.Preferences).

  It drops what `preferences` drops.
  """
  names = "_".join(dict.fromkeys(one.format.name for one in asked))

  def encode(asked, chosen, rejected):
    return [settings.encode(asked), *settings.encode_responses(chosen, rejected)]

  texts = (asked, chosen, rejected)
  return _table(types.Preferences, f"{names}_pairs", encode, texts, settings, folder)


def gap_preferences(
  preferences: Sequence[rows.Preference], settings: Settings, folder: Folder = None
) -> tables.Table:
  """Encodes both responses given either as the reference (types.GapPreferences).

  It drops what `preferences` drops.
  """

  def encode(prompts, chosen, rejected):
    shown = settings.formats["improver"]
    inputs = [shown.conversations(prompts, references) for references in (chosen, rejected)]
    return [*map(settings.encode, inputs), *settings.encode_responses(chosen, rejected)]

  texts = _texts(preferences)
  return _table(types.GapPreferences, "gap_preferences", encode, texts, settings, folder)


def prompts(
  asked: Sequence[prompt_formats.Conversation], settings: Settings, folder: Folder = None
) -> tables.Table:
  """Encodes what a model is asked (types.Prompts), one conversation per row."""
  names = "_".join(dict.fromkeys(one.format.name for one in asked))

  def encode(asked):
    return [settings.encode(asked)]

  return _table(types.Prompts, f"{names}_prompts", encode, (asked,), settings, folder)


def decode_responses(tokenizer: text.Tokenizer, responses: types.Responses) -> list[str]:
  """Returns the texts of responses, without special tokens and outer white space."""
  rows = zip(np.asarray(responses.tokens), np.asarray(responses.mask), strict=True)
  ids = [tokens[mask].tolist() for tokens, mask in rows]
  return [decoded.strip() for decoded in tokenizer.decode_batch(ids)]


def _texts(preferences: Sequence[rows.Preference]) -> tuple[list, list[str], list[str]]:
  """Returns the prompts, the chosen and the rejected responses."""
  prompts = [row.prompt for row in preferences]
  return prompts, [row.chosen for row in preferences], [row.rejected for row in preferences]


def _table(
  make: type,
  kind: str,
  encode: Callable[..., list[template.Encoding]],
  texts: Sequence[Sequence],
  settings: Settings,
  folder: Folder,
) -> tables.Table:
  """Encodes a set piece by piece, so that only one piece at a time is in memory as lists.

  `encode` makes of columns of texts columns of ids, in the order of the record's fields.
  """
  pieces = functools.partial(_pieces, kind.replace("_", " "), encode, texts, settings)
  pad_id = settings.tokenizer.pad_id
  if folder is None:
    return tables.in_memory(make, pieces(), pad_id)
  limits = (settings.max_prompt_length, settings.max_response_length, settings.over_long)
  key = [cache.fingerprint(texts), settings.template.hash, settings.tokenizer.fingerprint, *limits]
  return cache.open_or_write(folder, kind, key, make, pieces, pad_id)


def _pieces(
  kind: str, encode: Callable, texts: Sequence[Sequence], settings: Settings
) -> Iterator[tables.Piece]:
  """Yields a set in pieces; raises a ValueError at the end of one without a row."""
  over_long = kept = 0
  count = progress.Count(f"tokenising {kind}", len(texts[0]), "rows")
  for start in range(0, max(map(len, texts)), PIECE):
    with _without_collection():
      columns = encode(*(column[start : start + PIECE] for column in texts))
    is_cut = np.any([column.is_cut for column in columns], axis=0)
    ids = [column.ids for column in columns]
    piece = tables.piece(ids, _kept(ids, is_cut, settings), is_cut)
    over_long += int(is_cut.sum())
    kept += len(piece.index)
    count.add(len(is_cut))
    yield piece

  if not kept:
    raise ValueError(
      f"of {len(texts[0])} rows none is left: {over_long} are longer than "
      f"data.max_prompt_length={settings.max_prompt_length} or "
      f"data.max_response_length={settings.max_response_length}; use longer limits or "
      'data.over_long="cut"'
    )


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
  """Leaves cyclic garbage alone: encoding makes very many lists and no cycle."""
  was_enabled = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_enabled:
      gc.enable()


def _kept(ids: list[list[list[int]]], is_cut: np.ndarray, settings: Settings) -> np.ndarray:
  """Returns which rows are kept, Bool[rows]: of pairs, the last two columns, only unequal ones."""
  is_kept = ~is_cut if settings.over_long == "drop" else np.ones_like(is_cut)
  # Demonstrations and prompts have two columns at most; pairs end with both responses.
  if len(ids) > 2:
    is_kept &= np.array(list(map(operator.ne, *ids[-2:])), bool)

  return is_kept
