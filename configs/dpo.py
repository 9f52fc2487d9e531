"""DPO (arXiv 2305.18290) and its kin: a policy from pairs alone, without a reward model or RL.

python launch/train.py --config=configs/dpo.py:tiny --workdir=runs/dpo

On two CPU cores tiny takes two and a half minutes. `arms` is tiny with the baselines that are asked
for side by side, DPO, IPO, KTO, SimPO, ORPO and RLHF, from one fine-tuned policy. `hh` has the same
arms on HH-RLHF with SmolLM2-135M-Instruct and adapters, for one accelerator; `hh_smoke` is cut to a
few steps for two CPU cores, so that it can show nothing but that every part works:

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/dpo.py:hh_smoke --workdir=runs/baselines \\
    --config.model.base=models/smollm2 --config.data.source=hh:hh_harmless.jsonl.gz
"""

import ml_collections

from pit_jax.configs import common

OF_ARMS = {"arms": "tiny", "hh": "small", "hh_smoke": "small"}  # sizes with arms → their shape
SIZES = (*common.SIZES, *OF_ARMS)


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `dpo`."""
  common.check_size(size, SIZES)
  shape = OF_ARMS.get(size, size)
  config = common.get_config(shape)
  config.recipe = "dpo"  # the method: a recipe's name, or the path of a file that declares one
  config.sft = common.sft(shape)
  config.dpo = section(shape)
  # Sections that are trained one after the other from the same fine-tuned policy, and compared:
  # preference optimisation, "dpo" first, and "rl", which is RLHF on the same rows. The sizes arms,
  # hh and hh_smoke have ipo, kto, simpo, orpo and rl.
  config.arms = ("dpo",)
  config.data.folds, config.data.prompts_only = ("sft", "preference"), ()
  if shape == "tiny":
    config.data.rows = 12_000
  _add_arms(config, size)
  if size.startswith("hh"):
    _read_dialogues(config)
  if size == "hh_smoke":
    _shrink(config)
  return config.lock()


def _add_arms(config: ml_collections.ConfigDict, size: str) -> None:
  """Adds a section for each loss beside DPO's, as its paper has it, and RLHF's, if it has arms."""
  if size not in OF_ARMS:
    return
  shape = OF_ARMS[size]
  own = {
    "ipo": {"beta": 0.1},  # of whole responses: a margin of 5 nats
    "kto": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "orpo": {"beta": 0.1, "sft_coefficient": 1.0},
  }
  config.ipo = section(shape)
  config.kto = section(shape)
  config.simpo = section(shape)
  config.orpo = section(shape)
  for name, values in own.items():
    config[name].update({"loss": name, **values})
  config.reward = common.reward(shape)
  config.rl = common.rl(config, shape)
  config.arms = ("dpo", *own, "rl")

  # An independent judge has its rows from a fold of this name.
  config.data.folds = ("sft", "reward")
  for name in (*config.arms, "reward"):
    config[name].fold = "reward"
  config.frontier.checkpoints = 0


def _read_dialogues(config: ml_collections.ConfigDict) -> None:
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.data.source = "hf:Anthropic/hh-rlhf:train"
  config.data.max_prompt_length, config.data.max_response_length = 256, 128
  config.data.judge = 0.5  # an independent judge has as many pairs as the arms
  config.rl.steps = 100
  config.rl.kl_coefficient = 0.1
  config.evaluation.prompts = 512
  for name in ("sft", "reward", *config.arms):
    config[name].learning_rate = 5e-5 if name == "rl" else 2e-4


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows."""
  config.log_every, config.log_every_rl = 2, 1
  config.save_every, config.save_every_rl = 20, 20
  config.inference_batch_size = 8
  # For so few tokens, compiling layer by layer takes longer than it saves, and more memory.
  config.model.unroll = False
  config.data.rows = 150
  config.data.held_out, config.data.validation = 0.2, 0.1
  config.data.max_prompt_length, config.data.max_response_length = 64, 32
  for name in ("sft", "reward", *config.arms):
    config[name].steps = 6
    config[name].batch_size = 4
  config.rl.steps, config.rl.minibatches, config.rl.value_warmup = 3, 2, 1
  config.evaluation.prompts = 20


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
  # How much the tokens of a response count: "all" the same; "cos" and "linear" ever less, from 1
  # for the first to almost 0 for the last, as (1 + cos πt/n)/2 and 1 − t/n.
  job.token_weights = "all"
  if common.is_large(size):
    job.batch_size, job.learning_rate = 128, 5e-7
  return job
