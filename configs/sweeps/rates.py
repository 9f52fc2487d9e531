"""Learning rates of reinforcement learning, searched between bounds by TPE.

python launch/sweep.py --config=configs/pit.py:tiny --sweep=configs/sweeps/rates.py \\
    --workdir=runs/rates
"""

from typing import Any


def get_sweep() -> dict[str, Any]:
  """Returns a search over the rates of policy and value model."""
  return {
    "sampler": "tpe",
    "trials": 12,
    "space": {
      "rl.learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
      "rl.value_scale": {"low": 0.5, "high": 4.0, "log": True},
    },
  }
