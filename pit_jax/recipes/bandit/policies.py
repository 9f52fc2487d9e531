"""What imitation and AI feedback make of a bandit, whose distributions can be written down.

Arm a of 0 … A − 1 has the reward a. Nothing is drawn: losses
are expectations over the arms.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.types import Number

Arms = Float[Array, " A"]  # a number per arm


def arms(count: int) -> Arms:
  """Returns the arms 0 … A − 1, which are their own rewards."""
  return jnp.arange(float(count))


def hill(count: int, peak: Number, spread: Number) -> Arms:
  """Returns the distribution p(a) ∝ exp(−(a − peak)² / spread) of a writer.

  Args:
    count: A, how many arms there are.
    peak: the likeliest arm.
    spread: twice the variance, where no end of the arms is near; more than 0.
  """
  return jax.nn.softmax(-((arms(count) - peak) ** 2) / spread)


def reward_gradient(rewards: Arms, sampled: Arms) -> Arms:
  """Returns the gradient of a reward model's expected loss on pairs that a right critic labels.

  L(R) = E_{a, b ~ p_S ⊗ p_S} −log σ(R(max(a, b)) − R(min(a, b)))
  ∂L/∂R(a) = −2 p_S(a) Σ_b p_S(b) s_ab σ(−s_ab (R(a) − R(b))),  s_ab = sign(a − b)

  Args:
    rewards: R, a free number per arm.
    sampled: p_S, from which both arms of a pair are drawn.
  """
  places = jnp.arange(rewards.size)
  signs = jnp.sign(places[:, None] - places)
  mistakes = jax.nn.sigmoid(-signs * (rewards[:, None] - rewards))
  return -2 * sampled * ((signs * mistakes) @ sampled)


def imitation_gradient(logits: Arms, taught: Arms) -> Arms:
  """Returns the gradient of the expected loss of imitation, softmax(θ) − p_T.

  L(θ) = −E_{a ~ p_T} log softmax(θ)(a)

  Args:
    logits: θ.
    taught: p_T, whose arms are imitated.
  """
  return jax.nn.softmax(logits) - taught


@functools.partial(jax.jit, static_argnames=("gradient", "steps"))
def descend(
  gradient: Callable[[Arms, Arms], Arms],
  distributions: Float[Array, "N A"],
  rates: Float[Array, " N"],
  steps: int,
) -> Float[Array, "N A"]:
  """Returns where gradient descent from zero is after so many steps, x ← x − η ∇L(x; p).

  Args:
    gradient: ∇L, of a number per arm under a distribution over them.
    distributions: p of each of N descents.
    rates: η of each.
    steps: how many, of all of them.
  """

  def step(x, _):
    return x - rates[:, None] * jax.vmap(gradient)(x, distributions), None

  return jax.lax.scan(step, jnp.zeros_like(distributions), None, length=steps)[0]


def best_response(reference: Arms, rewards: Arms, beta: Number) -> Arms:
  """Returns π(a) ∝ p_S(a) exp(R(a) / β), which maximises E_π R − β KL(π ‖ p_S).

  Args:
    reference: p_S.
    rewards: R.
    beta: β > 0, the price of a nat.
  """
  return jax.nn.softmax(jnp.log(reference) + rewards / beta)


def expected_reward(policy: Arms) -> Float[Array, ""]:
  """Returns the mean reward of a policy, E_{a ~ π} a."""
  return (policy * arms(policy.size)).sum()
