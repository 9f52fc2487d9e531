"""Learning from pairs of responses of which one was preferred."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from pit_jax.types import Mask, Metrics, Number, PerRow, PerToken

CERTAIN = 1e-6  # nats per token below which a response counts as certain
REDUCTIONS = ("mean", "sum")  # over the tokens of a response that is imitated
EVERY = "all"  # the schedule by which every token counts the same


@dataclasses.dataclass(frozen=True)
class Labels:
  """What is known of a batch of labelled pairs beside which response was chosen.

  Attributes:
    margins: m, by how much the chosen response is to be ahead, in nats.
    weights: w, how much each pair counts, at least 0.
    probabilities: p, how likely the chosen response is the better one, in [0, 1].
    offsets: o, what something else than the reward already says for the chosen one, in nats.
  """

  margins: PerRow | float = 0.0
  weights: PerRow | float = 1.0
  probabilities: PerRow | float = 1.0
  offsets: PerRow | float = 0.0


@dataclasses.dataclass(frozen=True)
class Regularisation:
  """What holds reward models back from what pairs say.

  Attributes:
    label_smoothing: ε in [0, ½), how often a label is taken to be wrong.
    centring: c ≥ 0, the weight of what draws rewards toward 0, per squared nat.
    focal: γ ≥ 0, how much less pairs count that the model is sure of already; see `ease`.
  """

  label_smoothing: float = 0.0
  centring: float = 0.0
  focal: float = 0.0


AS_LABELLED = Labels()
UNREGULARISED = Regularisation()


def doubt(labels: Labels, kept: Regularisation) -> PerRow | float:
  """Returns how likely each label is wrong, 1 − p', where p' = (1 − ε) p + ε (1 − p)."""
  wrong = 1.0 - labels.probabilities
  return wrong + kept.label_smoothing * (1.0 - 2.0 * wrong)


def in_doubt(
  losses: PerRow, turned: Callable[[], PerRow], labels: Labels, kept: Regularisation
) -> PerRow:
  """Returns the expected loss of pairs whose labels may be wrong, (1 − q) l + q l'.

  Args:
    losses: l, as labelled.
    turned: returns l', as if the other response had been chosen; not asked where labels are sure.
    labels: with the probabilities that make q; see `doubt`.
    kept: with ε.
  """
  wrong = doubt(labels, kept)
  if isinstance(wrong, float) and wrong == 0.0:
    return losses
  return (1.0 - wrong) * losses + wrong * turned()


def ease(ahead: PerRow, gamma: float) -> PerRow:
  """Returns (1 − 2·max(0, σ(z) − ½))^γ of each pair, by which the focal ranking loss multiplies.

  It is 1 where a pair is undecided or ordered wrongly, and falls to 0 as the model gets sure (Cai
  et al. 2024, arXiv 2403.17297, eq. 1, with γ = 2; the gradient passes through it).

  Args:
    ahead: z, by how much the chosen response is ahead, in nats.
    gamma: γ ≥ 0; 0 makes it 1 everywhere.
  """
  # 1 − 2 max(0, σ(z) − ½) = min(1, 2 σ(−z)), as a logarithm: of powers below 1 the gradient at 0
  # would be infinite.
  return jnp.exp(gamma * jnp.minimum(0.0, jnp.log(2.0) + jax.nn.log_sigmoid(-ahead)))


def bradley_terry_loss(
  chosen: PerRow,
  rejected: PerRow,
  labels: Labels = AS_LABELLED,
  kept: Regularisation = UNREGULARISED,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the negative log-likelihood that each chosen response beats its rejected one.

  loss = Σ_i w_i [(1 − q_i) l(h_i − m_i) + q_i l(−h_i − m_i) + c (r_i + r'_i)²] / Σ_i w_i

  where l(z) = −log σ(z), of a focal one times `ease`(z), h = d + o, d = r − r' is the difference of
  the two rewards, and q is the `doubt` about the label
  (Ouyang et al. 2022, eq. 1, where q, o, m and c are 0 and w is 1; m: Touvron et al. 2023, arXiv
  2307.09288, eq. 2; c: Eisenstein et al. 2023, arXiv 2312.09244, and TRL's
  `center_rewards_coefficient`; o, as a bias product: Clark et al. 2019, arXiv 1909.03683)

  Args:
    chosen: r, reward of the preferred response, in nats (a log-odds scale).
    rejected: r', reward of the other response to the same prompt.
    labels: m, w, p and o.
    kept: ε, c and γ.

  Returns:
    The scalar loss in nats per pair, and metrics over the batch, of the same weights: `loss`,
    `accuracy` in [0, 1] (a tie counts as wrong), `margin` in nats.
  """
  chosen, rejected = chosen.astype(jnp.float32), rejected.astype(jnp.float32)
  margin = chosen - rejected

  def cost(ahead):
    # log_sigmoid stays finite where σ itself is 0 in float32.
    losses = -jax.nn.log_sigmoid(ahead - labels.margins)
    return losses * ease(ahead - labels.margins, kept.focal) if kept.focal else losses

  known = margin + labels.offsets
  losses = in_doubt(cost(known), lambda: cost(-known), labels, kept)
  if kept.centring:
    losses = losses + kept.centring * (chosen + rejected) ** 2

  loss = weighted_mean(losses, labels.weights)
  return loss, {
    "loss": loss,
    "accuracy": weighted_mean(margin > 0, labels.weights),
    "margin": weighted_mean(margin, labels.weights),
  }


