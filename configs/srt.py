"""Self-refinement tuning (arXiv 2406.07168): a model learns to criticise and refine its answers.

python launch/train.py --config=configs/srt.py:tiny --workdir=runs/srt

A policy's drafts are criticised and refined by a teacher; a model learns to write feedback and then
the refinement; and DPO prefers its own refinements to its drafts where its own second score does.
"""

import ml_collections

from pit_jax.configs import common
from pit_jax.configs import dpo as dpo_config


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `srt`."""
  config = common.get_config(size)
  config.recipe = "srt"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.prompts_only = ("sft", "tuning", "preference"), ()
  config.sft = common.sft(size)
  config.tuning = common.sft(size)  # stage 1: two rows of every draft
  config.tuning.fold = "tuning"  # whose prompts are drafted, criticised and learnt
  config.dpo = dpo_config.section(size)  # stage 2, on prompts of its own
  config.critique = common.critique()
  config.srt = _study()
  config.feedback = _embedded_feedback()
  # The model learns to write whole critiques.
  longest = max(config.data.max_response_length, config.critique.max_tokens)
  config.data.max_response_length = longest
  if size == "tiny":
    _shorten(config)
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  srt = ml_collections.ConfigDict()
  # Of `feedback.writers`, who criticises the drafts of stage 1: the embedded task's corrector, a
  # model behind an endpoint, a file of critiques. It is asked once, and all at once.
  srt.teacher = "teacher"
  # Of `feedback.writers`, whom the policy that writes the drafts imitates; "": it is the base.
  srt.author = "weak"
  srt.temperature = 1.0  # of drafts, the teacher's and the model's own
  # Of critiques and refinements, the model's own and in the evaluation: 0, the likeliest.
  srt.feedback_temperature = 0.0
  srt.direct = True  # whether stage 1 learns x → better answer, too
  # Whether stage 2 learns only from refinements that the model's second score puts above the draft.
  srt.filtered = True
  # Whether further models are trained: in stage 1 those with parts of the feedback or with that on
  # other drafts, in stage 2 imitation, and DPO over other drafts.
  srt.controls = True
  srt.most_failed = 0.1  # share of what teacher or author is asked that may fail
  return srt


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns the author of the drafts and the teacher of the embedded task."""
  return ml_collections.ConfigDict({
    "writers": {
      # A tenth of the letters works first, so that a better way to answer is within reach.
      "weak": {"kind": "grammar", "writer": "hasty", "first": 0.1},
      "teacher": {"kind": "corrector", "misses": 0.1, "invents": 0.05, "right": 0.9},
    },
  })  # fmt: skip


def _shorten(config: ml_collections.ConfigDict) -> None:
  """Sets what the embedded task takes: few words, and rows enough to learn what they mean."""
  config.model.base = "embedded_words"  # which knows the words of feedback
  config.critique.template = "Weak: {weaknesses}. Score {score}. Change: {changes} Better: {answer}"
  config.critique.lowest, config.critique.highest = 0, 8
  config.critique.max_tokens = 80  # five weaknesses, their changes, and a letter
  config.data.max_response_length = 80
  config.data.length_buckets = True  # critiques are three times as long as letters
  config.data.rows = 3_600
  config.data.held_out = 0.15
  config.data.fold_sizes = (1.0, 3.0, 2.0)  # most of the prompts teach critiques
  config.sft.batch_size = config.tuning.batch_size = 16
  # The base has seen the words of feedback in no order with letters: what they mean it learns here.
  config.tuning.epochs = 2.0
  config.evaluation.prompts = 512
