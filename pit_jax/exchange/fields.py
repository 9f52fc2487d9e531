"""Fields of a config.json that say nothing about the network, and may hold anything.

transformers ignores every field that its class of a family does not read. Here a file's fields are
either read, or named below, or refused: a field that nobody knows may describe another network.
"""

import functools
from collections.abc import Mapping
from typing import Any

import transformers

# How transformers 4 and 5 run a model, whatever its family.
RUNNING = {
  "architectures",
  "attn_implementation",
  "auto_map",  # code of the directory, which is never run
  "base_model_pp_plan",
  "base_model_tp_plan",
  "chunk_size_feed_forward",
  "dtype",  # the tensors say their own
  "experts_implementation",
  "finetuning_task",
  "gradient_checkpointing",
  "is_decoder",
  "is_llama_config",
  "keys_to_ignore_at_inference",
  "model_name",
  "name_or_path",
  "prefix",
  "pretraining_tp",  # in how many slices products were once computed
  "return_dict",
  "task_specific_params",
  "tf_legacy_loss",
  "torch_dtype",
  "torchscript",
  "tp_plan",
  "transformers.js_config",
  "trust_remote_code",
  "use_bfloat16",
  "use_flash_attention",
  "use_flash_attention_2",
  "use_flash_attn",
  "use_return_dict",
}
TOKENIZER = {
  "bos_token",
  "chat_template",
  "eos_token",
  "model_max_length",
  "pad_token",
  "padding_side",
  "tokenizer_class",
  "tokenizer_model_max_length",
  "tokenizer_padding_side",
  "truncation_side",
  "unk_token",
}
# How it was trained: nothing of it is left when a model is asked.
LENGTHS = {"max_seq_length", "max_sequence_length", "seq_length"}
TRAINING = {"initializer_range", "use_liger_kernel", *LENGTHS}
PREFIXES = ("_", "unsloth", "axolotl", "neftune", "wandb")  # "_": transformers' own
SUFFIXES = ("dropout", "dropout_prob", "_pdrop", "_token_id", "_token_ids")  # nothing is dropped
MEANINGLESS = RUNNING | TOKENIZER | TRAINING
# Of a network where they hold anything else, and the decoder has no switch for that.
OFF: dict[str, tuple[Any, ...]] = {
  "add_cross_attention": (None, False),
  "cross_attention_hidden_size": (None,),
  "is_encoder_decoder": (None, False),
  "mlp_bias": (None, False),
  "per_layer_config": (None, {}),
  "pruned_heads": (None, {}),
  "quantization_config": (None, {}),
  "tie_encoder_decoder": (None, False),
  "use_bidirectional_attention": (None, False),
}
HINTS = {"quantization_config": "; only unquantised weights are read, or GGUF files"}


def is_meaningless(name: str) -> bool:
  """Returns whether a field says nothing about the network, whatever it holds."""
  if name in MEANINGLESS or name.startswith(PREFIXES) or name.endswith(SUFFIXES):
    return True
  return name in _sampling()


@functools.cache  # not as this file is imported: the class brings PyTorch where that is installed
def _sampling() -> set[str]:
  """Returns the fields of sampling, which older models have in no file of its own."""
  return set(vars(transformers.GenerationConfig()))


def of_network(raw: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
  """Returns the fields of a config.json that describe the network, by those known of its family.

  Raises:
    ValueError: if there are fields that are neither read, nor meaningless, nor off; all are named.
  """
  wrong = [
    f"{name}={raw[name]!r} is not supported, only {allowed[-1]!r}{HINTS.get(name, '')}"
    for name, allowed in OFF.items()
    if raw.get(name, allowed[0]) not in allowed
  ]
  if wrong:
    raise ValueError("; ".join(wrong))
  left = {name: raw[name] for name in raw.keys() - OFF.keys() if not is_meaningless(name)}

  # A switch that is off needs no support.
  unknown = sorted(name for name in left.keys() - known if left[name] not in (None, False))
  if unknown:
    raise ValueError(
      f"{', '.join(unknown)} is no field of {raw['model_type']}; the decoder knows "
      f"{', '.join(sorted(known))}. Remove from the file what says nothing about the network"
    )

  return {name: value for name, value in left.items() if name in known}
