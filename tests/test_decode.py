"""Sampling: the law it draws from, the log-probabilities it returns, and where it stops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import pure
from pit_jax.rollout import decode, scoring
from pit_jax.types import Prompts

LENGTH, ROWS, P = 6, 8, 5
PROMPT_LENGTHS = [5, 1, 3, 2, 4, 5, 1, 2]


@functools.cache
def sampler(model, length=LENGTH, pad_id=tiny.PAD, eos_id=tiny.EOS, **ways):
  """Returns compiled sampling: (responses, log-probabilities)."""

  def sample(*asked, **how):
    sampled = decode.sample(
      model, *asked, length=length, eos_id=eos_id, pad_id=pad_id, **ways, **how
    )
    return sampled.responses, sampled.logprobs

  return jax.jit(sample)


@functools.cache
def scorer(model):
  return jax.jit(functools.partial(scoring.response_logprobs, model))


def language():
  model = tiny.language(layers=1)
  return model, jax.tree.map(jnp.array, tiny.parameters(model, seed=0))


def prompts():
  return jax.tree.map(jnp.array, tiny.prompts(1, PROMPT_LENGTHS, P))


def draw(temperature, seed=0, asked=None):
  model, params = language()
  asked = prompts() if asked is None else asked
  return sampler(model)(params, asked, jax.random.key(seed), jnp.float32(temperature))


# What is returned


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_log_probabilities_are_those_the_trainer_computes(temperature):
  model, params = language()
  responses, logprobs = draw(temperature)
  expected, _ = scorer(model)(params, prompts(), responses, jnp.float32(temperature))
  np.testing.assert_allclose(logprobs, expected, rtol=1e-4, atol=1e-5)
  assert np.all(np.asarray(logprobs)[np.asarray(responses.mask)] < 0)


def test_masks_run_to_the_end_of_sequence_and_padding_follows():
  lengths = []
  for seed in range(4):
    responses, logprobs = draw(1.0, seed)
    for tokens, mask, row in zip(*jax.device_get((responses.tokens, responses.mask, logprobs))):
      ends = np.flatnonzero(tokens == tiny.EOS)
      length = ends[0] + 1 if len(ends) else LENGTH
      np.testing.assert_array_equal(mask, np.arange(LENGTH) < length)
      assert np.all(tokens[length:] == tiny.PAD) and np.all(row[length:] == 0)
      lengths.append(length)
  assert min(lengths) < LENGTH  # some ended, or nothing was seen
  assert max(lengths) == LENGTH


def test_any_of_several_tokens_ends_a_response():
  """With the same noise a response is the one that runs on, up to the first of the ends."""
  (model, params), stops = language(), (tiny.EOS, 4, 7)
  for seed in range(3):
    ask = params, prompts(), jax.random.key(seed), jnp.float32(1.0)
    endless, _ = sampler(model, eos_id=-1)(*ask)
    stopped, _ = sampler(model, eos_id=stops)(*ask)
    for whole, tokens, mask in zip(*jax.device_get((endless.tokens, stopped.tokens, stopped.mask))):
      ends = [i for i, token in enumerate(whole) if token in stops]
      length = ends[0] + 1 if ends else LENGTH
      np.testing.assert_array_equal(mask, np.arange(LENGTH) < length)
      np.testing.assert_array_equal(tokens[:length], whole[:length])


def test_the_key_decides():
  (first, _), (again, _), (other, _) = draw(1.0, 0), draw(1.0, 0), draw(1.0, 1)
  np.testing.assert_array_equal(first.tokens, again.tokens)
  assert np.any(first.tokens != other.tokens)


# When it stops


def scripted(script, calls):
  """A model that says the given token at each step, and writes down (slot, rows) of its calls.

  The last token of a prompt is the number of its row in the script; the cache remembers it.
  """
  script = jnp.array(script, jnp.int32)

  def apply(params, tokens, mask, cache, slot, method):
    jax.debug.callback(lambda slot: calls.append((int(slot), len(tokens))), slot)
    row = jnp.where(slot == 0, tokens[:, -1], cache.keys[0][:, 0, 0, 0].astype(jnp.int32))
    said = script[row, jnp.where(slot == 0, 0, slot - P + 1)]  # the prompt is read at slot 0
    keys = cache.keys[0].at[:, 0, 0, 0].set(row.astype(jnp.float32))
    return 50.0 * jax.nn.one_hot(said, tiny.VOCABULARY), cache.replace(keys=(keys,))

  return pure.PureModel(init=lambda key: {}, apply=apply, axes={}, config=tiny.config(layers=1))


def numbered(count):
  """Prompts of several lengths whose last token is the number of their row."""
  asked = tiny.prompts(1, np.random.default_rng(0).integers(1, P + 1, count), P)
  tokens = np.concatenate([asked.tokens[:, :-1], np.arange(count)[:, None]], axis=1)
  return Prompts(tokens=jnp.array(tokens, jnp.int32), mask=jnp.array(asked.mask))


def check_script(script, responses):
  """The responses are the script's rows up to their end of sequence."""
  for tokens, mask, row in zip(responses.tokens, responses.mask, script, strict=True):
    length = row.index(tiny.EOS) + 1 if tiny.EOS in row else LENGTH
    np.testing.assert_array_equal(tokens, row[:length] + [tiny.PAD] * (LENGTH - length))
    assert mask.sum() == length


