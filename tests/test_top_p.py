"""Top-p sampling: which tokens are kept, and that samples and log-probabilities are of those."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_decode import language, prompts, sampler, scorer

from pit_jax.rollout import drawing


def slow_nucleus(logprobs, top_p):
  """The distribution of one row, token by token, as Holtzman et al. (2020) define it."""
  probabilities = np.exp(np.asarray(logprobs, np.float64))
  kept, total = [], 0.0
  for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token]):
    if total >= top_p and top_p < 1:
      break
    kept.append(token)
    total += probabilities[token]
  return {token: probabilities[token] / total for token in kept}


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_fewest_most_likely_tokens(top_p):
  logits = jax.random.normal(jax.random.key(3), (6, 40)) * 3
  logprobs = jax.nn.log_softmax(logits)
  cut = np.asarray(drawing.nucleus(logprobs, jnp.float32(top_p)))
  for row, own in zip(cut, logprobs):
    expected = slow_nucleus(own, top_p)
    assert {*np.flatnonzero(np.isfinite(row))} == {*expected}
    for token, probability in expected.items():
      np.testing.assert_allclose(np.exp(row[token]), probability, rtol=1e-5)


def test_tokens_as_likely_as_the_last_one_stay():
  logprobs = jnp.log(jnp.array([[0.4, 0.2, 0.2, 0.2]]))
  kept = np.isfinite(drawing.nucleus(logprobs, jnp.float32(0.5)))
  assert kept.tolist() == [[True] * 4]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1.7])
def test_samples_come_from_the_kept_tokens_and_say_their_probability(temperature):
  model, params = language()
  top_p = jnp.float32(0.6)
  asked = (params, prompts(), jax.random.key(5), jnp.float32(temperature))
  responses, logprobs = sampler(model)(*asked, None, top_p)
  if temperature == 0:  # the most likely token is always kept
    np.testing.assert_array_equal(responses.tokens, sampler(model)(*asked)[0].tokens)
  plain = scorer(model)(params, prompts(), responses, jnp.float32(temperature or 1.0))[0]
  mask = np.asarray(responses.mask)

  # What is kept has at least top_p of the probability and at most all of it.
  gained = (np.asarray(logprobs) - np.asarray(plain))[mask]
  assert np.all(gained > -1e-4) and np.all(gained < -np.log(0.6) + 1e-4)
  assert gained.max() > 0.01


def test_the_frequencies_are_those_of_the_nucleus():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.15, 0.1]]))
  keys = jax.random.split(jax.random.key(0), 20_000)
  one, top_p = jnp.float32(1.0), jnp.float32(0.8)
  tokens = jax.vmap(lambda key: drawing.draw(logits, one, key[None], top_p)[0][0])(keys)
  counts = np.bincount(tokens, minlength=4) / len(keys)
  np.testing.assert_allclose(counts, [5 / 9, 2.5 / 9, 1.5 / 9, 0.0], atol=0.012)
  assert counts[3] == 0


def test_top_p_is_what_transformers_keeps():
  torch = pytest.importorskip("torch")
  warpers = pytest.importorskip("transformers").generation.logits_process
  logits = np.random.default_rng(1).normal(size=(8, 50)).astype(np.float32) * 2
  for top_p in (0.2, 0.7, 0.95):
    theirs = warpers.TopPLogitsWarper(top_p)(None, torch.tensor(logits))
    ours = drawing.nucleus(jax.nn.log_softmax(jnp.asarray(logits)), jnp.float32(top_p))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs.numpy()))
    np.testing.assert_allclose(
      np.exp(ours), torch.softmax(theirs, -1).numpy(), rtol=1e-4, atol=1e-7
    )
