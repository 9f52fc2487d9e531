"""MARV: preferences kept only where revisions made from what is preferred score higher.

Several revisers revise with either text of every pair at hand; the revisions are written once and
read back, so that several reward models may score them. It is a stage by itself, for any
preferences: of critiques, which are shown beside the draft that they are about, or of answers, from
which an improver writes a better one.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from pit_jax.data import conversations, critiques, preferences, prompt_formats, rows
from pit_jax.feedback import writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import asking, feedback
from pit_jax.statistics import revised

# (questions, answers) → the score of each answer, Float[N].
Rating = Callable[[Sequence[conversations.Prompt], Sequence[str]], np.ndarray]
SIDES = ("chosen", "rejected")


class Pair(NamedTuple):
  """Two texts of which one is preferred, and what a reviser is shown before either."""

  prompt: conversations.Prompt
  chosen: str
  rejected: str
  shown: tuple[str, ...] = ()  # texts of the format before its last one, such as a draft


Pairs = Mapping[str, Sequence[Pair]]  # by part of a fold


class Revision(NamedTuple):
  """What a reviser makes of a draft: None, and why, where that is of no use."""

  text: str | None
  failure: str = ""


def read(
  asked: Sequence[prompt_formats.Conversation], written: writers.Written
) -> list[list[Revision]]:
  """Returns what the samples of a reviser for every conversation hold.

  The draft, which is the first text beside the prompt, may stay as it is; a reply that copies
  anything else that was shown or asked is no revision.
  """
  found = []
  for place, (one, samples) in enumerate(zip(asked, written.texts, strict=True)):
    turns = (turn for turn in one.format.turns if isinstance(turn, conversations.Turn))
    requests = [turn.content for turn in turns if turn.content.strip()]
    absent = Revision(None, written.failures.get(place, writers.NOTHING))
    several = []
    for text in samples:
      if text is None:
        several.append(absent)
        continue
      if critiques.is_copy(text, (one.prompt, *one.texts[1:]), requests):
        several.append(Revision(None, critiques.COPIED_ANSWER))
      else:  # an empty draft may stay empty: of endpoints what is empty has failed before
        several.append(Revision(text))
    found.append(several)
  return found


@dataclasses.dataclass(frozen=True)
class Revisions:
  """Pairs, and what revisers made with either text of each."""

  made: made_rows.MadeRows  # rows {prompt, shown, chosen, rejected, revisions, failures}
  pairs: Pairs

  @property
  def failures(self) -> dict[str, int]:
    """How many revisions failed, by kind."""
    return _failures(self.made)

  def scores(self, rating: Rating) -> dict[str, dict[str, np.ndarray]]:
    """Returns part → side → the score of every revision, Float[N r s]; NaN of one that failed."""
    pairs = [pair for part in feedback.PARTS for pair in self.pairs[part]]
    texts = [row["revisions"][side] for row in self.made.rows for side in SIDES]
    flat = [
      (pairs[place // 2].prompt, text)
      for place, of_side in enumerate(texts)
      for of_one in of_side
      for text in of_one
    ]
    # Many revisions are alike: each is scored once.
    distinct = [one for one in dict.fromkeys(flat) if one[1] is not None]
    by_text = {}
    if distinct:
      rated = np.asarray(rating(*map(list, zip(*distinct, strict=True))), float)
      by_text = dict(zip(distinct, rated.tolist(), strict=True))
    values = np.array([by_text.get(one, np.nan) for one in flat])

    shape = (len(pairs), 2, len(texts[0]), len(texts[0][0])) if texts else (0, 2, 1, 1)
    whole = values.reshape(shape)
    ends = np.cumsum([len(self.pairs[part]) for part in feedback.PARTS])[:-1]
    return {
      part: {side: some[:, place] for place, side in enumerate(SIDES)}
      for part, some in zip(feedback.PARTS, np.split(whole, ends), strict=True)
    }

  def kept(self, rating: Rating, margin: float | int = 0.0) -> dict[str, np.ndarray]:
    """Returns by part which pairs are kept, Bool[N]; see `revised.kept`."""
    scores = self.scores(rating)
    return {part: revised.kept(*scores[part].values(), margin) for part in feedback.PARTS}


def revisions(
  context: contexts.Context,
  pairs: Mapping[str, Pairs],
  revisers: Sequence[writers.Writer],
  shown: prompt_formats.Format,
  *,
  samples: int,
  temperature: float | int,
  most_failed: float | int,
) -> dict[str, Revisions]:
  """Returns revisions made with either text of every pair, by the name of their rows.

  Args:
    context: of the run.
    pairs: name of rows, unique in the run, which lie in WORKDIR/rows/NAME.jsonl; also seeds their
      noise → pairs by part of a fold.
    revisers: who revise; each is asked about all pairs of all names in one pass, and endpoints at
      the same time.
    shown: what they are shown: the prompt, `Pair.shown`, and last the text that is preferred or the
      other one.
    samples: revisions of each reviser with each text.
    temperature: as for `Writer.write`.
    most_failed: share of what revisers are asked, from 0 to 1, that may fail; it does not count.

  Raises:
    ValueError: more fail, or what lies there is of other pairs.
  """
  everything = {name: [pair for part in feedback.PARTS for pair in own[part]]
                for name, own in pairs.items()}  # fmt: skip
  chats = {name: _chats(shown, some) for name, some in everything.items()}
  passes = []
  for number, one in enumerate(revisers):
    keys = {name: jax.random.fold_in(context.key(name), number) for name in pairs}
    requests = {name: writers.Request(chats[name], keys[name], temperature, samples)
                for name in pairs}  # fmt: skip
    passes.append((one, requests))
  written = asking.together(context, passes)

  def make(name):
    told = [read(chats[name], own(name)) for own in written]
    for place, pair in enumerate(everything[name]):
      sides = {side: [own[2 * place + i] for own in told] for i, side in enumerate(SIDES)}
      lost = collections.Counter(
        one.failure for side in sides.values() for own in side for one in own if one.failure
      )
      texts = {side: [[one.text for one in own] for own in several]
               for side, several in sides.items()}  # fmt: skip
      known = {**_known(pair), "revised_by": [one.name for one in revisers], "revisions": texts}
      yield {**known, **({"failures": dict(lost)} if lost else {})}

  found = {}
  for name, own in pairs.items():
    made = made_rows.once(context, f"rows/{name}", functools.partial(make, name))
    _check(context, made, everything[name], most_failed)
    found[name] = Revisions(made, own)
  return found


def _chats(
  shown: prompt_formats.Format, pairs: Sequence[Pair]
) -> list[prompt_formats.Conversation]:
  """Returns what revisers are shown of either text of every pair."""
  asked = [(pair, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
  columns = [[pair.shown[place] for pair, _ in asked] for place in range(len(shown.texts) - 1)]
  prompts = [pair.prompt for pair, _ in asked]
  return shown.conversations(prompts, *columns, [text for _, text in asked])


def _check(
  context: contexts.Context,
  made: made_rows.MadeRows,
  pairs: Sequence[Pair],
  most_failed: float | int,
) -> None:
  """Raises a ValueError for rows of other pairs, or of which too many failed."""
  made_rows.check_of(made, [*map(_known, pairs)], "revisions of other pairs")
  count = sum(len(own) for row in made.rows for side in SIDES for own in row["revisions"][side])
  share = (_failures(made), count, most_failed)
  feedback.check_share(context, "revisers", "revisions", *share)


def _failures(made: made_rows.MadeRows) -> dict[str, int]:
  """Returns how many revisions of rows failed, by kind."""
  lost = collections.Counter()
  for row in made.rows:
    lost.update(row.get("failures", {}))
  return dict(lost)


def of_preferences(fold: preferences.Fold) -> dict[str, list[Pair]]:
  """Returns the pairs of a fold, of answers to its prompts: an improver may revise either."""
  return {
    part: [Pair(row.prompt, row.chosen, row.rejected) for row in getattr(fold, part)]
    for part in feedback.PARTS
  }


def filtered(fold: preferences.Fold, kept: Mapping[str, np.ndarray]) -> preferences.Fold:
  """Returns a fold of which some rows are kept, by part, Bool[N]."""
  return preferences.Fold(*(_chosen(getattr(fold, part), kept[part]) for part in feedback.PARTS))


def _chosen(some: Sequence[rows.Preference], kept: np.ndarray) -> tuple[rows.Preference, ...]:
  return tuple(row for row, is_kept in zip(some, kept, strict=True) if is_kept)


def _known(pair: Pair) -> dict:
  """Returns what the rows say of a pair, as JSON holds it."""
  return {
    "prompt": conversations.write(pair.prompt),
    "shown": list(pair.shown),
    "chosen": pair.chosen,
    "rejected": pair.rejected,
  }
