"""Self-refinement tuning (Hu et al. 2024, arXiv 2406.07168): SRT.

A policy writes drafts; a teacher criticises each and writes a better answer. Stage 1 learns
(x, y) → weaknesses, score, changes, better answer, and x → better answer. Stage 2 has the model
draft, criticise and refine for prompts of its own; where its second score says that the refinement
is the better one, DPO prefers it to the draft.

  sft                  the policy that writes the drafts: it imitates an author
  stage_1              the model of stage 1, answering by itself
  srt                  after stage 2, answering by itself
  srt_sft              its refinements imitated instead, for as many steps
  srt_redrawn          the refinement preferred to another draft than the one it refines
  MODEL_refined        the drafts of sft, refined by a model of stage 1 or 2: of stage 1 also by
                       those that learnt no feedback, parts of it, or that on other drafts
  stage_1_plain_refined_twice  refined without feedback, and that again: for the tokens of feedback
  pit_refined                  refined by PIT's improver, if that is asked for; and twice

Not published, so chosen here: rates, β, epochs, the form of the reply, the filter of stage 2, and
that stage 1 learns x → better answer, too. Stage 1 begins with the policy that writes the drafts,
and the control without feedback is M_PIT^SFT on the teacher's refinements.
"""

import ml_collections

from pit_jax.data import critiques, preferences
from pit_jax.evaluate import seeds
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import named, writers
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.srt import arms, improving, measures, page
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import criticism, dpo, feedback, jobs, rewards, sft, trained


def train(context: contexts.Context) -> measures.Study:
  """Trains everything; what is finished is read back."""
  c = context.config
  form = critiques.form_of(c.critique)
  if c.srt.improver:
    fold = context.rows.fold(c.rl.fold)
    rewards.try_functions(context, "rl", fold, ["gap"], is_improver=True)
  author, context = _author(context)
  drafts = _drafts(context, "drafts", c.tuning.fold, arms.DRAFTS, author)
  teacher = named.build(context, "writers", c.srt.teacher)
  how = {"temperature": c.srt.feedback_temperature, "most_failed": c.srt.most_failed}
  taught = criticism.criticised(
    context, "critiques", drafts.parts, teacher, form, written_by=arms.DRAFTS, **how
  )
  context = made_rows.depending(context, drafts.made, taught.made)

  models = {arms.DRAFTS: author}
  for arm in arms.of(c):
    shown = context.rows.settings.formats["policy"]
    how = {"is_direct": c.srt.direct, "seed": context.seed("shuffled feedback")}
    lessons = arms.lessons(arm, taught.useful, form, shown, **how)
    models[arm.stage] = sft.learn(context, arm.stage, lessons, start=author.params, job=c.tuning)
  own = _own_pairs(context, form, models[arms.FIRST])
  models |= _second(context, own, models[arms.FIRST])
  if c.srt.improver:
    references = _drafts(context, "references", c.rl.fold, arms.DRAFTS, author)
    start = models[arms.PLAIN.stage]
    models[arms.IMPROVER] = improving.train(context, taught.useful, references, start)
  return measures.Study(models, taught, own)


def _author(context: contexts.Context) -> tuple[trained.Trained, contexts.Context]:
  """Returns the policy that writes the drafts, and the context of what follows it."""
  c = context.config
  start = context.initial_policy()
  if not c.srt.author:
    return trained.Trained(start, {}), context
  writer = named.build(context, "writers", c.srt.author)
  fold = demonstrations.prompts(context, c.sft.fold)
  most = c.srt.most_failed
  written = feedback.completions(context, "demonstrations", fold, writer, most_failed=most)
  context = made_rows.depending(context, written.made)
  return sft.run(context, arms.DRAFTS, written.demonstrations, start=start, job=c.sft), context


def _drafts(
  context: contexts.Context, name: str, fold: str, system: str, model: trained.Trained
) -> feedback.Completions:
  """Returns an answer of a model to every prompt of a fold."""
  prompts = demonstrations.prompts(context, fold)
  writer = writers.model(system, context.models.inference, model.params)
  how = {"temperature": context.config.srt.temperature, "most_failed": 0.0}
  return feedback.completions(context, name, prompts, writer, **how)


