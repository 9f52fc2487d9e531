"""LLMs-as-Instructors (Ying et al. 2024, arXiv 2407.00497): learning from errors, and by contrast.

A target model answers a training split, and a verifier says which answers are right. An instructor
is shown what went wrong and writes exercises of that kind with worked answers, on which the target
is fine-tuned; then again, with the target as it has become.

  target       the model as it was
  le           exercises like the problems that the target failed on (learning from error)
  lec          these, beside the k solved problems nearest to each (learning from error by contrast)
  augmented    exercises like problems drawn at random: is it only more of the same?
  le_right     exercises like problems that the target solved: is it the errors?
  le_shuffled  exercises like problems that another student failed on: is it its own errors?

All arms are shown as many problems at most, and learn from as many exercises in as many steps. What
an instructor is asked for a round, all arms ask in one pass; then each is trained.
Nobody checks whether worked answers are right, as in the paper; how many are, the report says.

Deviations: the nearest problems are found by the target's own mean hidden states, where the
published code has those of a BERT model; exercises beyond those that are wanted are left out evenly
over the problems, where the published code cuts the last ones off; repeated ones are left out.
"""

import dataclasses
import functools
import logging
import random
from collections.abc import Mapping

import numpy as np

from pit_jax import configurations
from pit_jax.data import conversations, preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import exercises, named, writers
from pit_jax.recipes import recipe
from pit_jax.recipes.instructors import arms, lessons, measures, page
from pit_jax.recipes.irft import demonstrations
from pit_jax.rollout import embedding
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import feedback, jobs, sft, trained

LOG = logging.getLogger(__name__)


def train(context: contexts.Context) -> measures.Study:
  """Trains all arms, round by round; what is finished is read back."""
  c = context.config
  target, context = _target(context)
  answered = {arms.TARGET: _answered(context, arms.TARGET, target)}
  if c.instructors.other:
    other = named.build(context, "writers", c.instructors.other)
    answered[arms.SHUFFLED] = _verified(context, arms.SHUFFLED, other)
  study = measures.Study({arms.TARGET: target}, {}, answered)
  _rounds(context, study)
  return study


def _target(context: contexts.Context) -> tuple[trained.Trained, contexts.Context]:
  """Returns the model that is taught, and the context of what follows it."""
  c = context.config
  start = context.initial_policy()
  if not c.instructors.author:
    return trained.Trained(start, {}), context
  whole = demonstrations.prompts(context, c.sft.fold)
  fold = preferences.Fold(*(tuple(filter(functools.partial(_is_taught, c), rows)) for rows in
                            (whole.rows, whole.validation)))  # fmt: skip
  if not (fold.rows and fold.validation):
    raise ValueError(
      f"instructors.taught={tuple(c.instructors.taught)} leaves no prompt of the fold "
      f"{c.sft.fold!r} to imitate, or none that validates; name kinds that it has"
    )
  author = named.build(context, "writers", c.instructors.author)
  answers = feedback.completions(
    context, "demonstrations", fold, author, most_failed=c.instructors.most_failed
  )
  context = made_rows.depending(context, answers.made)
  policy = sft.run(context, arms.TARGET, answers.demonstrations, start=start, job=c.sft)
  return policy, context


def _is_taught(config, row: preferences.Preference) -> bool:
  c = config.instructors
  kind = configurations.function(c.classify) if c.taught else None
  return kind is None or kind(conversations.said(row.prompt)) in c.taught


def _answered(context: contexts.Context, name: str, policy: trained.Trained) -> arms.Answered:
  """Returns the training split with a policy's answers; see `_verified`."""
  return _verified(context, name, writers.model(name, context.models.inference, policy.params))


def _verified(context: contexts.Context, name: str, student: writers.Writer) -> arms.Answered:
  """Returns the training split with a student's answers, in WORKDIR/rows/NAME_answers.jsonl."""
  c = context.config.instructors
  split = demonstrations.prompts(context, context.config.practice.fold)
  how = {"temperature": c.temperature, "most_failed": c.most_failed}
  answers = feedback.completions(context, f"{name}_answers", split, student, **how)
  questions, texts = zip(*(pair for part in answers.parts.values() for pair in part), strict=True)
  verifier = named.build(context, "raters", c.verifier)
  passed = verifier.passes(questions, texts)
  if unknown := int(np.isnan(passed).sum()):
    LOG.warning("%s knows nothing of %d of %d problems; they are left out", c.verifier, unknown,
                len(passed))  # fmt: skip
  return arms.Answered(answers, questions, texts, passed.tolist())


