"""A finished run of SRT: drafts refined by every model, and what the critics know."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pit_jax.data import conversations, critiques
from pit_jax.evaluate import subject
from pit_jax.recipes.srt import arms
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import criticism, feedback, trained
from pit_jax.statistics import agreement
from pit_jax.tasks import synthetic

# Streams of noise; see `subject`.
REFINED = 750
AGAIN = 751
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Own:
  """What the model of stage 1 makes of drafts of its own."""

  first: criticism.Criticisms  # of its drafts
  second: criticism.Criticisms  # of its refinements, for their scores
  kept: Mapping[str, Sequence[criticism.Criticised]]  # by part, the pairs that stage 2 learns from
  made: tuple[made_rows.MadeRows, ...]


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and what it was trained on."""

  models: dict[str, trained.Trained]  # by stage
  taught: criticism.Criticisms  # the teacher's, of drafts
  own: Own


def is_higher(again: criticism.Criticised, first: criticism.Criticised) -> bool:
  """Returns whether a second critique, of a refinement, has a score and a higher one."""
  before, after = first.critique.score, again.critique.score
  return before is not None and after is not None and after > before


def of_run(context: contexts.Context, study: Study) -> "Subject":
  """Returns a finished run as its experiments see it."""
  direct = (arms.SRT, arms.FIRST, arms.DRAFTS, arms.IMITATED, arms.REDRAWN)
  models = {name: study.models[name].params for name in direct if name in study.models}
  suite = subject.suite_of(context, policy=models[arms.SRT], sampler=models[arms.DRAFTS])
  pairs = arms.compared(context.config)
  control = f"{arms.SRT}_resampled"
  about = {arm.refined: f"drafts of sft, refined {arm.about}" for arm in arms.of(context.config)}
  return Subject(
    context, suite, models=models, compared=pairs, control=control, about=about, study=study
  )


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished run: models that answer, and drafts that they refine."""

  @functools.cached_property
  def answered(self) -> Mapping[str, Sequence[str]]:
    """The answers of every model by itself."""
    return subject.Policies.systems.func(self)

  @functools.cached_property
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The answers of every model by itself, and the drafts of one as each model refined them."""
    return {
      **self.answered,
      **{name: [row.text for row in rows] for name, rows in self.refined.items()},
    }

  @functools.cached_property
  def refined(self) -> dict[str, list[criticism.Criticised]]:
    """The same drafts as each model criticised and refined them, by what the results are called."""
    drafts = self.answered[arms.DRAFTS]
    found = {}
    for arm in arms.of(self.context.config):
      found[arm.refined] = self._refine(arm, arm.stage, drafts, REFINED)
    again = [row.text for row in found[arms.PLAIN.refined]]
    found[arms.TWICE] = self._refine(arms.PLAIN, arms.PLAIN.stage, again, AGAIN)
    if arms.IMPROVER in self.study.models:
      found[arms.PIT] = self._refine(arms.PLAIN, arms.IMPROVER, drafts, REFINED)
      again = [row.text for row in found[arms.PIT]]
      found[arms.PIT_TWICE] = self._refine(arms.PLAIN, arms.IMPROVER, again, AGAIN)
    found[arms.AFTER] = self._refine(arms.METHOD, arms.SRT, drafts, REFINED)
    return found

  def _refine(
    self, arm: arms.Arm, model: str, drafts: Sequence[str], stream: int
  ) -> list[criticism.Criticised]:
    """Returns what a model makes of drafts, in the form of an arm."""
    c = self.context.config
    # As it learnt: all arms are asked for all of the form, and reply in their own.
    form = critiques.form_of(c.critique)
    critic = criticism.of_model(self.context, model, self.study.models[model].params, c.critique)
    asked = list(zip(self.suite.questions, drafts, strict=True))
    key = jax.random.fold_in(self.suite.key, stream)
    how = (key, c.srt.feedback_temperature, arm.form(form))
    return criticism.refined(critic, form, asked, *how)


