"""GGUF files, as llama.cpp writes them: the decoder and its tensors, dequantised.

The library `gguf` reads the file and undoes the quantisation; here are only the names.
"""

import functools
import os
import pathlib
from typing import Any

import gguf
import numpy as np

from pit_jax.models import architecture

FAMILIES = {  # general.architecture → the switches that its file does not spell out
  "llama": {},
  "qwen2": {"qkv_bias": True},
  "qwen3": {"qk_norm": True},
}
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
READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")


class File:
  """A GGUF file; its tensors are `weights.Weights`."""

  def __init__(self, path: str | os.PathLike):
    """Reads the description and what tensors there are, but no tensor.

    Raises:
      ValueError: if the file cannot be read, or is of an architecture without a row here.
    """
    self.name = str(path)
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
    self._tensors = {_published(tensor.name): tensor for tensor in self._reader.tensors}
    self.shapes = {
      name: tuple(map(int, reversed(tensor.shape))) for name, tensor in self._tensors.items()
    }
    self.wrong = [
      f"{name} is of type {tensor.tensor_type.name}; {', '.join(READABLE)} are read"
      for name, tensor in self._tensors.items()
      if tensor.tensor_type.name not in READABLE
    ]

  def field(self, name: str, default: Any = None) -> Any:
    """Returns a field of the description, or the default."""
    found = self._reader.fields.get(name)
    return default if found is None else found.contents()

  @functools.cached_property
  def config(self) -> architecture.ModelConfig:
    """The decoder that the file describes.

    Raises:
      ValueError: if a field is missing, or says what the decoder has no switch for.
    """
    wanted = {
      "layers": "block_count",
      "width": "embedding_length",
      "hidden": "feed_forward_length",
      "heads": "attention.head_count",
      "longest": "context_length",
    }
    said = {ours: self.field(f"{self.family}.{theirs}") for ours, theirs in wanted.items()}
    missing = [wanted[ours] for ours, value in said.items() if value is None]
    if missing:
      raise ValueError(f"{self.name}: {self.family}.{', '.join(missing)} is missing")
    if "rope_freqs.weight" in self.shapes or self._of("rope.scaling.type", "none") != "none":
      raise ValueError(
        f"{self.name}: rope scaling is not read from GGUF files; import the model's safetensors"
      )
    epsilon = self._of("attention.layer_norm_rms_epsilon", 1e-6)
    return architecture.ModelConfig(
      **said,
      vocabulary=self.shapes["model.embed_tokens.weight"][0],
      kv_heads=self._of("attention.head_count_kv", said["heads"]),
      head_width=self._of("attention.key_length", said["width"] // said["heads"]),
      rope=architecture.Rope(theta=float(self._of("rope.freq_base", 10_000.0))),
      norm_epsilon=float(str(np.float32(epsilon))),  # the file holds single precision
      tied="lm_head.weight" not in self.shapes,
      window=self._of("attention.sliding_window", 0),
      **FAMILIES[self.family],
    )

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor, dequantised to float32."""
    found = self._tensors[tensor]
    values = gguf.quants.dequantize(found.data, found.tensor_type)
    values = values.reshape(self.shapes[tensor])
    if self.family == "llama" and tensor.endswith(("q_proj.weight", "k_proj.weight")):
      heads = self.config.heads if "q_proj" in tensor else self.config.kv_heads
      return _pairs_apart(values, heads)
    return values

  def _of(self, name: str, default: Any) -> Any:
    return self.field(f"{self.family}.{name}", default)


def _published(name: str) -> str:
  """Returns the Hugging Face name of a GGUF tensor, or its own where there is none."""
  if name.startswith("blk."):
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{LAYER[rest]}" if rest in LAYER else name
  return TENSORS.get(name, name)


def _pairs_apart(weight: np.ndarray, heads: int) -> np.ndarray:
  """Moves the two halves of each rotated pair from side by side to half a head apart."""
  paired = weight.reshape(heads, -1, 2, weight.shape[-1])
  return paired.swapaxes(1, 2).reshape(weight.shape)
