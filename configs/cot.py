"""Chain-of-thought distillation and DPO (arXiv 2410.16198): short answers, rationales, or both.

python launch/train.py --config=configs/cot.py:tiny --workdir=runs/cot

A policy imitates short answers and a teacher's rationales, told apart by how the prompt ends. Its
own rationales are verified by their answers, and DPO prefers the right to the wrong ones: of whole
rationales, of their first words, or with weights that fall from token to token.

On problems of one's own, rows {prompt, chosen, rejected, answer} of which prompt and right answer
alone are read, `smollm2_135m` has a chat model learn from a model behind an endpoint, whose key is
OPENAI_API_KEY of the environment. The short answers are those of the file, which also says which
rationales are right. `smollm2_135m_smoke` is cut to a few steps for two CPU cores, so that it can
show nothing but that every part works.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/cot.py:smollm2_135m --workdir=runs/cot \\
    --config.model.base=models/smollm2 --config.data.source=jsonl:problems.jsonl \\
    --config.feedback.raters.answer.path=problems.jsonl \\
    --config.feedback.writers.teacher.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.teacher.model=some-model
"""

import ml_collections

from pit_jax.configs import chat, common
from pit_jax.configs import dpo as dpo_config

SIZES = chat.BESIDE_SHAPES


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `cot`."""
  common.check_size(size, SIZES)
  shape = chat.shape(size)
  config = common.get_config(shape)
  config.recipe = "cot"  # the method: a recipe's name, or the path of a file that declares one
  config.data.source = "synthetic:chains"
  config.data.folds, config.data.prompts_only = ("sft", "preference"), ()
  config.data.fold_sizes = (
    1.0,
    2.0,
  )  # sampled prompts cost more than imitated ones, and teach less
  config.sft = common.sft(shape)
  config.dpo = dpo_config.section(shape)
  config.dpo.sft_coefficient = 0.0  # as in the published code; the arm dpo_anchored has one
  config.reward = common.reward(shape)  # R_P, which reranks beside the others
  config.reward.fold = "preference"
  config.cot = _study()
  config.feedback = _embedded_feedback()
  config.evaluation.judges = ("right", "sound")
  if size == "tiny":
    config.data.rows = 4_500
    config.data.held_out = 0.15
    config.data.max_prompt_length = 72
    # After three epochs 19 of 20 rationales are right, which leaves DPO nothing to learn from; the
    # weak base is right by chance alone, whatever it imitates.
    config.sft.epochs = 1.0
    config.evaluation.prompts = 600
  if size in chat.SIZES:
    _chat(config)
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  study.answers = "key"  # of `feedback.writers`, who gives the short answers
  study.teacher = "teacher"  # of `feedback.writers`, who writes rationales
  # What the teacher is asked, of {prompt} and, where it is to be shown it, the short {answer}.
  study.request = "{prompt} The answer is {answer} Step by step:"
  # Of `feedback.raters`, who says whether a final answer is right: of kind verifier, check, or
  # verified. By it rationales are kept, and samples sorted.
  study.verifier = "answer"
  study.short_end = "In short:"  # ends a prompt that wants a short answer
  study.steps_end = "Step by step:"  # ends a prompt that wants a rationale
  study.samples = 4  # rationales that are sampled for each prompt of dpo.fold
  study.temperature = 1.0  # of these, and of the candidates
  study.pairs = 2  # pairs of a right and a wrong rationale of a prompt, at most; no text is in two
  # Words of a rationale that the arm dpo_cut learns from; below 1 a share of them.
  study.cut = 0.5
  study.cut_least = 4  # words that such a share has at least
  # dpo.sft_coefficient of the arm dpo_anchored; 0: there is no such arm.
  study.anchor = 1.0
  study.weights = ("cos",)  # values of dpo.token_weights, each of which has an arm of its own
  study.candidates = 8  # rationales among which rerankers choose, for each held-out prompt
  # Expression that prompts hold which no stage learns from, and which are told of apart; "": none.
  study.unseen = r"call 6\?"
  study.most_failed = 0.1  # share of what a writer is asked that may fail
  return study


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns who writes, verifies and judges in the embedded task's chains."""
  task = "pit_jax.tasks.chains"
  return ml_collections.ConfigDict({
    "writers": {
      "key": {"kind": "function", "function": f"{task}:short_answer"},
      "teacher": {"kind": "reasoner", "wrong": 0.1},
    },
    "raters": {
      "answer": {"kind": "check", "function": f"{task}:is_right"},
      # The same answers, of held-out prompts; and whether every call is right too, which nobody
      # labels by.
      "right": {"kind": "function", "function": f"{task}:right"},
      "sound": {"kind": "function", "function": f"{task}:sound"},
    },
  })  # fmt: skip


def _chat(config: ml_collections.ConfigDict) -> None:
  """Sets a chat model, a file of problems with their answers, and a teacher behind an endpoint."""
  chat.use_model(config, "jsonl:problems.jsonl")
  config.data.max_prompt_length, config.data.max_response_length = 256, 192
  config.sft.learning_rate = config.dpo.learning_rate = config.reward.learning_rate = 2e-4
  config.cot.short_end = "Reply with the answer alone."
  config.cot.steps_end = (
    "Think step by step, in a few short sentences, and begin the last one with: The answer is"
  )
  config.cot.request = (
    "{prompt}\n\nThe right answer is {answer}. Show in a few short sentences, step by step and as "
    "if you did not know it, how to find it. End with this line, and nothing after it:\n"
    "The answer is {answer}"
  )
  config.cot.temperature = 0.7  # at 1 a small model says too much that it does not mean
  config.cot.unseen = ""
  config.feedback = ml_collections.ConfigDict({
    "writers": {
      "key": {"kind": "file", "path": "", "response": "answer"},
      "teacher": chat.behind_endpoint(max_tokens=256),
    },
    "raters": {
      "answer": {"kind": "verifier", "path": "problems.jsonl", "form": "number"},
      # The same of held-out prompts, from which nobody learns; an answer scores 1 or 0.
      "right": {"kind": "verifier", "path": "", "form": "number", "scores": True},
    },
  })  # fmt: skip
  # One file, which is named once.
  path = config.feedback.raters.answer.get_ref("path")
  config.feedback.writers.key.path = config.feedback.raters.right.path = path
  config.evaluation.judges, config.evaluation.reward_model = ("right",), ""


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows, and the arms to the fewest."""
  chat.shrink(config, config.sft, config.dpo, config.reward)
  config.data.max_prompt_length, config.data.max_response_length = 96, 64
  # The model solves one problem of twenty: of many samples some pair right and wrong, and validate.
  config.data.held_out, config.data.validation = 0.12, 0.4
  config.data.fold_sizes = (1.0, 3.0)
  config.cot.samples = 8
  config.cot.weights, config.cot.anchor = (), 0.0
  config.cot.candidates = 4
