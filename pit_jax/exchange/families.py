"""Published families of models: their config.json to the decoder's switches, and back.

A family is a row of switches, not a model of its own. transformers reads and completes the file
(old spellings, defaults); what it holds beyond the switches is refused by name.
"""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import transformers
from huggingface_hub import errors as hub_errors

from pit_jax import lfs
from pit_jax.exchange import directories, fields, ropes
from pit_jax.models import architecture

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}  # → ours
SPELLED = {  # ours → what every family's file calls it
  "vocabulary": "vocab_size",
  "width": "hidden_size",
  "layers": "num_hidden_layers",
  "heads": "num_attention_heads",
  "hidden": "intermediate_size",
  "tied": "tie_word_embeddings",
  "norm_epsilon": "rms_norm_eps",
  "longest": "max_position_embeddings",
}
LAYERS = {"full_attention": False, "sliding_attention": True}  # → has it a window?


def read(directory: str | os.PathLike) -> architecture.ModelConfig:
  """Returns the decoder that DIRECTORY/config.json describes, in float32.

  Raises:
    ValueError: if there is no such file, or it names an architecture, a field or a value that the
      decoder has no switch for; the message lists what is supported.
  """
  path = pathlib.Path(directory) / "config.json"
  lfs.check(path)
  try:
    config = _parse(path)
    switches = FAMILIES[config.model_type][1]
    return architecture.ModelConfig(**_shared(config) | switches(config))
  except hub_errors.StrictDataclassError as error:
    raise ValueError(f"{path}: {error.__cause__ or error}") from error
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from error


def _parse(path: pathlib.Path) -> "transformers.PreTrainedConfig":
  """Returns a file as transformers completes it, of what says nothing about the network bare."""
  raw = directories.read_object(path)
  family = raw.get("model_type")
  if family not in FAMILIES:
    raise ValueError(f"model_type {family!r} is not supported; supported are {', '.join(FAMILIES)}")
  published = _published_class(family)
  read_fields = set(published().to_dict()) | LEGACY | (GEMMA3 if family == "gemma3_text" else set())

  return published(**fields.of_network(raw, read_fields))


def write(config: architecture.ModelConfig, **more: Any) -> "transformers.PreTrainedConfig":
  """Returns the file of the family that has a decoder's switches, for `save_pretrained`.

  `more` are further fields: token ids, architectures, labels.

  Raises:
    ValueError: if no family has these switches together.
  """
  family = _family(config)
  published, switches = _published_class(family), FAMILIES[family][1]
  try:
    written = published(**_published(config, published), **more)
  except hub_errors.StrictDataclassError as error:
    raise ValueError(f"{family} cannot be such a model: {error.__cause__ or error}") from error

  unwritten = {name: getattr(config, name) for name in ("dtype", "remat", "unroll", "attention")}
  # Read back: a family without a field for a switch drops it without a word.
  reread = architecture.ModelConfig(**_shared(written) | switches(written), **unwritten)
  if reread != config:
    wrong = [name for name, value in vars(config).items() if vars(reread)[name] != value]
    raise ValueError(
      f"the nearest family is {family}, which has no such {', '.join(wrong)}; "
      "change the model, or add its family to exchange/families.py"
    )

  return written


def _published_class(family: str) -> "type[transformers.PreTrainedConfig]":
  """Returns transformers' class of a family's config.json."""
  return getattr(transformers, FAMILIES[family][0])


def _family(config: architecture.ModelConfig) -> str:
  if config.post_norms:
    return "gemma3_text" if config.qk_norm else "gemma2"
  if config.qk_norm:
    return "qwen3"
  if config.qkv_bias and not config.output_bias:
    return "qwen2"

  return "mistral" if config.window else "llama"


# Fields that transformers reads though its classes do not declare them, many of older files.
OLD_ROPE = {"partial_rotary_factor", "rope_scaling", "rope_theta"}
LEGACY = {"head_dim", "hidden_act", "num_labels", *OLD_ROPE}
GEMMA3 = {"rope_local_base_freq", "sliding_window_pattern"}


def _shared(config: "transformers.PreTrainedConfig") -> dict[str, Any]:
  """Returns the switches that all families spell alike."""
  act = getattr(config, "hidden_activation", None) or config.hidden_act
  if act not in ACTIVATIONS:
    supported = " and ".join(ACTIVATIONS)
    raise ValueError(f"activation {act!r} is not supported; supported are {supported}")
  heads = config.num_attention_heads
  return {ours: getattr(config, theirs) for ours, theirs in SPELLED.items()} | {
    "kv_heads": config.num_key_value_heads or heads,
    # Older files name no width of a head: the heads then share the model's.
    "head_width": getattr(config, "head_dim", None) or config.hidden_size // heads,
    "activation": ACTIVATIONS[act],
  }


