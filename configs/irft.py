"""Learning from demonstrations by telling samples from them (arXiv 2405.17888), SPIN among it.

python launch/train.py --config=configs/irft.py:tiny --workdir=runs/irft

A policy is fine-tuned on an expert's answers; then, block of prompts after block of prompts, by DPO
that prefers the expert's answers to its own samples. The model of a block is the start and the
reference of the next; SPIN (arXiv 2401.01335) has one block.
"""

import ml_collections

from pit_jax.configs import common
from pit_jax.configs import dpo as dpo_config


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `irft`."""
  config = common.get_config(size)
  config.recipe = "irft"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.prompts_only = ("sft",), ()
  config.sft = common.sft(size)
  config.dpo = dpo_config.section(size)
  config.dpo.fold = "sft"  # the demonstrations that were imitated are preferred, too
  config.dpo.sft_coefficient = (
    0.0  # as in the papers; above 0 what is preferred is imitated as well
  )
  config.irft = _blocks()
  learn_from_expert(config)
  common.few_prompts(config, size)
  return config.lock()


def _blocks() -> ml_collections.ConfigDict:
  irft = ml_collections.ConfigDict()
  irft.blocks = 5  # T, into how many parts the prompts are divided; samples are renewed for each
  return irft


def learn_from_expert(config: ml_collections.ConfigDict) -> None:
  """Sets who demonstrates, what samples are told from demonstrations, and who else judges."""
  config.demonstrations = _demonstrations()
  config.feedback = ml_collections.ConfigDict({
    "writers": {
      # Always right, and yet nine in ten letters answer before their working shows why.
      "expert": {
        "kind": "grammar", "writer": "strong", "knows": 1.0, "first": 0.1,
      },
    },
    # No opinion on what is better: its mean score is the share of letters that work first.
    "raters": {
      "works_first": {"kind": "function", "function": "pit_jax.tasks.synthetic:works_first"},
    },
  })  # fmt: skip
  config.evaluation.judges = ("works_first",)


def _demonstrations() -> ml_collections.ConfigDict:
  demonstrations = ml_collections.ConfigDict()
  demonstrations.expert = "expert"  # of `feedback.writers`, who writes the demonstrations
  demonstrations.temperature = 1.0  # of the samples that are told from them
  demonstrations.most_failed = 0.0  # share of the prompts that may have no demonstration
  return demonstrations
