"""Rewards of responses as a number per token, Float[B R], and weighted sums of several."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.losses import tokens
from pit_jax.types import Mask, PerRow, PerToken, Responses


def at_end(scores: PerRow, mask: Mask) -> PerToken:
  """Returns rewards that give each response's score at its last real token, and 0 elsewhere.

  A response without tokens has nowhere to put it.
  """
  return jnp.where(tokens.is_last(mask), scores[:, None], 0.0)


@jax.jit
def without_unknown(
  responses: Responses, logprobs: PerToken, rewards: PerToken
) -> tuple[Responses, PerToken, PerToken]:
  """Returns a batch in which responses of unknown reward, a NaN among its own, have no tokens.

  So they count in no loss and in no mean over tokens; their rewards and log-probabilities are 0.
  """
  known = ~jnp.isnan(rewards).any(axis=1, keepdims=True)
  left = Responses(tokens=responses.tokens, mask=responses.mask & known)
  return left, jnp.where(known, logprobs, 0.0), jnp.where(known, rewards, 0.0)


@jax.jit
def weighted(
  given: Mapping[str, PerRow | PerToken],
  weights: Mapping[str, Float[Array, ""] | float],
  mask: Mask,
) -> tuple[PerToken, dict[str, PerRow]]:
  """Returns the weighted sum of named rewards per token, and each of them per response.

  r_t = Σ_n w_n r_n,t; a reward of one number per response stands at its last real token

  Args:
    given: name → reward of each response, or of each of its tokens.
    weights: name → w_n.
    mask: which response tokens are real; what was given off it counts for nothing.

  Returns:
    The rewards, 0 on padding; and name → Σ_t r_n,t of each response, not weighted.
  """
  by_token = {
    name: at_end(reward, mask) if reward.ndim == 1 else jnp.where(mask, reward, 0.0)
    for name, reward in given.items()
  }
  terms = (weights[name] * reward for name, reward in by_token.items())
  total = sum(terms, start=jnp.zeros(mask.shape))

  return total, {name: reward.sum(axis=1) for name, reward in by_token.items()}
