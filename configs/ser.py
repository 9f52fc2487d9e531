"""Self-evolved reward learning (arXiv 2411.00418): a reward model that labels pairs for itself.

python launch/train.py --config=configs/ser.py:tiny --workdir=runs/ser

Fifteen pairs in a hundred keep their labels. A reward model learns from them, labels the others of
which it is sure, and another one learns from both; round after round, and all of it for several
draws of which labels are kept. `--config.ser.model=gap` evolves R_PIT in the place of R_P. At
`tiny` heads learn on a trunk that stays as it is; `tiny_whole` trains whole models, on fewer draws.
"""

import ml_collections

from pit_jax.configs import common

SIZES = (*common.SIZES, "tiny_whole")


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `ser`."""
  common.check_size(size, SIZES)
  is_whole = size == "tiny_whole"
  size = "tiny" if is_whole else size
  config = common.get_config(size)
  config.recipe = "ser"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.prompts_only = ("sft", "reward"), ()
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.gap_reward = common.gap_reward(size)
  # Optimiser steps of every model of a round, whatever labels it has; `seed_longer` and
  # `all_labels` take those of all rounds together.
  config.reward.steps = config.gap_reward.steps = 200
  config.rl = common.rl(config, size)
  config.rl.fold = "sft"  # whose prompts are answered where ser.policy is "ppo"
  config.ser = _evolution()
  config.frontier.checkpoints = 0
  if size == "tiny":
    _shrink(config, is_whole)
  return config.lock()


def _evolution() -> ml_collections.ConfigDict:
  ser = ml_collections.ConfigDict()
  ser.model = "reward"  # what is evolved: "reward", R_P; or "gap", R_PIT
  # What of it learns from labels: "all" of it (of adapters and head, where there are adapters), or
  # its "head" alone on the trunk of M_P^SFT, whose features are computed once.
  ser.trained = "all"
  ser.draws = 1  # how often it is drawn which rows keep their labels; all arms of each are trained
  ser.share = 0.15  # of the fold's rows, those that keep their labels: the seed
  # Of the seed, the share that is never trained on: it ends the rounds, and chooses among them.
  ser.validation = 0.3
  ser.rounds = 4  # rounds at most
  # Which pairs are kept: "one", an answer surely good and the other surely bad; "two", answers far
  # apart; "union", either. Of "gap" it is "union": a gap is one number.
  ser.status = "union"
  ser.upper = 0.55  # σ(score) above which an answer is surely good, the pool's mean score being 0
  ser.lower = 0.45  # σ(score) below which it is surely bad
  ser.difference = 0.3  # difference of the two σ beyond which answers are far apart
  ser.least_new = 0.03  # share of the pool that a round has to keep, or it is none and rounds end
  # What is made of M_P^SFT with the models of the first draw: "best_of_n", the best of some
  # answers; "ppo", RL; "none".
  ser.policy = "best_of_n"
  ser.samples = 8  # answers of which the best is taken
  return ser


def _shrink(config: ml_collections.ConfigDict, is_whole: bool) -> None:
  """Sets sizes at which the arms of several draws are trained on two CPU cores within minutes."""
  config.data.validation = 0.05  # of a fold; those of the seed are apart, see ser.validation
  config.data.fold_sizes = (1.0, 4.0)  # about 3,000 pairs of which few keep their labels
  config.ser.rounds = 3
  if is_whole:
    config.data.rows = 4_400
    config.checkpoints.keep = 1
    config.ser.draws = 4
    config.evaluation.prompts = 512
    for job in (config.reward, config.gap_reward):
      job.steps, job.batch_size = 100, 8
    return

  config.data.rows, config.data.held_out = 5_000, 0.2
  config.ser.draws, config.ser.trained = 8, "head"
  config.evaluation.prompts = 1_000
  for job in (config.reward, config.gap_reward):
    job.steps, job.batch_size, job.learning_rate = 1_000, 32, 1e-2
