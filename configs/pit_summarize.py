"""PIT on summaries that people compared (Stiennon et al. 2020, arXiv 2009.01325).

python launch/train.py --config=configs/pit_summarize.py:small --workdir=runs/summarize \\
    --config.model.base=DIRECTORY

Source: https://huggingface.co/datasets/openai/summarize_from_feedback, config `comparisons`: posts
of Reddit, two summaries of each, and which one is better. The annotators' confidence becomes the
row's margin, which the losses use with --config.reward.margin_scale and the same of gap_reward.
OpenAI's own files hold the same rows: --config.data.source=jsonl:batch3.json
"""

import ml_collections

from pit_jax.configs import pit


def get_config(size: str = "small") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `pit` on comparisons of summaries."""
  config = pit.get_config(size)
  config.data.source = "hf:openai/summarize_from_feedback/comparisons:train"
  config.data.streaming = True
  config.data.rows = {"tiny": 2_000, "small": 20_000}.get(size)  # None: all of them
  config.data.max_prompt_length = 256 if size == "tiny" else 512  # most posts, whole
  config.data.max_response_length = 48 if size == "tiny" else 64
  return config
