"""Learning from demonstrations by a reward that is learnt from them (arXiv 2405.17888).

python launch/train.py --config=configs/rft.py:tiny --workdir=runs/rft

A policy is fine-tuned on an expert's answers. Then, round after round, a reward model learns to
tell its samples from the expert's answers, and RL maximises that reward near where the round began.
"""

import ml_collections

from pit_jax.configs import common
from pit_jax.configs import irft as irft_config


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `rft`."""
  config = common.get_config(size)
  config.recipe = "rft"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.prompts_only = ("sft",), ()
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.reward.fold = "sft"  # the demonstrations that were imitated are told from samples, too
  config.rl = common.rl(config, size)
  config.rl.fold = "sft"  # whose prompts are answered; of a fold of its own, new ones
  config.rft = _rounds()
  irft_config.learn_from_expert(config)
  common.few_prompts(config, size)
  return config.lock()


def _rounds() -> ml_collections.ConfigDict:
  rft = ml_collections.ConfigDict()
  # How often samples are drawn, and a reward is learnt and maximised, at most; fewer where it
  # cannot tell samples from demonstrations. What is exported is the policy of the last round, and
  # by `pit convert export --system=rft_1` that of another.
  rft.rounds = 2
  return rft
