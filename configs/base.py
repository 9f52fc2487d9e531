"""The embedded task's base model: a language model of plain letters, no preferences, no scores.

make base        (rebuilds pit_jax/assets/base)
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `base`."""
  config = common.get_config(size)
  config.recipe = "base"  # the method: a recipe's name, or the path of a file that declares one
  config.save_every = 1_000
  config.log_every = 100
  config.model.base = "none"
  config.data.rows = 60_000  # questions, each with two letters
  config.data.vocabulary = 512
  config.data.max_response_length = 64  # two letters
  # Single letters first, then documents of one letter or of two, in no order.
  config.letters = _job(steps=1_200, learning_rate=2e-3)
  config.documents = _job(steps=500, learning_rate=1e-3)
  config.first = 0.0  # share of letters whose working comes first
  config.words = False  # whether half of the second letters give way to principles and feedback
  config.test_questions = 500  # that the finished base is asked
  config.required = 0.95  # share of workings, and of remarks, that must be right greedily
  return config.lock()


def _job(steps: int, learning_rate: float) -> ml_collections.ConfigDict:
  job = common.supervised("sft", "sft", epochs=0.0, learning_rate=learning_rate)
  job.steps = steps
  job.packing = False  # several documents per row
  job.packed_length = 0  # tokens of a packed row; 0: a prompt and a response of most tokens
  return job
