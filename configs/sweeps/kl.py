"""How far the models may go from their start: the price of a nat, of policy and improver.

It is for recipe `pit`; another recipe has no curriculum.

python launch/sweep.py --config=configs/pit.py:tiny --sweep=configs/sweeps/kl.py --workdir=runs/kl
"""

from typing import Any


def get_sweep() -> dict[str, Any]:
  """Returns a grid over the KL coefficients, and two seeds of each."""
  return {
    "sampler": "grid",  # every combination; "random" or "tpe" try so many `trials`
    "trials": 0,
    "space": {
      "rl.kl_coefficient": (0.15, 0.3, 0.6),
      "curriculum[1].kl_coefficient": (0.075, 0.15, 0.3),
      "seed": (0, 1),
    },
  }