def sigmoid(difference: PerRow, beta: float) -> PerRow:
  """Returns the DPO loss of each pair, −log σ(β h), in nats (Rafailov et al. 2023, eq. 7).

  Args:
    difference: h = s(y_w) − s(y_l), of the scores of two responses, in nats.
    beta: β > 0, the weight of KL(π ‖ π_ref) against the reward.
  """
  return -jax.nn.log_sigmoid(beta * difference)


def robust(difference: PerRow, beta: float) -> PerRow:
  """Returns −log σ(β h) / β of each pair, whose gradient at h = 0 is ½ whatever β is.

  With labels of which a share is taken to be wrong it is the loss of noise in the code of Sharma et
  al. 2024 (arXiv 2402.12366): [−(1 − ε) log σ(β h) − ε log σ(−β h)] / β. What TRL calls "robust"
  is another one, unbiased under flipped labels, (1 − 2ε)⁻¹ [(1 − ε) l(h) − ε l(−h)].
  """
  return sigmoid(difference, beta) / beta


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


def hinge(difference: PerRow, beta: float) -> PerRow:
  """Returns max(0, 1 − β h) of each pair (Zhao et al. 2023, arXiv 2305.10425)."""
  return jnp.maximum(1 - beta * difference, 0.0)


def kto(advantage: PerRow, beta: float) -> PerRow:
  """Returns the KTO loss of each response, 1 − σ(β u), in [0, 1] (Ethayarajh et al. 2024).

  Args:
    advantage: u = s(y) − z of a desirable response, z − s(y) of an undesirable one, in nats.
    beta: β > 0: the larger it is, the sooner a response is taken to be good or bad enough.
  """
  return jax.nn.sigmoid(-beta * advantage)


def odds_ratio(difference: PerRow, beta: float) -> PerRow:
  """Returns the odds ratio term of ORPO, −λ log σ(h) of each pair (Hong et al. 2024, eq. 7).

  Args:
    difference: h, the logarithm of the ratio of the two responses' odds.
    beta: λ > 0, the term's weight beside imitation, which TRL calls β as well.
  """
  return -beta * jax.nn.log_sigmoid(difference)


def whole(logratios: PerRow, tokens: Num[Array, " B"]) -> PerRow:
  """Returns log π(y)/π_ref(y) itself, the score of DPO: β times it is the reward that π implies."""
  return logratios


