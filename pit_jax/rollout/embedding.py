"""Prompts as points: the mean of a language model's hidden states over their tokens."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pit_jax import layout
from pit_jax.data import conversations
from pit_jax.models import pure
from pit_jax.rollout import inference
from pit_jax.types import Params


def embeddings(
  asking: inference.Inference, params: Params, questions: Sequence[conversations.Prompt]
) -> Float[np.ndarray, "N D"]:
  """Returns the mean hidden state over the tokens of each question, as the policy is shown it.

  e(x) = Σ_t h_t / |x|        (h the trunk's last, normalised state)

  Args:
    asking: the models of a run.
    params: of the language model.
    questions: what is over-long is cut.
  """
  program = _pooler(asking.language, asking.mesh)
  params = layout.to_devices(params)
  shown = asking.shown("policy", questions)
  return asking.over_rows("reading", lambda batch, _: program(params, batch), shown)


@functools.cache
def _pooler(model: pure.PureModel, mesh: jax.sharding.Mesh) -> Callable:
  """Returns the compiled mean of the hidden states over the tokens of every prompt."""

  def pool(params, prompts):
    hidden = model.apply(params, prompts.tokens, prompts.mask, method="hidden")
    total = jnp.where(prompts.mask[:, :, None], hidden.astype(jnp.float32), 0.0).sum(axis=1)
    return total / jnp.maximum(prompts.mask.sum(axis=1, keepdims=True), 1)

  return jax.jit(layout.on(mesh, pool))
