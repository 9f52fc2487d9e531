"""The embedded task's weak base: it knows how letters are written, and cannot follow a chain yet.

make base_weak   (rebuilds pit_jax/assets/base_weak)

As `base`, but a fifth of its steps on single letters, and none on documents.
"""

import ml_collections

from pit_jax.configs import base


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `base` for a model that is stopped early."""
  config = base.get_config(size).unlock()
  config.letters.steps = 250
  del config.documents
  config.required = 0.0  # nothing has to be right
  return config.lock()
