"""Direct preference optimisation (Rafailov et al. 2023): SFT, then DPO or a kin of it on pairs.

The reference of the second stage is the model of the first. Deviation: an SFT term
(`dpo.sft_coefficient`) is on by default, since DPO alone lowers the probability of what was chosen.
"""

from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.losses import preference
from pit_jax.recipes import recipe
from pit_jax.report import palette, presentation
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import dpo, jobs, sft, trained

STAGES = (
  kinds.Stage("sft_policy", "sft", kept=("initial",)),
  kinds.Stage("dpo_policy", "dpo", kept=("language",)),
)


def train(context: contexts.Context) -> dict[str, trained.Trained]:
  """Returns the policy of each stage: `sft`, and `dpo` that started from it."""
  c = context.config
  fold = context.rows.fold(c.sft.fold)
  policy_sft = sft.run(context, "sft_policy", fold, start=context.initial_policy(), job=c.sft)
  pairs = context.rows.fold(c.dpo.fold)
  models = {"start": policy_sft.params, "reference": policy_sft.params}

  return {"sft": policy_sft, "dpo": dpo.run(context, "dpo_policy", pairs, job=c.dpo, **models)}


def of_run(context: contexts.Context, policies: dict[str, trained.Trained]) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policy = policies["dpo"].params
  policy_sft = policies["sft"].params
  return subject.Policies(
    context,
    subject.suite_of(context, policy=policy, sampler=policy_sft),
    models={"dpo": policy, "policy_sft": policy_sft},
    compared=[("dpo", "policy_sft"), ("dpo", "chosen"), ("policy_sft", "chosen")],
    control="dpo_resampled",
  )


RECIPE = recipe.Recipe(
  name="dpo",
  kinds={"sft": jobs.SFT, "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=lambda config: STAGES,
  train=train,
  exported=lambda policies: {"models": {"policy": policies["dpo"].params}, "zero_point": None},
  subject=of_run,
  problems=subject.unjudged,
  headline=("dpo", "policy_sft"),
  page=presentation.Presentation(
    systems={
      "dpo": presentation.System("the policy after direct preference optimisation", palette.TEAL),
      "policy_sft": presentation.System("the policy after fine-tuning only", "#94a3ba"),
    },
    stages={"sft_policy": "Fine-tuning", "dpo_policy": "Preference optimisation"},
  ),
  experiments={"main": main.measure, "length": length.measure},
)
