"""What is measured of preferences in words: tokenised, scored, and their responses rewritten."""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from pit_jax.data import chat, encode, padding, preferences, template, text
from pit_jax.data import rows as data_rows
from pit_jax.tools.bench import timing
from pit_jax.types import Preferences, Prompts, Responses

# At most so many tokens of each; more are cut.
PROMPT = 256
RESPONSE = 128
DRAFT = (60, 110)  # tokens of a response that is rewritten
MOST = 32  # drafts
FEWEST = 8
REQUEST = "Write it again and mend mistakes."  # of a chat model
SCORED = "score pairs"  # the case's name
MEMBERS = 4  # of the ensemble that scores them, too
ENSEMBLE = f"{SCORED}, an ensemble of {MEMBERS}"
PAIRS = 64  # that are scored
SCORED_AT_ONCE = 16  # texts of a batch of the peer's, and pairs of one of ours
PAIR = 256  # tokens of a prompt with a response of a pair that is scored, at most


@dataclasses.dataclass(frozen=True)
class Rewrites:
  """Drafts to rewrite, batch by batch, and the prompts that ask for it."""

  name: str  # of the case
  batches: list[tuple[Prompts, Responses]]


@functools.cache  # of several cases
def _loaded(source: str) -> tuple[data_rows.Preference, ...]:
  """Returns the rows of a source that can be used."""
  return tuple(preferences.load(source, on_bad_row="skip").rows)


def rewrites(directory: str, source: str, batches: Sequence[int]) -> Iterator[Rewrites]:
  """Yields the first of a source's chosen responses of DRAFT tokens, in batches of these sizes.

  They are asked for in the improver's format of the directory's model. A case has the first ones:
  FEWEST, or one batch that is larger, of MOST. Without such responses there is none.

  Raises:
    ValueError: the source cannot be used.
  """
  rows = _loaded(source)
  words = text.load_tokenizer(directory)
  form, words = chat.choose("auto", words, template.Template(), REQUEST)
  settings = encode.Settings(words, form, PROMPT + DRAFT[1], DRAFT[1], over_long="cut")
  lengths = np.array([len(ids) for ids in words.encode_batch([row.chosen for row in rows])])
  places = np.flatnonzero((lengths >= DRAFT[0]) & (lengths < DRAFT[1]))[:MOST]
  if not places.size:
    return

  asked, drafts = ([getattr(rows[i], name) for i in places] for name in ("prompt", "chosen"))
  prompts = encode.prompts(form.formats["improver"].conversations(asked, drafts), settings)[:]
  ids = form.encode_responses(words, drafts, DRAFT[1]).ids
  responses = padding.pad_responses(ids, DRAFT[1], words.pad_id)
  for size in sorted({min(size, len(places)) for size in batches}):
    count = min(max(FEWEST, size), len(places)) // size * size
    parts = [slice(start, start + size) for start in range(0, count, size)]
    yield Rewrites(
      f"rewrite, batch {size}",
      [
        (
          Prompts(prompts.tokens[part], prompts.mask[part]),
          Responses(responses.tokens[part], responses.mask[part]),
        )
        for part in parts
      ],
    )


def pairs(directory: str, source: str) -> tuple[encode.Settings, Preferences] | None:
  """Returns the first pairs of a source whose texts are short enough to be scored, and how.

  None are a source without such pairs.

  Raises:
    ValueError: the source cannot be used.
  """
  rows = _loaded(source)
  words = text.load_tokenizer(directory)
  form, words = chat.choose("auto", words, template.Template(), REQUEST)
  settings = encode.Settings(words, form, PAIR, PAIR, over_long="drop")
  texts = encode.preferences(rows[: 8 * PAIRS], settings)[:]
  prompt, *responses = (
    part.mask.sum(axis=1) for part in (texts.prompts, texts.chosen, texts.rejected)
  )
  short = np.flatnonzero(prompt + np.maximum(*responses) <= PAIR)[:PAIRS]
  return (settings, texts.replace(**_rows(texts, short))) if short.size else None


def _rows(texts: Preferences, places: np.ndarray) -> dict[str, Prompts | Responses]:
  """Returns some rows of the texts of pairs, no wider than they have to be."""
  taken = {}
  for name in ("prompts", "chosen", "rejected"):
    part = getattr(texts, name)
    tokens, mask = part.tokens[places], part.mask[places]
    width = mask.sum(axis=1).max()
    kept = slice(-width, None) if isinstance(part, Prompts) else slice(width)
    taken[name] = type(part)(tokens[:, kept], mask[:, kept])
  return taken


def case(directory: str, source: str) -> timing.Case:
  """Returns the case: a directory's tokenizer on a source that was read before.

  Every call opens the tokenizer anew, since it learns words as they come. Rows that cannot be used
  are left out.

  Raises:
    ValueError: the source cannot be used.
  """
  rows = _loaded(source)

  def run():
    words = text.load_tokenizer(directory)
    settings = encode.Settings(words, template.Template(), PROMPT, RESPONSE)
    with tempfile.TemporaryDirectory() as folder:
      return encode.preferences(rows, settings, pathlib.Path(folder)).contents

  return timing.Case("tokenise", len(rows), lambda: run, unit="pairs")
