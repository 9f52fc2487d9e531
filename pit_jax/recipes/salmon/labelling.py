"""What the reward model learns from: pairs of samples, compared by one principle at a time."""

import collections
import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, preferences, principles
from pit_jax.feedback import labels, named, principled, writers
from pit_jax.recipes.irft import demonstrations
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback
from pit_jax.statistics import principles as aggregation
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Pairs of a fold, and the rows that principles and a judge made of them."""

  bank: principles.Bank
  pairs: Mapping[str, Sequence[labels.Pair]]  # by part of the fold
  samples: Sequence[feedback.Completions]  # of each side of the pairs
  made: made_rows.MadeRows  # rows of both parts; see `principled.rows`

  def fold(
    self, change: Callable[[list], list] = list, *, is_read: bool = True
  ) -> preferences.Fold:
    """Returns the rows as what is trained on, after a change of those of each part.

    `is_read` is as for `principled.preferences`.
    """
    parts = (
      principled.preferences(change(self._of(part)), self.pairs[part], self.bank, is_read=is_read)
      for part in feedback.PARTS
    )
    return preferences.Fold(*map(tuple, parts))

  @functools.cached_property
  def counts(self) -> dict[str, int]:
    """What became of the rows."""
    return principled.counts(self.made.rows)

  def labelled(self, part: str) -> list[dict[str, Any]]:
    """Returns the rows of a part that have a label, in the order of those of `fold`."""
    return [row for row in self._of(part) if row["preference"] is not None]

  def _of(self, part: str) -> list[dict[str, Any]]:
    return [row for row in self.made.rows if row["part"] == part]


def plain(rows: Sequence[Mapping]) -> list[dict[str, Any]]:
  """Returns rows without their principles: an ordinary reward model on the same labels."""
  return [{**row, "principles": []} for row in rows]


def shuffled(rows: Sequence[Mapping], seed: int) -> list[dict[str, Any]]:
  """Returns rows that show each other's principles: the same words, and nothing in them."""
  lists = [row["principles"] for row in rows]
  random.Random(seed).shuffle(lists)
  return [{**row, "principles": listed} for row, listed in zip(rows, lists, strict=True)]


def instructed(
  context: contexts.Context, bank: principles.Bank, fold: preferences.Fold
) -> preferences.Fold:
  """Returns the prompts of a fold, and each again with principles, salmon.instructed times.

  What the writer answers to these is what makes the policy one that knows the principles' words, as
  a chat model does.
  """

  def several(part: str) -> Iterator[preferences.Preference]:
    yield from getattr(fold, part)
    for row, prompt in _instructed(context, bank, fold, part):
      yield dataclasses.replace(row, prompt=prompt)

  return preferences.Fold(*(tuple(several(part)) for part in feedback.PARTS))


def rewritten(
  context: contexts.Context,
  bank: principles.Bank,
  fold: preferences.Fold,
  written: feedback.Completions,
) -> preferences.Fold:
  """Returns what an improver is to make of the writer's answers under principles: its own.

  A row is a prompt with principles as in `instructed`, the writer's answer to it, and as the worse
  one, which is to be improved, its answer without any. Prompts that it failed to answer have none.

  Args:
    context: of the run.
    bank: the principles.
    fold: whose prompts the writer answered.
    written: its answers to the rows of `instructed`.
  """

  def several(part: str) -> Iterator[preferences.Preference]:
    texts = dict(written.parts[part])
    for row, prompt in _instructed(context, bank, fold, part):
      # Where no principle fits a prompt, there is nothing to improve by.
      if prompt != row.prompt and row.prompt in texts and prompt in texts:
        yield preferences.Preference(prompt, texts[prompt], texts[row.prompt])

  return preferences.Fold(*(tuple(several(part)) for part in feedback.PARTS))


def _instructed(
  context: contexts.Context, bank: principles.Bank, fold: preferences.Fold, part: str
) -> Iterator[tuple[preferences.Preference, conversations.Prompt]]:
  """Yields every row of a part with its prompt under principles, salmon.instructed times."""
  c = context.config
  drawing = principled.drawing(c.salmon)
  for number in range(c.salmon.instructed):
    for i, row in enumerate(getattr(fold, part)):
      rng = random.Random(f"instructed {c.seed} {part} {number} {i}")
      yield row, bank.show(row.prompt, principled.draw(rng, drawing, bank, row.prompt))