def per_token(logratios: PerRow, tokens: Num[Array, " B"]) -> PerRow:
  """Returns the mean over a response's tokens, the score of SimPO (Meng et al. 2024)."""
  # A response without tokens would be 0 / 0, and its gradient NaN.
  return logratios / jnp.maximum(tokens, 1)


def log_odds(logratios: PerRow, tokens: Num[Array, " B"]) -> PerRow:
  """Returns log p/(1 − p) at p = π(y)^(1/|y|), the score of ORPO (Hong et al. 2024)."""
  # Where a response is certain its odds are infinite, and so is their gradient.
  mean = jnp.minimum(per_token(logratios, tokens), -CERTAIN)
  return mean - jax.nn.log1mexp(-mean)


def token_weights(mask: Mask, schedule: str) -> PerToken:
  """Returns how much each token of a response counts, in [0, 1], and 0 on padding.

  all: 1      cos: (1 + cos(π t / n)) / 2      linear: (n − t) / n

  for token t = 0 … n − 1 of a response of n tokens, its end included: what a rationale says first
  counts most (published code of Zhang et al. 2024, arXiv 2410.16198, which counts words there).

  Args:
    mask: which response tokens are real.
    schedule: a name of SCHEDULES.
  """
  sizes = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
  passed = jnp.arange(mask.shape[1]) / sizes
  return jnp.where(mask, SCHEDULES[schedule](passed), 0.0)


SCHEDULES: dict[str, Callable[[Float[Array, "B R"]], Float[Array, "B R"]]] = {
  EVERY: jnp.ones_like,
  "cos": lambda passed: (1 + jnp.cos(jnp.pi * passed)) / 2,
  "linear": lambda passed: 1 - passed,
}


@dataclasses.dataclass(frozen=True)
class Loss:
  """A loss of preference optimisation: what a response scores, and what the scores cost.

  Attributes:
    cost: (h, β) → the loss of each pair, Float[B]; h is the difference of the scores of y_w and
      y_l. Of an unpaired loss: (u, β) → that of each response.
    score: (log π(y | x) − log π_ref(y | x) in nats, tokens of y) → s(y), Float[B].
    has_reference: whether there is a π_ref; else log π_ref is 0.
    is_paired: whether the two responses are compared with each other; else each with z, the
      policy's KL to the reference, and which of them belong to one prompt says nothing.
    needs: options that have to be above 0, without which it is another loss.
  """

  cost: Callable[[PerRow, float], PerRow]
  score: Callable[[PerRow, Num[Array, " B"]], PerRow] = whole
  has_reference: bool = True
  is_paired: bool = True
  needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Options:
  """How a loss of preference optimisation is taken.

  Attributes:
    beta: β > 0; see the losses.
    label_smoothing: ε in [0, ½), how often a label is taken to be wrong.
    gamma: γ ≥ 0, by how much β h is to be ahead, in nats: the target margin of SimPO.
    desirable_weight: λ_D ≥ 0 of KTO, how much each preferred response counts.
    undesirable_weight: λ_U ≥ 0 of KTO, how much each other response counts.
    reference_free: log π_ref is 0 although the loss has a reference.
    importance_correction: each pair's loss is multiplied by π(y_l | x) / π_ref(y_l | x), which has
      no gradient: for pairs whose y_l the reference sampled it is then a loss over samples of π.
    sft_coefficient: α ≥ 0, the weight of the negative log-likelihood of y_w beside the loss.
    sft_reduction: one of REDUCTIONS, over the tokens of y_w.
    token_weights: a name of SCHEDULES: log π(y) and log π_ref(y) of the loss are sums over tokens
      of which each counts so much, and |y| is the sum of these; the other term takes all tokens.
  """

  beta: float
  label_smoothing: float = 0.0
  gamma: float = 0.0
  desirable_weight: float = 1.0
  undesirable_weight: float = 1.0
  reference_free: bool = False
  importance_correction: bool = False
  sft_coefficient: float = 0.0
  sft_reduction: str = "mean"
  token_weights: str = EVERY


