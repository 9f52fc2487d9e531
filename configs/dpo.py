"""DPO (arXiv 2305.18290) and its kin: a policy from pairs alone, without a reward model or RL.

python launch/train.py --config=configs/dpo.py:tiny --workdir=runs/dpo

On two CPU cores tiny takes two and a half minutes.
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `dpo`."""
  config = common.get_config(size)
  config.recipe = "dpo"  # the method: a recipe's name, or the path of a file that declares one
  config.sft = common.sft(size)
  config.dpo = section(size)
  config.data.folds, config.data.prompts_only = ("sft", "preference"), ()
  if size == "tiny":
    config.data.rows = 12_000
  return config.lock()


def section(size: str) -> ml_collections.ConfigDict:
  """Returns the section of preference optimisation."""
  job = common.supervised("dpo", "preference", epochs=1.0, learning_rate=1e-4)
  job.batch_size = 16  # pairs of a step
  # What a pair costs: "sigmoid" is DPO's loss, "robust" the same over β, "ipo" and "hinge" end at a
  # margin; "simpo" and "orpo" go by probability per token, without a reference; "kto" judges each
  # response by itself.
  job.loss = "sigmoid"
  # Weight of the KL to the reference: smaller goes further. Of "simpo" the slope per nat and token,
  # 2 in the paper; of "orpo" the weight of its odds ratio.
  job.beta = 0.1
  # How often labels are taken to be wrong; above 0 it is conservative DPO.
  job.label_smoothing = 0.0
  job.gamma = 0.0  # margin of "simpo", by which β times the difference is to be ahead, in nats
  job.desirable_weight = 1.0  # of "kto", how much a preferred response counts
  job.undesirable_weight = 1.0  # of "kto", how much any other response counts
  job.reference_free = False  # whether a loss that has a reference does without it
  # Whether each pair counts by how much likelier its rejected response is now than under the
  # reference: corrects for pairs that the reference sampled.
  job.importance_correction = False
  # Weight of the chosen responses' negative log-likelihood, which keeps them likely; 1 as in Pang
  # et al. 2024. On letters 0.05 let their log-probability fall, and the answers with it.
  job.sft_coefficient = 1.0
  # Over the tokens of a chosen response: "mean", or "sum" as in Sharma et al. 2024, where longer
  # responses count for more.
  job.sft_reduction = "mean"
  if common.is_large(size):
    job.batch_size, job.learning_rate = 128, 5e-7
  return job