def labelled(context: contexts.Context, bank: principles.Bank, policy: Params) -> Labelled:
  """Returns labelled pairs of two samples of a policy for every prompt of the reward fold.

  Samples lie in WORKDIR/rows/samples_1 and samples_2.jsonl, what the judge says by principle NAME
  in scores_NAME.jsonl, and the rows in labels.jsonl.

  Raises:
    ValueError: no prompt is of one of the bank's classes, or the judge fails too often.
  """
  c = context.config
  fold = demonstrations.prompts(context, c.reward.fold)
  _check_classes(bank, [*fold.prompts, *(row.prompt for row in fold.validation)])
  student = writers.model("sft", context.models.inference, policy)
  how = {"temperature": c.salmon.temperature, "most_failed": c.salmon.most_failed}
  samples = [
    feedback.completions(context, f"samples_{side}", fold, student, **how) for side in (1, 2)
  ]
  pairs = feedback.pairs(*samples)
  everything = [pair for part in feedback.PARTS for pair in pairs[part]]
  drawing = principled.drawing(c.salmon)

  def make() -> Iterator[dict[str, Any]]:
    standardised = aggregation.standardised(scores(context, "scores", bank, everything))
    begin = 0
    for part in feedback.PARTS:
      own = standardised[begin : begin + len(pairs[part])]
      begin += len(pairs[part])
      drawn = {"seed": context.seed(f"principles {part}"), "labelled_by": c.salmon.judge}
      for row in principled.rows(pairs[part], own, bank, drawing, **drawn):
        yield {**row, "part": part}

  return Labelled(bank, pairs, samples, made_rows.once(context, "rows/labels", make))


def scores(
  context: contexts.Context,
  name: str,
  bank: principles.Bank,
  pairs: Sequence[labels.Pair],
) -> np.ndarray:
  """Returns what the judge says of pairs by each principle in both orders, Float[N K 2].

  It is NaN where the judge fails, or the principle is not for the prompt. Of each principle it is
  kept in WORKDIR/rows/NAME_PRINCIPLE.jsonl, and what is there is not asked for again.

  Raises:
    ValueError: the judge fails on more than salmon.most_failed of the pairs, or what lies there is
      of other pairs.
  """
  judge = context.config.salmon.judge
  columns = [[pair[i] for pair in pairs] for i in range(3)]
  found = np.full((len(pairs), len(bank.principles), 2), np.nan)
  for place, principle in enumerate(bank.principles):
    fits = [principle in bank.fitting(prompt) for prompt in columns[0]]
    made = made_rows.once(
      context,
      f"rows/{name}_{principle.name}",
      functools.partial(_compared, context, judge, principle, columns, fits),
    )
    wanted = [{"prompt": conversations.write(pair.prompt), "output_1": pair.a, "output_2": pair.b}
              for pair in pairs]  # fmt: skip
    made_rows.check_of(made, wanted, "scores of other pairs")
    failures = collections.Counter(row["failure"] for row in made.rows if "failure" in row)
    asked = (f"rater {judge}", f"pairs by the principle {principle.name}")
    feedback.check_share(context, *asked, failures, sum(fits), context.config.salmon.most_failed)
    told = [row["orders"] or (np.nan, np.nan) for row in made.rows]
    found[:, place] = np.array(told, float).reshape(-1, 2)

  return found


def _compared(
  context: contexts.Context,
  name: str,
  principle: principles.Principle,
  columns: Sequence[Sequence],
  fits: Sequence[bool],
) -> Iterator[dict[str, Any]]:
  """Yields the pairs with what the judge says of those that a principle is for."""
  judge = named.build(context, "raters", name, principle=principle)
  places = np.flatnonzero(fits).tolist()
  verdicts = judge.verdicts(*([column[i] for i in places] for column in columns))
  by_place = dict(zip(places, range(len(places)), strict=True))
  for i, (prompt, a, b) in enumerate(zip(*columns, strict=True)):
    row = {"prompt": conversations.write(prompt), "output_1": a, "output_2": b, "orders": None}
    if i in by_place:
      failure = verdicts.failures.get(by_place[i])
      orders = verdicts.orders[by_place[i]].tolist()
      row |= {"failure": failure} if failure else {"orders": orders}
    yield {**row, "principle": principle.text, "labelled_by": judge.name}


def _check_classes(bank: principles.Bank, prompts: Sequence[conversations.Prompt]) -> None:
  """Raises a ValueError for a principle that is for no prompt."""
  there = {one.name for prompt in prompts for one in bank.fitting(prompt)}
  for one in bank.principles:
    if one.name not in there:
      raise ValueError(
        f"the principle {one.name} is for prompts of {', '.join(one.classes)}, and none of "
        f"{len(prompts)} is; leave it out, or change the expression of the class"
      )