@pytest.mark.parametrize(
  "script, steps",
  [
    ([[5, 6, 1, 7, 7, 7], [1, 7, 7, 7, 7, 7]], 3),  # as long as the longest
    ([[1, 5, 5, 5, 5, 5], [1, 6, 6, 6, 6, 6]], 1),
    ([[5, 5, 5, 5, 5, 5], [1, 6, 6, 6, 6, 6]], LENGTH),
    ([[5, 5, 5, 5, 5, 1], [5, 1, 1, 1, 1, 1]], LENGTH),
  ],
)
def test_sampling_stops_when_every_row_has_ended(script, steps):
  calls = []
  model = scripted(script, calls)
  responses, _ = sampler(model)({}, numbered(2), jax.random.key(0), jnp.float32(0))
  jax.effects_barrier()
  assert sorted(calls) == [(slot, 2) for slot in [0, *range(P, P + steps - 1)]]
  check_script(script, responses)  # and nothing reads the last token


@pytest.mark.parametrize("parts, fewest", [(1, 8), (2, 8), (4, 8), (2, 16)])
def test_the_batch_halves_as_rows_end(parts, fewest):
  """32 rows; a part is as large as it was at first, or half of that, to the fewest rows in all."""
  order = np.random.default_rng(parts).permutation([1] * 8 + [2] * 9 + [3] * 9 + [6] * 6)
  script = [[5] * (n - 1) + [tiny.EOS] + [7] * (LENGTH - n) for n in order.tolist()]
  calls = []
  ask = sampler(scripted(script, calls), shrinking=True, fewest=fewest, parts=parts)
  responses, _ = ask({}, numbered(32), jax.random.key(0), jnp.float32(0))
  jax.effects_barrier()
  check_script(script, responses)
  rows, expected = 32, [(0, 32)]
  for step in range(1, LENGTH):
    going = (order.reshape(parts, -1) > step).sum(axis=1).max() * parts
    while going <= rows // 2 and rows >= 2 * fewest:
      rows //= 2
    expected.append((P + step - 1, rows))
  assert sorted(calls) == expected
  assert parts > 1 or {rows for _, rows in expected} == {32, 16, 8}
  assert fewest == 8 or {rows for _, rows in expected} == {32, 16}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_ends_at_its_own_limit(temperature):
  """Leaving ended rows behind changes no law, nor does reading eight rows and a column at once."""
  model, params = language()
  asked = jax.tree.map(jnp.array, tiny.prompts(2, [*range(1, P + 1)] * 8, P))
  limits = np.random.default_rng(1).permutation([1, 2, 3, 5, LENGTH] * 8)
  given = (params, asked, jax.random.key(5), jnp.float32(temperature), jnp.array(limits))
  (whole, _), (responses, logprobs) = (
    sampler(model, **ways)(*given) for ways in ({}, {"shrinking": True, "tile": 8})
  )
  expected, _ = scorer(model)(params, asked, responses, jnp.float32(temperature or 1.0))
  np.testing.assert_allclose(logprobs, expected, rtol=1e-4, atol=1e-5)
  for tokens, mask, limit in zip(responses.tokens, responses.mask, limits, strict=True):
    ends = np.flatnonzero(tokens == tiny.EOS)
    length = min([limit, *(ends[:1] + 1)])
    np.testing.assert_array_equal(mask, np.arange(LENGTH) < length)
  if temperature == 0:
    np.testing.assert_array_equal(responses.tokens, whole.tokens)


