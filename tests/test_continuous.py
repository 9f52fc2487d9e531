"""Continuous batching: the same responses as in batches, whoever shares the places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_speculation import draft, language

from pit_jax import parallel
from pit_jax.rollout import continuous, decode, scoring
from pit_jax.types import Prompts

P, R, COUNT = 32, 10, 21
LENGTHS = np.random.default_rng(5).integers(1, P + 1, COUNT).tolist()
ENDS = {"length": R, "eos_id": (tiny.EOS,), "pad_id": tiny.PAD}
RAGGED = {"shrinking": True, "tile": 16}  # as `Inference` asks where lengths differ


def prompts():
  return tiny.prompts(1, LENGTHS, P)


def copies(count=COUNT):
  """Drafts that responses may repeat in part."""
  return draft(tiny.ids(7, count, R - 2), tiny.ids(8, count, 1)[:, 0] % (R - 1))


@functools.cache
def in_batches(model, samples=1, mesh=None, **ways):
  return jax.jit(functools.partial(decode.sample, model, samples=samples, **ENDS, **ways))


def plain(model, params, temperature, samples=1, **given):
  """All in one batch, in which no row is left behind."""
  asked = jax.tree.map(jnp.array, prompts())
  return in_batches(model, samples)(
    params, asked, jax.random.key(3), jnp.float32(temperature), **given
  )


def one_by_one(model, params, temperature, shape=(1, 1, 1), rows=6, samples=1, ways=None, **given):
  mesh = parallel.make_mesh(shape, devices=jax.devices()[: np.prod(shape)])
  s = decode.Settings(samples=samples, parts=parallel.parts(mesh), **ENDS, **(ways or {}))
  placed = jax.device_put(params, parallel.partition(params, model.axes, mesh))
  asked = (placed, jax.tree.map(np.asarray, prompts()), jax.random.key(3), temperature)
  return continuous.sample(model, mesh, s, *asked, rows=rows, **given)


def same(one, two):
  jax.tree.map(np.testing.assert_array_equal, one.responses, two.responses)
  np.testing.assert_allclose(one.logprobs, two.logprobs, rtol=1e-4, atol=1e-5)


# Exactness


@pytest.mark.parametrize(
  "changes, temperature, ways",
  [
    ({}, 0.0, RAGGED),
    ({}, 1.0, {}),
    ({"unroll": False, "windowed": (True, False), "window": 3}, 1.0, {}),
  ],
  ids=str,
)
def test_responses_are_those_of_one_batch(changes, temperature, ways):
  model, params = language(**changes)
  expected = plain(model, params, temperature)
  lengths = np.asarray(expected.responses.mask).sum(axis=1)
  assert lengths.min() < 3 and lengths.max() == R  # or no place would ever be given on
  same(one_by_one(model, params, temperature, ways=ways), expected)


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_nothing_depends_on_how_many_places_there_are(rows):
  model, params = language()
  same(one_by_one(model, params, 1.0, rows=rows), plain(model, params, 1.0))


@pytest.mark.parametrize("samples, rows", [(3, 6), (4, 3)])
def test_samples_of_one_prompt_have_noise_of_their_own(samples, rows):
  model, params = language()
  made = one_by_one(model, params, 1.0, samples=samples, rows=rows)
  same(made, plain(model, params, 1.0, samples))
  assert len({row.tobytes() for row in made.responses.tokens}) > COUNT


def test_drafts_change_forwards_and_no_token():
  model, params = language()
  expected = plain(model, params, 0.0)
  drafts = jax.tree.map(np.asarray, expected.responses)
  made = one_by_one(model, params, 0.0, drafts=drafts)
  same(made, expected)
  assert made.passes.sum() < made.responses.mask.sum()
  # What a draft proposes in vain is replaced; with noise too, by what a batch has in its place.
  other = jax.tree.map(np.asarray, copies())
  same(one_by_one(model, params, 0.0, drafts=other), expected)
  noisy = one_by_one(model, params, 1.0, drafts=other)
  same(noisy, plain(model, params, 1.0, drafts=jax.tree.map(jnp.asarray, other)))


def test_limits_and_top_p_are_each_rows_own():
  model, params = language()
  limits = np.random.default_rng(2).integers(1, R + 1, COUNT).astype(np.int32)
  given = {"limits": limits, "top_p": 0.6}
  made = one_by_one(model, params, 1.0, **given)
  same(made, plain(model, params, 1.0, **jax.tree.map(jnp.asarray, given)))
  lengths = made.responses.mask.sum(axis=1)
  assert np.all(lengths <= limits) and np.any(lengths == limits)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 1, 4)], ids=str)
def test_every_device_gives_its_own_places_on(shape):
  """Rounding may flip a draw on another mesh; greedy tokens are the same."""
  model, params = language()
  same(one_by_one(model, params, 0.0, shape, rows=8), plain(model, params, 0.0))


def test_log_probabilities_are_those_the_trainer_computes():
  model, params = language()
  made = one_by_one(model, params, 0.7)
  score = jax.jit(functools.partial(scoring.response_logprobs, model))
  asked = jax.tree.map(jnp.array, (prompts(), made.responses))
  expected, _ = score(params, *asked, jnp.float32(0.7))
  np.testing.assert_allclose(made.logprobs, expected, rtol=1e-5, atol=1e-5)


# The queue


def queue(lengths, rows, parts=1, samples=1, width=P):
  asked = Prompts(np.zeros((len(lengths), width), np.int32), tiny.left(lengths, width))
  return continuous.Queue(asked, rows, decode.Settings(parts=parts, samples=samples, **ENDS))


@pytest.mark.parametrize("parts, samples, rows", [(1, 1, 8), (4, 1, 16), (2, 3, 24), (2, 5, 4)])
def test_every_response_has_one_place_and_comes_back_once(parts, samples, rows):
  made = queue(LENGTHS, rows, parts, samples)
  rng = np.random.default_rng(0)
  seen = []
  while made.is_waiting:
    for chosen, places, width in made.fill():
      real = places < made.owners.shape[1]
      begun = made.owners[np.arange(parts)[:, None], np.minimum(places, made.owners.shape[1] - 1)]
      given = continuous.responses_of(chosen, samples).reshape(parts, -1)
      np.testing.assert_array_equal(begun[real], given[real])
      assert all(len({*row[is_real]}) == is_real.sum() for row, is_real in zip(places, real))
      assert max(LENGTHS[one] for one in chosen) <= width <= made.width
    # Too few places are left for the next ones, or nobody waits.
    assert not made.is_waiting or (made.owners >= 0).sum(axis=1).max() > made.busy
    has_ended = (rng.random(made.owners.shape) < 0.4) & (made.owners >= 0)
    seen.extend(made.leave(has_ended))
  seen.extend(made.leave(made.owners >= 0))
  assert sorted(seen) == [*range(samples * COUNT)]


def test_the_cache_becomes_as_narrow_as_the_prompts_that_need_it():
  made = queue([32, 32, 9, 3, 3, 3], rows=2)
  assert made.width == 32
  widths = []
  while made.is_waiting:
    [*made.fill()]
    made.leave(made.owners >= 0)
    if made.is_waiting:
      made.narrow()
      widths.append(made.width)
  assert widths == [16, 8]
