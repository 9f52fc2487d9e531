"""Rows that teachers write and critics label: completions, and pairs of which one is preferred.

Both are made once and read back when the run goes on, see `made_rows`; a text or a label that was
paid for is not paid for again.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pit_jax import config_keys
from pit_jax.data import conversations, preferences, rows
from pit_jax.feedback import judges, labels, writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows

LOG = logging.getLogger(__name__)
PARTS = ("rows", "validation")  # of a fold


@dataclasses.dataclass(frozen=True)
class Completions:
  """Completions of the prompts of a fold by one writer."""

  made: made_rows.MadeRows  # rows {prompt, response, written_by, part, failure}
  # Part of the fold → prompt and completion of every row that the writer could complete.
  parts: Mapping[str, Sequence[tuple[conversations.Prompt, str]]]
  failures: Mapping[str, int]  # why prompts have no completion → how many

  @property
  def demonstrations(self) -> preferences.Fold:
    """The completions as what is imitated; there is no other response beside them."""
    return preferences.Fold(
      *(tuple(rows.Preference(*pair, rejected="") for pair in self.parts[part]) for part in PARTS)
    )


def completions(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  writer: writers.Writer,
  *,
  temperature: float = 1.0,
  top_p: float | int | None = None,
  most_failed: float | int,
  unfit: Callable[[conversations.Prompt, str], str] = lambda prompt, text: "",
) -> Completions:
  """Returns a completion of every prompt of a fold, in WORKDIR/rows/NAME.jsonl.

  Args:
    context: of the run.
    name: of the rows, unique in the run; also seeds their noise.
    fold: whose prompts are completed; its responses are not read.
    writer: who completes them.
    temperature: as for `Writer.write`.
    top_p: as for `Writer.write`.
    most_failed: share of the prompts, from 0 to 1, that may fail; they are left out and counted.
    unfit: (prompt, completion) → why it is of no use, in one of few phrases; "" where it is of use.

  Raises:
    ValueError: more fail, or what lies there is of other prompts.
  """
  asked = {part: [row.prompt for row in getattr(fold, part)] for part in PARTS}
  prompts = [prompt for part in PARTS for prompt in asked[part]]

  def make():
    chats = context.rows.settings.formats["policy"].conversations(prompts)
    written = writer.write(chats, context.key(name), temperature, top_p=top_p)
    for place, (prompt, (text,)) in enumerate(zip(prompts, written.texts, strict=True)):
      failure = written.failures.get(place, "")
      if not failure and text is not None:
        failure = unfit(prompt, text)
      yield {
        "prompt": conversations.write(prompt),
        "response": None if failure else text,
        "written_by": writer.name,
        **({"failure": failure} if failure else {}),
      }

  made = made_rows.once(context, f"rows/{name}", make)
  wanted = [{"prompt": conversations.write(prompt)} for prompt in prompts]
  made_rows.check_of(made, wanted, "completions of other prompts")
  failures = collections.Counter(row["failure"] for row in made.rows if "failure" in row)
  check_share(context, f"writer {writer.name}", "prompts", failures, len(prompts), most_failed)

  texts = iter(made.column("response"))
  parts = {
    part: [(prompt, text) for prompt, text in zip(asked[part], texts) if text]  # noqa: B905
    for part in PARTS
  }
  return Completions(made, parts, failures)


def held_out_in(context: contexts.Context, written: Sequence[writers.Writer]) -> Iterator[str]:
  """Yields a sentence of each writer whose file has completions of held-out prompts.

  Nothing asks for them: only prompts of folds are completed.
  """
  held_out = {conversations.said(row.prompt) for row in context.rows.folds[preferences.HELD_OUT]}
  for writer in written:
    if shared := held_out.intersection(writer.prompts or ()):
      section = context.config.feedback.writers[writer.name]
      yield (
        f"{section.path} (feedback.writers.{writer.name}) has completions of {len(shared)} of the "
        f"{len(held_out)} held-out prompts; no model is trained on them: leave the file as it is, "
        "or take these rows out where it is to hold training prompts alone"
      )


def pairs(first: Completions, second: Completions) -> dict[str, list[labels.Pair]]:
  """Returns, by part, the prompts that both completed with their completions, first against second.

  Completions that are the same text are no pair.
  """
  names = tuple(one.made.rows[0]["written_by"] if one.made.rows else "" for one in (first, second))
  paired = {}
  for part in PARTS:
    other = dict(second.parts[part])
    paired[part] = [
      labels.Pair(prompt, text, other[prompt], names)
      for prompt, text in first.parts[part]
      if prompt in other and other[prompt].strip() != text.strip()
    ]

  return paired


def joined(several: Sequence[Mapping[str, Sequence[labels.Pair]]]) -> dict[str, list[labels.Pair]]:
  """Returns the pairs of several writers as one, by part, in order."""
  return {part: [pair for paired in several for pair in paired[part]] for part in PARTS}


@dataclasses.dataclass(frozen=True)
class Labels:
  """Pairs of a fold that one rater labelled."""

  made: made_rows.MadeRows  # rows of AlpacaEval's files, of both parts
  by_part: Mapping[str, labels.Labelled]

  @property
  def fold(self) -> preferences.Fold:
    """The pairs of which one response is preferred."""
    return preferences.Fold(*(tuple(self.by_part[part].preferences) for part in PARTS))

  @property
  def counts(self) -> dict[str, int]:
    """What became of the pairs of both parts; see `Labelled.counts`."""
    return _summed([one.counts for one in self.by_part.values()])

  @property
  def kept_of(self) -> dict[str, int]:
    """How many of the labels each rater gave, by name; see `Labelled.kept_of`."""
    return _summed([one.kept_of for one in self.by_part.values()])


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
  total: collections.Counter[str] = collections.Counter()
  for one in counts:
    total.update(one)
  return dict(total)


def labelled(
  context: contexts.Context,
  name: str,
  paired: Mapping[str, Sequence[labels.Pair]],
  rater: judges.Judge,
  *,
  most_failed: float | int,
  **how: Any,
) -> Labels:
  """Returns the pairs with a rater's labels, in WORKDIR/rows/NAME.json, a file of AlpacaEval's.

  Args:
    context: of the run.
    name: of the rows, unique in the run.
    paired: the pairs by part of a fold.
    rater: who labels them.
    most_failed: share of the pairs, from 0 to 1, about which the rater may say nothing.
    how: orders and keep, as for `labels.labels`.

  Raises:
    ValueError: more fail, or what lies there is of other pairs.
  """
  everything = [pair for part in PARTS for pair in paired[part]]
  made = made_rows.once(
    context,
    f"rows/{name}",
    lambda: labels.labels(everything, rater, **how).annotations,
    is_list=True,
  )

  by_part = {}
  begin = 0
  for part in PARTS:
    end = begin + len(paired[part])
    by_part[part] = labels.labelled(paired[part], made.rows[begin:end], rater.name)
    begin = end

  failures = collections.Counter()
  for one in by_part.values():
    failures.update(one.failures)
  check_share(context, f"rater {rater.name}", "pairs", failures, len(everything), most_failed)
  return Labels(made, by_part)


def check_share(
  context: contexts.Context,
  who: str,
  what: str,
  failures: Mapping[str, int],
  count: int,
  most: float | int,
) -> None:
  """Raises a ValueError where more than a share of what was asked failed; logs what did."""
  failed = sum(failures.values())
  if not failed:
    return
  reasons = ", ".join(f"{reason}: {times}" for reason, times in failures.items())
  said = f"{who} failed on {failed} of {count} {what} ({reasons})"
  if failed > most * count:
    # A recipe has one such key at most; where it has none, the share is fixed.
    keys = [key for key, _ in config_keys.leaves(context.config) if key.endswith(".most_failed")]
    way = "".join(f", or raise {key}" for key in keys)
    raise ValueError(f"{said}, more than a share of {most:g}; mend what failed{way}")
  LOG.warning("%s; they are left out", said)