def measure(run: Subject) -> dict:
  """Returns what every critic's replies are worth, and what became of the rows of stage 2.

  `critics` has a row of the teacher, on the drafts that were taught, and of every model, on the
  same held-out drafts: which share was refined, stayed the same, or fell back to the draft because
  the form failed (`kinds`); tokens of a reply; Kendall's τ of its scores with the judge's; and of
  the embedded task's letters how many of the checks that fail it names (`named`), and how many of
  those that it names fail (`fail`).
  """
  taught = [row for part in feedback.PARTS for row in run.study.taught.parts[part]]
  rows = [_critic(run, TEACHER, taught)]
  rows += [_critic(run, name, critics) for name, critics in run.refined.items()]
  return {"critics": rows, "own": _own(run)}


def _critic(run: Subject, system: str, rows: Sequence[criticism.Criticised]) -> dict[str, Any]:
  count = len(rows)
  outcomes = [row.outcome for row in rows]
  useful = {kind: outcomes.count(kind) for kind in (critiques.REFINED, critiques.UNCHANGED)}
  other = [one for one in outcomes if one not in useful]
  told = {
    "system": system,
    "drafts": count,
    **{kind: number / count for kind, number in useful.items()},
    "fallback": len(other) / count,
    "kinds": {kind: other.count(kind) for kind in dict.fromkeys(other)},
    "tokens": float(run.suite.lengths([row.reply for row in rows]).mean()),
  }
  return told | _scored(run, rows) | _named(run, rows)


def _scored(run: Subject, rows: Sequence[criticism.Criticised]) -> dict[str, Any]:
  """Returns how the scores of critiques agree with the judge's of the same drafts, if any are."""
  scored = [row for row in rows if row.critique.score is not None]
  if not scored:
    return {}
  judge = run.suite.scorer
  truth = judge.score([row.prompt for row in scored], [row.draft for row in scored])
  own = np.array([row.critique.score for row in scored], float)
  tau, ci95 = agreement.kendall(own, np.asarray(truth, float))
  return {"tau": tau, "tau_ci95": ci95, "score": float(own.mean()), "judged": float(truth.mean())}


def _named(run: Subject, rows: Sequence[criticism.Criticised]) -> dict[str, float]:
  """Returns how right the weaknesses are that are named in letters of the embedded task."""
  if run.context.config.data.source != "synthetic":
    return {}
  named = failed = both = 0
  for row in rows:
    if row.critique.weaknesses is None:
      continue
    said = {name.strip() for name in row.critique.weaknesses.split(",")}
    passed = synthetic.checks(conversations.said(row.prompt), row.draft)
    wrong = {name for name, is_passed in passed.items() if not is_passed}
    said &= {*passed}
    named += len(said)
    failed += len(wrong)
    both += len(said & wrong)
  told = {"named": (both, failed), "fail": (both, named)}
  return {name: hits / of for name, (hits, of) in told.items() if of}


def _own(run: Subject) -> list[dict[str, Any]]:
  """Returns what became of the drafts of stage 2, and how right the pairs are that were kept."""
  own = run.study.own
  drafted = [row for part in feedback.PARTS for row in own.first.parts[part]]
  kept = [row for part in feedback.PARTS for row in own.kept[part]]
  told = []
  for what, rows in (
    ("refined", [row for row in drafted if row.outcome == critiques.REFINED]),
    ("kept", kept),
  ):
    found = {"what": what, "pairs": len(rows), "drafts": len(drafted)}
    told.append(found | (_right(run, rows) if rows else {}))
  return told


def _right(run: Subject, rows: Sequence[criticism.Criticised]) -> dict[str, float]:
  """Returns how often the judge puts a refinement above its draft, below it, or beside it."""
  columns = [[getattr(row, name) for row in rows] for name in ("prompt", "text", "draft")]
  outcomes = run.suite.scorer.outcomes(run.suite.scorer.verdicts(*columns))
  return {name: outcomes.count(outcome) / len(rows)
          for name, outcome in (("better", "win"), ("worse", "lose"))}  # fmt: skip