@pytest.mark.parametrize("ways", [{}, {"shrinking": True, "tile": 8}, {"parts": 2}], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_responses_to_one_prompt_are_those_to_the_prompt_repeated(temperature, ways):
  """With the same noise: reading a prompt once for all of them changes no law."""
  model, params = language()
  few = jax.tree.map(jnp.array, tiny.prompts(2, [*range(1, P + 1)] * 4 + [2, 5, 1, 1], P))
  many = jax.tree.map(lambda x: jnp.repeat(x, 4, axis=0), few)
  given = (jax.random.key(5), jnp.float32(temperature))
  one, logprobs = sampler(model, samples=4, **ways)(params, few, *given)
  two, others = sampler(model, **ways)(params, many, *given)
  jax.tree.map(np.testing.assert_array_equal, one, two)
  np.testing.assert_allclose(logprobs, others, rtol=1e-4, atol=1e-6)
  assert (len({*map(tuple, one.tokens[:4].tolist())}) > 1) == (temperature > 0)


def test_a_prompt_is_read_once_for_all_its_responses():
  script, calls = [[5, 6, 1, 7, 7, 7], [5, 5, 5, 1, 7, 7]], []
  ask = sampler(scripted(script, calls), samples=3)
  responses, _ = ask({}, numbered(2), jax.random.key(0), jnp.float32(0))
  jax.effects_barrier()
  assert sorted(calls) == [(0, 2), (P, 6), (P + 1, 6), (P + 2, 6)]
  check_script([row for row in script for _ in range(3)], responses)


def test_a_part_of_one_row_keeps_it():
  """Sixteen rows on sixteen devices: no device is left without a row, however few go on."""
  script = [[1, 7, 7, 7, 7, 7]] * 15 + [[5, 5, 5, 5, 5, 1]]
  calls = []
  ask = sampler(scripted(script, calls), shrinking=True, parts=16)
  responses, _ = ask({}, numbered(16), jax.random.key(0), jnp.float32(0))
  jax.effects_barrier()
  check_script(script, responses)
  assert {rows for _, rows in calls} == {16}


@pytest.mark.parametrize("windowed", [(), (True, False, True)], ids=["wide", "mixed"])
def test_scanned_layers_say_what_unrolled_ones_do(windowed):
  shape = {"layers": 3, "windowed": windowed, "window": 3 if windowed else 0}
  model, other = (tiny.language(**shape, unroll=unroll) for unroll in (True, False))
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=0))
  asked = jax.tree.map(jnp.array, tiny.prompts(2, [*range(1, P + 1)] * 4, P))
  ask = params, asked, jax.random.key(3), jnp.float32(1)
  (one, logprobs), (two, others) = (
    sampler(network, shrinking=True)(*ask) for network in (model, other)
  )
  jax.tree.map(np.testing.assert_array_equal, one, two)
  np.testing.assert_allclose(logprobs, others, rtol=1e-4, atol=1e-6)


def test_a_batch_that_does_not_divide_into_parts_is_refused():
  model, params = language()
  asked = jax.tree.map(lambda leaf: leaf[:3], prompts())
  with pytest.raises(ValueError, match="3 prompts do not divide over 2 devices"):
    sampler(model, parts=2)(params, asked, jax.random.key(0), jnp.float32(0))