def _published(config: architecture.ModelConfig, published: type) -> dict[str, Any]:
  """Returns the fields of a family's file, as far as the family has them."""
  rope = ropes.write(config.rope)
  kinds = {has: kind for kind, has in LAYERS.items()}
  if config.local_rope is not None:
    rope = {"full_attention": rope, "sliding_attention": ropes.write(config.local_rope)}
  act = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation)

  values = {theirs: getattr(config, ours) for ours, theirs in SPELLED.items()} | {
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_width,
    "hidden_act": act,
    "hidden_activation": act,
    "rope_parameters": rope,
    "attention_bias": config.output_bias,
    "sliding_window": config.window or None,
    "use_sliding_window": config.window > 0,
    "layer_types": [kinds[has] for has in config.windows],
    # Files have the width whose power of −½ scales the scores, a whole number.
    "query_pre_attn_scalar": round((config.attention_scale or 1) ** -2),
    "attn_logit_softcapping": config.attention_cap or None,
    "final_logit_softcapping": config.logit_cap or None,
  }

  if not config.attention_scale:  # a family that has the field needs a number
    del values["query_pre_attn_scalar"]
  # The fields of a family are those of which its class has defaults.
  return {name: values[name] for name in values.keys() & set(published().to_dict())}


def _windows(config) -> dict[str, Any]:
  """Returns the switches of families that list what each layer sees."""
  unknown = sorted(set(config.layer_types) - set(LAYERS))
  if unknown:
    raise ValueError(f"layer_types {', '.join(unknown)} is not supported; only {', '.join(LAYERS)}")
  windowed = tuple(LAYERS[kind] for kind in config.layer_types)
  return {"window": config.sliding_window, "windowed": windowed} if any(windowed) else {}


def _llama(config) -> dict[str, Any]:
  bias = config.attention_bias
  return {"rope": ropes.read(config.rope_parameters), "qkv_bias": bias, "output_bias": bias}


def _mistral(config) -> dict[str, Any]:
  return {"rope": ropes.read(config.rope_parameters), "window": config.sliding_window or 0}


def _qwen2(config) -> dict[str, Any]:
  return {"rope": ropes.read(config.rope_parameters), "qkv_bias": True, **_windows(config)}


def _qwen3(config) -> dict[str, Any]:
  return {**_llama(config), "qk_norm": True, **_windows(config)}


def _gemma(config) -> dict[str, Any]:
  return {
    "post_norms": True,
    "norm_offset": 1.0,
    "embedding_scale": math.sqrt(config.hidden_size),
    "attention_scale": config.query_pre_attn_scalar**-0.5,
    "logit_cap": config.final_logit_softcapping or 0.0,
    "qkv_bias": config.attention_bias,
    "output_bias": config.attention_bias,
    **_windows(config),
  }


def _gemma2(config) -> dict[str, Any]:
  cap = config.attn_logit_softcapping or 0.0
  return {**_gemma(config), "rope": ropes.read(config.rope_parameters), "attention_cap": cap}


def _gemma3(config) -> dict[str, Any]:
  if config.attn_logit_softcapping:
    raise ValueError("attn_logit_softcapping is not supported in gemma3_text; it has QK norms")
  wide, near = (ropes.read(config.rope_parameters[kind]) for kind in LAYERS)
  return {**_gemma(config), "rope": wide, "local_rope": near, "qk_norm": True}


# What a family is called in files → transformers' class, imported when it is asked for; switches.
FAMILIES: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
  "llama": ("LlamaConfig", _llama),
  "mistral": ("MistralConfig", _mistral),
  "qwen2": ("Qwen2Config", _qwen2),
  "qwen3": ("Qwen3Config", _qwen3),
  "gemma2": ("Gemma2Config", _gemma2),
  "gemma3_text": ("Gemma3TextConfig", _gemma3),
}


def class_name(config: "transformers.PreTrainedConfig", *, is_scalar: bool) -> str:
  """Returns the name of transformers' class for such a model."""
  stem = type(config).__name__.removesuffix("Config")
  if is_scalar:
    return f"{stem}ForSequenceClassification"
  return f"{stem.removesuffix('Text')}ForCausalLM"  # Gemma 3's is called without it


def is_classifier(directory: str | os.PathLike) -> bool:
  """Returns whether DIRECTORY/config.json names a sequence classifier.

  Raises:
    ValueError: the file holds no JSON object.
  """
  raw = directories.read_object(pathlib.Path(directory) / "config.json", f"{directory}: ")
  return any(name.endswith("ForSequenceClassification") for name in raw.get("architectures") or ())
