"""Learning from pairs of responses of which one was preferred."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from pit_jax.types import Metrics


def bradley_terry_loss(
  chosen: Float[Array, " B"],
  rejected: Float[Array, " B"],
  margins: Float[Array, " B"] | float = 0.0,
  weights: Float[Array, " B"] | float = 1.0,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the negative log-likelihood that each chosen response beats its rejected one.

  loss = Σ_i w_i · −log σ(chosen_i − rejected_i − m_i) / Σ_i w_i
  (Ouyang et al. 2022, eq. 1, where m is 0 and w is 1; Touvron et al. 2023, arXiv 2307.09288, eq. 2)

  Args:
    chosen: reward of the preferred response, in nats (a log-odds scale).
    rejected: reward of the other response to the same prompt.
    margins: m, by how much the chosen one is to be ahead, in nats.
    weights: w, how much each pair counts, at least 0.

  Returns:
    The scalar loss in nats per pair, and metrics over the batch, of the same weights: `loss`,
    `accuracy` in [0, 1] (a tie counts as wrong), `margin` in nats.
  """
  margin = chosen.astype(jnp.float32) - rejected.astype(jnp.float32)
  loss = weighted_mean(-jax.nn.log_sigmoid(margin - margins), weights)
  return loss, {
    "loss": loss,
    "accuracy": weighted_mean(margin > 0, weights),
    "margin": weighted_mean(margin, weights),
  }


def weighted_mean(
  values: Num[Array, " B"] | Bool[Array, " B"], weights: Float[Array, " B"] | float
) -> Float[Array, ""]:
  """Returns Σ_i w_i v_i / Σ_i w_i of a batch in float32, which is 0 where no pair counts."""
  weights = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), values.shape)
  total = weights.sum()
  return (weights * values).sum() / jnp.where(total > 0, total, 1.0)
