"""Advantage estimators against loops over real tokens only, and against TRL's formulas."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ragged
from hypothesis import strategies

from pit_jax.losses import advantages

GAE = jax.jit(advantages.gae)


# With a value model


def slow_gae(rewards, values, discount, trace):
  """One row of real tokens, backwards, in double precision."""
  advantages = np.zeros(len(rewards))
  next_value = next_advantage = 0.0
  for t in reversed(range(len(rewards))):
    error = float(rewards[t]) + discount * next_value - float(values[t])
    advantages[t] = error + discount * trace * next_advantage
    next_value, next_advantage = float(values[t]), advantages[t]
  return advantages, advantages + np.asarray(values, np.float64)


@ragged.QUICK
@hypothesis.given(
  lengths=ragged.ROW_LENGTHS,
  factors=strategies.sampled_from([(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0), (0.0, 0.5)]),
)
def test_gae_equals_the_loop_under_right_padding(lengths, factors):
  rewards, values, mask = (
    ragged.normal(3, ragged.ROWS, ragged.LENGTH),
    ragged.normal(4, ragged.ROWS, ragged.LENGTH),
    ragged.mask_of(lengths),
  )
  expected_advantages, expected_returns = np.zeros((2, ragged.ROWS, ragged.LENGTH))
  for b, n in enumerate(lengths):
    expected_advantages[b, :n], expected_returns[b, :n] = slow_gae(
      rewards[b, :n], values[b, :n], *factors
    )
  estimates, returns = GAE(
    ragged.poison(rewards, mask), ragged.poison(values, mask), jnp.array(mask), *factors
  )
  np.testing.assert_allclose(estimates, expected_advantages, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(returns, expected_returns, rtol=1e-4, atol=1e-5)


def test_gae_padded_equals_sliced():
  rewards, values, mask = (
    ragged.normal(5, 2, ragged.LENGTH),
    ragged.normal(6, 2, ragged.LENGTH),
    ragged.mask_of([4, 4]),
  )
  padded = advantages.gae(jnp.array(rewards), jnp.array(values), jnp.array(mask), 0.9, 0.8)
  sliced = advantages.gae(
    jnp.array(rewards[:, :4]), jnp.array(values[:, :4]), jnp.ones((2, 4), bool), 0.9, 0.8
  )
  for long, short in zip(padded, sliced):
    np.testing.assert_array_equal(long[:, :4], short)
    np.testing.assert_array_equal(long[:, 4:], np.zeros((2, 2)))


def test_full_trace_returns_are_the_rewards_to_go():
  rewards, mask = jnp.array([[1.0, 2.0, 4.0, 8.0]]), jnp.array([[True, True, True, False]])
  estimates, returns = advantages.gae(rewards, jnp.array([[5.0, 6.0, 7.0, 8.0]]), mask, 1.0, 1.0)
  np.testing.assert_allclose(returns, [[7.0, 6.0, 4.0, 0.0]])
  np.testing.assert_allclose(estimates, [[2.0, 0.0, -3.0, 0.0]])


# Among the samples of a prompt

ESTIMATES = {
  "rloo": advantages.rloo,
  "grpo": advantages.grpo,
  "dr_grpo": functools.partial(advantages.grpo, scale_rewards=False),
}
GROUPED = {name: jax.jit(each, static_argnames="samples") for name, each in ESTIMATES.items()}
LENGTHS = strategies.lists(strategies.integers(0, ragged.LENGTH), min_size=12, max_size=12)


def slow_rloo(scores):
  return [s - np.mean([*scores[:i], *scores[i + 1 :]]) for i, s in enumerate(scores)]


def slow_grpo(scores):
  return [(s - np.mean(scores)) / (np.std(scores, ddof=1) + 1e-4) for s in scores]


def slow_dr_grpo(scores):
  return [s - sum(scores) / len(scores) for s in scores]


SLOW = {"rloo": slow_rloo, "grpo": slow_grpo, "dr_grpo": slow_dr_grpo}


@pytest.mark.parametrize("name", SLOW)
@ragged.QUICK
@hypothesis.given(lengths=LENGTHS, samples=strategies.sampled_from([2, 3, 4, 6, 12]))
def test_grouped_advantages_equal_the_loop_under_right_padding(name, lengths, samples):
  rewards, mask = (
    ragged.normal(8, 12, ragged.LENGTH),
    np.arange(ragged.LENGTH) < np.array(lengths)[:, None],
  )
  scores = [float(row[:n].astype(np.float64).sum()) for row, n in zip(rewards, lengths)]
  groups = [scores[i : i + samples] for i in range(0, 12, samples)]
  by_row = np.concatenate([SLOW[name](group) for group in groups])
  actual = GROUPED[name](ragged.poison(rewards, mask), jnp.array(mask), samples=samples)
  np.testing.assert_allclose(actual, by_row[:, None] * mask, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("samples", [2, 3, 6])
def test_a_group_of_equal_rewards_says_exactly_nothing(name, samples):
  """However the equal rewards round, and wherever in the responses they were given."""
  for reward in (0.1, 1000.1, -7.3):
    rewards = np.zeros((6, ragged.LENGTH), np.float32)
    rewards[np.arange(6), np.arange(6) % 4] = reward
    actual = GROUPED[name](jnp.array(rewards), jnp.ones(rewards.shape, bool), samples=samples)
    np.testing.assert_array_equal(actual, 0.0)


def test_what_all_samples_of_a_prompt_have_in_common_changes_no_advantage():
  rewards, mask = ragged.normal(9, 6, ragged.LENGTH), np.ones((6, ragged.LENGTH), bool)
  common = np.repeat([[5.0], [-3.0]], 3, axis=0) / ragged.LENGTH
  for estimate in GROUPED.values():
    plain, moved = (
      estimate(jnp.array(given, jnp.float32), jnp.array(mask), samples=3)
      for given in (rewards, rewards + common)
    )
    np.testing.assert_allclose(plain, moved, rtol=1e-4, atol=1e-5)
  # Scaled ones alone do not ask how large the differences are.
  for name, factor in (("rloo", 10.0), ("grpo", 1.0), ("dr_grpo", 10.0)):
    plain, scaled = (
      GROUPED[name](jnp.array(by * rewards), jnp.array(mask), samples=3) for by in (1.0, 10.0)
    )
    np.testing.assert_allclose(scaled, factor * plain, rtol=1e-3)


@pytest.mark.parametrize("rows, samples", [(6, 1), (6, 4)])
def test_what_makes_no_groups_is_refused(rows, samples):
  nothing = jnp.zeros((rows, 2))
  for estimate in GROUPED.values():
    with pytest.raises(ValueError, match=f"{rows} responses with samples={samples} make no groups"):
      estimate(nothing, nothing == 0, samples=samples)


@pytest.mark.parity
@pytest.mark.parametrize("samples", [2, 4])
def test_grouped_advantages_are_those_of_trl(samples):
  """The lines of RLOOTrainer and GRPOTrainer on summed rewards, with TRL's own deviation."""
  torch = pytest.importorskip("torch")
  nanstd = pytest.importorskip("trl.trainer.utils").nanstd
  scores = ragged.normal(10, 8, scale=2.0)
  grouped = torch.tensor(scores).view(-1, samples)
  baselines = (grouped.nansum(dim=1, keepdim=True) - grouped) / (samples - 1)
  means = torch.nanmean(grouped, dim=1).repeat_interleave(samples)
  deviations = nanstd(grouped, dim=1).repeat_interleave(samples)
  theirs = {
    "rloo": torch.tensor(scores) - baselines.view(-1),
    "grpo": (torch.tensor(scores) - means) / (deviations + 1e-4),
    "dr_grpo": torch.tensor(scores) - means,
  }
  rewards = np.zeros((8, 3), np.float32)
  rewards[:, 2] = scores
  for name, estimate in GROUPED.items():
    ours = estimate(jnp.array(rewards), jnp.ones((8, 3), bool), samples=samples)
    np.testing.assert_allclose(ours, np.tile(theirs[name].numpy()[:, None], 3), rtol=1e-4)
