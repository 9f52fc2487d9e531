"""Learning from pairs of responses of which one was preferred."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from pit_jax.types import Metrics, PerRow


def bradley_terry_loss(
  chosen: PerRow, rejected: PerRow, margins: PerRow | float = 0.0, weights: PerRow | float = 1.0
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
  # log_sigmoid stays finite where σ itself is 0 in float32.
  loss = weighted_mean(-jax.nn.log_sigmoid(margin - margins), weights)
  return loss, {
    "loss": loss,
    "accuracy": weighted_mean(margin > 0, weights),
    "margin": weighted_mean(margin, weights),
  }


def sigmoid(difference: PerRow, beta: float) -> PerRow:
  """Returns the DPO loss of each pair, −log σ(β h), in nats (Rafailov et al. 2023, eq. 7).

  Args:
    difference: h = log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l), in nats.
    beta: β > 0, the weight of KL(π ‖ π_ref) against the reward.
  """
  return -jax.nn.log_sigmoid(beta * difference)


def ipo(difference: PerRow, beta: float) -> PerRow:
  """Returns the IPO loss of each pair, (h − 1/(2β))², in squared nats (Azar et al. 2023, eq. 17).

  It is least at a finite h, where that of `sigmoid` falls for ever.

  Args:
    difference: h, as for `sigmoid`; of whole responses, as in the paper. TRL divides each
      log-ratio by the response's tokens: for responses of L tokens its loss of β is this one of
      β / L, divided by L².
    beta: τ of the paper, more than 0.
  """
  return (difference - 1 / (2 * beta)) ** 2


PAIR_LOSSES = {"sigmoid": sigmoid, "ipo": ipo}  # (h, β) → loss of each pair


def dpo_loss(
  chosen: PerRow,
  rejected: PerRow,
  *,
  pair_loss: Callable = sigmoid,
  beta: float,
  label_smoothing: float = 0.0,
  weights: PerRow | float = 1.0,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the loss of preference optimisation without a reward model, from log-ratios.

  loss = Σ_i w_i [ (1 − ε) l(h_i) + ε l(−h_i) ] / Σ_i w_i,  h = chosen − rejected
  (Rafailov et al. 2023, arXiv 2305.18290; ε: conservative DPO, Mitchell 2023)

  Args:
    chosen: log π(y_w | x) − log π_ref(y_w | x) of each preferred response, in nats, summed over its
      tokens.
    rejected: of the other response to the same prompt.
    pair_loss: l, (h, β) → loss of each pair; one of PAIR_LOSSES, or another.
    beta: β > 0; β h is the difference of the rewards that the policy implies.
    label_smoothing: ε in [0, ½), how often a label is taken to be wrong.
    weights: w, how much each pair counts, at least 0.

  Returns:
    The scalar loss, and metrics over the batch, of the same weights: `loss`; `accuracy` in [0, 1],
    how often h > 0; `margin`, β h in nats.
  """
  difference = chosen.astype(jnp.float32) - rejected.astype(jnp.float32)
  losses = (1 - label_smoothing) * pair_loss(difference, beta)
  if label_smoothing:
    losses = losses + label_smoothing * pair_loss(-difference, beta)
  loss = weighted_mean(losses, weights)

  return loss, {
    "loss": loss,
    "accuracy": weighted_mean(difference > 0, weights),
    "margin": beta * weighted_mean(difference, weights),
  }


def weighted_mean(
  values: Num[Array, " B"] | Bool[Array, " B"], weights: PerRow | float
) -> Float[Array, ""]:
  """Returns Σ_i w_i v_i / Σ_i w_i of a batch in float32, which is 0 where no pair counts."""
  weights = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), values.shape)
  total = weights.sum()
  return (weights * values).sum() / jnp.where(total > 0, total, 1.0)
