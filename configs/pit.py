"""PIT (arXiv 2310.00898): the policy's chain, the improver's chain, curriculum and report.

python launch/train.py --config=configs/pit.py:tiny --workdir=runs/demo
"""

import ml_collections
from ml_collections import config_dict

from pit_jax.configs import common
from pit_jax.configs import dpo as dpo_config
from pit_jax.configs import srt as srt_config


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `pit`."""
  config = common.get_config(size)
  config.recipe = "pit"  # the method: a recipe's name, or the path of a file that declares one
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.gap_reward = common.gap_reward(size)
  config.rl = common.rl(config, size)
  config.dpo = dpo_config.section(size)
  # Whose rows improver_dpo sees: by itself those of R_PIT, and no further label.
  config.dpo.fold = config.gap_reward.get_ref("fold")
  config.dpo.epochs = 3.0  # with which it costs less than R_PIT and the improver's RL together
  if size == "tiny":
    config.data.rows = 12_000
    config.gap_reward.epochs = 1.5  # half of it leaves r(w,w) and r(l,l) further apart
  # The stages differ in their references alone: that is what the ablations of them compare.

  config.curriculum = (
    _stage("data", ("dataset.rejected", "dataset.chosen"), steps=14, kl_coefficient=0.15),
    _stage("policy", ("policy",), steps=14, kl_coefficient=0.15),
  )
  if common.is_large(size):
    for stage in config.curriculum:
      stage.steps, stage.learning_rate = 100, 1e-6
  config.critique = srt_config.critique()
  # Of `feedback.writers`, who criticises the drafts of references that are "policy+critique".
  config.critic = ""
  # Trains pit_uncriticised too, the improver that neither learns from critiques nor is shown any.
  config.uncriticised = False
  # Trains pit_first_only, pit_second_only and rlhf_longer too, the improvers that something
  # else than R_PIT rewards, pit_single_term and pit_rp_difference, and improver_dpo, without RL.
  config.ablations = False
  return config.lock()


def _stage(
  name: str, references: tuple[str, ...], steps: int, kl_coefficient: float
) -> ml_collections.ConfigDict:
  stage = ml_collections.ConfigDict()
  stage.name = name  # a stage of the improver's RL, as checkpoints and metrics call it
  # What it improves, in equal parts: "dataset.rejected", "dataset.chosen", "policy", samples of
  # M_P^RL, or "policy+critique", these with what `critic` says of each.
  stage.references = references
  stage.steps = steps  # iterations
  stage.kl_coefficient = kl_coefficient  # β of the stage, as rl.kl_coefficient
  stage.learning_rate = 5e-4  # of the improver at its peak
  stage.estimator = config_dict.placeholder(str)  # as rl.estimator; None: that
  stage.samples = config_dict.placeholder(int)  # as rl.samples, of one x and draft; None: that
  stage.scale_rewards = config_dict.placeholder(bool)  # as rl.scale_rewards; None: that
  # As rl.loss_kl_coefficient, in which "grpo" has its β; None: that.
  stage.loss_kl_coefficient = config_dict.placeholder(float)
  return stage
