"""One state, three actions, of which the expert takes one: imitation, and a reward learnt from it.

The table of arXiv 2405.17888, computed. Of rewards |r(a)| ≤ 1, maximum likelihood takes that under
which π_r(a) ∝ π_ref(a) exp(r(a) / β) makes the expert's action likeliest. Its log-probability rises
with that action's reward and falls with every other, so r = (1, −1, −1), and the odds of the
expert's action grow e^{2/β} times, whatever they were.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.losses import advantages, ppo, preference, tokens
from pit_jax.recipes.bandit import policies

REFERENCE = jnp.array([0.5, 0.3, 0.2])
EXPERT = 0  # the action that is demonstrated, always
BOUND = 1.0
BEST = jnp.array([BOUND, -BOUND, -BOUND])
TABLE = {0.5: (0.98, 0.01, 0.01), 1.0: (0.88, 0.07, 0.05), 2.0: (0.73, 0.16, 0.11)}
DRAWS = 4_000  # that stand for a policy, as many of each action as it makes likely


@functools.partial(jax.jit, static_argnames=("loss", "steps"))
def descended(loss, start, rate, steps, *given):
  """Where gradient descent is after so many steps, within the bound if there is one."""

  def step(x, _):
    return x - rate * jax.grad(loss)(x, *given), None

  return jax.lax.scan(step, start, None, length=steps)[0]


@functools.partial(jax.jit, static_argnames=("loss", "steps"))
def bounded(loss, start, rate, steps, *given):
  """The same of a reward, which is brought back to its bound after every step."""

  def step(x, _):
    return jnp.clip(x - rate * jax.grad(loss)(x, *given), -BOUND, BOUND), None

  return jax.lax.scan(step, start, None, length=steps)[0]


def told_apart(rewards, policy):
  """Bradley and Terry's loss of the expert's action over a draw of the policy's, weighted by it."""
  chosen = jnp.full_like(rewards, rewards[EXPERT])
  loss, _ = preference.bradley_terry_loss(chosen, rewards, preference.Labels(weights=policy))
  return loss


def learnt(policy):
  """The reward that the library's loss makes of demonstrations and samples, from none."""
  return bounded(told_apart, jnp.zeros(3), 1.0, 2_000, policy)


@jax.jit
def reinforced(reference, rewards, beta):
  """Where the library's RL leaves a policy that starts from its reference: one token a response."""
  shown = jnp.log(reference)

  def step(logits, _):
    # Drawn by quantiles: no noise but that of rounding to so many draws.
    quantiles = (jnp.arange(DRAWS) + 0.5) / DRAWS
    taken = jnp.searchsorted(jnp.cumsum(jax.nn.softmax(logits)), quantiles)[:, None]
    taken = jnp.minimum(taken, 2)
    mask = jnp.ones(taken.shape, bool)

    def logprobs(x):
      return tokens.token_logprobs(jnp.broadcast_to(x, (DRAWS, 1, 3)), taken)

    old = logprobs(logits)
    of_reference = jnp.log(reference)[taken]
    shaped = ppo.shaped_rewards(rewards[taken], old, of_reference, mask, beta)
    gains = advantages.rloo(shaped, mask, DRAWS)
    slope = jax.grad(lambda x: ppo.policy_loss(logprobs(x), old, gains, mask, 0.2)[0])(logits)
    return logits - slope, None

  return jax.nn.softmax(jax.lax.scan(step, shown, None, length=800)[0])


@pytest.mark.parametrize("beta", TABLE)
def test_the_tables_figures_are_those_of_rewards_bounded_by_1(beta):
  policy = policies.best_response(REFERENCE, BEST, beta)
  np.testing.assert_allclose(policy, TABLE[beta], atol=0.005)
  odds = policy[EXPERT] / policy[1:] / (REFERENCE[EXPERT] / REFERENCE[1:])
  np.testing.assert_allclose(odds, np.exp(2 * BOUND / beta), rtol=1e-5)
  # What counts is how far apart rewards may be: those of 0 to 1 are half as far.
  np.testing.assert_allclose(
    policies.best_response(REFERENCE, (BEST + 1) / 2, beta / 2), policy, rtol=1e-5
  )


def test_imitation_leaves_the_reference_behind():
  """All mass goes to the demonstrated action, whatever was likely before."""

  def loss(logits):
    logprobs = tokens.token_logprobs(logits[None, None], jnp.array([[EXPERT]]))
    return tokens.sft_loss(logprobs, jnp.ones((1, 1), bool))[0]

  policy = jax.nn.softmax(descended(loss, jnp.log(REFERENCE), 1.0, 2_000))
  np.testing.assert_allclose(policy, (1, 0, 0), atol=0.002)


@pytest.mark.parametrize("beta", TABLE)
@pytest.mark.parametrize("start", [(0.0, 0.0, 0.0), (-0.9, 0.8, 0.3)])
def test_no_other_reward_makes_the_demonstrations_likelier(beta, start):
  def surprise(rewards):
    return -jnp.log(policies.best_response(REFERENCE, rewards, beta)[EXPERT])

  found = bounded(surprise, jnp.array(start), 0.1, 3_000)
  np.testing.assert_allclose(found, BEST, atol=1e-6)
  # Bounds at which no direction within them gains anything.
  slopes = jax.grad(surprise)(found)
  assert slopes[EXPERT] < 0 and (slopes[1:] > 0).all()


@pytest.mark.parametrize("beta", TABLE)
def test_the_losses_of_the_library_come_to_the_same_policy(beta):
  """Its pairwise loss finds that reward of the reference's samples, and its RL that policy."""
  rewards = learnt(REFERENCE)
  np.testing.assert_allclose(rewards, BEST, atol=1e-6)
  np.testing.assert_allclose(reinforced(REFERENCE, rewards, beta), TABLE[beta], atol=0.006)


def test_rounds_that_move_the_reference_divide_the_price():
  """Two rounds at β, each near its start, are one at β / 2: they end where imitation does."""
  policy = REFERENCE
  for _ in range(2):
    policy = reinforced(policy, learnt(policy), 2.0)
  np.testing.assert_allclose(policy, TABLE[1.0], atol=0.006)
  for _ in range(20):
    policy = policies.best_response(policy, BEST, 2.0)
  np.testing.assert_allclose(policy, (1, 0, 0), atol=1e-6)