def test_the_filler_is_the_given_pad():
  model, params = language()
  responses, _ = sampler(model, pad_id=7)(params, prompts(), jax.random.key(2), jnp.float32(1))
  mask = np.asarray(responses.mask)
  assert not mask.all() and np.all(np.asarray(responses.tokens)[~mask] == 7)


# Greedy


def test_greedy_is_the_argmax_of_the_full_forward():
  model, params = language()
  responses, _ = draw(0.0)
  apply = jax.jit(model.apply)
  for b, length in enumerate(PROMPT_LENGTHS):
    row = [int(token) for token in prompts().tokens[b, P - length :]]
    for t in range(int(responses.mask[b].sum())):
      tokens = jnp.array([row + [tiny.PAD] * (P + LENGTH - len(row))], jnp.int32)
      logits = apply(params, tokens, jnp.array(tiny.right([len(row)], P + LENGTH)))
      assert responses.tokens[b, t] == jnp.argmax(logits[0, len(row) - 1])
      row.append(int(responses.tokens[b, t]))


def test_batch_mates_and_padding_do_not_change_greedy_rows():
  alone, _ = draw(0.0)
  order = np.random.default_rng(3).permutation(ROWS)
  shuffled, _ = draw(0.0, asked=jax.tree.map(lambda leaf: leaf[order], prompts()))
  np.testing.assert_array_equal(alone.tokens[order], shuffled.tokens)
  others = jax.tree.map(jnp.array, tiny.prompts(4, PROMPT_LENGTHS, P))
  mixed = jax.tree.map(lambda a, b: a.at[1:].set(b[1:]), prompts(), others)
  np.testing.assert_array_equal(alone.tokens[0], draw(0.0, asked=mixed)[0].tokens[0])
  wide = jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, 0), (3, 0))), prompts())
  np.testing.assert_array_equal(alone.tokens, draw(0.0, asked=wide)[0].tokens)


# The law


def exact_law(model, params, prompt, temperature, length):
  """Returns the probability of every response, read off the full forward on every prefix."""
  vocabulary = model.config.vocabulary
  everything = np.array(list(itertools.product(range(vocabulary), repeat=length)), np.int32)
  tokens = np.concatenate([np.tile(prompt, (len(everything), 1)), everything], axis=1)
  logits = jax.jit(model.apply)(params, jnp.array(tokens), jnp.ones(tokens.shape, bool))
  laws = tiny.softmax(np.asarray(logits)[:, len(prompt) - 1 : -1] / temperature)
  law = {}
  for row, steps in zip(everything.tolist(), laws):
    end = row.index(tiny.EOS) + 1 if tiny.EOS in row else length
    law[tuple(row[:end])] = np.prod([steps[t, row[t]] for t in range(end)])
  return law


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_frequencies_follow_the_exact_law(temperature):
  rows, length, prompt = 8192, 3, np.array([2, 3], np.int32)
  model = tiny.language(layers=1, vocabulary=4)
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=6))
  law = exact_law(model, params, prompt, temperature, length)
  np.testing.assert_allclose(sum(law.values()), 1.0, rtol=1e-5)
  assert len(law) == 1 + 3 + 9 + 27
  asked = Prompts(
    tokens=jnp.tile(jnp.array([[0, *prompt]], jnp.int32), (rows, 1)),
    mask=jnp.tile(jnp.array([[False, True, True]]), (rows, 1)),
  )
  program = sampler(model, length)
  responses, _ = program(params, asked, jax.random.key(7), jnp.float32(temperature))
  counts = dict.fromkeys(law, 0)
  for tokens, mask in zip(*jax.device_get((responses.tokens, responses.mask))):
    counts[tuple(tokens[mask].tolist())] += 1  # a response outside the law is a KeyError
  expected, seen = rows * np.array(list(law.values())), np.array(list(counts.values()))
  # Pearson's statistic: mean n − 1 and variance 2(n − 1) under the law; rare responses pooled.
  rare = expected < 5
  seen, expected = (np.array([*x[~rare], x[rare].sum() + 1e-9]) for x in (seen, expected))
  statistic, degrees = ((seen - expected) ** 2 / expected).sum(), len(seen) - 1
  assert statistic < degrees + 4 * np.sqrt(2 * degrees)
