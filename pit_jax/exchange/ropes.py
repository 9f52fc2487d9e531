"""Rotary positions as published files describe them (`rope_parameters`), to ours and back."""

from collections.abc import Mapping
from typing import Any

from pit_jax.models import architecture

LONGER = {"factor": "factor", "original_max_position_embeddings": "original_length"}
KINDS = {  # rope_type → its fields in the file → ours
  "default": {},
  "linear": {"factor": "factor"},
  "llama3": LONGER | {"low_freq_factor": "slow", "high_freq_factor": "fast"},
  "yarn": LONGER | {"beta_slow": "slow", "beta_fast": "fast", "attention_factor": "sharpness"},
}


def read(parameters: Mapping[str, Any]) -> architecture.Rope:
  """Returns the rotary positions that a file's rope_parameters describe.

  Raises:
    ValueError: if they are of a kind, or have a field, that the decoder does not know.
  """
  values = {name: value for name, value in parameters.items() if value is not None}
  kind = values.pop("rope_type", "default")
  theta = values.pop("rope_theta")

  # An older name of rope_type, which may stand beside it.
  values.pop("type", None)
  allowed = KINDS.get(kind)
  if allowed is None:
    raise ValueError(f"rope_type {kind!r} is not supported; supported are {', '.join(KINDS)}")
  if values.pop("partial_rotary_factor", 1.0) != 1.0:
    raise ValueError("partial_rotary_factor is not supported; all of a head is rotated")
  if values.pop("truncate", True) is not True:
    raise ValueError("truncate=False is not supported in rope_parameters")

  unknown = sorted(set(values) - set(allowed))
  if unknown:
    raise ValueError(f"rope_parameters: {', '.join(unknown)} is not supported for {kind!r}")

  # Yarn's bounds have defaults of their own.
  chosen = {"slow": 1.0, "fast": 32.0} if kind == "yarn" else {}
  chosen |= {allowed[name]: value for name, value in values.items()}
  return architecture.Rope(
    theta=float(theta), scaling="none" if kind == "default" else kind, **chosen
  )


def write(rope: architecture.Rope) -> dict[str, Any]:
  """Returns the rope_parameters of a file."""
  kind = "default" if rope.scaling == "none" else rope.scaling
  values = {name: getattr(rope, attribute) for name, attribute in KINDS[kind].items()}
  # A sharpness of 0 is yarn's own, which a file leaves out.
  values = {name: value for name, value in values.items() if name != "attention_factor" or value}
  return {"rope_type": kind, "rope_theta": rope.theta, **values}
