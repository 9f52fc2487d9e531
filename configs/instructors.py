"""Exercises that an instructor writes from a model's errors (arXiv 2407.00497): LE and LEC.

python launch/train.py --config=configs/instructors.py:tiny --workdir=runs/instructors

A target answers problems; a verifier says which answers are wrong; an instructor writes exercises
like the problems that it failed on, with worked answers, and the target is fine-tuned on them; then
again. Arms differ in the problems that the instructor is shown.

On problems of one's own, rows {prompt, chosen, rejected, answer} of which prompt and right answer
alone are read, `smollm2_135m` teaches a chat model, as it is, by a model behind an endpoint, whose
key is OPENAI_API_KEY of the environment. `smollm2_135m_smoke` is cut to a few steps for two CPU
cores, so that it can show nothing but that every part works.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/instructors.py:smollm2_135m --workdir=runs/instructors \\
    --config.model.base=models/smollm2 --config.data.source=jsonl:problems.jsonl \\
    --config.feedback.raters.sound.path=problems.jsonl \\
    --config.feedback.writers.instructor.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.instructor.model=some-model
"""

import ml_collections

from pit_jax.configs import chat, common

SIZES = chat.BESIDE_SHAPES


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `instructors`."""
  common.check_size(size, SIZES)
  shape = chat.shape(size)
  config = common.get_config(shape)
  config.recipe = (
    "instructors"  # the method: a recipe's name, or the path of a file that declares one
  )
  config.temperature = 0.7
  config.data.source = "synthetic:kinds"
  config.data.folds = ("sft", "practice")
  config.data.fold_sizes = (3.0, 5.0)  # what is imitated first, and the training split
  config.data.prompts_only = ()
  config.sft = common.sft(shape)
  config.practice = common.sft(shape)
  config.practice.fold = "practice"  # the training split: whose problems the target answers
  config.instructors = _study()
  config.feedback = _embedded_feedback()
  config.evaluation.judges = ("right",)
  if size == "tiny":
    config.data.rows = 2_800
    config.data.held_out = 0.3
    config.sft.batch_size = config.practice.batch_size = 16
    config.sft.epochs = 3.0
    # With a quarter of the exercises, once each, no arm learns a kind that the target lacks.
    config.instructors.exercises = 1_280
    config.practice.epochs = 2.0
    config.evaluation.prompts = 800
  if size in chat.SIZES:
    _chat(config)
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  # Of `feedback.writers`, whose answers the target imitates first; "": the target is the base.
  study.author = "author"
  # Kinds of the prompts that it imitates, as `classify` calls them; (): all.
  study.taught = ("calls 3", "calls 4", "calls 5")
  # Python function of a prompt's text that returns its kind, by which errors and right answers are
  # counted; "": there is one kind.
  study.classify = "pit_jax.tasks.kinds:kind_of"
  # Of `feedback.raters`, of kind verifier, check or verified, who says which answers are right.
  study.verifier = "sound"
  study.instructor = "instructor"  # of `feedback.writers`, who writes exercises
  # Of `feedback.writers`, another student, whose errors the arm le_shuffled is shown; "": no such
  # arm.
  study.other = "other"
  study.role = (  # what the instructor is told before each problem
    "You are a teacher who writes exercises for one student. Look at the problem and at what the "
    "student made of it, find out what the student cannot do yet, and write new problems that "
    "train exactly that: as hard as the problem, with other facts, and each to be solved by what "
    "it says. Work out the answer of each, step by step, and end it as answers to the problem have "
    "to end. Write nothing but the exercises, each as two lines:\n"
    "Question: the new problem\n"
    "Answer: its worked answer"
  )
  study.rounds = 2  # how often errors are looked for, and exercises written and learnt
  study.exercises = 320  # rows that every round trains on; a few more validate
  study.neighbours = 3  # k, the solved problems nearest to an error that the arm lec shows
  # Form of the final answer that a worked answer has to hold, "number", "choice" or "text"; "": any
  # text is an answer.
  study.form = ""
  study.judge = "right"  # of evaluation.judges, who scores 1 what is answered right, else 0
  study.temperature = 0.7  # of the student's answers to the training split
  study.writing_temperature = 1.0  # of the instructor
  # Share of what the author, the other student or the instructor is asked that may fail.
  study.most_failed = 0.1
  return study


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns who writes and who verifies letters of the embedded task."""
  task = "pit_jax.tasks"
  return ml_collections.ConfigDict({
    "writers": {
      # Works first, so that its letters are right and can be learnt from.
      "author": {"kind": "grammar", "writer": "strong"},
      "instructor": {"kind": "instructor", "right": 0.95},
      # Guesses before it works: as often wrong on problems of any kind.
      "other": {"kind": "grammar", "writer": "hasty"},
    },
    "raters": {
      # No right answer is needed: the answer follows from the working, and that from the question.
      "follows": {"kind": "check", "function": f"{task}.classes:answer_follows"},
      "steps": {"kind": "check", "function": f"{task}.classes:calls_are_facts"},
      "sound": {"kind": "verified", "verifiers": ("follows", "steps")},
      "right": {"kind": "function", "function": f"{task}.kinds:right_answers"},
    },
  })  # fmt: skip


def _chat(config: ml_collections.ConfigDict) -> None:
  """Sets a chat model, a file of problems with their answers, an instructor behind an endpoint."""
  chat.use_model(config, "jsonl:problems.jsonl")
  config.data.folds, config.data.fold_sizes = ("practice",), ()
  config.data.max_prompt_length, config.data.max_response_length = 256, 192
  config.sft.fold = "practice"  # nobody is imitated
  config.practice.learning_rate = 2e-4
  study = config.instructors
  study.author, study.taught, study.other = "", (), ""
  study.classify = ""
  study.form = "number"
  config.feedback = ml_collections.ConfigDict({
    "writers": {"instructor": chat.behind_endpoint(max_tokens=768)},
    "raters": {
      "sound": {"kind": "verifier", "path": "problems.jsonl", "form": "number"},
      # The same of held-out problems, on which nobody is taught; an answer scores 1 or 0.
      "right": {"kind": "verifier", "path": "", "form": "number", "scores": True},
    },
  })  # fmt: skip
  config.feedback.raters.right.path = config.feedback.raters.sound.get_ref("path")  # named once
  config.evaluation.reward_model = ""


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts the one round that is left to a few steps of a few short rows."""
  chat.shrink(config, config.practice)
  config.data.max_prompt_length, config.data.max_response_length = 96, 48
  config.instructors.rounds, config.instructors.exercises = 1, 12
  config.instructors.neighbours = 2
