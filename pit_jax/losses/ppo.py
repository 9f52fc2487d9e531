"""Proximal policy optimisation on responses: shaped rewards, clipped losses, KL control.

Every array over [B R] is about response tokens, right-padded; `mask` says which of them are real.
What stands on padding is never read, and what is returned there is 0. `logprobs`, `old_logprobs`
and `reference_logprobs` are log π, log π_old and log π_ref of the same tokens, in nats: under the
policy as it is, under that which sampled them, and under the frozen reference.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pit_jax.losses import tokens
from pit_jax.types import Mask, Metrics, Number, PerToken


def shaped_rewards(
  rewards: PerToken,
  logprobs: PerToken,
  reference_logprobs: PerToken,
  mask: Mask,
  kl_coefficient: Number,
) -> PerToken:
  """Returns each token's reward less its KL penalty.

  r_t − β (log π(y_t) − log π_ref(y_t))        (Ziegler et al. 2019, eq. 2; there all r_t but the
  last are 0, see `rollout.rewards.at_end`)

  Args:
    rewards: r_t of each token.
    logprobs: under the policy that sampled the tokens.
    kl_coefficient: β ≥ 0, in units of score per nat.

  Returns:
    Rewards in float32. Their sum over a row is Σ r − β Σ k1.
  """
  k1, _, _ = tokens.kl_estimates(logprobs, reference_logprobs)
  return jnp.where(mask, -kl_coefficient * k1 + rewards, 0.0)


def penalise_missing_eos(
  rewards: PerToken, mask: Mask, has_eos: Bool[Array, " B"], penalty: Number
) -> PerToken:
  """Returns the rewards, less a penalty at the last token of a response cut before it ended.

  r_last − penalty · [no end of sequence]        (Huang et al. 2024, arXiv 2403.17031, "EOS trick")

  Deviation: there the score of such a response is replaced by −1; subtracting keeps the order
  among cut responses, so that they still teach.

  Args:
    rewards: reward of each token.
    has_eos: whether the response holds a token that ends it.
    penalty: at least 0, in units of reward.
  """
  is_cut = tokens.is_last(mask) & ~has_eos[:, None]
  return jnp.where(is_cut, rewards - penalty, rewards)


def whiten(
  values: Float[Array, "*b"], mask: Bool[Array, "*b"], shift_mean: bool
) -> Float[Array, "*b"]:
  """Returns the values scaled to variance 1 over the mask of the whole (global) batch, 0 off it.

  (values − mean) / √(variance + 1e-8), + mean unless it is shifted away; biased variance, float32

  The mean of advantages becomes 0. Rewards keep theirs: their sign is what says whether a longer
  response pays (Huang et al. 2024, arXiv 2403.17031, "reward whitening").
  """
  mean = tokens.masked_mean(values, mask)
  whitened = (values - mean) * jax.lax.rsqrt(_masked_variance(values, mask) + 1e-8)
  return jnp.where(mask, whitened if shift_mean else whitened + mean, 0.0)


def policy_loss(
  logprobs: PerToken, old_logprobs: PerToken, advantages: PerToken, mask: Mask, clip: Number
) -> tuple[Float[Array, ""], Metrics]:
  """Returns PPO's clipped surrogate, which gives no reason to leave the old policy's vicinity.

  ρ_t = π(y_t) / π_old(y_t)
  loss = mean_t −min(ρ_t A_t, clip(ρ_t, 1−ε, 1+ε) A_t)        (Schulman et al. 2017, eq. 7)

  Args:
    logprobs: now.
    old_logprobs: computed by the same graph before the update; constants.
    advantages: A_t, usually whitened; constants.
    clip: ε in (0, 1).

  Returns:
    The scalar loss, and metrics over real tokens: `loss`; `approx_kl`, KL(π_old ‖ π) in nats by
    k3; `clip_fraction`, how often the clipped branch is the smaller one; `ratio_mean` and
    `ratio_var` of ρ, which are 1 and 0 where no token is real: all responses may be dropped.
  """
  # The ratio on padding is made 1 before exp, where an overflow would turn gradients into NaN.
  logprobs, old_logprobs = tokens.real(mask, logprobs, old_logprobs)
  ratio = jnp.exp(logprobs - old_logprobs)
  free = ratio * advantages
  clipped = jnp.clip(ratio, 1 - clip, 1 + clip) * advantages

  # The smaller one: clipping takes away what a step would gain, never what it would lose.
  loss = -tokens.masked_mean(jnp.minimum(free, clipped), mask)
  _, _, k3 = tokens.kl_estimates(old_logprobs, logprobs)
  return loss, {
    "loss": loss,
    "approx_kl": tokens.masked_mean(k3, mask),
    "clip_fraction": tokens.masked_mean((clipped < free).astype(jnp.float32), mask),
    "ratio_mean": jnp.where(mask.any(), tokens.masked_mean(ratio, mask), 1.0),
    "ratio_var": _masked_variance(ratio, mask),
  }


def value_loss(
  values: PerToken, old_values: PerToken, returns: PerToken, mask: Mask, clip: Number
) -> tuple[Float[Array, ""], Metrics]:
  """Returns the squared error of the values, which gives no reason to leave the old values.

  loss = ½ mean_t max((V_t − R_t)², (clip(V_t, V_old,t ± ε) − R_t)²)
  (Huang et al. 2022, "The 37 implementation details of PPO", detail 9)

  Args:
    values: V_t now.
    old_values: V_t when the responses were sampled; constants.
    returns: R_t from `advantages.gae`; constants.
    clip: ε > 0, in units of value.

  Returns:
    The scalar loss, and metrics over real tokens: `loss`; `clip_fraction`, how often the clipped
    branch is the larger one.
  """
  values, old_values, returns = tokens.real(mask, values, old_values, returns)
  free = (values - returns) ** 2
  clipped = (jnp.clip(values, old_values - clip, old_values + clip) - returns) ** 2
  loss = 0.5 * tokens.masked_mean(jnp.maximum(free, clipped), mask)
  clip_fraction = tokens.masked_mean((clipped > free).astype(jnp.float32), mask)
  return loss, {"loss": loss, "clip_fraction": clip_fraction}


def explained_variance(values: PerToken, returns: PerToken, mask: Mask) -> Float[Array, ""]:
  """Returns 1 − Var(R − V) / Var(R) over real tokens, at most 1, and 0 where returns do not vary.

  Args:
    values: V_t.
    returns: R_t, what they should have been.
  """
  values, returns = tokens.real(mask, values, returns)
  spread = _masked_variance(returns, mask)
  unexplained = _masked_variance(returns - values, mask) / jnp.where(spread > 0, spread, 1.0)
  return jnp.where(spread > 0, 1 - unexplained, 0.0)


def kl_loss(
  logprobs: PerToken, old_logprobs: PerToken, reference_logprobs: PerToken, mask: Mask
) -> Float[Array, ""]:
  """Returns a loss whose gradient is that of KL(π ‖ π_ref), from tokens that π_old sampled.

  loss = mean_t sg(ρ_t) · k2_t,  k2_t = ½ (log π(y_t) − log π_ref(y_t))²,  ρ_t = π(y_t) / π_old(y_t)
  (Tang & Munos 2025, arXiv 2506.09477; sg stops the gradient)

  Of one token, with d = log π − log π_ref:  ∇ KL(π ‖ π_ref) = ∇ Σ_y π d = Σ_y π d ∇log π, since
  Σ_y π ∇log π = 0. That is E_π[d ∇log π] = E_π[∇ k2], and E_old[ρ ∇ k2] where π_old sampled; ρ is
  the weight of a sample, and its own gradient would add ρ k2 ∇log π. The estimates k1 and k3 are
  right as numbers and wrong as losses: E_π[∇ k1] = 0, and E_π[∇ k3] = Σ_y (π − π_ref) ∇log π, the
  gradient of KL(π_ref ‖ π).

  Each token's distribution is taken given the tokens before it: that an earlier token leads to
  later ones which cost more is left to the penalty in the reward (`shaped_rewards`).

  Old and reference log-probabilities are constants. The scalar loss is at least 0, and no estimate
  of the KL; `tokens.kl_estimates` has those.
  """
  logprobs, old, reference = tokens.real(mask, logprobs, old_logprobs, reference_logprobs)
  ratio = jax.lax.stop_gradient(jnp.exp(logprobs - old))
  _, k2, _ = tokens.kl_estimates(logprobs, reference)

  return tokens.masked_mean(ratio * k2, mask)


def update_kl_coefficient(
  coefficient: Number, kl: Number, target: Number, horizon: Number, episodes: Number
) -> Float[Array, ""]:
  """Returns the KL coefficient after a batch, moved so that the KL approaches its target.

  error = clip(kl / target − 1, −0.2, 0.2),  β ← β (1 + error · episodes / horizon)
  (Ziegler et al. 2019, §2.2)

  Args:
    coefficient: β > 0 used for the batch.
    kl: KL(π ‖ π_ref) measured on the batch, in nats per response; one that is not finite moves
      nothing.
    target: wanted KL > 0, in nats per response.
    horizon: episodes over which an error of 1 would double β; larger is slower.
    episodes: responses in the batch, fewer than 5 × horizon so that β stays positive.
  """
  error = jnp.clip(kl / target - 1, -0.2, 0.2)
  moved = coefficient * (1 + error * episodes / horizon)
  # Once not finite, β would stay so.
  return jnp.asarray(jnp.where(jnp.isfinite(kl), moved, coefficient), jnp.float32)


def _masked_variance(values: Float[Array, "*b"], mask: Bool[Array, "*b"]) -> Float[Array, ""]:
  return tokens.masked_mean((values - tokens.masked_mean(values, mask)) ** 2, mask)
