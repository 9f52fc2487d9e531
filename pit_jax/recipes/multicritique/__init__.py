"""MultiCritique with MARV (Lan et al. 2024, arXiv 2410.15287): critics that learn of several.

A policy writes drafts. Several critics, each with faults of its own, list the flaws of each in
units; a meta-critic classes every unit alone; those that it accepts are merged into one critique,
which a critic learns to write. Pairs of critiques are preferred by severity, and MARV keeps a pair
only where revisions made from the preferred critique score higher. A reward model learns from pairs
with the focal ranking loss, and RL maximises it.

  sft               the policy that writes the drafts
  critic_merged     learns the merged critiques
  critic_union      … those that are merged without the meta-critic
  critic_NAME       … those of one critic alone
  critic_rl_marv    `critic_merged` after RL on the pairs that MARV keeps
  critic_rl_all     … on all pairs
  critic_rl_random  … on as many pairs at random
  revised_NAME      the drafts of sft, revised after the critiques of critic_NAME

Two further filters are told about, from which nothing is learnt: MARV with a reward model of random
labels, and with revisers that are shown critiques of other drafts.

Not published, so chosen here: rates, β, steps, how severities become a preference (`units.worth`),
and how units are merged (`units.merged`). The paper's candidates are sampled and its revisers are
four models; here two critics of each draft are compared, and revisers are any writers. Grades stand
for the paper's seven classes, and severity is that which critics say.
"""

import dataclasses
import random
from collections.abc import Iterable, Sequence

from pit_jax.data import encode, preferences, rows, units
from pit_jax.evaluate import seeds
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import named, writers
from pit_jax.recipes import recipe
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.multicritique import arms, measures, page, pairing
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import (
  feedback,
  jobs,
  reinforced,
  reward,
  rewards,
  sft,
  trained,
  unit_criticism,
)


def train(context: contexts.Context) -> measures.Study:
  """Trains everything; what is finished is read back."""
  c = context.config
  form = units.form_of(c.units)
  author, context = _author(context)
  scoring, blind = _scoring(context, author)

  folds = (c.tuning.fold, c.critic_reward.fold)
  criticised = _criticised(context, dict.fromkeys(folds), author, form)
  taught, compared = (criticised[fold] for fold in folds)
  # Critiques are longer than answers, and models are to write them whole.
  critic_context = _writing(made_rows.depending(context, *taught.made, *compared.made))
  critics = {
    arm.stage: sft.learn(
      critic_context, arm.stage, lessons(arm, taught, form, c.multicritique.critics),
      start=author.params, job=c.tuning,
    )
    for arm in arms.taught(c)
  }  # fmt: skip

  seed = context.seed("pairs of critiques")
  fold = pairing.by_severity(compared.reviews, compared.classes, form, seed)
  if not all((fold.rows, fold.validation)):
    raise ValueError(
      f"critics of {c.critic_reward.fold} differ in severity on {len(fold.rows)} drafts to learn "
      f"from and {len(fold.validation)} to validate; give more prompts or other critics"
    )
  paired = pairing.filtered(context, fold, scoring, blind)
  _check_kept(context, paired)
  critic_context = made_rows.depending(critic_context, *paired.made)
  for arm in arms.reinforced(c):
    critics[arm.stage] = _reinforced(critic_context, arm, paired, critics, author, form)
  return measures.Study(author, scoring, critics, taught, compared, paired)


def _check_kept(context: contexts.Context, paired: pairing.Paired) -> None:
  """Raises a ValueError where a filter leaves RL no pairs to learn from, or too few to validate."""
  for arm in arms.reinforced(context.config):
    fold = paired.of(arm.source)
    # The scores of one alone have no deviation, which is the unit of a reward.
    if not fold.rows or len(fold.validation) < 2:
      whole = len(paired.fold.rows), len(paired.fold.validation)
      raise ValueError(
        f"the filter {arm.source} keeps {len(fold.rows)} of {whole[0]} pairs of critiques to learn "
        f"from and {len(fold.validation)} of {whole[1]} to validate, which needs two; use more "
        f"prompts in {context.config.critic_reward.fold}, or multicritique.reinforced=False"
      )


def _author(context: contexts.Context) -> tuple[trained.Trained, contexts.Context]:
  """Returns the policy that writes the drafts, and the context of what follows it."""
  c = context.config
  start = context.initial_policy()
  if not c.multicritique.author:
    return trained.Trained(start, {}), context
  writer = named.build(context, "writers", c.multicritique.author)
  fold = demonstrations.prompts(context, c.sft.fold)
  most = c.multicritique.most_failed
  written = feedback.completions(context, "demonstrations", fold, writer, most_failed=most)
  context = made_rows.depending(context, written.made)
  return sft.run(context, arms.DRAFTS, written.demonstrations, start=start, job=c.sft), context


