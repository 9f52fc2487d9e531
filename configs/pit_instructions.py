"""PIT with a pretrained model on instructions that a program checks: gold that nothing trained on.

make instructions        (rows of SmolLM2-135M-Instruct's own answers; fetches the model)
python launch/train.py --config=configs/pit_instructions.py:smollm2_135m --workdir=runs/pit \\
    --config.model.base=models/smollm2

The judge `program` is that by which preferences were drawn, and no model sees what it says;
`readable` says what no constraint asks for, so that answers which heed constraints alone show.
"""

import ml_collections

from pit_jax.configs import chat, common, pit_hh

SIZES = chat.SIZES


def get_config(size: str = "smollm2_135m") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `pit` on instructions, with a small pretrained model."""
  common.check_size(size, SIZES)
  config = pit_hh.get_config(size).unlock()
  config.data.source = "jsonl:runs/instructions/instructions.jsonl"
  config.data.max_prompt_length, config.data.max_response_length = 160, 96
  config.data.held_out = 0.2
  config.feedback = _feedback()
  config.evaluation.judges = ("program", "readable")
  if size.endswith("_smoke"):
    config.data.max_response_length = 48
  return config.lock()


def _feedback() -> ml_collections.ConfigDict:
  """Returns who judges."""
  task = "pit_jax.tasks.instructions"
  return ml_collections.ConfigDict({
    "raters": {
      "program": {"kind": "function", "function": f"{task}:golds"},
      "readable": {"kind": "function", "function": f"{task}:readable"},
    },
  })  # fmt: skip
