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
from collections.abc import Iterator
from typing import Any

import ml_collections

from pit_jax.data import preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import judges, labels, named, writers
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.recipes.rlaif import page
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import dpo, feedback, jobs, sft, trained


@dataclasses.dataclass(frozen=True)
class Arm:
  """One policy of the study: fine-tuned on a teacher, or by DPO on a critic's labels."""

  system: str  # as its stage and the report call it
  teacher: str  # of `feedback.writers`
  parent: str = ""  # the arm that DPO starts from, whose samples are labelled; "": fine-tuning
  critic: str = ""  # of `feedback.raters`
  is_few: bool = False  # fine-tuned on a tenth of the prompts

  @property
  def about(self) -> str:
    """What it is, in words."""
    if self.critic:
      return (
        f"{self.parent} after DPO on labels of {self.critic}, against answers of {self.teacher}"
      )
    return f"fine-tuned on {'a tenth' if self.is_few else 'all'} of the answers of {self.teacher}"


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and the labels that it was trained on."""

  policies: dict[str, trained.Trained]  # by system
  labelled: dict[str, feedback.Labels]  # by system


def arms(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the arms in the order in which they are trained."""
  c = config.rlaif
  # A study without a critic is refused; see `problems`.
  first, *others = c.critics or ("",)
  made = [
    Arm("sft_10", c.teacher, is_few=True),
    Arm("rlaif", c.teacher, "sft_10", first),
    *(Arm(f"rlaif_{critic}_critic", c.teacher, "sft_10", critic) for critic in others),
    Arm("sft_100", c.teacher),
    Arm("sft_100_strong", c.strong_teacher),
    Arm("sft_10_strong", c.strong_teacher, is_few=True),
    Arm(page.MATCHED, c.strong_teacher, "sft_10_strong", first),
    *(Arm(f"sft_100_{teacher}", teacher) for teacher in c.controls),
  ]

  for teacher in c.crossover:
    made += [
      Arm(f"sft_10_{teacher}", teacher, is_few=True),
      Arm(f"rlaif_{teacher}", teacher, f"sft_10_{teacher}", first),
    ]
  return made


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for every arm; all policies stay to be compared."""
  everything = preferences.JOINED.join((config.sft.fold, config.dpo.fold))
  planned = []
  for arm in arms(config):
    kept = ("initial", *["language"] * len(planned))
    section, fold = ("dpo", "") if arm.critic else ("sft", "" if arm.is_few else everything)
    planned.append(kinds.Stage(arm.system, section, fold=fold, kept=kept))

  return planned


def train(context: contexts.Context) -> Study:
  """Trains every arm; what teachers and critics say is made once."""
  study = Study({}, {})
  completed: dict[tuple[str, str], feedback.Completions] = {}

  def answers(teacher: str, fold: str) -> feedback.Completions:
    """Returns a teacher's answers to the prompts of a fold."""
    if (teacher, fold) not in completed:
      writer = named.build(context, "writers", teacher)
      completed[teacher, fold] = _completed(context, f"{teacher}_on_{fold}", fold, writer)
    return completed[teacher, fold]

  for arm in arms(context.config):
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


def _imitated(context: contexts.Context, arm: Arm, answers: Any, _) -> trained.Trained:
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


def _preferred(context: contexts.Context, arm: Arm, answers: Any, study: Study) -> trained.Trained:
  """Returns the policy after DPO on a critic's labels of its parent's samples and the teacher's."""
  c = context.config
  parent = study.policies[arm.parent].params
  student = writers.model(arm.parent, context.models.inference, parent)
  how = {"temperature": c.rlaif.temperature, "top_p": c.rlaif.top_p}
  samples = _completed(context, f"{arm.parent}_samples", c.dpo.fold, student, **how)

  # As in the official code, the student's sample is the first output.
  pairs = feedback.pairs(samples, answers(arm.teacher, c.dpo.fold))
  critic = named.build(context, "raters", arm.critic)
  asked = {"orders": c.rlaif.orders, "keep": c.rlaif.keep, "most_failed": c.rlaif.most_failed}
  labelled = feedback.labelled(context, f"{arm.system}_labels", pairs, critic, **asked)
  study.labelled[arm.system] = labelled

  context = made_rows.depending(context, labelled.made)
  models = {"start": parent, "reference": parent}
  return dpo.run(context, arm.system, labelled.fold, job=c.dpo, **models)


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which arms are compared: with both ends of the study, with their start, with rlaif."""
  made = arms(config)
  own = [(arm.system, arm.parent) for arm in made if arm.parent]
  own += [(arm.system, "rlaif") for arm in made if arm.critic and arm.parent == "sft_10"]
  own += [(arm.system, "rlaif") for arm in made if not arm.parent and not arm.is_few]
  ends = [(arm.system, "sft_10") for arm in made] + [("sft_100_strong", arm.system) for arm in made]
  # The headline's comes first, each once, and nothing with itself.
  pairs = dict.fromkeys([*own, *ends])
  return [(a, b) for a, b in pairs if a != b]


def of_run(context: contexts.Context, study: Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: one.params for name, one in study.policies.items()}
  models = {"policy": policies["rlaif"], "sampler": policies["sft_10"]}
  suite = subject.suite_of(context, **models, labellers=labellers(context.config))
  # The one that the run is about comes first.
  systems = {"rlaif": policies["rlaif"], **policies}
  return Subject(
    context, suite, models=systems, compared=compared(context.config), control="rlaif_resampled",
    study=study,
  )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished study, with the labels that it was trained on."""

  study: Study = dataclasses.field(kw_only=True)

  @property
  def about(self) -> dict[str, str]:
    """What every arm is, by system."""
    return {arm.system: arm.about for arm in arms(self.context.config)}