def _scoring(
  context: contexts.Context, author: trained.Trained
) -> tuple[reward.RewardModel, reward.RewardModel | None]:
  """Returns R_P, which scores revisions, and one of labels at random where there are controls."""
  job = context.config.reward
  fold = context.rows.fold(job.fold)
  models = {"start": author.params, "sampler": author.params}
  if context.models.reward is not None:
    others = (context.models.reward, author.params)
    scoring = reward.published(context, arms.REWARD, fold, *others)
  else:
    scoring = reward.run(context, arms.REWARD, fold, job=job, **models)
  if not context.config.multicritique.controls:
    return scoring, None

  chance = random.Random(context.seed("labels at random"))
  turned = preferences.Fold(*(
    tuple(dataclasses.replace(row, chosen=row.rejected, rejected=row.chosen)
          if chance.random() < 0.5 else row for row in some)
    for some in (fold.rows, fold.validation)
  ))  # fmt: skip
  return scoring, reward.run(context, arms.RANDOM_REWARD, turned, job=job, **models)


def _criticised(
  context: contexts.Context, folds: Iterable[str], author: trained.Trained, form: units.Form
) -> dict[str, measures.Criticised]:
  """Returns drafts for the prompts of folds, with what each critic and the meta-critic say.

  Each of these is asked once, about the drafts of all folds, and critics at the same time.
  """
  c = context.config.multicritique
  writer = writers.model(arms.DRAFTS, context.models.inference, author.params)
  how = {"temperature": c.temperature, "most_failed": 0.0}
  drafts = {}
  for fold in folds:
    prompts = demonstrations.prompts(context, fold)
    drafts[fold] = feedback.completions(context, f"{fold}_drafts", prompts, writer, **how)

  how = {"temperature": c.feedback_temperature, "most_failed": c.most_failed}
  critics = [named.build(context, "writers", name) for name in c.critics]
  parts = {fold: one.parts for fold, one in drafts.items()}
  reviews = unit_criticism.listed(context, parts, critics, form, written_by=arms.DRAFTS, **how)

  by_name = {f"{fold}_grades": several for fold, several in reviews.items()}
  asked = (by_name, named.build(context, "writers", c.meta), form, context.config.grades)
  classes = unit_criticism.classed(context, *asked, most_failed=c.most_failed)
  return {
    fold: measures.Criticised(reviews[fold], own, (drafts[fold].made, own.made))
    for fold, own in zip(drafts, classes.values(), strict=True)
  }


def lessons(
  arm: arms.Arm, taught: measures.Criticised, form: units.Form, critics: tuple[str, ...]
) -> dict[str, sft.Lessons]:
  """Returns what a critic learns, by part of the fold: (x, y) → critique."""
  learnt = {}
  for part in feedback.PARTS:
    drafts = taught.reviews[0].parts[part]
    said = taught.units(arm.source, part, critics)
    asked = form.format.conversations([row.prompt for row in drafts], [row.draft for row in drafts])
    pairs = zip(asked, said, strict=True)
    learnt[part] = [(one, form.write(listed)) for one, listed in pairs if listed is not None]
  return learnt


def _writing(context: contexts.Context) -> contexts.Context:
  """Returns the context of models that write critiques, of as many tokens as these have."""
  reading = context.models.inference.reading(context.config.units.max_tokens)
  models = dataclasses.replace(context.models, inference=reading)
  return dataclasses.replace(context, models=models)


def _reinforced(
  context: contexts.Context,
  arm: arms.Arm,
  paired: pairing.Paired,
  critics: dict[str, trained.Trained],
  author: trained.Trained,
  form: units.Form,
) -> trained.Trained:
  """Returns the critic after RL for a reward model of the pairs that a filter keeps."""
  c = context.config
  start = critics[arms.METHOD.stage].params

  def shown(some: Sequence[rows.Preference]):
    return form.format.conversations([row.prompt for row in some], [row.response for row in some])

  models = {"start": start, "sampler": start, "shown": shown}
  model = reward.run(context, arm.reward, paired.of(arm.source), job=c.critic_reward, **models)
  drafts = _drafts_to_criticise(context, author)
  context = made_rows.depending(context, drafts.made)
  columns = [list(column) for column in zip(*drafts.parts["rows"], strict=True)]
  asked = form.format.conversations(*columns)
  prompts = encode.prompts(asked, context.rows.settings, context.rows.tokens)
  own = {"reward": reward.scored(context, model)}
  maximised = rewards.chosen(context, c.rl, own, *columns)
  how = {"start": start, "value": reward.centred(model), "job": c.rl}
  return reinforced.optimised(context, arm.stage, prompts, maximised, **how)


def _drafts_to_criticise(
  context: contexts.Context, author: trained.Trained
) -> feedback.Completions:
  """Returns a draft for every prompt of RL; the same for every arm."""
  longest = context.config.data.max_response_length
  writer = writers.model(arms.DRAFTS, context.models.inference.reading(longest), author.params)
  fold = demonstrations.prompts(context, context.config.rl.fold)
  how = {"temperature": context.config.multicritique.temperature, "most_failed": 0.0}
  return feedback.completions(context, "rl_drafts", fold, writer, **how)


RECIPE = recipe.Recipe(
  name="multicritique",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=arms.stages,
  train=train,
  exported=measures.exported,
  subject=measures.of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  own_texts=True,
  headline=(arms.METHOD.revised, "revised_union"),
  page=page.PAGE,
  pooled={"criticism": seeds.rows("system"), "critique_pairs": seeds.rows("filter")},
  experiments={"main": main.measure, "length": length.measure, "criticism": measures.measure},
)