def _own_pairs(
  context: contexts.Context, form: critiques.Form, model: trained.Trained
) -> measures.Own:
  """Returns the model's refinements of its own drafts, and of which its second score is higher."""
  c = context.config
  critic = criticism.of_model(context, arms.FIRST, model.params, c.critique)
  # What the model breaks is no error of the run: it is counted, and makes no pair.
  how = {"written_by": arms.FIRST, "temperature": c.srt.feedback_temperature, "most_failed": 1.0}
  drafts = _drafts(context, "own_drafts", c.dpo.fold, arms.FIRST, model)
  first = criticism.criticised(context, "own_critiques", drafts.parts, critic, form, **how)
  new = {part: [row for row in rows if row.outcome == critiques.REFINED]
         for part, rows in first.parts.items()}  # fmt: skip
  texts = {part: [(row.prompt, row.text) for row in rows] for part, rows in new.items()}
  second = criticism.criticised(context, "own_second_critiques", texts, critic, form, **how)

  kept = {
    part: [row for row, again in zip(new[part], second.parts[part], strict=True)
           if not c.srt.filtered or measures.is_higher(again, row)]
    for part in feedback.PARTS
  }  # fmt: skip
  if not all(kept.values()):
    raise ValueError(
      f"of {sum(map(len, drafts.parts.values()))} own drafts the model refined "
      f"{sum(map(len, new.values()))} and finds {sum(map(len, kept.values()))} better, too few to "
      "learn from and to validate; give more prompts, train stage 1 for longer, or use "
      "srt.filtered=False"
    )
  return measures.Own(first, second, kept, (drafts.made, first.made, second.made))


def _second(
  context: contexts.Context, own: measures.Own, model: trained.Trained
) -> dict[str, trained.Trained]:
  """Returns the policies of stage 2, each from the model of stage 1."""
  c = context.config
  context = made_rows.depending(context, *own.made)
  models = {"start": model.params, "reference": model.params}
  made = {arms.SRT: dpo.run(context, arms.SRT, _pairs(own, {}), job=c.dpo, **models)}
  if not c.srt.controls:
    return made

  job = kinds.changed(c.tuning, arms.imitated_values(c))
  made[arms.IMITATED] = sft.run(
    context, arms.IMITATED, _pairs(own, {}), start=model.params, job=job
  )
  redrawn = _drafts(context, "own_redrawn_drafts", c.dpo.fold, arms.FIRST, model)
  context = made_rows.depending(context, redrawn.made)
  others = {prompt: text for part in redrawn.parts.values() for prompt, text in part}
  pairs = _pairs(own, others)
  made[arms.REDRAWN] = dpo.run(context, arms.REDRAWN, pairs, job=c.dpo, **models)
  return made


def _pairs(own: measures.Own, drafts: dict) -> preferences.Fold:
  """Returns the model's refinements preferred to its drafts, or to other ones by prompt."""
  return preferences.Fold(*(
    tuple(
      preferences.Preference(row.prompt, row.text, drafts.get(row.prompt, row.draft))
      for row in own.kept[part]
    )
    for part in feedback.PARTS
  ))  # fmt: skip


def exported(study: measures.Study) -> dict:
  """Returns what is exported: the model after stage 2, which answers, criticises and refines."""
  return {"models": {"policy": study.models[arms.SRT].params}, "zero_point": None}


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of self-refinement, and of PIT's improver where it is asked for."""
  planned = arms.stages(config)
  return planned + improving.stages(config, (*planned[-1].kept, "language"))


RECIPE = recipe.Recipe(
  name="srt",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "gap", "rl")}
  | {"dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=stages,
  train=train,
  exported=exported,
  subject=measures.of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  own_texts=True,
  headline=(arms.METHOD.refined, arms.PLAIN.refined),
  page=page.PAGE,
  pooled={"critics": seeds.rows("system"), "own": seeds.rows("what")},
  experiments={
    "main": main.measure,
    "length": length.measure,
    "critics": measures.measure,
  },
)
