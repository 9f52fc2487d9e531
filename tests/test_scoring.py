"""Log-probabilities, scores and values against full rows read with loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.types import Prompts, Responses

PROMPT_LENGTHS, RESPONSE_LENGTHS = [4, 2, 3, 1], [5, 1, 3, 0]
P, R = 4, 5


def call(score, model, *arguments):
  """Returns score(model, …), compiled."""
  return jax.jit(functools.partial(score, model))(*arguments)


def batch():
  prompts, responses = tiny.prompts(0, PROMPT_LENGTHS, P), tiny.responses(1, RESPONSE_LENGTHS, R)
  return jax.tree.map(jnp.array, (prompts, responses))


def packed(prompts, responses):
  """Returns [prompt | response] without padding between or before, and where responses start."""
  rows = [
    [*np.asarray(a)[m], *np.asarray(b)[n]]
    for a, m, b, n in zip(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
  ]
  tokens = np.array([[*row, *[tiny.PAD] * (P + R - len(row))] for row in rows], np.int32)
  return jnp.array(tokens), jnp.array(tiny.right([len(row) for row in rows], P + R))


def test_join_puts_the_response_behind_the_prompt():
  prompts = Prompts(tokens=jnp.array([[0, 5, 6]]), mask=jnp.array([[False, True, True]]))
  responses = Responses(tokens=jnp.array([[7, 1]]), mask=jnp.array([[True, False]]))
  tokens, mask = scoring.join(prompts, responses)
  np.testing.assert_array_equal(tokens, [[0, 5, 6, 7, 1]])
  np.testing.assert_array_equal(mask, [[False, True, True, True, False]])


# Log-probabilities and entropies


@pytest.mark.parametrize("temperature, places", [(0.5, R), (1.0, R), (1.3, R), (1.3, 2)])
def test_logprobs_and_entropies_equal_a_loop(temperature, places, monkeypatch):
  """So many places of the four rows have their logits at a time."""
  monkeypatch.setattr(scoring, "LOGITS", places * 4 * tiny.VOCABULARY)
  model = tiny.language()
  params, (prompts, responses) = tiny.parameters(model, seed=2), batch()
  logits = jax.jit(model.apply)(params, *packed(prompts, responses))
  expected, entropies = np.zeros((2, 4, R))
  for b, (p, r) in enumerate(zip(PROMPT_LENGTHS, RESPONSE_LENGTHS)):
    for t in range(r):
      law = tiny.softmax(np.asarray(logits[b, p + t - 1]) / temperature)
      expected[b, t] = np.log(law[responses.tokens[b, t]])
      entropies[b, t] = -(law * np.log(law)).sum()
  arguments = params, prompts, responses, jnp.float32(temperature)
  actual = call(scoring.response_logprobs, model, *arguments)
  np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(actual[1], entropies, rtol=1e-4, atol=1e-5)


def test_responses_to_one_prompt_have_the_logprobs_of_each_alone():
  """Of responses of three widths, padded; each alone is read as [prompt | response]."""
  model = tiny.language()
  params = tiny.parameters(model, seed=2)
  prompts, first = batch()
  others = (tiny.responses(5, [2, 3, 0, 3], 3), tiny.responses(6, [1, 0, 1, 1], 1))
  several = (first, *jax.tree.map(jnp.array, others))
  found = call(scoring.shared_logprobs, model, params, prompts, *several)
  for logprobs, responses in zip(found, several, strict=True):
    alone, _ = call(scoring.response_logprobs, model, params, prompts, responses)
    np.testing.assert_allclose(logprobs, alone, rtol=1e-4, atol=1e-5)


def test_the_probabilities_of_all_last_tokens_sum_to_one():
  model, v = tiny.language(), tiny.VOCABULARY
  params = tiny.parameters(model, seed=2)
  prompts = jax.tree.map(lambda leaf: jnp.tile(leaf[:1], (v, 1)), batch()[0])
  tokens = jnp.stack([jnp.full(v, 3), jnp.arange(v)], axis=1).astype(jnp.int32)
  responses = Responses(tokens=tokens, mask=jnp.ones((v, 2), bool))
  logprobs, _ = call(scoring.response_logprobs, model, params, prompts, responses, 0.7)
  np.testing.assert_allclose(np.exp(logprobs[:, 1]).sum(), 1.0, rtol=1e-5)
  np.testing.assert_allclose(logprobs[:, 0], logprobs[0, 0], rtol=1e-5)


# Scores and values


def counting_model():
  """A scalar model whose output at a position is 100 × its token + the real tokens so far."""

  def apply(params, tokens, mask, last, segments=None):
    return (100.0 * tokens + jnp.cumsum(mask, axis=1))[:, -last:]

  return pure.PureModel(init=lambda key: {}, apply=apply, axes={}, config=tiny.config())


def test_the_score_is_read_at_the_last_real_token():
  (scores,) = scoring.sequence_scores(counting_model(), {}, *batch())
  prompts, responses = batch()
  expected = []
  for b, (p, r) in enumerate(zip(PROMPT_LENGTHS, RESPONSE_LENGTHS)):
    token = responses.tokens[b, r - 1] if r else prompts.tokens[b, -1]  # none: the prompt's last
    expected.append(100 * token + p + r)
  np.testing.assert_array_equal(scores, expected)


def test_values_are_of_the_state_before_each_token():
  prompts, responses = batch()
  values = scoring.token_values(counting_model(), {}, prompts, responses)
  expected = np.zeros((4, R))
  for b, (p, r) in enumerate(zip(PROMPT_LENGTHS, RESPONSE_LENGTHS)):
    for t in range(r):
      before = responses.tokens[b, t - 1] if t else prompts.tokens[b, -1]
      expected[b, t] = 100 * before + p + t
  np.testing.assert_array_equal(values, expected)


def test_scores_and_values_of_the_network_ignore_padding():
  model = tiny.scalar()
  params, (prompts, responses) = tiny.parameters(model, seed=3), batch()
  full = np.asarray(jax.jit(model.apply)(params, *packed(prompts, responses)))
  (scores,) = call(scoring.sequence_scores, model, params, prompts, responses)
  values = call(scoring.token_values, model, params, prompts, responses)
  for b, (p, r) in enumerate(zip(PROMPT_LENGTHS, RESPONSE_LENGTHS)):
    np.testing.assert_allclose(scores[b], full[b, p + r - 1], rtol=1e-4, atol=1e-5)
    expected = np.zeros(R)
    expected[:r] = full[b, p - 1 : p + r - 1]
    np.testing.assert_allclose(values[b], expected, rtol=1e-4, atol=1e-5)


def test_responses_to_one_prompt_are_scored_as_if_each_stood_alone():
  model = tiny.scalar()
  params, (prompts, first) = tiny.parameters(model, seed=3), batch()
  others = [
    tiny.responses(seed, lengths, 5) for seed, lengths in ((7, (0, 5, 2, 1)), (8, (3,) * 4))
  ]
  responses = [first, *jax.tree.map(jnp.array, others)]
  together = call(scoring.sequence_scores, model, params, prompts, *responses)
  for scores, alone in zip(together, responses, strict=True):
    (expected,) = call(scoring.sequence_scores, model, params, prompts, alone)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
