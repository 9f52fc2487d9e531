"""A finished run of MultiCritique: how right critics and pairs are, and revised drafts."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pit_jax.data import conversations, units
from pit_jax.evaluate import subject
from pit_jax.feedback import named, writers
from pit_jax.recipes.multicritique import arms, pairing
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import criticism, feedback, revision, reward, trained, unit_criticism
from pit_jax.statistics import detection, labelled
from pit_jax.tasks import synthetic

# Streams of noise; see `subject`.
CRITICISED = 760
REVISED = 761
TEACHERS = "taught"  # before the names of who teaches, in results
CHECKS = tuple(synthetic.WEIGHTS)


@dataclasses.dataclass(frozen=True)
class Criticised:
  """Drafts of a fold with the units of all critics, and how each unit was classed."""

  reviews: Sequence[unit_criticism.Reviews]  # of each critic, in order
  classes: unit_criticism.Classes
  own: tuple[made_rows.MadeRows, ...]

  @property
  def made(self) -> tuple[made_rows.MadeRows, ...]:
    """All rows that were made of them."""
    return (*self.own, *(one.made for one in self.reviews))

  def units(
    self, source: str, part: str, critics: Sequence[str]
  ) -> list[tuple[units.Unit, ...] | None]:
    """Returns a critique of every draft from a source: None where there is none of use.

    Args:
      source: arms.MERGED, arms.UNION, or one of the critics.
      part: of the fold.
      critics: the names of all, in order.
    """
    if source in critics:
      rows = self.reviews[list(critics).index(source)].parts[part]
      return [row.listed.units if row.listed.is_useful else None for row in rows]
    if source == arms.MERGED:
      return list(self.classes.merged(part))
    accepting = [
      [one._replace(is_accepted=True) for of_one in critics for one in of_one]
      for critics in self.classes.parts[part]
    ]
    return [units.merged(one) for one in accepting]


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and what it was trained on."""

  author: trained.Trained
  scoring: reward.RewardModel
  critics: dict[str, trained.Trained]  # by stage
  taught: Criticised  # from which critics learn
  compared: Criticised  # whose critiques are preferred
  paired: pairing.Paired


def exported(study: Study) -> dict[str, Any]:
  """Returns what is exported: the critic as `policy`, after RL on MARV's pairs if there is one."""
  best = study.critics.get(f"critic_rl_{arms.MARV}", study.critics[arms.METHOD.stage])
  models = {"policy": best.params, "reward": study.scoring.params}
  return {"models": models, "zero_point": None, "published": study.scoring.published}


def of_run(context: contexts.Context, study: Study) -> "Subject":
  """Returns a finished run as its experiments see it."""
  models = {arms.DRAFTS: study.author.params}
  suite = subject.suite_of(context, policy=models[arms.DRAFTS], sampler=models[arms.DRAFTS],
                           reward_model=study.scoring)  # fmt: skip
  about = {arm.revised: f"drafts of sft, revised after a critic: {arm.about}"
           for arm in arms.of(context.config)}  # fmt: skip
  how = {"compared": arms.compared(context.config), "control": f"{arms.DRAFTS}_resampled",
         "reward_models": subject.facts_of({"R_P": study.scoring})}  # fmt: skip
  return Subject(context, suite, models=models, about=about, study=study, **how)


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished run: drafts, what every critic says of them, and what a reviser makes of that."""

  @functools.cached_property
  def drafted(self) -> Mapping[str, Sequence[str]]:
    """The drafts, and a second draw of them."""
    return subject.Policies.systems.func(self)

  @functools.cached_property
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The drafts, and the same as a reviser makes them of each critic's critiques."""
    revised = {
      arm.revised: [one.text or row.draft
                    for one, row in zip(self.revised[arm.stage], self.criticised[arm.stage],
                                        strict=True)]
      for arm in arms.of(self.context.config)
    }  # fmt: skip
    return {**self.drafted, **revised}

  @functools.cached_property
  def criticised(self) -> dict[str, list[unit_criticism.Review]]:
    """The same drafts as each critic criticises them, by its stage."""
    c = self.context.config
    form = units.form_of(c.units)
    key = jax.random.fold_in(self.suite.key, CRITICISED)
    drafts = self.drafted[arms.DRAFTS]
    chats = form.format.conversations(self.suite.questions, drafts)
    found = {}
    for arm in arms.of(c):
      params = self.study.critics[arm.stage].params
      critic = criticism.of_model(self.context, arm.stage, params, c.units)
      written = critic.write(chats, key, c.multicritique.feedback_temperature)
      found[arm.stage] = [
        unit_criticism.review(form, prompt, draft, text, None)
        for prompt, draft, (text,) in zip(self.suite.questions, drafts, written.texts, strict=True)
      ]
    return found

  @functools.cached_property
  def revised(self) -> dict[str, list[revision.Revision]]:
    """What the first reviser makes of the drafts after each critic's critiques, by its stage.

    A draft without a critique has no revision, and nothing failed. All are asked for in one pass.
    """
    c = self.context.config
    form = units.form_of(c.units)
    shown = pairing.shown_to_revisers(c.revision, form)
    reviser = named.build(self.context, "writers", c.multicritique.revisers[0])
    key = jax.random.fold_in(self.suite.key, REVISED)
    requests = []
    for reviews in self.criticised.values():
      said = [form.write(row.listed.units) for row in reviews]
      columns = [[getattr(row, name) for row in reviews] for name in ("prompt", "draft")]
      asked = shown.conversations(*columns, said)
      requests.append(writers.Request(asked, key, c.revision.temperature))

    found = {}
    written = zip(requests, reviser.write_all(requests), strict=True)
    for (stage, reviews), (request, replies) in zip(self.criticised.items(), written, strict=True):
      told = revision.read(request.asked, replies)
      found[stage] = [one if row.listed.units else revision.Revision(None)
                      for row, (one,) in zip(reviews, told, strict=True)]  # fmt: skip
    return found


