"""PPO's optimiser, and what an iteration is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_ppo_bandit as bandit
import tiny

from pit_jax.rollout import experience
from pit_jax.stages import ppo
from pit_jax.training import optimizers
from pit_jax.types import Prompts, Responses


def first_update(gradients, **changes):
  """Returns the update that Adam makes of the first gradients; ε is large, so size matters."""
  constants = {"clip_norm": 2.0, "epsilon": 10.0, "value_scale": 1.0} | changes
  optimizer = optimizers.policy_and_value(**constants)
  params = jax.tree.map(jnp.zeros_like, gradients)
  return optimizer.update(gradients, optimizer.init(params), params)[0]


def gradients(policy, value):
  """Gradients of the given norms."""
  direction = jnp.array([0.6, 0.8])
  return {"policy": {"w": policy * direction}, "value": {"w": value * direction}}


def slow_update(norm, clip=2.0, epsilon=10.0):
  gradient = min(norm, clip) * np.array([0.6, 0.8])  # after one step, m / √v is g / |g|
  return gradient / (np.abs(gradient) + epsilon)


@pytest.mark.parametrize("policy, value", [(1.0, 100.0), (100.0, 1.0), (0.5, 0.5)])
def test_policy_and_value_are_clipped_apart(policy, value):
  update = first_update(gradients(policy, value))
  np.testing.assert_allclose(update["policy"]["w"], slow_update(policy), rtol=1e-5)
  np.testing.assert_allclose(update["value"]["w"], slow_update(value), rtol=1e-5)


def test_the_value_learns_at_a_multiple_of_the_rate():
  plain, scaled = (first_update(gradients(1.0, 1.0), value_scale=s) for s in (1.0, 3.0))
  np.testing.assert_array_equal(plain["policy"]["w"], scaled["policy"]["w"])
  np.testing.assert_allclose(scaled["value"]["w"], 3 * plain["value"]["w"], rtol=1e-6)


# What an iteration learns from


def test_every_pass_over_a_batch_has_an_order_of_its_own():
  """A step that learns nothing tells which rows it was given."""
  rows, epochs = 32, 3
  settings = dataclasses.replace(bandit.SETTINGS, epochs=epochs, minibatches=4)

  def step(train, frozen, minibatch, rng, rates, is_active):
    order, place = train
    given = minibatch.responses.tokens[:, 0]
    order = jax.lax.dynamic_update_slice(order, given, (place,))
    return (order, place + len(given)), {"skipped": jnp.float32(0)}

  numbered, one = jnp.arange(rows)[:, None], jnp.ones((rows, 1), bool)
  zeros = [jnp.zeros((rows, 1))] * 5
  batch = experience.Experience(Prompts(numbered, one), Responses(numbered, one), *zeros)
  start = (jnp.zeros(epochs * rows, jnp.int32), 0)
  orders = []
  for seed in (0, 1):
    (order, _), _ = ppo._learn(step, start, {}, batch, jax.random.key(seed), {}, settings)
    orders += np.asarray(order).reshape(epochs, rows).tolist()
  assert all(sorted(order) == list(range(rows)) for order in orders)
  assert len({tuple(order) for order in orders}) == 2 * epochs


def test_the_loss_of_the_policy_has_the_gradient_of_its_kl_to_the_reference():
  """Eight rows that are exactly the law which sampled them: (4, 2, 1, 1) / 8 after token 1."""
  now, reference = (
    jnp.array(bandit.normal(seed, 1, bandit.ACTIONS, bandit.ACTIONS)) for seed in (7, 8)
  )
  sampled = jnp.log(jnp.array([4, 2, 1, 1]) / 8)
  tokens = jnp.array([0, 0, 0, 0, 1, 1, 2, 3])[:, None]
  one = jnp.ones((8, 1), bool)
  asked, given = Prompts(jnp.ones((8, 1), jnp.int32), one), Responses(tokens, one)
  zeros = jnp.zeros((8, 1))
  logprobs = [sampled[tokens], jax.nn.log_softmax(reference[0, 1])[tokens]]
  batch = experience.Experience(asked, given, *logprobs, zeros, zeros, zeros)
  settings = dataclasses.replace(bandit.SETTINGS, loss_kl_coefficient=1.0)
  loss = ppo.objective(bandit.POLICY, bandit.VALUE, settings, ("policy",))
  gradient, _ = jax.grad(loss, has_aux=True)({"policy": {"table": now}}, {}, batch, None)
  policy, other = tiny.softmax(now[0, 1]), tiny.softmax(reference[0, 1])
  distance = np.log(policy / other)
  wanted = np.zeros(now.shape)
  wanted[0, 1] = policy * (distance - (policy * distance).sum())
  np.testing.assert_allclose(gradient["policy"]["table"], wanted, atol=1e-6)


def test_value_warm_up_leaves_the_policy_and_beta_untouched():
  before = bandit.start(seed=6)
  after, metrics = bandit.once(bandit.ADAPTIVE, before, learning=("value",))
  assert bandit.changes(before, after)["policy"] == 0
  assert bandit.changes(before, after)["value"] > 1e-3
  assert after.kl_coefficient == before.kl_coefficient
  assert metrics["policy/updates"] == 0 and metrics["value/updates"] == 4
  measured = {"policy/loss", "policy/approx_kl", "policy/grad_norm", "val/ratio_first"}
  assert not measured & set(metrics), "nothing of it was computed"
  after, metrics = bandit.once(bandit.ADAPTIVE, before)
  assert bandit.changes(before, after)["policy"] > 1e-3
  assert after.kl_coefficient != before.kl_coefficient
  assert metrics["policy/updates"] == metrics["value/updates"] == 4 and measured <= set(metrics)


def test_after_a_warm_up_the_policy_learns_as_if_there_had_been_none():
  """Adam's first update is the rate times the sign of the gradient, however long it waited."""
  state = bandit.start(seed=6)
  for seed in range(10):
    state, _ = bandit.once(bandit.BOUNDED, state, seed=seed, learning=("value",))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.train.opt_state["policy"]))
  assert bandit.counts(state) == {"policy": 0, "value": 80}, "a warm-up has no KL that could end it"
  settings = dataclasses.replace(bandit.SETTINGS, epochs=1, minibatches=1)
  after, _ = bandit.once(settings, state, rate=0.05)
  moved = np.abs(after.train.params["policy"]["table"] - state.train.params["policy"]["table"])
  asked = moved[0, 1]  # the row of the only prompt, of which every token was sampled
  np.testing.assert_allclose(asked, 0.05, rtol=0.02)  # ε is a thousandth of such gradients
  assert bandit.counts(after) == {"policy": 1, "value": 81}
