"""Losses and estimates per token: log-probabilities, entropy, KL estimates, the SFT loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pit_jax.types import Mask, Metrics, PerToken


def token_logprobs(
  logits: Float[Array, "*b T V"], tokens: Int[Array, "*b T"]
) -> Float[Array, "*b T"]:
  """Returns the log-probability of each token under the logits at its own position.

  logprobs_t = logits_t[token_t] − log Σ_v exp logits_t[v],  in nats, in float32 whatever the logits

  Args:
    logits: log-odds over the vocabulary, already shifted so that position t is about `tokens[t]`,
      and already divided by the temperature.
    tokens: token ids in [0, V).
  """
  logits = logits.astype(jnp.float32)
  # As log_softmax, but gathering first: no second array over the vocabulary has to be kept.
  peak = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
  picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1) - peak
  return picked[..., 0] - jnp.log(jnp.exp(logits - peak).sum(axis=-1))


def entropy(logits: Float[Array, "*b T V"]) -> Float[Array, "*b T"]:
  """Returns the entropy of the distribution at each position.

  H_t = −Σ_v p_t[v] log p_t[v],  p_t = softmax(logits_t),  in nats, in [0, log V], in float32

  Args:
    logits: finite log-odds over the vocabulary, already divided by the temperature.
  """
  logprobs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  return -(jnp.exp(logprobs) * logprobs).sum(axis=-1)


def is_last(mask: Mask) -> Mask:
  """Returns which token of each row is its last real one; none of a row without tokens."""
  return jnp.arange(mask.shape[1]) == mask.sum(axis=1, keepdims=True) - 1


def real(mask: Bool[Array, "*b"], *arrays: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], ...]:
  """Returns arrays in float32, and 0 off the mask."""
  return tuple(jnp.where(mask, x, 0.0).astype(jnp.float32) for x in arrays)


def masked_mean(values: Float[Array, "*b"], mask: Bool[Array, "*b"]) -> Float[Array, ""]:
  """Returns the mean over the positions where the mask is True.

  mean = Σ mask·values / Σ mask,  over the whole array and so over all devices

  It is in float32, and 0 when no position counts. Values off the mask are never read, NaN included.
  """
  # Selected, not multiplied: NaN times 0 is NaN.
  total = jnp.where(mask, values, 0.0).sum(dtype=jnp.float32)
  return total / jnp.maximum(mask.sum(), 1)


def kl_estimates(
  logprobs: Float[Array, "*b"], reference_logprobs: Float[Array, "*b"]
) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
  """Returns three estimates of KL(policy ‖ reference) from tokens that the policy sampled.

  With d = log π_ref(token) − log π(token)        (Schulman 2020, "Approximating KL divergence"):
    k1 = −d             unbiased, high variance, negative for many tokens
    k2 = d² / 2         biased, low variance; its gradient is that of the KL
    k3 = exp(d) − 1 − d unbiased, low variance near the reference, never negative
  per token, in nats, in float32, as the arguments log π and log π_ref are in nats.
  """
  difference = reference_logprobs.astype(jnp.float32) - logprobs.astype(jnp.float32)
  # expm1 keeps the digits that exp(d) − 1 loses where both models nearly agree.
  return -difference, difference**2 / 2, jnp.expm1(difference) - difference


def sft_loss(logprobs: PerToken, mask: Mask) -> tuple[Float[Array, ""], Metrics]:
  """Returns the negative log-likelihood per response token, the end of sequence included.

  loss = −Σ mask·logprobs / Σ mask        (Wang et al. 2024: L_P and L_PIT)

  Deviation: the paper sums over tokens; the mean makes the learning rate independent of the
  batch's size and of the responses' lengths. Both are in nats per token; prompt tokens are in
  neither argument. The metrics are `loss` alone.
  """
  loss = -masked_mean(logprobs, mask)
  return loss, {"loss": loss}
