"""GGUF files, as llama.cpp writes them: the decoder and its tensors, dequantised.

The library `gguf` reads the file and undoes the quantisation; here are only the names.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import gguf
import numpy as np

from pit_jax import lfs
from pit_jax.models import architecture

# general.architecture → the switches that its file does not spell out.
FAMILIES = {"llama": {}, "qwen2": {"qkv_bias": True}, "qwen3": {"qk_norm": True}}
TENSORS = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
}
LAYER = {  # within blk.N. → within model.layers.N.
  "attn_norm.weight": "input_layernorm.weight",
  "attn_q.weight": "self_attn.q_proj.weight",
  "attn_k.weight": "self_attn.k_proj.weight",
  "attn_v.weight": "self_attn.v_proj.weight",
  "attn_q.bias": "self_attn.q_proj.bias",
  "attn_k.bias": "self_attn.k_proj.bias",
  "attn_v.bias": "self_attn.v_proj.bias",
  "attn_q_norm.weight": "self_attn.q_norm.weight",
  "attn_k_norm.weight": "self_attn.k_norm.weight",
  "attn_output.weight": "self_attn.o_proj.weight",
  "ffn_norm.weight": "post_attention_layernorm.weight",
  "ffn_gate.weight": "mlp.gate_proj.weight",
  "ffn_up.weight": "mlp.up_proj.weight",
  "ffn_down.weight": "mlp.down_proj.weight",
}
# Within the architecture, keys that `File.config` makes the decoder of.
READ = {
  "attention.head_count",
  "attention.head_count_kv",
  "attention.key_length",
  "attention.layer_norm_rms_epsilon",
  "attention.sliding_window",
  "attention.value_length",
  "block_count",
  "context_length",
  "embedding_length",
  "feed_forward_length",
  "rope.dimension_count",
  "rope.freq_base",
  "rope.scale_linear",
  "rope.scaling.factor",
  "rope.scaling.type",
  "vocab_size",
}
# Keys that say nothing about the network where it is read from tensors.
MEANINGLESS = {
  "decoder_start_token_id",
  "rope.scaling.finetuned",
  "rope.scaling.original_context_length",  # of YaRN, which is refused by its type
  "tensor_data_layout",
}
# Keys of networks without a switch here, and the values with which they change nothing.
OFF: dict[str, tuple[Any, ...]] = {
  "attention.causal": (True,),
  "attention.clamp_kqv": (0.0,),
  "attention.max_alibi_bias": (0.0,),
  "attention.scale": (0.0,),
  "attn_logit_softcapping": (0.0,),
  "embedding_scale": (0.0, 1.0),
  "expert_count": (0,),
  "expert_used_count": (0,),
  "final_logit_softcapping": (0.0,),
  "logit_scale": (0.0, 1.0),
  "nextn_predict_layers": (0,),
  "pooling_type": (0,),
  "residual_scale": (0.0, 1.0),
  "rope.scaling.attn_factor": (1.0,),
  "use_parallel_residual": (False,),
}
DIVISORS = "rope_freqs.weight"  # of the frequencies; not a weight
# Of all models with such scaling; a file holds no more than what comes of them.
LLAMA3 = {"original_length": 8_192, "slow": 1.0, "fast": 4.0}
READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")


class File:
  """A GGUF file; its tensors are `weights.Weights`."""

  def __init__(self, path: str | os.PathLike):
    """Reads what the file says of itself and its tensors, but no tensor.

    Raises:
      ValueError: if the file cannot be read, or is of an architecture without a row here.
    """
    self.name = str(path)
    lfs.check(path)
    try:
      self._reader = gguf.GGUFReader(pathlib.Path(path))
    except (OSError, ValueError, IndexError) as error:
      raise ValueError(f"{path} is no readable GGUF file: {error}") from error

    self.family = self.field("general.architecture")
    if self.family not in FAMILIES:
      raise ValueError(
        f"{path}: architecture {self.family!r} is not supported in GGUF files; supported are "
        f"{', '.join(FAMILIES)}. Import the model's safetensors directory instead"
      )

    # Other fields tell a file that is something else than one whole language model.
    if (kind := self.field("general.type", "model")) != "model":
      raise ValueError(f"{path}: general.type is {kind!r}, and only whole models are read")
    if (parts := self.field("split.count", 0)) > 1:
      raise ValueError(
        f"{path} is one of split.count={parts} files; join them with llama-gguf-split --merge"
      )

    self._tensors = {_published(tensor.name): tensor for tensor in self._reader.tensors}
    self._divisors = self._tensors.pop(DIVISORS, None)
    self.shapes: dict[str, tuple[int, ...]] = {}
    self.wrong: list[str] = []
    for name, tensor in self._tensors.items():
      # GGUF names the axis that varies fastest first.
      self.shapes[name] = tuple(map(int, reversed(tensor.shape)))
      if (kind := tensor.tensor_type.name) not in READABLE:
        self.wrong.append(f"{name} is of type {kind}; {', '.join(READABLE)} are read")

  def field(self, name: str, default: Any = None) -> Any:
    """Returns a field of the description, or the default."""
    entry = self._reader.fields.get(name)
    return default if entry is None else entry.contents()

  @functools.cached_property
  def config(self) -> architecture.ModelConfig:
    """The decoder that the file describes.

    Raises:
      ValueError: if a field is missing, or says what the decoder has no switch for.
    """
    self._check_keys()
    heads = self._count("attention.head_count")
    width = self._count("embedding_length")
    head_width = self._count("attention.key_length", width // heads)
    epsilon = self._of("attention.layer_norm_rms_epsilon", 1e-6)

    config = architecture.ModelConfig(
      vocabulary=self.shapes["model.embed_tokens.weight"][0],
      width=width,
      layers=self._count("block_count"),
      heads=heads,
      kv_heads=self._count("attention.head_count_kv", heads),
      head_width=head_width,
      hidden=self._count("feed_forward_length"),
      longest=self._count("context_length"),
      rope=self._rope(head_width),
      norm_epsilon=float(str(np.float32(epsilon))),  # the file holds single precision
      tied="lm_head.weight" not in self.shapes,
      window=self._of("attention.sliding_window", 0) if self.family == "llama" else 0,
      **FAMILIES[self.family],
    )

    self._check_sizes(config)
    return config

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor, dequantised to float32."""
    stored = self._tensors[tensor]
    shape = self.shapes[tensor]
    values = gguf.quants.dequantize(stored.data, stored.tensor_type).reshape(shape)

    # Only this family's conversion puts the two halves of a rotated pair side by side; here they
    # lie half a head apart.
    if self.family == "llama" and tensor.endswith(("q_proj.weight", "k_proj.weight")):
      heads = self.config.heads if "q_proj" in tensor else self.config.kv_heads
      return values.reshape(heads, -1, 2, shape[-1]).swapaxes(1, 2).reshape(shape)

    return values

  def _rope(self, head_width: int) -> architecture.Rope:
    """Returns the rotary positions; the file holds what Llama 3 divides its frequencies by."""
    rope = architecture.Rope(theta=float(self._of("rope.freq_base", 10_000.0)))
    # llama.cpp takes a factor without a type for a linear one.
    kind = self._of("rope.scaling.type", "linear")
    factor = float(self._of("rope.scaling.factor", self._of("rope.scale_linear", 0.0)))

    if kind not in ("none", "linear"):
      raise ValueError(
        f"{self.name}: rope scaling {kind!r} is not read from GGUF files, only linear and that of "
        "Llama 3; import the model's safetensors"
      )

    is_stretched = kind == "linear" and factor not in (0.0, 1.0)
    if is_stretched and self._divisors is not None:
      raise ValueError(f"{self.name} has both {DIVISORS} and a linear rope scaling of {factor}")
    if is_stretched:
      return dataclasses.replace(rope, scaling="linear", factor=factor)
    if self._divisors is None:
      return rope
    divisors = np.asarray(self._divisors.data, np.float64)

    scaled = dataclasses.replace(rope, scaling="llama3", factor=float(divisors.max()), **LLAMA3)
    expected = rope.frequencies(head_width) / scaled.frequencies(head_width)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
      raise ValueError(
        f"{self.name}: {DIVISORS} are not those of Llama 3 with {LLAMA3}; import the model's "
        "safetensors"
      )

    return scaled

  def _of(self, name: str, default: Any) -> Any:
    return self.field(f"{self.family}.{name}", default)

  def _count(self, name: str, default: int | None = None) -> int:
    """Returns a count that all layers have in common."""
    value = self._of(name, default)
    values = set(value) if isinstance(value, list) else {value}
    said = f"{self.name}: {self.family}.{name}"
    if None in values:
      raise ValueError(f"{said} is missing")
    if len(values) > 1:
      raise ValueError(f"{said}={value} differs between layers; all are alike here")

    return int(values.pop())

  def _check_keys(self) -> None:
    """Raises a ValueError for keys of the architecture that the decoder has no switch for."""
    wrong = []
    for name, field in self._reader.fields.items():
      key = name.removeprefix(f"{self.family}.")
      if key == name or key in READ | MEANINGLESS:
        continue
      if (value := field.contents()) in OFF.get(key, ()):
        continue
      only = f" (only {' or '.join(map(repr, OFF[key]))})" if key in OFF else ""
      wrong.append(f"{name}={value!r}{only}")

    if wrong:
      raise ValueError(
        f"{self.name}: not supported in GGUF files: {'; '.join(sorted(wrong))}. Import the model's "
        "safetensors directory instead"
      )

  def _check_sizes(self, config: architecture.ModelConfig) -> None:
    """Raises a ValueError for sizes that are not the decoder's."""
    expected = {
      "rope.dimension_count": config.head_width,  # all of a head is rotated
      "attention.value_length": config.head_width,
      "vocab_size": config.vocabulary,
    }
    if self.family != "llama":  # llama.cpp gives these no window; nothing beyond it is as good
      expected["attention.sliding_window"] = 0

    for name, size in expected.items():
      value = self._of(name, size)
      if value != size and not (size == 0 and value >= config.longest):
        said = f"{self.name}: {self.family}.{name}={value}"
        raise ValueError(f"{said} is not supported, only {size} in this model")


def _published(name: str) -> str:
  """Returns the Hugging Face name of a GGUF tensor, or its own where there is none."""
  if name.startswith("blk."):
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{LAYER[rest]}" if rest in LAYER else name

  return TENSORS.get(name, name)
