"""PIT whose improver is shown language feedback: draft and critique, then a better answer.

python launch/train.py --config=configs/pit_critique.py:tiny --workdir=runs/criticised

As `pit`, and the second stage of the curriculum has drafts with what a critic says of them. Beside
it an improver is trained that never sees a critique.
"""

import ml_collections

from pit_jax.configs import pit, srt


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `pit` with critiques."""
  config = pit.get_config(size).unlock()
  config.curriculum[1].references = ("policy+critique",)
  config.critic = "critic"
  config.uncriticised = True
  config.feedback = ml_collections.ConfigDict({
    "writers": {"critic": {"kind": "corrector", "misses": 0.1, "invents": 0.05, "right": 0.9}},
  })  # fmt: skip
  if size == "tiny":
    srt.use_few_words(config)
    config.data.max_response_length = 48  # five weaknesses and their changes, beside the draft
  return config.lock()
