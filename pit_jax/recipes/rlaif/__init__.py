"""AI feedback, critically evaluated (Sharma et al. 2024, arXiv 2402.12366): its arms, side by side.

A pool of prompts is divided; a teacher answers all of them.

  sft_10           fine-tuned on a tenth of the weak teacher's answers
  rlaif            sft_10, then DPO on a critic's labels of its samples and the teacher's answers
  sft_100          fine-tuned on all of the weak teacher's answers
  sft_100_strong   fine-tuned on all of the strong teacher's answers
  rlaif_matched    the same as rlaif where teacher and critic are both strong

The paper finds that rlaif's gain over sft_10 comes of a teacher weaker than the critic, and that
sft_100_strong is as good or better. Controls: other critics, one of whom labels at random; a strong
teacher without what the weak one's answers never hold; teachers whose answers hold ever more of it.

Deviations: prompts that are imitated are never labelled (the official commands leave that to a
flag); an SFT term keeps DPO's policy near what was chosen; checkpoints are chosen by the validation
part alone.
"""

import dataclasses
import logging
from typing import Any

from pit_jax import config_keys
from pit_jax.data import preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import judges, labels, named, writers
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.recipes.rlaif import arms, page
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import dpo, feedback, jobs, sft, trained

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and the labels that it was trained on."""

  policies: dict[str, trained.Trained]  # by system
  labelled: dict[str, feedback.Labels]  # by system


def train(context: contexts.Context) -> Study:
  """Trains every arm; what teachers and critics say is made once."""
  written = [named.build(context, "writers", name) for name in arms.writers(context.config)]
  for sentence in feedback.held_out_in(context, written):
    LOG.warning(sentence)
  study = Study({}, {})
  completed: dict[tuple[str, str], feedback.Completions] = {}

  def answers(teacher: str, fold: str) -> feedback.Completions:
    """Returns a teacher's answers to the prompts of a fold."""
    if (teacher, fold) not in completed:
      writer = named.build(context, "writers", teacher)
      completed[teacher, fold] = _completed(context, f"{teacher}_on_{fold}", fold, writer)
    return completed[teacher, fold]

  for arm in arms.of(context.config):
    stage = _preferred if arm.critic else _imitated
    study.policies[arm.system] = stage(context, arm, answers, study)
  return study


def _completed(
  context: contexts.Context, name: str, fold: str, writer: writers.Writer, **how: Any
) -> feedback.Completions:
  """Returns a writer's answers to the prompts of a fold, each prompt once."""
  whole = context.rows.fold(fold)
  prompts = preferences.Fold(*(tuple(preferences.distinct(rows)) for rows in
                               (whole.rows, whole.validation)))  # fmt: skip
  most = context.config.rlaif.most_failed
  return feedback.completions(context, name, prompts, writer, most_failed=most, **how)


def _imitated(context: contexts.Context, arm: arms.Arm, answers: Any, _) -> trained.Trained:
  """Returns the policy that is fine-tuned on a teacher's answers."""
  c = context.config
  folds = [c.sft.fold] if arm.is_few else [c.sft.fold, c.dpo.fold]
  written = [answers(arm.teacher, fold) for fold in folds]
  parts = [one.demonstrations for one in written]
  fold = preferences.Fold(
    sum((part.rows for part in parts), ()), sum((part.validation for part in parts), ())
  )

  # From here on checkpoints carry the hash of what the teacher wrote.
  context = made_rows.depending(context, *(one.made for one in written))
  return sft.run(context, arm.system, fold, start=context.initial_policy(), job=c.sft)


def _preferred(
  context: contexts.Context, arm: arms.Arm, answers: Any, study: Study
) -> trained.Trained:
  """Returns the policy after DPO on a critic's labels of its parent's samples and the teacher's."""
  c = context.config
  parent = study.policies[arm.parent].params
  student = writers.model(arm.parent, context.models.inference, parent)
  how = {"temperature": c.rlaif.temperature, "top_p": c.rlaif.top_p}
  samples = _completed(context, f"{arm.parent}_samples", c.dpo.fold, student, **how)

  # As in the official code, the student's sample is the first output.
  teacher = answers(arm.teacher, c.dpo.fold)
  first = [samples, *(answers(rival, c.dpo.fold) for rival in c.rlaif.rivals)]
  pairs = feedback.joined([feedback.pairs(one, teacher) for one in first])
  critic = named.build(context, "raters", arm.critic)
  asked = {"orders": c.rlaif.orders, "keep": c.rlaif.keep, "most_failed": c.rlaif.most_failed}
  labelled = feedback.labelled(context, f"{arm.system}_labels", pairs, critic, **asked)
  study.labelled[arm.system] = labelled

  context = made_rows.depending(context, labelled.made)
  models = {"start": parent, "reference": parent}
  return dpo.run(context, arm.system, labelled.fold, job=c.dpo, **models)


def of_run(context: contexts.Context, study: Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: one.params for name, one in study.policies.items()}
  models = {"policy": policies["rlaif"], "sampler": policies["sft_10"]}
  suite = subject.suite_of(context, **models, labellers=arms.trainers(context.config))
  # The one that the run is about comes first.
  systems = {"rlaif": policies["rlaif"], **policies}
  pairs = arms.compared(context.config)
  control = "rlaif_resampled"
  about = {arm.system: arm.about for arm in arms.of(context.config)}
  how = {"compared": pairs, "control": control, "about": about, "study": study}
  return subject.Policies(context, suite, models=systems, **how)


def measure_arms(run: subject.Policies) -> dict:
  """Returns every arm's teacher and critic, what became of the labels, and the crossover's arms.

  `labels` counts pairs by their outcome, `right` is the share of labels that the gold score agrees
  with where the task has one; nothing is trained or chosen by it.
  """
  is_gold = config_keys.is_embedded(run.context.config.data.source)
  rows = []
  for arm in arms.of(run.context.config):
    row = {"system": arm.system, "teacher": arm.teacher, "critic": arm.critic, "start": arm.parent}
    if labelled := run.study.labelled.get(arm.system):
      row |= {"labels": labelled.counts, "kept": labelled.counts[labels.KEPT]}
      row |= {"kept_of": labelled.kept_of}
      decided = [*labelled.fold.rows, *labelled.fold.validation]
      agreed = labels.agreement(decided, judges.gold()) if is_gold else {}
      row |= {"right": agreed["accuracy"]} if agreed else {}
    rows.append(row)

  c = run.context.config.rlaif
  curve = [{"teacher": c.teacher, "start": "sft_10", "system": "rlaif"}]
  for teacher in c.crossover:
    curve.append({"teacher": teacher, "start": f"sft_10_{teacher}", "system": f"rlaif_{teacher}"})
  return {"arms": rows, "crossover": curve if c.crossover else []}


RECIPE = recipe.Recipe(
  name="rlaif",
  kinds={"sft": jobs.SFT, "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=arms.stages,
  train=train,
  own_texts=True,
  exported=lambda study: {"models": {"policy": study.policies["rlaif"].params}, "zero_point": None},
  subject=of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  headline=("rlaif", "sft_10"),
  page=page.PAGE,
  pooled={
    "arms": seeds.rows("system", "teacher", "critic", "start"),
    "crossover": seeds.rows("teacher", "start", "system"),
  },
  experiments={"main": main.measure, "length": length.measure, "arms": measure_arms},
)
