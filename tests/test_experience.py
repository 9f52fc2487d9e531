"""Judged experience against the definitions written out for one row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.rollout import experience
from pit_jax.rollout import rewards as rollout_rewards
from pit_jax.types import Responses

LENGTHS, R, EOS = [6, 3, 1, 4], 6, tiny.EOS
BETA, DISCOUNT, TRACE = 0.3, 0.9, 0.8


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs():
  prompts, responses = tiny.prompts(0, [2, 4, 3, 1], 4), tiny.responses(1, LENGTHS, R)
  mask = responses.mask
  rewards = rollout_rewards.at_end(jnp.array(normal(2, 4)), jnp.array(mask))
  arrays = rewards, *(normal(seed, 4, R) * mask for seed in (3, 4, 5))
  return jax.tree.map(jnp.array, (prompts, responses, *arrays))


def judged(whiten_rewards):
  return experience.judge(
    *inputs(),
    kl_coefficient=jnp.float32(BETA),
    discount=DISCOUNT,
    trace=TRACE,
    whiten_rewards=whiten_rewards,
  )


def spread(rows):
  return np.concatenate(rows).std()


def slow_rewards(whiten_rewards):
  """Returns each row's real rewards: the penalty per token, the score on the last."""
  _, _, rewards, logprobs, reference, _ = (np.asarray(x, np.float64) for x in (0, 0, *inputs()[2:]))
  rows = []
  for b, n in enumerate(LENGTHS):
    row = -BETA * (logprobs[b, :n] - reference[b, :n])
    row += rewards[b, :n]
    rows.append(row)
  if whiten_rewards:
    mean, deviation = np.concatenate(rows).mean(), spread(rows)
    rows = [(row - mean) / deviation + mean for row in rows]
  return rows


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_experience_equals_the_definitions(whiten_rewards):
  values = np.asarray(inputs()[-1], np.float64)
  advantages, returns = [], []
  for b, rewards in enumerate(slow_rewards(whiten_rewards)):
    n = len(rewards)
    following = [*values[b, 1:n], 0.0]
    errors = rewards + DISCOUNT * np.array(following) - values[b, :n]
    row = [  # Σ_k (γλ)^k δ_{t+k}
      sum((DISCOUNT * TRACE) ** (s - t) * errors[s] for s in range(t, n)) for t in range(n)
    ]
    advantages.append(np.array(row))
    returns.append(np.array(row) + values[b, :n])
  mean, deviation = np.concatenate(advantages).mean(), spread(advantages)
  actual = judged(whiten_rewards)
  for b, n in enumerate(LENGTHS):
    expected = (advantages[b] - mean) / deviation
    np.testing.assert_allclose(actual.advantages[b, :n], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(actual.returns[b, :n], returns[b], rtol=1e-4, atol=1e-5)
    assert not np.any(actual.advantages[b, n:]) and not np.any(actual.returns[b, n:])


def test_experience_keeps_what_it_was_given():
  prompts, responses, _, logprobs, reference, values = inputs()
  actual = judged(False)
  kept = actual.prompts, actual.responses, actual.logprobs, actual.reference_logprobs, actual.values
  given = prompts, responses, logprobs, reference, values
  jax.tree.map(np.testing.assert_array_equal, kept, given)


def test_gae_without_values_is_refused():
  options = {"kl_coefficient": BETA, "discount": DISCOUNT, "trace": TRACE, "whiten_rewards": False}
  with pytest.raises(ValueError, match="gae without values: give those of a value model, or use"):
    experience.judge(*inputs()[:-1], None, **options)


# Measures


def test_measures_equal_the_definitions():
  prompts, responses, rewards, logprobs, reference, _ = inputs()
  scores = rewards.sum(axis=1)
  entropy, has_eos = jnp.array(normal(6, 4, R) ** 2), jnp.array([True, True, False, True])
  batch = judged(False)
  metrics = experience.measure(batch, scores, entropy, has_eos, jnp.float32(BETA))
  values, returns = np.asarray(batch.values), np.asarray(batch.returns)
  mask = np.asarray(responses.mask)
  difference = np.asarray(logprobs - reference, np.float64)
  k3 = np.exp(-difference) - 1 + difference
  kl = np.mean([difference[b, :n].sum() for b, n in enumerate(LENGTHS)])
  expected = {
    "objective/kl": kl,
    "objective/kl_k3": np.mean([k3[b, :n].sum() for b, n in enumerate(LENGTHS)]),
    "objective/kl_coef": BETA,
    "objective/entropy": np.asarray(entropy)[mask].mean(),
    "objective/score": np.mean(scores),
    "objective/score_std": np.std(scores),
    "val/eos_rate": 0.75,
    "tokens/prompt_length": (2 + 4 + 3 + 1) / 4,
    "tokens/response_length": (6 + 3 + 1 + 4) / 4,
    "tokens/truncated": 0.25,
    "tokens/padding": 1 - 14 / 24,
    "reward/length_correlation": np.corrcoef(LENGTHS, scores)[0, 1],
    "value/explained_variance": 1 - np.var((returns - values)[mask]) / np.var(returns[mask]),
  }
  assert metrics.keys() == expected.keys() | {"reward/repetition"}
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert jnp.shape(metrics[name]) == ()


def test_equal_lengths_correlate_with_nothing():
  batch = judged(False)
  responses = Responses(tokens=batch.responses.tokens, mask=jnp.ones((4, R), bool))
  batch = batch.replace(responses=responses)
  arguments = (jnp.array(normal(2, 4)), jnp.zeros((4, R)), jnp.ones(4, bool), jnp.float32(BETA))
  metrics = experience.measure(batch, *arguments)
  assert abs(metrics["reward/length_correlation"]) < 1e-3


@pytest.mark.parametrize(
  "tokens, length, repeated, pairs",
  [
    ([5, 6, 7, 8, 9, 2], 6, 0, 5),
    ([5, 6, 5, 6, 5, 6], 6, 3, 5),  # 56 65, then 56 65 56 again
    ([5, 5, 5, 5, 5, 5], 6, 4, 5),
    ([5, 6, 5, 6, 5, 6], 3, 0, 2),  # what follows the end does not count
    ([5, 6, 5, 6, 5, 6], 4, 1, 3),
    ([5, 6, 5, 6, 5, 6], 1, 0, 0),
  ],
)
def test_repetition_counts_pairs_that_stood_before(tokens, length, repeated, pairs):
  batch = judged(False)
  tokens, mask = jnp.tile(jnp.array(tokens, jnp.int32), (4, 1)), tiny.right([length] * 4, R)
  batch = batch.replace(responses=Responses(tokens=tokens, mask=jnp.array(mask)))
  arguments = (jnp.zeros(4), jnp.zeros((4, R)), jnp.ones(4, bool), jnp.float32(BETA))
  metrics = experience.measure(batch, *arguments)
  np.testing.assert_allclose(metrics["reward/repetition"], repeated / max(pairs, 1), rtol=1e-6)


def test_a_response_ends_where_its_mask_holds_an_end():
  tokens = jnp.array([[5, EOS, 0, 0], [5, 6, 7, 8], [EOS, 0, 0, 0], [5, 6, EOS, 0], [5, 6, 7, EOS]])
  mask = jnp.array(tiny.right([2, 4, 1, 2, 4], 4))  # the fourth's end stands on padding
  ends = experience.ends(Responses(tokens=tokens, mask=mask), EOS)
  np.testing.assert_array_equal(ends, [True, False, True, False, True])
  either = experience.ends(Responses(tokens=tokens, mask=mask), (8, EOS))
  np.testing.assert_array_equal(either, [True, True, True, False, True])
