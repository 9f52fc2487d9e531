"""What recipes share that have a chat model learn on prompts of one's own."""

import ml_collections

from pit_jax.configs import common

# `_smoke` is cut to a few steps for two CPU cores.
SIZES = ("smollm2_135m", "smollm2_135m_smoke")
BESIDE_SHAPES = (*common.SIZES, *SIZES)  # of a recipe that has an embedded task too


def shape(size: str) -> str:
  """Returns which of `common.SIZES` the stages of a recipe are set by at one of its sizes."""
  return "small" if size in SIZES else size


def use_model(config: ml_collections.ConfigDict, source: str) -> None:
  """Sets a chat model with adapters, rows of one's own, and a judge from which nobody learns."""
  config.model.base = "models/smollm2"
  config.model.lora.rank = 16
  config.model.lora.alpha = 32.0
  config.data.source = source
  config.data.max_prompt_length, config.data.max_response_length = 512, 384
  config.data.length_buckets = True
  config.evaluation.reward_model = "models/judge"
  config.evaluation.self_refine.play = False


def behind_endpoint(max_tokens: int) -> dict:
  """Returns the section of a writer behind an endpoint, whose model and address are to be set."""
  return {
    "kind": "endpoint", "model": "some-model", "base_url": "", "max_tokens": max_tokens,
    "concurrency": 8, "requests_per_minute": 0.0, "timeout": 60.0,
    "budget_requests": 0, "budget_tokens": 0, "input_price": 0.0, "output_price": 0.0,
  }  # fmt: skip


def shrink(config: ml_collections.ConfigDict, *jobs: ml_collections.ConfigDict) -> None:
  """Cuts the jobs and what is written to a few steps of a few short rows."""
  config.log_every, config.save_every = 2, 20
  config.inference_batch_size = 8
  # For so few tokens, compiling layer by layer takes longer than it saves, and more memory.
  config.model.unroll = False
  # So many that every fold has rows that validate, on which judges find their unit.
  config.data.rows = 48
  config.data.held_out, config.data.validation = 0.2, 0.3
  for job in jobs:
    job.steps, job.batch_size = 4, 4
  config.evaluation.prompts = 8
