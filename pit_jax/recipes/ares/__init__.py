"""Alternate reinforcement and supervised learning (Byun et al. 2024, arXiv 2407.00087): ARES.

A policy imitates an author. A teacher reads the sentences of its answers and scores each, 0 where
it is wrong, ½ where it is neither, 1 where it is right; one that repeats another scores 0. The
score less ½ rewards the sentence's last token, and RL maximises that. An answer about which the
teacher's reply cannot be used is dropped. Then the policy's answers, less what they repeat, are
corrected sentence by sentence, and imitated.

  sft           fine-tuned on the author's answers
  corrected     … and on corrections of its own answers, for as many asks of the teacher as ares
  rl_sentences  RL for the scores of sentences
  rl_sum        RL for their sum at the last token: is it the credit, or the score?
  rl_permuted   RL for the scores at other sentences of the same answer
  ares          rl_sentences, then fine-tuned on corrections of its answers
  ares_twice    the same in two rounds of half as many iterations and corrections

Deviations: of sampling, no top-k, which the published code has there and not in its
log-probabilities; PPO clips values, takes one pass, and whitens advantages over a batch without
padding, as the other recipes here; the KL's price is higher (rl.kl_coefficient); images are left
out.
"""

from pit_jax.evaluate import seeds, subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.feedback import named
from pit_jax.models import pure
from pit_jax.recipes import recipe
from pit_jax.recipes.ares import arms, corrections, measures, page, rewards
from pit_jax.recipes.irft import demonstrations
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback, jobs, reinforced, sft, trained
from pit_jax.stages import rewards as named_rewards


def train(context: contexts.Context) -> measures.Study:
  """Trains every arm; what is written, corrected or finished is read back."""
  c = context.config
  named_rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), [rewards.NAME])
  author = named.build(context, "writers", c.ares.author)
  prompts = demonstrations.prompts(context, c.sft.fold)
  most = c.ares.most_failed
  answers = feedback.completions(context, "demonstrations", prompts, author, most_failed=most)
  context = made_rows.depending(context, answers.made)
  start = context.initial_policy()
  policy = sft.run(context, arms.SFT, answers.demonstrations, start=start, job=c.sft)

  study = measures.Study({arms.SFT: policy}, {})
  # As many asks as ares has: one for each answer of its RL, and one for each correction.
  asks = c.rl.steps * c.rl.batch_size
  _correct(context, study, arms.CORRECTED, policy, more=asks)
  for name, arrange in arms.ARRANGED.items():
    steps = c.rl.steps
    study.policies[name] = _reinforced(context, name, policy, arrange, steps)
  _correct(context, study, arms.ARES, study.policies[arms.SENTENCES])

  for half in arms.HALVES:
    name, steps = arms.reinforced(half), arms.iterations(c, half)
    policy = _reinforced(context, name, policy, rewards.as_given, steps)
    policy = _correct(context, study, arms.corrected(half), policy, half=half)
  return study


def _reinforced(
  context: contexts.Context,
  name: str,
  policy: trained.Trained,
  arrange: rewards.Arrange,
  steps: int,
) -> trained.Trained:
  """Returns the policy after RL for a teacher's scores, near where it started."""
  c = context.config
  fold = demonstrations.prompts(context, c.rl.fold)
  teacher = named.build(context, "writers", c.ares.teacher)
  seed = context.seed(name)
  own = {rewards.NAME: rewards.signal(context, teacher, fold.prompts, arrange, seed, steps)}
  maximised = named_rewards.chosen(context, c.rl, own, fold.prompts)

  head = context.key(f"{name} value head")
  value = pure.complete(context.models.scalar, head, {"trunk": policy.params["trunk"]})
  how = {"start": policy.params, "value": value, "job": c.rl, "steps": steps}
  return reinforced.optimised(context, name, context.rows.prompts(fold), maximised, **how)


def _correct(
  context: contexts.Context,
  study: measures.Study,
  name: str,
  policy: trained.Trained,
  *,
  more: int = 0,
  half: int = 0,
) -> trained.Trained:
  """Returns the policy after imitating corrections of its answers, and adds both to the study."""
  found = corrections.of(context, name, policy.params, more=more, half=half)
  study.corrected[name] = found
  context = made_rows.depending(context, *found.made)
  job = context.config.correct
  study.policies[name] = sft.run(context, name, found.fold, start=policy.params, job=job)
  return study.policies[name]


def of_run(context: contexts.Context, study: measures.Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: study.policies[name].params for name in arms.ABOUT}
  models = {"policy": policies[arms.ARES], "sampler": policies[arms.SFT]}
  suite = subject.suite_of(context, **models)
  # The one that the run is about comes first.
  systems = {arms.ARES: policies[arms.ARES], **policies}
  control = f"{arms.ARES}_resampled"
  how = {"compared": arms.compared(), "control": control, "about": arms.ABOUT, "study": study}
  return subject.Policies(context, suite, models=systems, **how)


RECIPE = recipe.Recipe(
  name="ares",
  kinds={"sft": jobs.SFT, "rl": jobs.RL},
  stages=arms.stages,
  train=train,
  exported=lambda study: {
    "models": {"policy": study.policies[arms.ARES].params}, "zero_point": None,
  },
  subject=of_run,
  problems=arms.problems,
  asks=arms.asks,
  allowed=arms.ALLOWED,
  own_texts=True,
  headline=(arms.ARES, arms.CORRECTED),
  page=page.PAGE,
  pooled={"sentences": seeds.rows("system"), "corrections": seeds.rows("of")},
  experiments={
    "main": main.measure,
    "length": length.measure,
    "sentences": measures.sentences_told,
  },
)  # fmt: skip
