"""The embedded task's second base: it knows the words of principles and of feedback, too.

make base_words   (rebuilds pit_jax/assets/base_words)

As `base`, with one letter in twenty working first, and a quarter of the documents going on with
principles and feedback, drawn at random, after the letter.
"""

import ml_collections

from pit_jax.configs import base


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `base` with further text."""
  config = base.get_config(size).unlock()
  config.words = True
  config.first = 0.05
  config.data.vocabulary = 640
  config.data.max_response_length = 112  # a letter, three principles, feedback
  return config.lock()
