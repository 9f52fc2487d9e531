"""Labels of the arms: samples of one policy, labelled by class, and rewritten where they harm."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, preferences, prompt_formats
from pit_jax.feedback import factories, judges, labels, named, router, verifier, writers
from pit_jax.recipes.hrlaif import arms
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback, rewriting
from pit_jax.types import Params

TRIED = 2  # rows of a class on which a function is tried


@dataclasses.dataclass(frozen=True)
class Labelled:
  """What the reward model of an arm learns from."""

  fold: preferences.Fold  # as many pairs as the other arms have
  made: tuple[made_rows.MadeRows, ...]
  # Who made every pair of the fold, rows and then validation: a rater's name.
  raters: Sequence[str]
  counts: Mapping[str, int]  # what became of the pairs that were labelled
  rewritten: Mapping[str, int]  # what became of the answers that were to be rewritten


def of_arms(context: contexts.Context, policy: Params) -> dict[str, Labelled]:
  """Returns the labels of every arm, by system: of two samples of a policy for each prompt."""
  c = context.config
  samples = [_sampled(context, number, policy) for number in (1, 2)]
  paired = feedback.pairs(*samples)
  by_system = {arm.system: _labelled(context, arm, samples, paired) for arm in arms.of(c)}

  # With more pairs an arm would be better for them, and its stages longer.
  most = [min(len(getattr(one.fold, part)) for one in by_system.values())
          for part in feedback.PARTS]  # fmt: skip
  return {system: _cut(one, most, context.seed(system)) for system, one in by_system.items()}


def _sampled(context: contexts.Context, number: int, policy: Params) -> feedback.Completions:
  """Returns a sample of each prompt of the fold of the reward models."""
  c = context.config
  whole = context.rows.fold(c.reward.fold)
  prompts = preferences.Fold(*map(tuple, map(preferences.distinct, (whole.rows, whole.validation))))
  writer = writers.model(arms.SFT, context.models.inference, policy)
  how = {"temperature": c.hrlaif.temperature, "most_failed": 0.0}
  return feedback.completions(context, f"samples_{number}", prompts, writer, **how)


def _labelled(
  context: contexts.Context,
  arm: arms.Arm,
  samples: Sequence[feedback.Completions],
  paired: Mapping[str, Sequence[labels.Pair]],
) -> Labelled:
  """Returns the labels of an arm: of its rater, and rewritings of what that leaves to them."""
  c = context.config.hrlaif
  left = _left(context, arm)
  own = {
    part: [pair for pair in pairs if pair.prompt not in left] for part, pairs in paired.items()
  }
  rater = named.build(context, "raters", arm.rater)
  how = {"orders": c.orders, "keep": c.keep, "most_failed": c.most_failed}
  rated = feedback.labelled(context, f"{arm.system}_labels", own, rater, **how)
  folds = [rated.fold]
  who = {part: [one.said_by for one in rated.by_part[part].labels if one.outcome == labels.KEPT]
         for part in feedback.PARTS}  # fmt: skip
  made = (rated.made,)
  counts = {}

  if arm.rewritten:
    mended = _rewritten(context, samples, left)
    folds.append(mended.fold)
    for part in feedback.PARTS:
      who[part] += [c.harm] * len(getattr(mended.fold, part))
    made += (mended.made,)
    counts = mended.counts

  joined = preferences.Fold(
    *(sum((getattr(fold, part) for fold in folds), ()) for part in feedback.PARTS)
  )
  names = [name for part in feedback.PARTS for name in who[part]]
  return Labelled(joined, made, names, rated.counts, counts)


def _left(context: contexts.Context, arm: arms.Arm) -> set[conversations.Prompt]:
  """Returns the prompts of the classes that are rewritten."""
  if not arm.rewritten:
    return set()
  whole = context.rows.fold(context.config.reward.fold)
  prompts = [row.prompt for part in feedback.PARTS for row in getattr(whole, part)]
  names = classes_of(context, arm.rater, prompts)
  return {prompt for prompt, name in zip(prompts, names, strict=True) if name in arm.rewritten}


def classes_of(
  context: contexts.Context, rater: str, prompts: Sequence[conversations.Prompt]
) -> list[str]:
  """Returns the class of every prompt, as a rater by class tells them."""
  return named.classifier(context, rater)(prompts)


def _rewritten(
  context: contexts.Context,
  samples: Sequence[feedback.Completions],
  left: set[conversations.Prompt],
) -> rewriting.Rewritten:
  """Returns rewritings of the samples of some prompts; all arms that rewrite share them."""
  c = context.config.hrlaif
  # Each answer once, where both samples of a prompt are the same.
  answers = {
    part: list(dict.fromkeys(row for one in samples for row in one.parts[part] if row[0] in left))
    for part in feedback.PARTS
  }
  judge, writer, shown = _mending(context)
  return rewriting.rewritten(
    context, "rewritten", answers, judge, writer, shown, written_by=arms.SFT,
    harmless=c.harmless, temperature=c.temperature, most_failed=c.most_failed,
  )  # fmt: skip


def _mending(
  context: contexts.Context,
) -> tuple[judges.Judge, writers.Writer, prompt_formats.Format]:
  """Returns who judges harm, who rewrites, and what that is shown."""
  c = context.config.hrlaif
  shown = rewriting.request(c.rewrite_turn, context.config.data.improver_template)
  judge = named.build(context, "raters", c.harm)
  return judge, named.build(context, "writers", c.rewriter), shown


def try_functions(context: contexts.Context) -> None:
  """Calls each verifier and rewriter that is a Python function, before anything is trained.

  Each is asked of two rows of the data, of a class that is its own.

  Raises:
    ValueError: one fails, or returns what it must not; the error names it and the prompt.
  """
  c = context.config
  raters = c.feedback.raters
  rows = context.rows.fold(c.reward.fold).rows
  for arm in arms.of(c):
    section = raters[arm.rater]
    by_class = section.kind == router.KIND
    names = classes_of(context, arm.rater, [row.prompt for row in rows]) if by_class else None
    of_class = dict(section.raters) if by_class else {"": arm.rater}
    of_class |= dict.fromkeys(arm.rewritten, c.hrlaif.harm)

    for label, rater in of_class.items():
      own = [row for i, row in enumerate(rows) if names is None or names[i] == label][:TRIED]
      columns = [[getattr(row, name) for row in own] for name in ("prompt", "chosen", "rejected")]
      for member in named.members(raters, rater):
        if raters[member].kind in (verifier.CHECK, factories.VERIFIED):
          named.build(context, "raters", member).verdicts(*columns)
      if label in arm.rewritten and c.feedback.writers[c.hrlaif.rewriter].kind == "function":
        _, writer, shown = _mending(context)
        writer.write(shown.conversations(*columns[:2]), context.key("tried"), 1.0)


def _cut(labelled: Labelled, most: Sequence[int], seed: int) -> Labelled:
  """Returns so many pairs of each part, drawn from all."""
  drawn = random.Random(seed)
  parts = []
  who = []
  begin = 0
  for part, count in zip(feedback.PARTS, most, strict=True):
    rows = getattr(labelled.fold, part)
    kept = sorted(drawn.sample(range(len(rows)), count))
    parts.append(tuple(rows[place] for place in kept))
    who += [labelled.raters[begin + place] for place in kept]
    begin += len(rows)
  return dataclasses.replace(labelled, fold=preferences.Fold(*parts), raters=who)


def accuracy(
  context: contexts.Context, by_system: Mapping[str, Labelled], judge: judges.Judge | None
) -> list[dict[str, Any]]:
  """Returns, by arm and class, how many labels there are, whose, and how many are right.

  `right` is the share that a judge agrees with, of those on which it prefers an answer; nothing is
  trained or chosen by it.
  """
  c = context.config
  told = []
  for arm in arms.of(c):
    labelled = by_system[arm.system]
    decided = [*labelled.fold.rows, *labelled.fold.validation]
    classes = np.array(classes_of(context, c.hrlaif.hybrid, [row.prompt for row in decided]))
    for name in sorted({*classes.tolist()}):
      places = np.flatnonzero(classes == name).tolist()
      rows = [decided[place] for place in places]
      whose = [labelled.raters[place] for place in places]
      row = {"system": arm.system, "class": name, "pairs": len(rows)}
      row |= {"by": {one: whose.count(one) for one in dict.fromkeys(whose)}}
      if judge is not None:
        row |= {"right": labels.agreement(rows, judge)["accuracy"]}
      told.append(row)
  return told
