"""Reward models alone: R_P and R_PIT from preferences, and what held-out labels say of them.

  R_P(x, y)               Bradley–Terry on (x, y_w, y_l)
  R_PIT(x, y_1, y_2)      the five orderings of Wang et al. 2024, eq. 2, from the trunk of R_P

All rows that are not held out are one fold, and nothing generates. Deviations from `pit`: R_P
starts from the base model, which was not fine-tuned on demonstrations; and both are scaled to mean
0 and deviation 1 on the responses of the validation part, since there are no samples.
"""

from typing import Any

import ml_collections

from pit_jax.recipes import recipe
from pit_jax.recipes.reward import labels, page
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import jobs, reward


def train(context: contexts.Context) -> labels.Models:
  """Trains both models."""
  base = context.initial_policy()
  job = context.config.gap_reward
  pointwise = policy_chain.train_reward(context, start=base, sampler=None)
  start = pointwise.params if pointwise.fits else base
  fold = context.rows.fold(job.fold)
  gap = reward.gap(context, "gap_reward", fold, start=start, job=job, sampler=None)

  return labels.Models(pointwise, gap)


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of both reward models."""
  first = [] if config.reward.model else [kinds.Stage("reward", "reward", kept=("initial",))]
  kept = ("initial", "reward")
  return [*first, kinds.Stage("gap_reward", "gap_reward", prompts=kinds.IMPROVER, kept=kept)]


def exported(models: labels.Models) -> dict[str, Any]:
  """Returns what is exported of both reward models; see `export.save`."""
  params = {"reward": models.reward.params, "gap_reward": models.gap_reward.params}
  zero_point = models.gap_reward.facts["zero_point"]
  return {"models": params, "zero_point": zero_point, "published": models.reward.published}


RECIPE = recipe.Recipe(
  name="reward",
  kinds={name: jobs.BY_NAME[name] for name in ("preference", "gap")},
  stages=stages,
  train=train,
  exported=exported,
  subject=labels.of_run,
  page=page.PAGE,
  experiments={"labels": labels.measure},
)
