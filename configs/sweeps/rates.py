"""Learning rates of reinforcement learning, searched between bounds by TPE.

python launch/sweep.py --config=configs/pit.py:tiny --sweep=configs/sweeps/rates.py \\
    --workdir=runs/rates
"""

import ml_collections


def get_sweep() -> ml_collections.ConfigDict:
  """Returns a search over the rates of policy and value model."""
  sweep = ml_collections.ConfigDict()
  sweep.sampler = "tpe"
  sweep.trials = 12
  sweep.space = {
    "rl.learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
    "rl.value_scale": {"low": 0.5, "high": 4.0, "log": True},
  }
  return sweep.lock()
