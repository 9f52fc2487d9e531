"""Preferences between a chat model's own answers to instructions that a program checks.

make instructions        (asks SmolLM2-135M-Instruct; `pit_instructions` trains on what comes out)
python launch/train.py --config=configs/own_pairs.py:smollm2_135m --workdir=runs/instructions \\
    --config.model.base=models/smollm2
"""

import ml_collections

from pit_jax.configs import chat, common

SIZES = chat.SIZES


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `own_pairs`."""
  common.check_size(size, SIZES)
  config = common.get_config("small")
  config.recipe = (
    "own_pairs"  # the method: a recipe's name, or the path of a file that declares one
  )
  config.model.base = "models/smollm2"
  config.data.source = "instructions"
  config.data.rows = 3_200  # prompts
  # All prompts are asked, held out or not: whoever trains on the rows divides them.
  config.data.folds = config.data.prompts_only = ("rl",)
  config.data.fold_sizes = (1.0,)
  config.data.held_out = 0.5
  config.data.max_prompt_length = 160
  config.data.max_response_length = 96
  config.inference_batch_size = 32
  config.own_pairs = _making()
  if size.endswith("_smoke"):
    config.data.rows = 12
    config.data.max_response_length = 24
    config.inference_batch_size = 6
    config.model.unroll = False  # for so few tokens compiling takes longer than it saves
  return config.lock()


def _making() -> ml_collections.ConfigDict:
  making = ml_collections.ConfigDict()
  # Temperatures at which every prompt is answered once.
  making.temperatures = (0.7, 1.0)
  # Share of the answers beside which stands the same with one constraint mended: texts that meet
  # more than the model does by itself, from which can be learnt what is asked.
  making.mended = 0.5
  # τ of labels: the text that is ahead by Δ of gold, of 10 in all, is chosen with σ(Δ / τ).
  making.noise = 1.0
  return making
