"""SALMON on prompts of one's own, with a chat model that judges its own answers.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/salmon_chat.py:smollm2_135m_smoke --workdir=runs/salmon \\
    --config.model.base=models/smollm2 --config.feedback.raters.self.model=models/smollm2 \\
    --config.data.source=jsonl:prompts.jsonl

Rows are {prompt, chosen, rejected} as everywhere; of these only the prompts are read. The model is
sampled twice per prompt, and asked of which sample each principle is more nearly true: its
log-probabilities of the letters, in both orders, are the scores. `smollm2_135m` is meant for one
accelerator, and a better judge than SmolLM2; `smollm2_135m_smoke` is cut to a few steps for two CPU
cores, so that it can show nothing but that every part works.
"""

import ml_collections

from pit_jax.configs import chat, common, salmon

SIZES = chat.SIZES


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `salmon` with a small chat model."""
  common.check_size(size, SIZES)
  config = salmon.get_config("small").unlock()
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.data.source = "jsonl:prompts.jsonl"
  config.data.folds, config.data.fold_sizes = ("reward", "rl"), (2.0, 1.0)  # nobody is imitated
  config.sft.fold = "reward"
  config.data.max_prompt_length, config.data.max_response_length = 512, 128
  config.data.length_buckets = True
  config.reward.learning_rate = config.gap_reward.learning_rate = 2e-4
  config.rl.learning_rate = 5e-5
  config.rl.kl_coefficient = 0.01  # as in the paper
  config.rl.rewards = (("reward", 1.0), ("length", 5.0))  # and its bonus for length
  config.salmon.bank = "chat"
  config.salmon.template = "{prompt}\n\nThe reply is to follow these principles:\n- {principles}"
  config.salmon.joint = "\n- "
  config.salmon.writer = ""  # the chat model is sampled as it is
  config.salmon.instructed = 0  # and reads principles as it is
  config.salmon.principles = ""  # three drawn by weight for every response, as in the paper
  config.salmon.others = (("short", "concise,polite"), ("detailed", "not:concise,specific"))
  config.feedback = _feedback()
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _feedback() -> ml_collections.ConfigDict:
  """Returns the judge: the model itself, by its log-probabilities."""
  return ml_collections.ConfigDict({
    "raters": {
      "self": {"kind": "language_model", "model": "models/smollm2", "base_url": "local",
               "verdict": "logprob", "tie": 0.0},
    },
  })  # fmt: skip


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows, and the policies to one."""
  config.log_every = 2
  config.save_every, config.save_every_rl = 20, 2
  config.inference_batch_size = 8
  # For so few tokens, compiling layer by layer takes longer than it saves, and more memory.
  config.model.unroll = False
  config.data.rows = 40
  config.data.held_out, config.data.validation = 0.2, 0.3
  config.data.max_prompt_length, config.data.max_response_length = 160, 24
  for job in (config.reward, config.gap_reward):
    job.steps, job.batch_size = 4, 4
  config.rl.steps, config.rl.batch_size, config.rl.value_warmup = 3, 4, 1
  config.salmon.passes = 2
  config.salmon.others = (("short", "concise,polite"),)
  config.salmon.pairs = 6
  config.evaluation.prompts = 8
  config.evaluation.self_refine.play = False
