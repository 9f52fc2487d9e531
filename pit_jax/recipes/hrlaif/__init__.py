"""Hybrid reinforcement learning from AI feedback (Li et al. 2024, arXiv 2403.08309): HRLAIF.

A policy imitates an author and is sampled twice for each prompt. A basic labeller compares the two
samples of every prompt; a hybrid one asks by the class of the prompt: a verifier where answers can
be verified, of the final answer and then of the steps that lead to it, the basic labeller where
nothing can; and of prompts that draw harm, a judge marks harmful answers and a rewriter mends them,
so that the rewritten one is preferred. A reward model learns from each kind of labels, and RL
maximises it.

  sft           fine-tuned on the author's answers
  basic         RL for the basic labeller
  hybrid        RL for the hybrid one
  hybrid_NAME   RL for other labellers by class: a verifier that errs, one at random, no rewriting

The paper finds that people prefer the answers of `basic` to those of `sft` while fewer of them
satisfy, and that both rise with `hybrid`. All arms have as many pairs, steps and prompts.

Deviations: thresholds, sizes and settings of PPO are not published, here they are those of RLHF;
where a verifier sees a tie, the basic labeller may be asked (`ties` of a rater).
"""

import dataclasses

from pit_jax import config_keys
from pit_jax.data import preferences
from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import judges, named
from pit_jax.recipes import recipe
from pit_jax.recipes.hrlaif import arms, labelling, page
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback, jobs, reinforced, reward, rewards, sft, trained


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and the labels that it was trained on."""

  policies: dict[str, trained.Trained]  # by system
  labelled: dict[str, labelling.Labelled]  # by system


def train(context: contexts.Context) -> Study:
  """Trains every arm; labels are made once, and all of them before any arm learns from its own."""
  c = context.config
  rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), ["reward"])
  labelling.try_functions(context)
  policy = _imitating(context)
  labelled = labelling.of_arms(context, policy.params)
  policies = {arms.SFT: policy}
  for arm in arms.of(c):
    policies[arm.system] = _learnt(context, arm, labelled[arm.system], policy)
  return Study(policies, labelled)


def _imitating(context: contexts.Context) -> trained.Trained:
  """Returns the policy that is fine-tuned on the author's answers."""
  c = context.config
  author = named.build(context, "writers", c.hrlaif.author)
  whole = context.rows.fold(c.sft.fold)
  prompts = preferences.Fold(*map(tuple, map(preferences.distinct, (whole.rows, whole.validation))))
  most = c.hrlaif.most_failed
  answers = feedback.completions(context, "demonstrations", prompts, author, most_failed=most)
  context = made_rows.depending(context, answers.made)
  start = context.initial_policy()
  return sft.run(context, arms.SFT, answers.demonstrations, start=start, job=c.sft)


def _learnt(
  context: contexts.Context,
  arm: arms.Arm,
  labelled: labelling.Labelled,
  policy: trained.Trained,
) -> trained.Trained:
  """Returns the policy after RL for the reward model of an arm's labels, near where it started."""
  context = made_rows.depending(context, *labelled.made)
  models = {"start": policy.params, "sampler": policy.params}
  job = context.config.reward
  model = reward.run(context, arm.reward, labelled.fold, job=job, **models)

  fold = context.rows.fold(context.config.rl.fold)
  return reinforced.policy(context, arm.system, fold, model, policy.params)


def of_run(context: contexts.Context, study: Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: one.params for name, one in study.policies.items()}
  models = {"policy": policies[arms.HYBRID], "sampler": policies[arms.SFT]}
  suite = subject.suite_of(context, **models, labellers=arms.trainers(context.config))
  # The one that the run is about comes first.
  systems = {arms.HYBRID: policies[arms.HYBRID], **policies}
  pairs = arms.compared(context.config)
  control = f"{arms.HYBRID}_resampled"
  about = {arm.system: arm.about for arm in arms.of(context.config)}
  how = {"compared": pairs, "control": control, "about": about, "study": study}
  return subject.Policies(context, suite, models=systems, **how)


def measure_classes(run: subject.Policies) -> dict:
  """Returns, by class of prompts, how right labels are and how many answers satisfy.

  Satisfaction of every arm is compared with that of `sft` on the same prompts, with an interval.
  """
  c = run.context.config
  gold = judges.gold() if config_keys.is_embedded(c.data.source) else None
  labelled = labelling.accuracy(run.context, run.study.labelled, gold)
  questions = run.suite.questions
  names = labelling.classes_of(run.context, c.hrlaif.hybrid, questions)
  judge = next(one for one in run.suite.judges if one.name == c.hrlaif.satisfaction)
  places = {
    label: [i for i, name in enumerate(names) if name == label] for label in sorted({*names})
  }

  satisfied = []
  for system in run.models:
    for label, own in places.items():
      asked, answers, before = (
        [column[i] for i in own] for column in (questions, run.texts[system], run.texts[arms.SFT])
      )
      row = {"system": system, "class": label, "prompts": len(own)}
      row |= {"satisfied": float(judge.score(asked, answers).mean())}
      compared = {} if system == arms.SFT else vars(judge.compare(asked, answers, before))
      satisfied.append(row | compared)
  return {"class_labels": labelled, "classes": satisfied}


RECIPE = recipe.Recipe(
  name="hrlaif",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=arms.stages,
  train=train,
  own_texts=True,
  exported=lambda study: {
    "models": {"policy": study.policies[arms.HYBRID].params}, "zero_point": None,
  },
  subject=of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  headline=(arms.HYBRID, arms.BASIC),
  page=page.PAGE,
  pooled={
    "class_labels": seeds.rows("system", "class"),
    "classes": seeds.rows("system", "class"),
  },
  experiments={"main": main.measure, "length": length.measure, "classes": measure_classes},
)  # fmt: skip
