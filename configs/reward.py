"""Reward models alone, trained and measured: R_P by Bradley–Terry, R_PIT by eq. 2.

python launch/train.py --config=configs/reward.py:small --workdir=runs/reward \\
    --config.model.base=DIRECTORY --config.data.source=jsonl:preferences.jsonl
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `reward`."""
  config = common.get_config(size)
  config.recipe = "reward"  # the method: a recipe's name, or the path of a file that declares one
  config.reward = common.reward(size)
  config.gap_reward = common.gap_reward(size)
  config.data.folds, config.data.prompts_only = ("reward",), ()
  if size == "tiny":
    config.data.rows = 4_000  # as many as a fold of the other recipes has, about
  return config.lock()
