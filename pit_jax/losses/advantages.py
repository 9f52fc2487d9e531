"""Advantage estimators: how much better each token did than was to be expected.

Every array over [B R] is about response tokens, right-padded; `mask` says which of them are real.
What stands on padding is never read, and what is returned there is 0. `gae` takes what was to be
expected from a value model; `rloo` and `grpo` from the other responses to the same prompt, and want
no such model.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.losses import tokens
from pit_jax.types import Mask, Number, PerToken

EPSILON = 1e-4  # added to a group's deviation, in units of reward; that of TRL's GRPOTrainer


def gae(
  rewards: PerToken, values: PerToken, mask: Mask, discount: Number, trace: Number
) -> tuple[PerToken, PerToken]:
  """Returns generalised advantage estimates and the returns that the value model should predict.

  δ_t = r_t + γ V_{t+1} − V_t,  A_t = δ_t + γλ A_{t+1},  R_t = A_t + V_t
  with V and A equal to 0 after the last real token        (Schulman et al. 2016, eq. 16)

  Args:
    rewards: reward of each token.
    values: V_t, the expected return of the state before token t.
    discount: γ in [0, 1].
    trace: λ in [0, 1]; 0 trusts the values, 1 the sampled rewards.

  Returns:
    (advantages, returns) in float32, advantages not whitened.
  """
  rewards, values = tokens.real(mask, rewards, values)
  # Padding needs no case of its own: rewards and values of 0 there make the advantages 0 too.
  next_values = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
  errors = rewards + discount * next_values - values

  def backward(next_advantages, errors):
    advantages = errors + discount * trace * next_advantages
    return advantages, advantages

  start = jnp.zeros_like(errors[:, 0])
  # Scans run along the first axis, so time goes there.
  _, advantages = jax.lax.scan(backward, start, errors.T, reverse=True)
  return advantages.T, advantages.T + values


def rloo(rewards: PerToken, mask: Mask, samples: int) -> PerToken:
  """Returns REINFORCE leave-one-out advantages, the baseline being the other samples' mean.

  A_i,t = S_i − 1/(k−1) Σ_{j≠i} S_j,  S_i = Σ_t r_i,t        (Ahmadian et al. 2024, eq. 8)

  A response is one action: all its tokens have the same advantage, whichever of them was rewarded.

  Args:
    rewards: reward of each token, KL penalties included; rows i·k to i·k + k − 1 are the k
      responses to prompt i.
    samples: k of each prompt, at least 2.

  Returns:
    Advantages in float32, not whitened; those of a group sum to 0, and a group of equal rewards
    has exactly 0.

  Raises:
    ValueError: the rows are not groups of k, or k is 1, which leaves nobody to compare with.
  """
  centred = _centred(rewards, mask, samples)
  # S_i less the mean of the others is k/(k−1) times S_i less the mean of all.
  return _to_tokens(centred * samples / (samples - 1), mask)


def grpo(rewards: PerToken, mask: Mask, samples: int, scale_rewards: bool = True) -> PerToken:
  """Returns group-relative advantages: rewards standardised within the samples of a prompt.

  A_i,t = (S_i − mean_j S_j) / (std_j S_j + 1e-4),  S_i = Σ_t r_i,t
  (Shao et al. 2024, §4.1.2; the deviation has k − 1 in its denominator, as in TRL)

  A group of equal rewards says nothing, and its advantages are exactly 0. One that differs by
  little counts as much as one that differs by much, so prompts that nearly all samples solve, or
  nearly none, weigh most. Without the division there is no such bias (Liu et al. 2025, arXiv
  2503.20783, "Dr. GRPO").

  What it leads to: under β KL(π ‖ π_ref) in the loss, a policy that can say everything rests where

    π(y) ∝ π_ref(y) exp(E[A_1 | y_1 = y] / β),  y_2 … y_k ~ π

  since of k responses E[1/k Σ_i A_i ∇log π(y_i)] = Σ_y π(y) E[A_1 | y_1 = y] ∇log π(y). Unscaled
  that expectation is (k − 1)/k (r(y) − E r): the mean of a group has the response itself in it, and
  what is reached is π_ref exp(r / β′) / Z at β′ = β k/(k − 1), where `rloo` has β itself. Scaled it
  is bounded by (k − 1)/√k however large rewards are, and another policy.

  Args:
    rewards: as for `rloo`.
    samples: as for `rloo`.
    scale_rewards: whether a group is divided by its deviation; what TRL calls so.

  Returns:
    Advantages in float32, not whitened further; those of a group sum to 0.

  Raises:
    ValueError: as `rloo`.
  """
  centred = _centred(rewards, mask, samples)
  if not scale_rewards:
    return _to_tokens(centred, mask)
  variance = (centred**2).sum(axis=1, keepdims=True) / (samples - 1)
  return _to_tokens(centred / (jnp.sqrt(variance) + EPSILON), mask)


ESTIMATORS = ("gae", "rloo", "grpo")


def _centred(rewards: PerToken, mask: Mask, samples: int) -> Float[Array, "G K"]:
  """Returns each response's summed reward less the mean of its group."""
  rows = rewards.shape[0]
  if samples < 2 or rows % samples:
    problem = f"{rows} responses with samples={samples} make no groups to compare within"
    raise ValueError(f"{problem}; use 2 or more samples of each prompt, and a multiple of them")

  groups = tokens.real(mask, rewards)[0].sum(axis=1).reshape(-1, samples)
  # Counted from the first: the mean of equal numbers need not round to them, that of zeros does.
  groups = groups - groups[:, :1]
  return groups - groups.mean(axis=1, keepdims=True)


def _to_tokens(advantages: Float[Array, "G K"], mask: Mask) -> PerToken:
  return jnp.where(mask, advantages.reshape(-1, 1), 0.0)
