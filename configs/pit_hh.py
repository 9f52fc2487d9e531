"""PIT on HH-RLHF, harmless dialogues, with SmolLM2-135M-Instruct and adapters.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/pit_hh.py:smollm2_135m --workdir=runs/hh \\
    --config.model.base=models/smollm2 --config.data.source=hh:hh_harmless.jsonl.gz

Source: https://huggingface.co/datasets/Anthropic/hh-rlhf. `smollm2_135m` is meant for one
accelerator; `smollm2_135m_smoke` shows on two CPU cores that every part works, and no more.
"""

import ml_collections

from pit_jax.configs import chat, common, pit

SIZES = chat.SIZES


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `pit` on dialogues, with a small pretrained model."""
  common.check_size(size, SIZES)
  config = pit.get_config("small").unlock()
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.data.source = "hf:Anthropic/hh-rlhf:train"
  config.data.max_prompt_length = 256
  config.data.max_response_length = 128
  config.data.judge = 0.5  # an independent judge has as many pairs as R_P
  config.sft.learning_rate = 2e-4
  config.reward.learning_rate = config.gap_reward.learning_rate = 2e-4
  config.gap_reward.epochs = 1.0
  config.rl.steps = 100
  config.rl.learning_rate = 5e-5
  config.rl.kl_coefficient = 0.1
  for stage in config.curriculum:
    stage.steps, stage.learning_rate, stage.kl_coefficient = 50, 5e-5, 0.1
  config.evaluation.prompts = 512
  config.evaluation.temperature_prompts = 256
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows."""
  config.log_every = 2
  config.save_every, config.save_every_rl = 10, 2
  config.inference_batch_size = 8
  # For so few tokens, compiling layer by layer takes longer than it saves, and more memory.
  config.model.unroll = False
  config.data.rows = 300
  config.data.validation = 0.15
  config.data.max_prompt_length = 128
  config.data.max_response_length = 48
  for job, steps, batch in (
    (config.sft, 16, 4),
    (config.reward, 16, 4),
    (config.gap_reward, 16, 2),
    (config.dpo, 16, 4),
  ):
    job.steps, job.batch_size = steps, batch
  config.rl.steps = 5
  config.rl.batch_size = 8
  config.rl.minibatches = 2
  config.rl.value_warmup = 1
  for stage in config.curriculum:
    stage.steps = 4
  config.evaluation.prompts = 24
  config.evaluation.rounds = 2
  config.evaluation.self_refine.max_feedback_tokens = 48
  config.evaluation.temperatures = (1.0,)
  config.evaluation.temperature_prompts = 24
  config.frontier.checkpoints, config.frontier.prompts = 2, 24
