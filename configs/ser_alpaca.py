"""Self-evolved reward learning on GPT-4's preferences between systems and text_davinci_003.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/ser_alpaca.py:smollm2_135m --workdir=runs/ser_alpaca \\
    --config.model.base=models/smollm2 \\
    --config.data.source=jsonl:alpacaeval_gpt4_preferences.jsonl.gz

Source, held-out instructions and held-out systems are those of `reward_alpaca`. Fifteen labels in a
hundred are kept; what own labels are worth is told by the labels that were lost. `smollm2_135m` is
meant for one accelerator. `smollm2_135m_small` fits two CPU cores: some hundred pairs, prompts and
responses cut to 48 tokens, and heads alone learn.
"""

import ml_collections

from pit_jax.configs import common, reward_alpaca, ser

SIZES = ("smollm2_135m", "smollm2_135m_small")


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `ser` on judgements of AlpacaEval."""
  common.check_size(size, SIZES)
  config = ser.get_config("small").unlock()
  source = reward_alpaca.get_config()
  for name in ("source", "held_out", "held_out_writers", "length_buckets"):
    config.data[name] = source.data[name]
  config.data.rows = None
  config.data.validation = 0.05  # of a fold; those of the seed are apart, see ser.validation
  config.data.fold_sizes = (1.0, 4.0)
  config.data.max_prompt_length, config.data.max_response_length = 128, 512
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.ser.draws = 4
  config.ser.policy = "none"  # nobody but the models that choose could score the answers
  for job in (config.sft, config.reward, config.gap_reward):
    job.learning_rate = 2e-4
  if size.endswith("_small"):
    _shrink(config)
  return config.lock()


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Takes few pairs, and the beginnings of prompts and responses; trunks do not learn from them."""
  config.model.remat = "none"
  config.log_every, config.save_every = 2, 8
  config.inference_batch_size = 16
  # Of all systems, as the file is ordered by them: most rows are in a fold that nobody reads.
  config.data.folds, config.data.fold_sizes = ("sft", "reward", "spare"), (2.0, 2.0, 15.0)
  config.data.validation = 0.2
  config.data.max_prompt_length, config.data.max_response_length = 48, 48
  config.sft.steps, config.sft.batch_size = 8, 4
  config.ser.draws, config.ser.rounds, config.ser.trained = 8, 3, "head"
  config.evaluation.prompts = 20
  for job in (config.reward, config.gap_reward):
    job.steps, job.batch_size, job.learning_rate = 1_000, 32, 1e-2
