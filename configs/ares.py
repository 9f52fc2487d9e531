"""Alternate reinforcement and supervised learning on a teacher's scores of sentences (2407.00087).

python launch/train.py --config=configs/ares.py:tiny --workdir=runs/ares

A policy imitates an author. A teacher scores each sentence of its answers, and RL maximises that;
then the teacher corrects sentences that are wrong, and the policy imitates the corrected answers.

On prompts of one's own, rows {prompt, chosen, rejected} of which the prompts alone are read,
`smollm2_135m` has a chat model learn from a model behind an endpoint, whose key is OPENAI_API_KEY
of the environment: author, teacher and corrector in one. Any reward model may judge.
`smollm2_135m_smoke` is cut to a few steps for two CPU cores, so that it can show nothing but that
every part works.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/ares.py:smollm2_135m --workdir=runs/ares \\
    --config.model.base=models/smollm2 --config.data.source=jsonl:prompts.jsonl \\
    --config.feedback.writers.teacher.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.teacher.model=some-model \\
    --config.evaluation.reward_model=models/judge
"""

import ml_collections

from pit_jax.configs import chat, common

SIZES = chat.BESIDE_SHAPES


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `ares`."""
  common.check_size(size, SIZES)
  shape = chat.shape(size)
  config = common.get_config(shape)
  config.recipe = "ares"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.fold_sizes = ("sft", "rl"), (1.0, 2.0)
  config.data.prompts_only = ()  # corrections validate on the part of their fold that does
  config.sft = common.sft(shape)
  config.correct = common.sft(shape)  # as `sft`, of what the teacher corrected
  config.correct.fold = "rl"
  config.correct.learning_rate /= 4  # what RL found is not to be unlearnt
  config.rl = common.rl(config, shape)
  config.rl.samples = 4  # as published
  # A nat costs 0.05 of the unit in which a sentence is worth ½ at most. The published 0.0001 keeps
  # a policy near no reference.
  config.rl.kl_coefficient = 0.05
  config.ares = _study()
  config.feedback = ml_collections.ConfigDict({
    "writers": {
      # Some letters work first, so that right answers can be learnt.
      "author": {"kind": "grammar", "writer": "hasty", "first": 0.2},
      "teacher": {"kind": "marker", "noise": 0.1, "invalid": 0.05},
      "corrector": {"kind": "function", "function": "pit_jax.tasks.marking:corrected"},
    },
    "raters": {"even": {"kind": "critic", "critic": "even"}},
  })  # fmt: skip
  config.evaluation.judges = ("even",)
  common.few_prompts(config, shape)
  config.frontier.checkpoints = 0
  if size in chat.SIZES:
    _chat(config)
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  study.author = "author"  # of `feedback.writers`, whose answers are imitated first
  study.teacher = "teacher"  # of `feedback.writers`, who scores sentences
  study.corrector = "corrector"  # of `feedback.writers`, who corrects them
  # What the teacher is asked, of {prompt} and the numbered {sentences}.
  study.score_request = (
    "{prompt}\nScore every sentence of this answer from 0.0 (wrong) over 0.5 (neither, or a start) "
    "to 1.0 (right and of use); one that repeats another gets 0.0. Answer with a line for each, "
    "as in 1: 0.5\n{sentences}"
  )
  # The same, of the corrector.
  study.correct_request = (
    "{prompt}\nCorrect this answer: keep what is right word by word, put right what is wrong, and "
    "leave out what is of no use. Answer with the corrected answer alone.\n{sentences}"
  )
  study.neutral = 0.5  # what is taken off every score, so that a neutral sentence is worth 0
  study.most_failed = 0.1  # share of what author and corrector are asked that may fail
  return study


def _chat(config: ml_collections.ConfigDict) -> None:
  """Sets a chat model, and a model behind an endpoint."""
  chat.use_model(config, "jsonl:prompts.jsonl")
  config.data.max_response_length = 256
  config.sft.learning_rate = 2e-4
  config.correct.learning_rate = 5e-5
  config.rl.learning_rate = 5e-5
  # One model plays all three.
  config.ares.author = config.ares.corrector = config.ares.teacher
  config.feedback = ml_collections.ConfigDict({
    "writers": {"teacher": chat.behind_endpoint(max_tokens=256)},
  })  # fmt: skip
  config.evaluation.judges = ()


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows."""
  chat.shrink(config, config.sft, config.correct)
  config.data.max_prompt_length, config.data.max_response_length = 96, 48
  # Two iterations in each round of the arm that has two, of which one is the value's alone.
  config.rl.steps, config.rl.value_warmup = 4, 1
  config.rl.batch_size, config.rl.minibatches = 4, 2
  config.save_every_rl = 2
