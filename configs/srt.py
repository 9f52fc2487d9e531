"""Self-refinement tuning (arXiv 2406.07168): a model learns to criticise and refine its answers.

python launch/train.py --config=configs/srt.py:tiny --workdir=runs/srt

A policy's drafts are criticised and refined by a teacher; a model learns to write feedback and then
the refinement; and DPO prefers its own refinements to its drafts where its own second score does.

On prompts of one's own, rows {prompt, chosen, rejected} of which the prompts alone are trained on,
`smollm2_135m` has a chat model learn from a model behind an endpoint, whose key is OPENAI_API_KEY
of the environment; any reward model may judge. `smollm2_135m_smoke` is cut to a few steps for two
CPU cores, so that it can show nothing but that every part works.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/srt.py:smollm2_135m --workdir=runs/srt \\
    --config.model.base=models/smollm2 --config.data.source=jsonl:prompts.jsonl \\
    --config.feedback.writers.teacher.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.teacher.model=some-model \\
    --config.evaluation.reward_model=models/judge
"""

import ml_collections

from pit_jax.configs import chat, common
from pit_jax.configs import dpo as dpo_config

SIZES = chat.BESIDE_SHAPES


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `srt`."""
  common.check_size(size, SIZES)
  shape = chat.shape(size)
  config = common.get_config(shape)
  config.recipe = "srt"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.prompts_only = ("sft", "tuning", "preference"), ()
  config.sft = common.sft(shape)
  config.tuning = common.sft(shape)  # stage 1: two rows of every draft
  config.tuning.fold = "tuning"  # whose prompts are drafted, criticised and learnt
  config.dpo = dpo_config.section(shape)  # stage 2, on prompts of its own
  # Those of PIT's improver, where srt.improver asks for it: R_PIT learns that refinements are
  # better than their drafts, and RL answers the prompts of stage 2.
  config.gap_reward = common.gap_reward(shape)
  config.gap_reward.fold = config.tuning.fold
  config.rl = common.rl(config, shape)
  config.rl.fold = config.dpo.fold
  config.critique = critique()
  config.srt = _study()
  config.feedback = _embedded_feedback()
  # The model learns to write whole critiques.
  longest = max(config.data.max_response_length, config.critique.max_tokens)
  config.data.max_response_length = longest
  if size == "tiny":
    _shorten(config)
  if size in chat.SIZES:
    _chat(config)
  if size.endswith("_smoke"):
    _shrink(config)
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
  # Whether PIT's improver is trained as well, on the same refinements without feedback.
  srt.improver = False
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


def critique() -> ml_collections.ConfigDict:
  """Returns the section of how critiques are asked for and written, in a chat model's words."""
  critique = ml_collections.ConfigDict()
  # What a critique is: {weaknesses}, {score}, {changes} and {answer}, some of them, in this order.
  critique.template = (
    "Weaknesses: {weaknesses}\nScore: {score}\nChanges: {changes}\nBetter answer: {answer}"
  )
  critique.lowest, critique.highest = 1, 10  # of a score; others are no critique
  # What the user says after a draft; {form} is the template, with … in its slots.
  critique.request = (
    "Look critically at your last reply. Say what is weak in it (none, if nothing is), give it a "
    "score from {lowest} to {highest}, say what to change, and write a better reply to what I "
    "asked for. Use exactly this form:\n\n{form}"
  )
  # What is shown where there is no chat template; {reference} is the draft.
  critique.plain = "Question: {prompt}\nDraft: {reference}\nFeedback:"
  critique.max_tokens = 384  # of a model's own critique with its better answer
  return critique


def use_few_words(config: ml_collections.ConfigDict) -> None:
  """Sets the form of critiques of the embedded task, and the base that knows its words."""
  config.model.base = "embedded_words"
  config.critique.template = "Weak: {weaknesses}. Score {score}. Change: {changes} Better: {answer}"
  config.critique.lowest, config.critique.highest = 0, 8
  config.critique.max_tokens = 80  # five weaknesses, their changes, and a letter


def _shorten(config: ml_collections.ConfigDict) -> None:
  """Sets what the embedded task takes: few words, and rows enough to learn what they mean."""
  use_few_words(config)
  config.data.max_response_length = 80
  config.data.length_buckets = True  # critiques are three times as long as letters
  config.data.rows = 2_600
  config.data.held_out = 0.15
  config.data.fold_sizes = (1.0, 3.0, 2.0)  # most of the prompts teach critiques
  config.sft.batch_size = 16
  # Packed rows are of one width, of which a program is compiled once for all arms; most hold a
  # critique and a letter.
  config.tuning.packing, config.tuning.packed_length, config.tuning.batch_size = True, 224, 8
  # The base has seen the words of feedback in no order with letters: what they mean it learns here.
  config.tuning.epochs = 2.0
  config.gap_reward.epochs = 1.5
  # As pit:tiny's improver, in both stages of its curriculum together.
  config.rl.steps, config.rl.learning_rate, config.rl.kl_coefficient = 28, 5e-4, 0.15
  config.evaluation.prompts = 384


def _chat(config: ml_collections.ConfigDict) -> None:
  """Sets a chat model, which writes the drafts as it is, and a teacher behind an endpoint."""
  chat.use_model(config, "jsonl:prompts.jsonl")
  config.data.folds = ("tuning", "preference")
  config.sft.fold = "tuning"  # nobody is imitated
  config.tuning.learning_rate = config.dpo.learning_rate = 2e-4
  config.gap_reward.learning_rate, config.rl.learning_rate = 2e-4, 5e-5
  config.srt.author = ""
  config.feedback = ml_collections.ConfigDict({
    "writers": {"teacher": chat.behind_endpoint(max_tokens=768)},
  })  # fmt: skip


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows, and the models to the fewest."""
  chat.shrink(config, config.tuning, config.dpo, config.gap_reward, config.rl)
  config.rl.minibatches, config.rl.value_warmup, config.save_every_rl = 1, 1, 2
  config.data.max_prompt_length, config.data.max_response_length = 96, 96
  config.critique.max_tokens = 96
  config.srt.controls = False
  config.srt.filtered = False  # a score that four steps taught passes too few
