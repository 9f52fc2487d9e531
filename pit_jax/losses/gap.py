"""The order that the gap reward model learns over the four pairings of two responses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.losses import preference
from pit_jax.types import Metrics, PerRow

TERMS = ("wl_ww", "wl_ll", "wl_lw", "ww_lw", "ll_lw")  # term a_b asks for r^a > r^b
DISTANCES = (1.0, 1.0, 2.0, 1.0, 1.0)  # of the two in quality, in that between y_w and y_l


def gap_loss(
  wl: PerRow,
  ww: PerRow,
  ll: PerRow,
  lw: PerRow,
  weights: Float[Array, "5"],
  labels: preference.Labels = preference.AS_LABELLED,
  kept: preference.Regularisation = preference.UNREGULARISED,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the loss that orders the gap rewards of each pair: r^wl ≥ r^ww ≈ r^ll ≥ r^lw.

  r^ab = R_PIT(x, y_a, y_b) is the quality of y_a minus that of y_b, y_w preferred to y_l:

  loss = mean_i −[ c_0 log σ(wl − ww) + c_1 log σ(wl − ll) + c_2 log σ(wl − lw)
                 + c_3 log σ(ww − lw) + c_4 log σ(ll − lw) ]        (Wang et al. 2024, eq. 2)

  No term stands between ww and ll, and only differences count: "no improvement" is wherever the
  rewards of identical pairs lie, which need not be 0.

  Deviation: where people said by how much y_w is better, their margin m is taken off what stands in
  each σ, as in `preference.bradley_terry_loss`; off wl − lw, which is that distance twice, 2 m.
  What is known besides, o, is added there in the same way. A label that may be wrong costs what the
  pair would cost with y_w and y_l exchanged, as likely as it is wrong; and c (ww² + ll²) draws the
  rewards of identical pairs toward 0.

  Deviation: the paper sums the five terms with weight 1; here each has a weight c, in the order
  of TERMS, and a weight of 0 switches its term off. The mean over the batch replaces the sum, and
  counts every pair by a weight of its own.

  Args:
    wl: gap reward of the preferred response over the other one, in nats (a log-odds scale).
    ww: of the preferred response over itself.
    ll: of the other response over itself.
    lw: of the other response over the preferred one.
    weights: c_0 … c_4, at least 0, one per name in TERMS.
    labels: m, the weights of pairs, p and o; see `preference.Labels`.
    kept: ε and c.

  Returns:
    The scalar loss in nats per pair, and metrics over the batch: `loss`; `accuracy`, how often
    wl > lw; `order`, how often the four rewards stand in the wanted order; and the mean rewards
    `gap_wl`, `gap_ww`, `gap_ll`, `gap_lw`.
  """
  wl, ww, ll, lw = (gap.astype(jnp.float32) for gap in (wl, ww, ll, lw))
  gaps = jnp.stack([wl - ww, wl - ll, wl - lw, ww - lw, ll - lw])
  distances = jnp.array(DISTANCES)[:, None]

  def cost(ahead):
    ahead = ahead - distances * labels.margins
    return -(weights[:, None] * jax.nn.log_sigmoid(ahead)).sum(axis=0)

  known = gaps + distances * labels.offsets
  # With y_w and y_l exchanged each term is another one turned round: the last is −(wl − ww).
  losses = preference.in_doubt(cost(known), lambda: cost(-known[::-1]), labels, kept)
  if kept.centring:
    losses = losses + kept.centring * (ww**2 + ll**2)

  # ww and ll are not compared: the loss leaves open which is larger.
  is_ordered = (wl >= ww) & (wl >= ll) & (ww >= lw) & (ll >= lw)
  means = {"loss": losses, "accuracy": wl > lw, "order": is_ordered}
  means |= {"gap_wl": wl, "gap_ww": ww, "gap_ll": ll, "gap_lw": lw}

  counted = labels.weights
  metrics = {name: preference.weighted_mean(values, counted) for name, values in means.items()}
  return metrics["loss"], metrics