@dataclasses.dataclass
class _Arm:
  """An arm as far as it has come."""

  context: contexts.Context  # of its next stage
  policy: trained.Trained
  looked_at: arms.Answered  # the problems that its instructor is shown next
  seen: set[str]  # questions that it must not repeat, as `lessons.normal` has them


def _rounds(context: contexts.Context, study: measures.Study) -> None:
  """Adds the policies of all arms to a study, round by round, in each of which all ask together.

  An arm's rounds end early where nothing is wrong; those of a control also where nothing that was
  written for it is of use.
  """
  c = context.config.instructors
  first = study.answered[arms.TARGET]
  seen = {lessons.normal(conversations.said(question)) for question in first.questions}
  left = {
    arm: _Arm(context, study.policies[arms.TARGET], study.answered.get(arm, first), {*seen})
    for arm in arms.of(context.config)
  }
  # As many problems for every arm as the target has errors, and no more than exercises.
  most = min(max(len(first.places(0)), 1), sum(arms.wanted(context.config)))
  job = kinds.changed(context.config.practice, arms.steps(context.config))

  for number in range(1, c.rounds + 1):
    stages = {arm: arms.stage(arm, number) for arm in left}
    for arm, one in left.items():
      if number > 1 and arm in (arms.LE, arms.LEC, arms.RIGHT):
        one.looked_at = _answered(context, stages[arm], one.policy)
    ask = {stages[arm]: functools.partial(_requests, context, arm, stages[arm], one, most)
           for arm, one in left.items()}  # fmt: skip
    instructor = named.build(context, "writers", c.instructor)
    replies = lessons.asked(context, ask, instructor)

    for arm, one in {**left}.items():
      name = stages[arm]
      written = lessons.written(context, name, replies[name], instructor, one.seen)
      study.rounds[name] = measures.Round(arm, number, one.looked_at, written)
      study.policies[arm] = one.policy
      if arm in arms.METHODS:
        lessons.check_enough(name, written, instructor)
      if not written.is_enough:
        if written.requests:
          LOG.warning("%s: nothing that was written can be trained on; the arm ends", name)
        del left[arm]
        continue
      one.seen |= {lessons.normal(row["prompt"]) for row in written.of(lessons.TRAINED)}
      made = (one.looked_at.completions.made, *written.made)
      one.context = made_rows.depending(one.context, *made)
      one.policy = sft.run(one.context, name, written.fold, start=one.policy.params, job=job)
      study.policies[arm] = one.policy


def _requests(
  context: contexts.Context, arm: str, name: str, one: _Arm, most: int
) -> list[exercises.Request]:
  """Returns what the instructor is asked for a round of an arm."""
  rng = random.Random(context.seed(f"{name} problems"))
  embed = functools.partial(embedding.embeddings, context.models.inference, one.policy.params)
  return arms.requests(arm, one.looked_at, context.config, most, rng, embed)


def of_run(context: contexts.Context, study: measures.Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: one.params for name, one in study.policies.items()}
  models = {"policy": policies[arms.LE], "sampler": policies[arms.TARGET]}
  suite = subject.suite_of(context, **models, labellers=arms.chooses(context.config))
  # The one that the run is about comes first.
  systems = {arms.LE: policies[arms.LE], **policies}
  pairs = arms.compared(context.config)
  control = f"{arms.LE}_resampled"
  how = {"compared": pairs, "control": control, "study": study}
  about = measures.about(context, study)
  return subject.Policies(context, suite, models=systems, about=about, **how)


def exported(study: measures.Study) -> Mapping:
  """Returns what is exported: the target that learnt from its errors."""
  return {"models": {"policy": study.policies[arms.LE].params}, "zero_point": None}


RECIPE = recipe.Recipe(
  name="instructors",
  kinds={"sft": jobs.SFT},
  stages=arms.stages,
  train=train,
  exported=exported,
  subject=of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  own_texts=True,
  headline=(arms.LE, arms.AUGMENTED),
  page=page.PAGE,
  pooled={
    "lessons": measures.pool_lessons,
    "kinds": seeds.rows("system", "kind", "domain"),
    "domains": measures.pool_domains,
  },
  experiments={
    "main": main.measure,
    "length": length.measure,
    "lessons": measures.measure_lessons,
    "kinds": measures.measure_kinds,
  },
)
