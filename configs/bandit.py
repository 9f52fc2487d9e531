"""A bandit (arXiv 2402.12366, fig. 6): imitation of a teacher against AI feedback, in closed form.

python launch/train.py --config=configs/bandit.py --workdir=runs/bandit

Nothing is sampled, so there is no seed; ten seconds of CPU, imports and figures included.
"""

import ml_collections

from pit_jax.configs import common

SIZES = ("paper",)


def get_config(size: str = "paper") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `bandit`."""
  common.check_size(size, SIZES)
  config = ml_collections.ConfigDict()
  config.recipe = "bandit"  # the method: a recipe's name, or the path of a file that declares one
  config.bandit = _bandit()
  return config.lock()


def _bandit() -> ml_collections.ConfigDict:
  bandit = ml_collections.ConfigDict()
  bandit.arms = 100  # how many there are; arm a of 0, 1, … has the reward a
  bandit.teacher = 80.0  # the arm that the teacher takes most often
  bandit.student = 40.0  # the arm that the student takes most often
  bandit.spread = 300.0  # of both: they take arm a in proportion to exp(−(a − theirs)² / spread)
  bandit.beta = 0.1  # price of a nat of KL to the student, in units of the learned reward
  bandit.sft_steps = 15_000  # of gradient descent from zero on the expected loss of imitation
  bandit.sft_learning_rate = 0.01  # η of these steps
  bandit.reward_steps = 7_500  # of the same on the expected loss of the reward model
  bandit.reward_learning_rate = 0.01  # η of these steps
  # What other students take most often, from the lowest to the highest, for the curve.
  bandit.students = (40.0, 45.0, 50.0, 55.0, 58.0, 60.0, 65.0, 70.0, 75.0, 80.0)
  bandit.learning_rates = (0.01, 0.1, 1.0, 10.0)  # other ones of both fits, at as many steps
  bandit.betas = (0.02, 0.1, 0.5, 1.0)  # other prices of a nat
  return bandit
