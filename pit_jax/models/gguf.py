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
DIVISORS = "rope_freqs.weight"  # of the frequencies; not a weight
# Of all models with such scaling; a file holds no more than what comes of them.
LLAMA3 = {"original_length": 8_192, "slow": 1.0, "fast": 4.0}
READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")


class File:
  """A GGUF file; its tensors are `weights.Weights`."""

  def __init__(self, path: str | os.PathLike):
    """Reads the description and what tensors there are, but no tensor.

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
    self._tensors = {_published(tensor.name): tensor for tensor in self._reader.tensors}
    self._divisors = self._tensors.pop(DIVISORS, None)
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
    epsilon = self._of("attention.layer_norm_rms_epsilon", 1e-6)
    return architecture.ModelConfig(
      **said,
      vocabulary=self.shapes["model.embed_tokens.weight"][0],
      kv_heads=self._of("attention.head_count_kv", said["heads"]),
      head_width=self._of("attention.key_length", said["width"] // said["heads"]),
      rope=self._rope(self._of("attention.key_length", said["width"] // said["heads"])),
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

  def _rope(self, head_width: int) -> architecture.Rope:
    """Returns the rotary positions; the file holds what Llama 3 divides its frequencies by."""
    rope = architecture.Rope(theta=float(self._of("rope.freq_base", 10_000.0)))
    kind = self._of("rope.scaling.type", "none")
    if kind == "linear":
      factor = float(self._of("rope.scaling.factor", 1.0))
      return dataclasses.replace(rope, scaling="linear", factor=factor)
    if kind != "none":
      raise ValueError(
        f"{self.name}: rope scaling {kind!r} is not read from GGUF files, only linear and that of "
        "Llama 3; import the model's safetensors"
      )
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
