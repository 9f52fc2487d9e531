"""MultiCritique with MARV (arXiv 2410.15287): several critics, a meta-critic, one merged critique.

python launch/train.py --config=configs/multicritique.py:tiny --workdir=runs/multicritique

A policy's drafts are criticised in units by several critics with different holes; a meta-critic
classes every unit alone; a critic learns what is merged of those accepted. Pairs of critiques are
preferred by severity, MARV keeps those whose preferred critique makes revisions better, and RL
learns from them.

On rows {prompt, chosen, rejected} of one's own, from which R_P is trained, `smollm2_135m` has a
chat model draft as it is and learn from models behind an endpoint, whose key is OPENAI_API_KEY of
the environment; critics are any models there, and so are revisers. Any reward model may judge.
`smollm2_135m_smoke` is cut to a few steps for two CPU cores, so that it can show nothing but that
every part works.

python launch/convert.py import --source=SmolLM2-135M-Instruct.Q4_1.gguf --output=models/smollm2
python launch/train.py --config=configs/multicritique.py:smollm2_135m --workdir=runs/critic \\
    --config.model.base=models/smollm2 --config.data.source=jsonl:preferences.jsonl \\
    --config.feedback.writers.first.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.first.model=some-model \\
    --config.feedback.writers.second.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.second.model=another-model \\
    --config.feedback.writers.meta.base_url=http://localhost:8000/v1 \\
    --config.feedback.writers.meta.model=some-model \\
    --config.evaluation.reward_model=models/judge
"""

import ml_collections

from pit_jax.configs import chat, common

SIZES = chat.BESIDE_SHAPES


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `multicritique`."""
  common.check_size(size, SIZES)
  shape = chat.shape(size)
  config = common.get_config(shape)
  # The method: a recipe's name, or the path of a file that declares one.
  config.recipe = "multicritique"
  config.data.folds = ("sft", "reward", "tuning", "preference", "rl")
  config.sft = common.sft(shape)
  config.reward = common.reward(shape)  # of R_P, which scores revisions
  config.tuning = common.sft(shape)  # of critics
  config.tuning.fold = "tuning"  # whose prompts are drafted, criticised and learnt
  config.critic_reward = common.reward(shape)  # of reward models of critiques
  config.critic_reward.fold = "preference"  # whose drafts two critics criticise
  config.critic_reward.focal = 2.0
  config.rl = common.rl(config, shape)
  config.units = _units()
  config.grades = _grades()
  config.revision = _revision()
  config.multicritique = _study()
  config.feedback = _embedded_feedback()
  # Models learn to write whole critiques.
  config.data.max_response_length = max(config.data.max_response_length, config.units.max_tokens)
  if size == "tiny":
    _shorten(config)
  if size in chat.SIZES:
    _chat(config)
  if size.endswith("_smoke"):
    _shrink(config)
  return config.lock()


def _units() -> ml_collections.ConfigDict:
  units = ml_collections.ConfigDict()
  # What a unit is: {place} first, then {flaw}, {severity} and {suggestion}, some of them, in order.
  units.template = "Place: {place}. Flaw: {flaw}. Severity: {severity}. Change: {suggestion}"
  units.none = "No flaws."  # what is said where there is none
  units.lowest, units.highest = 1, 5  # of a severity; a unit with another one is lost
  units.request = (  # what the user says after a draft; {form} is the template, with … in it
    "List the flaws of your last reply, one a line and the worst first, each with its place, how "
    "severe it is from 1 to 5, and what to write instead. If there is none, say: No flaws. Use "
    "exactly this form:\n\n{form}"
  )
  # What is shown where there is no chat template; {reference} is the draft.
  units.plain = "Question: {prompt}\nDraft: {reference}\nFlaws:"
  units.max_tokens = 384  # of a model's own critique
  return units


def _grades() -> ml_collections.ConfigDict:
  grades = ml_collections.ConfigDict()
  grades.template = "Quality: {score}"  # what a meta-critic replies, with the one slot {score}
  grades.lowest, grades.highest = 1, 7  # of a grade; a unit with another one has none
  grades.accepted = 4  # grade from which on a unit is accepted
  grades.request = (  # what the user says after a unit; {form} is the template, with … in it
    "Is there such a flaw, is it told rightly, and would the change mend it? Grade this one remark "
    "from 1 (there is no such flaw) to 7 (right and useful). Use exactly this form:\n\n{form}"
  )
  # What is shown where there is no chat template: {reference} is the draft, {unit} the unit.
  grades.plain = "Question: {prompt}\nDraft: {reference}\nFlaw: {unit}\nGrade:"
  return grades


def _revision() -> ml_collections.ConfigDict:
  revision = ml_collections.ConfigDict()
  revision.request = (  # what the user says to a reviser after a draft and its critique
    "Write a better reply to what I asked for first, as these remarks say, and change nothing "
    "else. Answer with the reply alone."
  )
  # What is shown where there is no chat template: {reference} is the draft.
  revision.plain = "Question: {prompt}\nDraft: {reference}\nFlaws: {critique}\nBetter:"
  revision.samples = 4  # revisions of each reviser with each critique
  revision.temperature = 1.0  # of revisions
  # By how much the mean score of revisions made from the preferred critique has to be higher, in
  # deviations of R_P, for MARV to keep a pair; more than.
  revision.margin = 0.0
  return revision


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  # Of `feedback.writers`, who criticise: two or more, whose critiques are compared and merged.
  study.critics = ("first", "second", "third", "fourth")
  study.meta = "meta"  # of `feedback.writers`, who grades every unit alone
  # Of `feedback.writers`, who revise a draft after a critique; the first one revises held-out
  # drafts, too.
  study.revisers = ("careful", "careless")
  # Of `feedback.writers`, whom the policy that writes the drafts imitates; "": it is the base.
  study.author = "weak"
  study.temperature = 1.0  # of drafts
  study.feedback_temperature = 0.0  # of critiques: 0, the likeliest
  study.reinforced = True  # whether RL learns from pairs of critiques
  # Whether critics are trained on each critic alone, and MARV is played with a reward model of
  # random labels and with revisers that see critiques of other drafts.
  study.controls = True
  study.most_failed = 0.1  # share of what a writer is asked that may fail
  return study


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns who writes about letters of the embedded task: no two critics have one hole."""
  holes = ("answer", "working", "greeting", "tone")
  names = ("first", "second", "third", "fourth")
  finders = {
    name: {"kind": "finder", "blind": hole, "misses": 0.1, "invents": 0.1, "noise": 1.0}
    for name, hole in zip(names, holes, strict=True)
  }
  return ml_collections.ConfigDict({
    "writers": {
      "weak": {"kind": "grammar", "writer": "hasty", "first": 0.1},
      **finders,
      "meta": {"kind": "checker", "accepts": 0.9, "believes": 0.15},
      "careful": {"kind": "reviser", "follows": 0.9, "right": 0.9},
      "careless": {"kind": "reviser", "follows": 0.7, "right": 0.8},
    },
  })  # fmt: skip


