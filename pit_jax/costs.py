"""FLOPs and bytes of training and generation in closed form, and the peaks of devices.

The costs are those of the mathematics: what is computed twice to save memory, or on padding, is
not work. So a share of the peak is model FLOP utilisation (Chowdhery et al. 2022, app. B).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax.models import architecture, pure
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one call asks for: FLOPs (floating-point operations) and bytes read; 0: not known."""

  flops: float
  bytes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Peak:
  """What one device does at most, and the bytes it has."""

  flops: float  # dense bfloat16 operations per second
  bytes: float  # of its memory, per second
  memory: int  # bytes it has
  link: float  # bytes per second that it sends on a ring of devices: both ways of a torus' axis


GIB = 2**30
# Data sheets of the makers; a TPU's links are those that Austin et al. 2025 measured ("How to scale
# your model"), and the memory of v4 and later is what their compiler lets programs have. The names
# are the start of what JAX calls the device. A device is a chip, but of TPU7x half of one, whose
# other half has the same coordinates and shares its links.
PEAKS = {
  "NVIDIA A100-SXM4-40GB": Peak(312e12, 1.555e12, 40 * GIB, 300e9),
  "NVIDIA A100-SXM4-80GB": Peak(312e12, 2.039e12, 80 * GIB, 300e9),
  "NVIDIA A100-PCIE-40GB": Peak(312e12, 1.555e12, 40 * GIB, 32e9),
  "NVIDIA A100 80GB PCIe": Peak(312e12, 1.935e12, 80 * GIB, 32e9),
  "NVIDIA H100 80GB HBM3": Peak(989.4e12, 3.35e12, 80 * GIB, 450e9),
  "NVIDIA H100 PCIe": Peak(756e12, 2.0e12, 80 * GIB, 64e9),
  "NVIDIA H200": Peak(989.4e12, 4.8e12, 141 * GIB, 450e9),
  "TPU v4": Peak(275e12, 1.228e12, int(30.75 * GIB), 90e9),
  "TPU v5 lite": Peak(197e12, 0.819e12, int(15.75 * GIB), 90e9),
  "TPU v5e": Peak(197e12, 0.819e12, int(15.75 * GIB), 90e9),
  "TPU v5p": Peak(459e12, 2.765e12, int(95.74 * GIB), 180e9),
  "TPU v5": Peak(459e12, 2.765e12, int(95.74 * GIB), 180e9),
  "TPU v6 lite": Peak(918e12, 1.64e12, int(31.25 * GIB), 180e9),
  "TPU v6e": Peak(918e12, 1.64e12, int(31.25 * GIB), 180e9),
  "TPU7x": Peak(2307e12 / 2, 7.38e12 / 2, int(94.75 * GIB), 90e9),
}


def peak(kind: str) -> Peak | None:
  """Returns the peaks of a kind of device, by its longest known beginning; None is not known."""
  names = [name for name in PEAKS if kind.startswith(name)]
  return PEAKS[max(names, key=len)] if names else None


def count_chips(devices: Iterable[Any]) -> int:
  """Returns on how many chips some devices are; those of one chip have the same coordinates."""

  def place(device):
    return getattr(device, "slice_index", None), tuple(getattr(device, "coords", (device.id,)))

  return len(set(map(place, devices)))


def shares(cost: Cost | None, seconds: float, peak: Peak | None) -> dict[str, float | None]:
  """Returns which share of a device's peaks a call reached, None where something is not known."""
  is_known = cost is not None and peak is not None
  return {
    "mfu": cost.flops / seconds / peak.flops if is_known else None,
    "bandwidth": cost.bytes / seconds / peak.bytes if is_known and cost.bytes else None,
  }


def multiplied(config: architecture.ModelConfig, params: Params) -> int:
  """Returns how many parameters every token is multiplied with, N of 2N operations per token.

  A table of embeddings is looked up and not multiplied, unless it is the head as well.
  """
  return sum(leaf.size for leaf in _multiplied(config, params))


def _multiplied(config: architecture.ModelConfig, params: Params) -> list[Any]:
  is_head = config.tied and "head" not in params
  unread = () if is_head else ("trunk.embedding",)
  leaves = pure.named(params).items()
  return jax.tree.leaves([leaf for name, leaf in leaves if name not in unread])


def training(
  model: pure.PureModel, params: Params, tokens: int, models: int = 1, reads: int = 0
) -> Cost:
  """Returns the cost of training: per token 2 operations for each parameter forward, 2 for the
  gradient of what it multiplies and, where it is trained, 2 for its own.

  So many models of this size, given with all its parameters, are trained on so many tokens; such
  models read them `reads` times besides, forward only.
  """
  count = trained = multiplied(model.config, params)
  if model.config.adapter is not None:  # which embeddings never have
    trained = sum(leaf.size for leaf in jax.tree.leaves(pure.split(model, params)[0]))
  step = 6 * trained + 4 * (count - trained)
  return Cost(flops=float(tokens) * (models * step + reads * 2 * count))


def generation(
  config: architecture.ModelConfig, params: Params, prompts: Sequence[int], responses: Sequence[int]
) -> Cost:
  """Returns the cost of generating: each step reads all weights and the KV cache of every row.

  Parameters are given as sampling reads them, since their own bytes are what is read; of each
  prompt and response how many tokens it has.
  """
  prompts = np.asarray(prompts)
  responses = np.asarray(responses)
  count = multiplied(config, params)

  width = config.kv_heads * config.head_width * jnp.dtype(config.dtype).itemsize
  cached = 2 * config.layers * width  # bytes of keys and values of one token

  # Step t of a row (the first follows from the prompt) sees its prompt and t tokens.
  seen = (responses - 1) * prompts + responses * (responses - 1) / 2
  weights = sum(leaf.size * leaf.dtype.itemsize for leaf in _multiplied(config, params))
  # A row's last token is sampled and read by no step, hence the − 1.
  return Cost(
    flops=2.0 * count * float((prompts + responses - 1).sum()),
    bytes=float(responses.max()) * weights + cached * float(seen.sum()),
  )
