"""AI feedback against fine-tuning on a better teacher (arXiv 2402.12366), all arms of one base.

python launch/train.py --config=configs/rlaif.py:tiny --workdir=runs/rlaif

A weak and a strong teacher answer one pool of prompts. Policies are fine-tuned on a tenth of the
weak teacher's answers, on all of them, and on the strong teacher's; from the first, DPO goes on
with labels that critics give to its own samples against the weak teacher's answers.
"""

import ml_collections

from pit_jax.configs import common
from pit_jax.configs import dpo as dpo_config


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `rlaif`."""
  config = common.get_config(size)
  config.recipe = "rlaif"  # the method: a recipe's name, or the path of a file that declares one
  config.temperature = 0.7  # of the answers that are compared, as in the paper
  config.data.folds = ("demonstrations", "feedback")
  config.data.fold_sizes = (1.0, 9.0)  # a tenth of the prompts is imitated, the rest is labelled
  config.data.prompts_only = ()
  config.sft = common.sft(size)
  config.sft.fold = "demonstrations"  # the tenth; arms of 100% see the fold of dpo too
  config.sft.epochs = 3.0
  config.sft.select = "best"  # by the loss on the validation part; nothing else chooses a step
  config.sft.evaluate_every = 10
  config.dpo = dpo_config.section(size)
  config.dpo.fold = "feedback"  # whose prompts the critics are asked about
  config.dpo.epochs = 2.0
  config.dpo.select = "best"
  config.dpo.evaluate_every = 40
  config.rlaif = _study()
  config.feedback = _embedded_feedback()
  config.evaluation.judges = ("even",)
  common.few_prompts(config, size)
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  study.teacher = "weak"  # of `feedback.writers`, on whose answers SFT-10 and SFT-100 are trained
  study.strong_teacher = "strong"  # of `feedback.writers`, that which is to be as good as feedback
  # Further teachers on whose answers to all prompts a policy is fine-tuned.
  study.controls = ("strong_answer_first",)
  # Of `feedback.raters`, who label the samples of SFT-10 against its teacher's answers; the first
  # is the critic of the headline, and of the strong teacher's own answers.
  study.critics = ("strong", "weak", "random")
  # Teachers in whose place the weak one is put, one after the other: fine-tuned on a tenth, then
  # DPO on the first critic's labels. How far feedback carries as their support grows.
  study.crossover = ("weak_05", "weak_20", "weak_50")
  # Whether the strong teacher's student is given feedback as well: teacher as good as critic.
  study.matched = True
  # Further writers whose answers to the same prompts are labelled against the teacher's, beside the
  # student's samples: pairs that nobody here sampled, of which others' labels may be there.
  study.rivals = ()
  study.temperature = 1.0  # of the samples that are labelled
  study.top_p = 0.9  # probability of the tokens that these are drawn from
  study.orders = 2  # 2 shows a critic each pair in both orders, 1 the sample first
  study.keep = "agreed"  # "agreed": pairs whose orders agree; "mean": those whose mean decides
  study.most_failed = 0.1  # share of what a teacher or critic is asked that may fail
  return study


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns the teachers and critics of the embedded task."""
  hasty = {"kind": "grammar", "writer": "hasty"}
  critic = {"kind": "critic"}
  return ml_collections.ConfigDict({
    "writers": {
      "weak": dict(hasty),
      "weak_05": {**hasty, "first": 0.05},
      "weak_20": {**hasty, "first": 0.2},
      "weak_50": {**hasty, "first": 0.5},
      "strong": {"kind": "grammar", "writer": "strong"},
      "strong_answer_first": {"kind": "grammar", "writer": "strong_answer_first"},
    },
    "raters": {name: {**critic, "critic": name} for name in ("strong", "weak", "random", "even")},
  })  # fmt: skip