def labellers(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the raters whose labels some arm is trained on."""
  return list(dict.fromkeys(arm.critic for arm in arms(config) if arm.critic))


def measure_labels(run: Subject) -> dict:
  """Returns every arm's teacher and critic, what became of the labels, and the crossover's arms.

  `labels` counts pairs by their outcome, `right` is the share of labels that the gold score agrees
  with where the task has one; nothing is trained or chosen by it.
  """
  is_gold = run.context.config.data.source == "synthetic"
  rows = []
  for arm in arms(run.context.config):
    row = {"system": arm.system, "teacher": arm.teacher, "critic": arm.critic, "start": arm.parent}
    if labelled := run.study.labelled.get(arm.system):
      row |= {"labels": labelled.counts, "kept": labelled.counts[labels.KEPT]}
      decided = [*labelled.fold.rows, *labelled.fold.validation]
      agreed = labels.agreement(decided, judges.gold()) if is_gold else {}
      row |= {"right": agreed["accuracy"]} if agreed else {}
    rows.append(row)

  c = run.context.config.rlaif
  curve = [{"teacher": c.teacher, "start": "sft_10", "system": "rlaif"}]
  for teacher in c.crossover:
    curve.append({"teacher": teacher, "start": f"sft_10_{teacher}", "system": f"rlaif_{teacher}"})
  return {"arms": rows, "crossover": curve if c.crossover else []}


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with teachers, critics and judges of the study."""
  c = config.rlaif
  parts = config.get("feedback", {})
  if not c.critics:
    yield "rlaif.critics=(); name one of feedback.raters at least"
    return
  asked = {
    "writers": {"teacher": (c.teacher,), "strong_teacher": (c.strong_teacher,),
                "controls": c.controls, "crossover": c.crossover},
    "raters": {"critics": c.critics},
  }  # fmt: skip

  for part, keys in asked.items():
    there = parts.get(part, {})
    for key, names in keys.items():
      for name in names:
        if name not in there:
          yield f"rlaif.{key} names {name!r}; feedback.{part} has {', '.join(there) or 'none'}"

  yield from _unjudged(config, parts.get("raters", {}))


def _unjudged(config: ml_collections.ConfigDict, raters: Any) -> Iterator[str]:
  """Yields why nobody but those who labelled would judge, if so."""
  labelling = [raters[name] for name in labellers(config) if name in raters]
  gold = config.data.source == "synthetic" and all(one.kind != "gold" for one in labelling)
  others = [name for name in config.evaluation.judges if name in raters]
  independent = [name for name in others if raters[name] not in labelling]
  evaluation = config.evaluation
  if not (gold or independent or evaluation.reward_model or evaluation.language_judge.model):
    names = ", ".join(labellers(config))
    yield (
      f"rlaif.critics={names} label what is trained on, and nobody else judges; name another of "
      "feedback.raters in evaluation.judges, or a model as evaluation.reward_model or "
      "evaluation.language_judge.model"
    )


RECIPE = recipe.Recipe(
  name="rlaif",
  kinds={"sft": jobs.SFT, "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=stages,
  train=train,
  exported=lambda study: {"models": {"policy": study.policies["rlaif"].params}, "zero_point": None},
  subject=of_run,
  problems=problems,
  headline=("rlaif", "sft_10"),
  page=page.PAGE,
  pooled={
    "arms": seeds.rows("system", "teacher", "critic", "start"),
    "crossover": seeds.rows("teacher", "start", "system"),
  },
  experiments={"main": main.measure, "length": length.measure, "labels": measure_labels},
)
