"""Chain-of-thought distillation and DPO (Zhang et al. 2024, arXiv 2410.16198), of texts.

A prompt's end says whether a short answer is wanted or a rationale. A teacher, who is shown the
short answer, writes rationales, of which those stay whose answer is right. A policy imitates both;
its own rationales are sorted by their answers, and DPO prefers the right ones.

  base          as it was
  sft_short     fine-tuned on short answers
  sft_steps     fine-tuned on rationales
  sft_both      fine-tuned on both, which is where the following start
  dpo           DPO of right over wrong rationales
  dpo_cut       the same on their first words
  dpo_cos       the same with token weights that fall from 1 to 0
  dpo_anchored  the same with an SFT term, which keeps what is right likely
  dpo_random    the same where a coin says which is right: is it the verifier?
  rejection     fine-tuned on the right rationales of the same pairs: is it DPO, or the data?

Every arm is asked for rationales, and as NAME_direct for short answers. Rerankers choose among
several rationales of sft_both: the majority's answer, R_P trained on the pairs, and β log π / π_ref
of `dpo`.

Deviations: the published cut counts 90 words, the published weights are of words, here of tokens;
learning rate and batch are those of recipe `dpo`; images are left out.
"""

import dataclasses
import functools

from pit_jax.data import batches, cutting, preferences
from pit_jax.evaluate import clock, seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.losses import preference
from pit_jax.recipes import recipe, rft
from pit_jax.recipes.cot import arms, measures, page, rationales
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import dpo, jobs, reward, sft, trained


def train(context: contexts.Context) -> measures.Study:
  """Trains every arm; what is written, sampled or finished is read back."""
  c = context.config
  taught = rationales.taught(context)
  context = made_rows.depending(context, *taught.made)
  policies = {}
  for name in arms.IMITATED:
    start = context.initial_policy()
    policies[name] = sft.run(context, name, taught.fold(name), start=start, job=c.sft)

  policy = policies[arms.BOTH]
  found = rationales.sampled(context, policy.params)
  context = made_rows.depending(context, found.made)
  for arm in arms.of(c):
    policies[arm.system] = _preferring(context, arm, found.fold, policy)
  policies[arms.REJECTION] = _rejecting(context, found.fold, policy)
  models = {"start": policy.params, "sampler": policy.params}
  model = reward.run(context, arms.REWARD, found.fold, job=c.reward, **models)
  return measures.Study(policies, model, taught.counts, found)


def _preferring(
  context: contexts.Context, arm: arms.Arm, fold: preferences.Fold, policy: trained.Trained
) -> trained.Trained:
  """Returns the policy after DPO as an arm has it, from and against the one that was sampled."""
  c = context.config
  if arm.is_random:
    fold = rft.shuffled(fold, context.seed(arm.system))
  if arm.is_cut:
    fold = cutting.pairs(fold, c.cot.cut, c.cot.cut_least)
  job = kinds.changed(c.dpo, arm.values)
  models = {"start": policy.params, "reference": policy.params}
  return dpo.run(context, arm.system, fold, job=job, **models)


def _rejecting(
  context: contexts.Context, fold: preferences.Fold, policy: trained.Trained
) -> trained.Trained:
  """Returns the policy that imitates the right rationales of the pairs, for as many steps as DPO.

  Batches and learning rate are DPO's too, so that the loss is what differs.
  """
  c = context.config
  job = c.sft.copy_and_resolve_references()
  job.steps = c.dpo.steps or batches.count_steps(len(fold.rows), c.dpo.batch_size, c.dpo.epochs)
  job.batch_size, job.accumulation = c.dpo.batch_size, c.dpo.accumulation
  job.learning_rate, job.warmup = c.dpo.learning_rate, c.dpo.warmup
  return sft.run(context, arms.REJECTION, fold, start=policy.params, job=job)


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished study, whose systems are asked in two ways."""

  @functools.cached_property
  def systems(self) -> dict[str, list[str]]:
    """The rationales and short answers of every arm, and further rationales of the first one."""
    c = self.context.config.cot
    first, *others = self.models
    with clock.timed(self.seconds, first, len(self.suite.questions)):
      texts = {first: measures.answers(self, first, c.steps_end, subject.TRAINED)}
    texts[self.control] = measures.answers(self, first, c.steps_end, subject.RESAMPLED)
    for stream, name in enumerate(others, start=subject.OTHERS):
      texts[name] = measures.answers(self, name, c.steps_end, stream)
    for stream, name in enumerate(self.models, start=subject.OTHERS + len(others)):
      texts[f"{name}{arms.DIRECT}"] = measures.answers(self, name, c.short_end, stream)
    return texts


def of_run(context: contexts.Context, study: measures.Study) -> Subject:
  """Returns a finished run as its experiments see it."""
  c = context.config
  policies = {name: one.params for name, one in study.policies.items()}
  models = {"policy": policies[arms.DPO], "sampler": policies[arms.BOTH]}
  raters = c.feedback.raters
  labellers = (c.cot.verifier, *raters[c.cot.verifier].get("verifiers", ()))
  suite = subject.suite_of(context, **models, labellers=labellers)
  # The one that the run is about comes first.
  systems = {arms.DPO: policies[arms.DPO], arms.BASE: context.initial_policy(), **policies}
  control = f"{arms.DPO}_resampled"
  told = arms.about(c)
  # Each is asked in two ways.
  told |= {
    f"{name}{arms.DIRECT}": f"{said}, asked for short answers" for name, said in told.items()
  }
  how = {"compared": arms.compared(c), "control": control, "about": told, "study": study}
  return Subject(context, suite, models=systems, **how)


def exported(study: measures.Study) -> dict:
  """Returns what is exported of a finished run."""
  return {"models": {"policy": study.policies[arms.DPO].params}, "zero_point": None}


RECIPE = recipe.Recipe(
  name="cot",
  kinds={
    "sft": jobs.SFT,
    "dpo": jobs.preference_optimisation(
      {name: loss for name, loss in preference.PAIR_LOSSES.items() if loss.is_paired}
    ),
    "preference": jobs.PREFERENCE,
  },
  stages=arms.stages,
  train=train,
  exported=exported,
  subject=of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  own_texts=True,
  headline=(arms.DPO, arms.BOTH),
  page=page.PAGE,
  pooled={
    "modes": seeds.rows("system", "mode", "prompts"),
    "rerankers": seeds.rows("chooser"),
    "log_ratios": seeds.rows("system"),
    "rationales": seeds.rows("of"),
  },
  experiments={
    "main": main.measure,
    "length": length.measure,
    "modes": measures.modes,
    "rerankers": measures.rerankers,
    "rationales": measures.rationales_told,
  },
)
