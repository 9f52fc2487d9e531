"""What training keeps of each layer's activations, and what it computes again on the way back."""

from collections.abc import Callable

import jax
from flax import nnx

from pit_jax.models import architecture

ATTENDED = "attended"  # the name of attention's outputs, which a policy may keep
POLICIES: dict[str, Callable] = {
  # The layer's input alone is kept: the least memory, and one forward more.
  "full": jax.checkpoint_policies.nothing_saveable,
  # Products with weights are kept; what lies between them is cheap.
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  # Attention's outputs are kept, which are as wide as the input and dear where texts are long.
  "attention": jax.checkpoint_policies.save_only_these_names(ATTENDED),
}
WANTED = ("auto", *architecture.REMATS)  # what a configuration may ask for


def choose(wanted: str, platform: str) -> str:
  """Returns how layers are trained, one of `architecture.REMATS`.

  On a CPU, whose memory is large beside its speed, "auto" keeps the products; elsewhere it keeps
  the inputs of layers alone, and `pit plan --suggest` finds what else fits.

  Raises:
    ValueError: there is no such choice.
  """
  if wanted not in WANTED:
    raise ValueError(f"model.remat={wanted!r} is not known; use one of {', '.join(WANTED)}")
  if wanted != "auto":
    return wanted
  return "dots" if platform == "cpu" else "full"


def layer(function: Callable, kind: str) -> Callable:
  """Returns a layer's function, whose gradient keeps what the kind says."""
  return function if kind == "none" else nnx.remat(function, policy=POLICIES[kind])