def measure(run: Subject) -> dict:
  """Returns how right critics are, and pairs of critiques with and without filters.

  `criticism` has a row of every source that teaches, on the drafts that were taught, and of every
  critic that was trained, on the same held-out drafts: units of a critique, how many are lost by
  kind (`kinds`; of what is merged those that have no grade), and of the embedded task's letters
  precision, recall and F1 of the checks that are named, over all and by check (`parts`).
  `critique_pairs` has a row of every filter: how many pairs it keeps, and of the embedded task how
  often the chosen critique is the one of higher F1 (`accuracy`, of the pairs whose F1 differ;
  `alike` is the share of the others); that of all pairs tells the units that have no grade
  (`kinds`). `failures` are revisions that failed by kind: of held-out drafts after what a critic
  says, and of those that a filter compares. Nothing is chosen by these figures.
  """
  config = run.context.config
  names = config.multicritique.critics
  taught = run.study.taught
  rows = []
  for place, name in enumerate((*names, arms.UNION, arms.MERGED)):
    drafts = [row for part in feedback.PARTS for row in taught.reviews[0].parts[part]]
    said = [one for part in feedback.PARTS for one in taught.units(name, part, names)]
    kinds = taught.reviews[place].failures if name in names else {}
    if name == arms.MERGED:
      kinds = taught.classes.failures
    rows.append(_critic(run, f"{TEACHERS}_{name}", drafts, said, kinds))
  for arm in arms.of(config):
    reviews = run.criticised[arm.stage]
    said = [row.listed.units for row in reviews]
    kinds = _counted(kind for row in reviews for kind in row.listed.failures)
    tokens = float(run.suite.lengths([row.reply for row in reviews]).mean())
    failures = _counted(one.failure for one in run.revised[arm.stage] if one.failure)
    own = {"tokens": tokens, "failures": failures}
    rows.append(_critic(run, arm.stage, reviews, said, kinds) | own)
  return {"criticism": rows, "critique_pairs": [_pairs(run, name) for name in arms.filters(config)]}


def _counted(kinds: Iterable[str]) -> dict[str, int]:
  return dict(collections.Counter(kinds))


def _critic(
  run: Subject,
  system: str,
  drafts: Sequence[unit_criticism.Review],
  said: Sequence[Sequence[units.Unit] | None],
  kinds: Mapping[str, int],
) -> dict[str, Any]:
  counts = [len(one) for one in said if one is not None]
  told = {"system": system, "drafts": len(drafts), "units": float(np.mean(counts)),
          "kinds": dict(kinds)}  # fmt: skip
  if run.context.config.data.source != "synthetic":
    return told
  letters = [(row.prompt, row.draft) for row in drafts]
  return told | detection.describe(_named(said), failed(letters), CHECKS)


def _named(said: Sequence[Sequence[units.Unit] | None]) -> np.ndarray:
  """Returns which checks critiques name, Bool[B C]."""
  places = [{unit.at for unit in one or ()} for one in said]
  return np.array([[name in some for name in CHECKS] for some in places], bool).reshape(
    len(said), len(CHECKS)
  )


def failed(letters: Sequence[tuple[conversations.Prompt, str]]) -> np.ndarray:
  """Returns which checks letters of the embedded task fail, Bool[B C]."""
  passed = [synthetic.checks(conversations.said(prompt), draft) for prompt, draft in letters]
  return np.array([[not one[name] for name in CHECKS] for one in passed], bool).reshape(
    len(letters), len(CHECKS)
  )


def _pairs(run: Subject, name: str) -> dict[str, Any]:
  """Returns how many pairs a filter keeps, and how right their labels are."""
  paired = run.study.paired
  whole = [row for part in feedback.PARTS for row in getattr(paired.fold, part)]
  is_kept = np.concatenate([paired.kept[name][part] for part in feedback.PARTS])
  told = {"filter": name, "pairs": int(is_kept.sum()), "share": float(is_kept.mean()),
          "failures": dict(paired.failures.get(name, {}))}  # fmt: skip
  if name == arms.ALL:
    told["kinds"] = dict(run.study.compared.classes.failures)
  kept = [row for row, one in zip(whole, is_kept, strict=True) if one]
  if run.context.config.data.source != "synthetic" or not kept:
    return told

  form = units.form_of(run.context.config.units)
  wrong = failed([(row.prompt, row.response) for row in kept])
  sides = ([form.read(getattr(row, side)).units for row in kept] for side in ("chosen", "rejected"))
  chosen, rejected = (detection.each(_named(side), wrong) for side in sides)
  differ = chosen != rejected
  told |= {"alike": float(1 - differ.mean()), "gain": float((chosen - rejected).mean())}
  if not differ.any():
    return told
  prompts = np.unique([conversations.said(row.prompt) for row in kept], return_inverse=True)[1]
  right = labelled.right((chosen - rejected)[differ])
  accuracy, ci95 = labelled.average(right, prompts[differ], [np.ones(int(differ.sum()), bool)])
  return told | {"accuracy": accuracy, "accuracy_ci95": ci95, "unlike": int(differ.sum())}
