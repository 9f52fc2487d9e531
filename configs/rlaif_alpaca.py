"""AI feedback against fine-tuning on a better teacher, on AlpacaEval's instructions.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/reward_alpaca.py:scratch --workdir=runs/alpaca \\
    --config.data.source=jsonl:alpacaeval_gpt4_preferences.jsonl.gz
python launch/convert.py export --workdir=runs/alpaca --models=reward --output=models/alpaca
python launch/train.py --config=configs/rlaif_alpaca.py:smollm2_135m_smoke --workdir=runs/rlaif \\
    --config.model.base=models/smollm2 --config.feedback.raters.smollm2.model=models/smollm2 \\
    --config.evaluation.reward_model=models/alpaca/reward \\
    --config.data.source=jsonl:alpacaeval_teachers.jsonl.gz \\
    --config.feedback.writers.strong.path=alpacaeval_teachers.jsonl.gz \\
    --config.feedback.writers.weak.path=alpacaeval_teachers.jsonl.gz \\
    --config.feedback.writers.davinci.path=alpacaeval_gpt4_preferences.jsonl.gz \\
    --config.feedback.raters.gpt4.path=alpacaeval_gpt4_preferences.jsonl.gz

Both teachers are files: gpt4_0314 and gpt-3.5-turbo-0301. GPT-4 said which it prefers of the weak
one's outputs and text_davinci_003's, and of no other pairs here; those of the student's samples are
labelled by SmolLM2 itself, asked for the more likely letter in both orders. The judge is a reward
model of GPT-4's preferences that saw none of the held-out instructions (both configurations hold
the same ones out). `smollm2_135m` is meant for one accelerator, and a better rater than SmolLM2;
`smollm2_135m_smoke` is cut to a few steps for two CPU cores, so that it can show nothing but that
every part works.
"""

import ml_collections

from pit_jax.configs import chat, common, rlaif

SIZES = chat.SIZES
TEACHERS = "alpacaeval_teachers.jsonl.gz"
ANNOTATED = "alpacaeval_gpt4_preferences.jsonl.gz"


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `rlaif` on AlpacaEval, with a small pretrained model."""
  common.check_size(size, SIZES)
  config = rlaif.get_config("small").unlock()
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.data.source = f"jsonl:{TEACHERS}"
  # The report's `chosen` are the strong teacher's answers.
  config.data.columns = "prompt=instruction,chosen=strong_teacher,rejected=weak_teacher"
  config.data.held_out = 0.3  # as in reward_alpaca, whose model judges
  config.data.max_prompt_length, config.data.max_response_length = 256, 256
  config.data.length_buckets = True
  config.sft.learning_rate = config.dpo.learning_rate = 2e-4
  config.feedback = _feedback()
  config.evaluation.judges = ()
  config.evaluation.reward_model = "models/alpaca/reward"
  config.evaluation.prompts = 175
  study = config.rlaif
  study.critics, study.controls, study.crossover = ("gpt4_or_smollm2",), (), ()
  study.rivals = ("davinci",)
  study.keep = "mean"  # a small model's orders seldom agree; in their mean the place cancels
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _feedback() -> ml_collections.ConfigDict:
  """Returns teachers and raters: GPT-4's labels where they are, SmolLM2's elsewhere."""
  teacher = {"kind": "file", "path": TEACHERS, "prompt": "instruction"}
  return ml_collections.ConfigDict({
    "writers": {
      "weak": {**teacher, "response": "weak_teacher"},
      "strong": {**teacher, "response": "strong_teacher"},
      "davinci": {**teacher, "path": ANNOTATED, "response": "output_1"},
    },
    "raters": {
      "gpt4": {"kind": "annotations", "path": ANNOTATED},
      "smollm2": {"kind": "language_model", "model": "models/smollm2", "base_url": "local",
                  "verdict": "logprob", "tie": 0.0},
      "gpt4_or_smollm2": {"kind": "in_turn", "raters": ("gpt4", "smollm2")},
    },
  })  # fmt: skip


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts the arms to the fewest, and every stage to a few steps of a few short rows."""
  config.rlaif.matched = False
  config.log_every, config.save_every = 2, 20
  config.inference_batch_size = 8
  # For so few tokens, compiling layer by layer takes longer than it saves, and more memory.
  config.model.unroll = False
  config.data.rows = 70
  config.data.validation = 0.2
  config.data.fold_sizes = (1.0, 2.0)  # of a tenth of so few rows nothing would be left to validate
  config.data.max_prompt_length, config.data.max_response_length = 64, 48
  for job in (config.sft, config.dpo):
    job.steps, job.batch_size = 6, 4
    job.evaluate_every = 3
  config.evaluation.prompts = 20
