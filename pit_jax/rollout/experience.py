"""Experience for RL: responses with their advantages and, with a value model, its values."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from pit_jax.losses import advantages, ppo
from pit_jax.losses import tokens as token_losses
from pit_jax.types import Mask, Metrics, PerRow, PerToken, Prompts, Responses


@struct.dataclass
class Experience:
  """A batch of responses, judged. All Float[B R] are 0 on padding."""

  prompts: Prompts
  responses: Responses
  logprobs: jax.Array  # Float[B R], under the policy that sampled, by the training graph
  reference_logprobs: jax.Array  # Float[B R], under the frozen SFT model
  values: jax.Array | None  # Float[B R], of the state before each token; None: no value model
  advantages: jax.Array  # Float[B R]; of gae whitened over the whole batch
  returns: jax.Array | None  # Float[B R], what the values should have been


def judge(
  prompts: Prompts,
  responses: Responses,
  rewards: PerToken,
  logprobs: PerToken,
  reference_logprobs: PerToken,
  values: PerToken | None,
  *,
  estimator: str = "gae",
  samples: int = 1,
  scale_rewards: bool = True,
  kl_coefficient: Float[Array, ""] | float,
  discount: float,
  trace: float,
  whiten_rewards: bool,
) -> Experience:
  """Turns rewarded responses into experience: KL-shaped rewards, then advantages.

  Those of gae are whitened; those of rloo and grpo are as their papers have them. What `Experience`
  has by the same name is said there.

  Args:
    rewards: reward of each token, penalties included.
    estimator: one of `advantages.ESTIMATORS`, of which gae alone wants values.
    samples: responses to each prompt, which follow one another.
    scale_rewards: whether grpo divides by the deviation of a group.
    kl_coefficient: β, reward lost per nat of k1.
    discount: γ of the returns, in [0, 1].
    trace: λ of GAE, in [0, 1].
    whiten_rewards: whether the shaped rewards are scaled to unit variance, mean kept.

  Raises:
    ValueError: gae is given no values.
  """
  mask = responses.mask
  rewards = ppo.shaped_rewards(rewards, logprobs, reference_logprobs, mask, kl_coefficient)
  if whiten_rewards:
    rewards = ppo.whiten(rewards, mask, shift_mean=False)

  if estimator == "gae":
    if values is None:
      raise ValueError("gae without values: give those of a value model, or use rloo or grpo")
    estimates, returns = advantages.gae(rewards, values, mask, discount, trace)
    # Advantages only: returns keep the unit of reward, which the value model predicts.
    estimates = ppo.whiten(estimates, mask, shift_mean=True)
  else:
    returns = None
    if estimator == "rloo":
      estimates = advantages.rloo(rewards, mask, samples)
    else:
      estimates = advantages.grpo(rewards, mask, samples, scale_rewards)

  return Experience(
    prompts, responses, logprobs, reference_logprobs, values, advantages=estimates, returns=returns
  )


def measure(
  experience: Experience,
  scores: PerRow,
  entropy: PerToken,
  has_eos: Bool[Array, " B"],
  kl_coefficient: Float[Array, ""] | float,
) -> Metrics:
  """Returns metrics of a batch of experience, before anything is learnt from it.

  The entropy is that of the distribution of each token, in nats, and `has_eos` as `ends` says it.
  """
  mask = experience.responses.mask
  k1, _, k3 = token_losses.kl_estimates(experience.logprobs, experience.reference_logprobs)
  kl, kl_k3 = (jnp.where(mask, k, 0.0).sum(axis=1).mean() for k in (k1, k3))
  lengths = mask.sum(axis=1).astype(jnp.float32)
  valued = {}
  if experience.values is not None and experience.returns is not None:
    explained = ppo.explained_variance(experience.values, experience.returns, mask)
    valued["value/explained_variance"] = explained
  return valued | {
    "objective/kl": kl,
    "objective/kl_k3": kl_k3,
    "objective/kl_coef": jnp.asarray(kl_coefficient),
    "objective/entropy": token_losses.masked_mean(entropy, mask),
    "objective/score": scores.mean(),
    "objective/score_std": scores.std(),
    "val/eos_rate": has_eos.mean(),
    "tokens/prompt_length": experience.prompts.mask.sum(axis=1).mean(),
    "tokens/response_length": lengths.mean(),
    "tokens/truncated": 1.0 - has_eos.mean(),
    "tokens/padding": 1.0 - mask.mean(),
    "reward/length_correlation": _correlation(lengths, scores),
    "reward/repetition": _repetition(experience.responses.tokens, mask),
  }


def ends(responses: Responses, eos_id: int | tuple[int, ...]) -> Bool[Array, " B"]:
  """Returns whether each response ended by itself rather than at the length limit."""
  return jnp.any(jnp.isin(responses.tokens, jnp.asarray(eos_id)) & responses.mask, axis=1)


def _correlation(a: PerRow, b: PerRow) -> Float[Array, ""]:
  a = a - a.mean()
  b = b - b.mean()
  # Equal lengths or equal scores have the correlation 0, not NaN.
  return (a * b).mean() / jnp.maximum(a.std() * b.std(), 1e-8)


def _repetition(tokens: Int[Array, "B R"], mask: Mask) -> Float[Array, ""]:
  """The share of neighbouring token pairs that stood in the same response before."""
  first = tokens[:, :-1]
  second = tokens[:, 1:]
  real = mask[:, 1:]
  same = (first[:, :, None] == first[:, None, :]) & (second[:, :, None] == second[:, None, :])
  before = jnp.tril(jnp.ones((first.shape[1],) * 2, bool), k=-1) & real[:, None, :]

  return token_losses.masked_mean(jnp.any(same & before, axis=2).astype(jnp.float32), real)
