"""Pairs of critiques, preferred by severity, and the filters that keep some of them."""

import dataclasses
import random
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from pit_jax.data import conversations, preferences, prompt_formats, rows, units
from pit_jax.feedback import named
from pit_jax.recipes.multicritique import arms
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback, revision, reward, unit_criticism
from pit_jax.statistics import revised

# (prompts, drafts and critics' texts) of the format that revisers are shown.
_TEXTS = ("reference", "critique")


@dataclasses.dataclass(frozen=True)
class Paired:
  """Critiques of the same drafts, compared by severity, and what filters keep of them."""

  fold: preferences.Fold  # rows {prompt, chosen, rejected, response: the draft}
  kept: Mapping[str, Mapping[str, np.ndarray]]  # filter → part → which rows, Bool[N]
  failures: Mapping[str, Mapping[str, int]]  # filter that has revisions → how many failed, by kind
  made: tuple[made_rows.MadeRows, ...]

  def of(self, name: str) -> preferences.Fold:
    """Returns the pairs that a filter keeps, to train on and to validate."""
    return revision.filtered(self.fold, self.kept[name])


def by_severity(
  reviews: Sequence[unit_criticism.Reviews],
  classes: unit_criticism.Classes,
  form: units.Form,
  seed: int,
) -> preferences.Fold:
  """Returns pairs of two critics' critiques of a draft, of which the one worth more is chosen.

  Of every draft the critics are paired off in an order at random, each at most once. Critiques of
  no use, of the same text, or of the same worth are no pair. Worth is that of `units.worth`.
  """
  parts = []
  for part in feedback.PARTS:
    pairs = []
    merged = classes.merged(part)
    for place, (whole, critics) in enumerate(zip(merged, classes.parts[part], strict=True)):
      severities = {unit.at: unit.severity or 0 for unit in whole}
      order = list(range(len(reviews)))
      random.Random(f"{seed} {part} {place}").shuffle(order)
      for i, j in zip(order[::2], order[1::2], strict=False):
        of_both = [reviews[critic].parts[part][place] for critic in (i, j)]
        if not all(row.listed.is_useful for row in of_both):
          continue
        texts = [form.write(row.listed.units) for row in of_both]
        worth = [units.worth(critics[critic], severities) for critic in (i, j)]
        if worth[0] == worth[1] or texts[0] == texts[1]:
          continue
        first, second = (0, 1) if worth[0] > worth[1] else (1, 0)
        prompt, draft = of_both[0].prompt, of_both[0].draft
        pairs.append(rows.Preference(prompt, texts[first], texts[second], response=draft))
    parts.append(tuple(pairs))
  return preferences.Fold(*parts)


def filtered(
  context: contexts.Context,
  fold: preferences.Fold,
  model: reward.RewardModel,
  blind: reward.RewardModel | None,
) -> Paired:
  """Returns pairs with what each filter keeps of them.

  Args:
    context: of the run.
    fold: the pairs.
    model: R_P, which scores revisions.
    blind: a reward model of random labels; None where there are no controls.
  """
  c = context.config
  pairs = {
    part: [revision.Pair(row.prompt, row.chosen, row.rejected, (row.response,))
           for row in getattr(fold, part)]
    for part in feedback.PARTS
  }  # fmt: skip
  asked = {"revisions": pairs}
  if blind is not None:
    asked["revisions_shuffled"] = {
      part: shuffled(some, context.seed(f"shuffled critiques {part}"))
      for part, some in pairs.items()
    }
  made = _revisions(context, asked)
  own = made["revisions"]
  kept = {arms.ALL: {part: np.ones(len(pairs[part]), bool) for part in feedback.PARTS}}
  kept[arms.MARV] = own.kept(reward.rating(context, model), c.revision.margin)
  kept[arms.RANDOM] = {
    part: revised.at_random(kept[arms.MARV][part], context.seed(f"random filter {part}"))
    for part in feedback.PARTS
  }
  failures = {arms.MARV: own.failures}
  if blind is not None:
    kept[arms.BLIND] = own.kept(reward.rating(context, blind), c.revision.margin)
    shown = made["revisions_shuffled"]
    kept[arms.SHUFFLED] = shown.kept(reward.rating(context, model), c.revision.margin)
    failures |= {arms.BLIND: own.failures, arms.SHUFFLED: shown.failures}
  return Paired(fold, kept, failures, tuple(one.made for one in made.values()))


def shuffled(pairs: Sequence[revision.Pair], seed: int) -> list[revision.Pair]:
  """Returns pairs in which each draft is shown with both critiques of another draft.

  Each gives its critiques to one other: turned by one place in an order at random.

  Raises:
    ValueError: there is one pair alone, to which there is no other.
  """
  if len(pairs) == 1:
    raise ValueError(
      "one pair of critiques alone has none of another draft beside it, which the controls of MARV "
      "show; use multicritique.controls=False, or more prompts"
    )
  order = list(range(len(pairs)))
  random.Random(seed).shuffle(order)
  giver = dict(zip(order, [*order[1:], *order[:1]], strict=True))
  return [
    pair._replace(chosen=pairs[giver[place]].chosen, rejected=pairs[giver[place]].rejected)
    for place, pair in enumerate(pairs)
  ]


def shown_to_revisers(
  section: ml_collections.ConfigDict, form: units.Form
) -> prompt_formats.Format:
  """Returns what a reviser is shown: the prompt, a draft, a critique, and what is asked."""
  turns = (
    prompt_formats.Text("assistant", _TEXTS[0]),
    conversations.Turn("user", form.asked),
    prompt_formats.Text("assistant", _TEXTS[1]),
    conversations.Turn("user", section.request),
  )
  return prompt_formats.Format("reviser", _TEXTS, section.plain, turns)


def _revisions(
  context: contexts.Context, pairs: Mapping[str, revision.Pairs]
) -> dict[str, revision.Revisions]:
  c = context.config
  revisers = [named.build(context, "writers", one) for one in c.multicritique.revisers]
  how = {"samples": c.revision.samples, "temperature": c.revision.temperature,
         "most_failed": c.multicritique.most_failed}  # fmt: skip
  shown = shown_to_revisers(c.revision, units.form_of(c.units))
  return revision.revisions(context, pairs, revisers, shown, **how)