def has_reference(loss: Loss, options: Options) -> bool:
  """Returns whether the loss, so taken, compares the policy with a reference."""
  return loss.has_reference and not options.reference_free


def dpo_loss(
  chosen: PerRow,
  rejected: PerRow,
  *,
  loss: Loss,
  options: Options,
  kl: Number = 0.0,
  corrections: PerRow | float = 1.0,
  weights: PerRow | float = 1.0,
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the loss of preference optimisation without a reward model, from scores of responses.

  paired:    Σ_i w_i c_i [ (1 − ε) l(h_i − γ/β) + ε l(−h_i − γ/β) ] / Σ_i w_i,  h = s(y_w) − s(y_l)
  unpaired:  Σ_i w_i [ λ_D l(s(y_w,i) − z) + λ_U l(z − s(y_l,i)) ] / (2 Σ_i w_i)
  (DPO: Rafailov et al. 2023, arXiv 2305.18290; ε: conservative DPO, Mitchell 2023; γ: SimPO, Meng
  et al. 2024, arXiv 2405.14734; unpaired: KTO, Ethayarajh et al. 2024, arXiv 2402.01306; ORPO:
  Hong et al. 2024, arXiv 2403.07691)

  Args:
    chosen: s(y_w), the score of each preferred response, as `loss.score` makes it, in nats.
    rejected: s(y_l) of the other response to the same prompt.
    loss: one of PAIR_LOSSES, or another.
    options: β, ε, γ, λ_D and λ_U.
    kl: z ≥ 0 of an unpaired loss, in nats; it has no gradient.
    corrections: c, by which a paired loss is multiplied; it has no gradient.
    weights: w, how much each pair counts, at least 0.

  Returns:
    The scalar loss, and metrics over the batch, of the same weights: `loss`; `accuracy` in [0, 1],
    how often h > 0; `margin`, β h in nats; of an unpaired loss `kl`, z.
  """
  chosen = chosen.astype(jnp.float32)
  rejected = rejected.astype(jnp.float32)
  difference = chosen - rejected
  if loss.is_paired:
    losses = jax.lax.stop_gradient(corrections) * _of_pairs(difference, loss, options)
  else:
    z = jax.lax.stop_gradient(kl)
    losses = options.desirable_weight * loss.cost(chosen - z, options.beta)
    losses = (losses + options.undesirable_weight * loss.cost(z - rejected, options.beta)) / 2

  total = weighted_mean(losses, weights)
  metrics = {
    "loss": total,
    "accuracy": weighted_mean(difference > 0, weights),
    "margin": options.beta * weighted_mean(difference, weights),
  }
  return total, metrics if loss.is_paired else metrics | {"kl": jnp.asarray(kl, jnp.float32)}


def _of_pairs(difference: PerRow, loss: Loss, options: Options) -> PerRow:
  """Returns the loss of each pair, as if a share of the labels were turned round."""
  lead = options.gamma / options.beta
  losses = (1 - options.label_smoothing) * loss.cost(difference - lead, options.beta)
  if options.label_smoothing:
    losses = losses + options.label_smoothing * loss.cost(-difference - lead, options.beta)
  return losses


PAIR_LOSSES = {
  "sigmoid": Loss(sigmoid),
  "robust": Loss(robust),
  "ipo": Loss(ipo),
  "hinge": Loss(hinge),
  "kto": Loss(kto, is_paired=False),
  "simpo": Loss(sigmoid, score=per_token, has_reference=False, needs=("gamma",)),
  "orpo": Loss(odds_ratio, score=log_odds, has_reference=False, needs=("sft_coefficient",)),
}


def weighted_mean(
  values: Num[Array, " B"] | Bool[Array, " B"], weights: PerRow | float
) -> Float[Array, ""]:
  """Returns Σ_i w_i v_i / Σ_i w_i of a batch in float32, which is 0 where no pair counts."""
  weights = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), values.shape)
  total = weights.sum()
  return (weights * values).sum() / jnp.where(total > 0, total, 1.0)