def _shorten(config: ml_collections.ConfigDict) -> None:
  """Sets what the embedded task takes: few words, and rows enough to learn what they mean."""
  config.model.base = "embedded_words"  # which knows the words of feedback
  # A check fails in one way alone, so that its name says the flaw.
  config.units.template = "Weak: {place}. Score {severity}. Change: {suggestion}"
  config.units.none = "Weak: none."
  config.units.max_tokens = 80  # five units
  config.data.max_response_length = 80
  config.data.length_buckets = True  # critiques are three times as long as letters
  config.data.rows = 2_400
  config.data.held_out = 0.12
  config.data.fold_sizes = (1.0, 1.5, 1.6, 1.5, 0.6)
  # Packed rows are of one width, of which a program is compiled once for all critics.
  for job in (config.sft, config.tuning):
    job.packing, job.packed_length, job.batch_size = True, 192, 8
  config.reward.batch_size, config.reward.epochs = 16, 2.0
  # The base has seen the words of feedback in no order with letters: what they mean it learns here,
  # at the rate of salmon:tiny.
  config.tuning.epochs, config.tuning.learning_rate = 2.5, 2e-3
  config.critic_reward.batch_size = 16
  config.rl.steps, config.rl.batch_size = 9, 64
  config.evaluation.prompts = 256


def _chat(config: ml_collections.ConfigDict) -> None:
  """Sets a chat model, which writes the drafts as it is, and writers behind endpoints."""
  chat.use_model(config, "jsonl:preferences.jsonl")
  config.data.folds = ("reward", "tuning", "preference", "rl")
  config.sft.fold = "tuning"  # nobody is imitated
  for job in (config.reward, config.tuning, config.critic_reward):
    job.learning_rate = 2e-4
  config.rl.learning_rate = 5e-5
  # Units are merged, and counted once, where their places are the same words.
  config.units.request = (
    "List the flaws of your last reply, one a line and the worst first. The place of a flaw is the "
    "first three words of its sentence, as they stand there; its severity is a number from 1 to 5. "
    "If there is none, say: No flaws. Use exactly this form:\n\n{form}"
  )
  config.multicritique.author = ""
  config.multicritique.critics = ("first", "second")
  config.multicritique.revisers = ("first", "second")
  model = chat.behind_endpoint(max_tokens=768)
  config.feedback = ml_collections.ConfigDict({
    "writers": {name: dict(model) for name in ("first", "second", "meta")},
  })  # fmt: skip


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Cuts every stage to a few steps of a few short rows, and the models to the fewest."""
  jobs = (config.reward, config.tuning, config.critic_reward)
  chat.shrink(config, *jobs)
  for job in jobs:  # nine stages, of prompts that hold a draft and what is said of it
    job.steps, job.batch_size = 2, 2
  # Two drafts of three are criticised in pairs, of which MARV has to keep some that validate.
  config.data.rows, config.data.held_out, config.data.validation = 72, 0.12, 0.3
  config.data.fold_sizes = (1.5, 1.5, 6.0, 1.0)
  config.data.max_prompt_length, config.data.max_response_length = 96, 64
  config.units.max_tokens = 64
  config.rl.steps, config.rl.value_warmup = 2, 1
  config.rl.batch_size, config.rl.minibatches = 2, 1
  config.save_every_rl = 2
  config.revision.samples = 1
  config.multicritique.controls = False
  config.frontier.checkpoints = 0
