"""RLHF (arXiv 2203.02155): the policy's chain alone, as `pit` uses it.

python launch/train.py --config=configs/rlhf.py:tiny --workdir=runs/rlhf
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `rlhf`."""
  config = common.get_config(size)
  config.recipe = "rlhf"  # the method: a recipe's name, or the path of a file that declares one
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.rl = common.rl(config, size)
  if size == "tiny":
    config.data.rows = 12_000
  return config.lock()
