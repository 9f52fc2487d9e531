"""How far the models may go from their start: the price of a nat, of policy and improver.

python launch/sweep.py --config=configs/pit.py:tiny --sweep=configs/sweeps/kl.py --workdir=runs/kl
"""

import ml_collections


def get_sweep() -> ml_collections.ConfigDict:
  """Returns a grid over the KL coefficients, and two seeds of each."""
  sweep = ml_collections.ConfigDict()
  sweep.sampler = "grid"  # every combination; "random" or "tpe" try `trials` of them
  sweep.trials = 0
  sweep.space = {
    "rl.kl_coefficient": (0.15, 0.3, 0.6),
    "curriculum[1].kl_coefficient": (0.075, 0.15, 0.3),
    "seed": (0, 1),
  }
  return sweep.lock()
