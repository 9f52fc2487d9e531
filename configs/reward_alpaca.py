"""Reward models of GPT-4's preferences between the outputs of eleven systems and text_davinci_003.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/reward_alpaca.py:smollm2_135m --workdir=runs/alpaca \\
    --config.model.base=models/smollm2 \\
    --config.data.source=jsonl:alpacaeval_gpt4_preferences.jsonl.gz

Source: the annotations of AlpacaEval (https://github.com/tatsu-lab/alpaca_eval). Four systems and
three in ten instructions are held out. The four are a family (Claude and a model that learnt from
it) and the better of the two that lose to text_davinci_003, which is in every row and so on both
sides; the other that loses is trained on, or "whoever is not text_davinci_003" would be a rule.
`smollm2_135m_small` fits two CPU cores: 192 pairs, and responses cut to 96 tokens.
`scratch` learns from nothing.
"""

import ml_collections

from pit_jax.configs import common, reward

SIZES = ("smollm2_135m", "smollm2_135m_small", "scratch")


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `reward` on judgements of AlpacaEval."""
  common.check_size(size, SIZES)
  config = reward.get_config("tiny" if size == "scratch" else "small").unlock()
  config.data.source = "jsonl:alpacaeval_gpt4_preferences.jsonl.gz"
  config.data.rows = None
  config.data.held_out = 0.3
  config.data.validation = 0.05
  config.data.held_out_writers = ("claude", "claude-2", "claude2-alpaca-13b", "alpaca-7b")
  config.data.max_prompt_length, config.data.max_response_length = 128, 512
  config.data.length_buckets = True
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.reward.epochs = config.gap_reward.epochs = 1.0
  config.reward.learning_rate = config.gap_reward.learning_rate = 2e-4
  if size == "scratch":
    config.model.base, config.model.lora.rank = "none", 0
    config.data.max_prompt_length, config.data.max_response_length = 48, 128
    config.data.validation = 0.02
    config.reward.steps, config.gap_reward.steps, config.gap_reward.batch_size = 40, 40, 8
    config.reward.learning_rate, config.gap_reward.learning_rate = 1e-3, 5e-4
    config.evaluation.prompts = 40
  if size.endswith("_small"):
    _shrink(config)
  return config.lock()


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts training to few pairs, and prompts and responses to their beginnings."""
  config.model.remat = "none"
  config.log_every, config.save_every = 4, 8
  config.inference_batch_size = 16
  config.data.validation = 0.01
  config.data.max_prompt_length, config.data.max_response_length = 48, 96
  config.reward.steps, config.reward.batch_size = 24, 8
  config.gap_reward.steps, config.gap_reward.batch_size = 16, 4
  config.reward.learning_rate = config.gap_reward.learning_rate = 5e-4  # for so few steps
  config.evaluation.prompts = 20
