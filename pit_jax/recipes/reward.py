"""Reward models alone: R_P and R_PIT from preferences, and what held-out labels say of them.

  R_P(x, y)               Bradley–Terry on (x, y_w, y_l)
  R_PIT(x, y_1, y_2)      the five orderings of Wang et al. 2024, eq. 2, from the trunk of R_P

All rows that are not held out are one fold, and nothing generates. Deviations from `pit`: R_P
starts from the base model, which was not fine-tuned on demonstrations; and both are scaled to mean
0 and deviation 1 on the responses of the validation part, since there are no samples.
"""

import dataclasses
import pathlib

import ml_collections

from pit_jax.evaluate import findings
from pit_jax.exchange import export
from pit_jax.recipes import schedule
from pit_jax.report import pages
from pit_jax.run import context as contexts
from pit_jax.stages import reward


@dataclasses.dataclass(frozen=True)
class Models:
  """R_P and R_PIT."""

  reward: reward.RewardModel
  gap_reward: reward.RewardModel


def train(context: contexts.Context) -> Models:
  """Trains both models."""
  base = context.initial_policy()
  pointwise = reward.pointwise(context, None, base)
  start = pointwise.params if pointwise.fits else base
  return Models(pointwise, reward.gap(context, None, start))


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, exports, measures and reports."""
  context = schedule.announced(contexts.build(config, workdir))
  models = train(context)
  export.save(
    workdir,
    context.inference,
    {"reward": models.reward.params, "gap_reward": models.gap_reward.params},
    zero_point=models.gap_reward.facts["zero_point"],
    published=models.reward.published,
  )
  pages.publish(findings.of_rewards(context, models), workdir)
