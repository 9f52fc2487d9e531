"""Alternate reinforcement and supervised learning on a teacher's scores of sentences (2407.00087).

python launch/train.py --config=configs/ares.py:tiny --workdir=runs/ares

A policy imitates an author. A teacher scores each sentence of its answers, and RL maximises that;
then the teacher corrects sentences that are wrong, and the policy imitates the corrected answers.
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `ares`."""
  config = common.get_config(size)
  config.recipe = "ares"  # the method: a recipe's name, or the path of a file that declares one
  config.data.folds, config.data.fold_sizes = ("sft", "rl"), (1.0, 2.0)
  config.data.prompts_only = ()  # corrections validate on the part of their fold that does
  config.sft = common.sft(size)
  config.correct = common.sft(size)  # as `sft`, of what the teacher corrected
  config.correct.fold = "rl"
  config.correct.learning_rate /= 4  # what RL found is not to be unlearnt
  config.rl = common.rl(config, size)
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
  common.few_prompts(config, size)
  config.frontier.checkpoints = 0
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
