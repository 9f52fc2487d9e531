"""Learning from pairs of responses of which one was preferred."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.types import Metrics


def bradley_terry_loss(
  chosen: Float[Array, " B"],
  rejected: Float[Array, " B"],
  margins: Float[Array, " B"] | float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the negative log-likelihood that each chosen response beats its rejected one.

  loss = mean_i −log σ(chosen_i − rejected_i − m_i)
  (Ouyang et al. 2022, eq. 1, where m is 0; Touvron et al. 2023, arXiv 2307.09288, eq. 2)

  Args:
    chosen: reward of the preferred response, in nats (a log-odds scale).
    rejected: reward of the other response to the same prompt.
    margins: m, by how much the chosen one is to be ahead, in nats.

  Returns:
    The scalar loss in nats per pair, and metrics over the batch: `loss`, `accuracy` in [0, 1] (a
    tie counts as wrong), `margin` in nats.
  """
  margin = chosen.astype(jnp.float32) - rejected.astype(jnp.float32)
  loss = -jax.nn.log_sigmoid(margin - margins).mean()
  return loss, {"loss": loss, "accuracy": (margin > 0).mean(), "margin": margin.mean()}
