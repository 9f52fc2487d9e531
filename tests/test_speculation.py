"""Speculative sampling from drafts: the same distribution in fewer forwards, whatever they say."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_decode import exact_law

from pit_jax import layout, parallel
from pit_jax.models import architecture
from pit_jax.rollout import decode, drawing, prefill, scoring, speculation
from pit_jax.types import Prompts, Responses

P, R, ROWS = 5, 12, 16
LENGTHS = [1 + i % P for i in range(ROWS)]


@functools.cache
def sampler(model, length=R, eos_id=tiny.EOS, **ways):
  ends = {"eos_id": eos_id, "pad_id": tiny.PAD}
  return jax.jit(functools.partial(decode.sample, model, length=length, **ends, **ways))


@functools.cache
def language(**changes):
  model = tiny.language(**changes)
  return model, jax.tree.map(jnp.array, tiny.parameters(model, seed=0))


def asked(seed=1, rows=ROWS):
  return jax.tree.map(jnp.array, tiny.prompts(seed, (LENGTHS * rows)[:rows], P))


def draft(tokens, lengths=None):
  tokens = np.asarray(tokens)
  lengths = [tokens.shape[1]] * len(tokens) if lengths is None else lengths
  mask = tiny.right(lengths, tokens.shape[1])
  return Responses(tokens=jnp.array(tokens, jnp.int32), mask=jnp.array(mask))


def drafts(kind, tokens, seed=0):
  """Drafts that a response may repeat: all of it, most of it, nothing, or none at all."""
  rng = np.random.default_rng(seed)
  tokens = np.array(tokens)
  other = rng.integers(0, tiny.VOCABULARY, tokens.shape)
  if kind == "noisy":
    return draft(np.where(rng.random(tokens.shape) < 0.2, other, tokens))
  if kind == "shifted":  # words left out and words put in
    return draft(np.concatenate([other[:, :3], tokens[:, 1:4], tokens[:, 6:]], axis=1))
  lengths = {"same": None, "other": None, "none": [0] * len(tokens)}[kind]
  return draft(tokens if kind == "same" else other, lengths)


def same(one, two):
  jax.tree.map(np.testing.assert_array_equal, one.responses, two.responses)
  np.testing.assert_allclose(one.logprobs, two.logprobs, rtol=1e-4, atol=1e-5)


KINDS = ("same", "noisy", "shifted", "other", "none")
WAYS = [
  {"window": 2}, {"window": 16}, {},
  {"window": 4, "shrinking": True, "tile": 8}, {"window": 8, "parts": 4},
]  # fmt: skip


# Exactness


@pytest.mark.parametrize(
  "changes", [{}, {"unroll": False}, {"windowed": (True, False), "window": 3}]
)
def test_greedy_responses_are_those_without_drafts(changes):
  """240 of them: five kinds of drafts by three seeds of prompts."""
  model, params = language(**changes)
  for seed in (1, 2, 3):
    given = (params, asked(seed), jax.random.key(0), jnp.float32(0))
    plain = sampler(model)(*given)
    for kind in KINDS:
      repeated = drafts(kind, plain.responses.tokens, seed)
      same(sampler(model, window=4)(*given, drafts=repeated), plain)


@pytest.mark.parametrize("stored", ["float32", "int8"])
def test_an_adapted_base_follows_drafts_too(stored):
  adapter = architecture.Adapter(2, 64.0, ("query", "down"))
  model = tiny.language(adapter=adapter, stored=stored)
  params = jax.jit(model.init)(jax.random.key(1))
  params = jax.tree.map(lambda x: 3 * x if x.dtype == jnp.float32 else x, params)  # no flat logits
  given = (params, asked(), jax.random.key(0), jnp.float32(0))
  plain = sampler(model)(*given)
  for kind in ("noisy", "none"):
    same(sampler(model, window=4)(*given, drafts=drafts(kind, plain.responses.tokens)), plain)


def test_any_of_several_tokens_ends_a_response_within_a_window():
  model, params = language()
  given = (params, asked(), jax.random.key(0), jnp.float32(0))
  endless = sampler(model, eos_id=-1)(*given).responses.tokens
  stops = tuple({int(endless[0, 5]), int(endless[1, 3]), tiny.EOS})
  plain = sampler(model, eos_id=stops)(*given)
  for kind in ("noisy", "same"):
    same(sampler(model, eos_id=stops, window=8)(*given, drafts=drafts(kind, endless)), plain)
  lengths = np.asarray(plain.responses.mask).sum(axis=1)
  assert len({*lengths.tolist()}) > 1 and lengths.min() < R


@pytest.mark.parametrize("ways", WAYS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_sampled_does_not_depend_on_the_window(temperature, ways, monkeypatch):
  """Nor on tiles, rows left behind, or how the batch is divided: each token has its own noise."""
  monkeypatch.setattr(prefill, "FEWEST_ROWS", 4)
  model, params = language()
  given = (params, asked(), jax.random.key(3), jnp.float32(temperature))
  tokens = sampler(model)(params, asked(), jax.random.key(3), jnp.float32(0)).responses.tokens
  for kind in KINDS:
    repeated = drafts(kind, tokens)
    one = sampler(model, window=1)(*given, drafts=repeated)
    same(sampler(model, **ways)(*given, drafts=repeated), one)


def test_what_is_sampled_does_not_depend_on_batch_mates():
  model, params = language()
  repeated = draft(tiny.ids(5, ROWS, R))
  key, one = jax.random.key(3), jnp.float32(1)
  whole = sampler(model, window=4)(params, asked(), key, one, drafts=repeated)
  rows = np.array([11, 2, 7, 5])
  few = jax.tree.map(lambda x: x[rows], (asked(), repeated))
  alone = sampler(model, window=4)(params, few[0], key, one, numbers=jnp.array(rows), drafts=few[1])
  np.testing.assert_array_equal(alone.responses.tokens, whole.responses.tokens[rows])
  np.testing.assert_array_equal(alone.responses.mask, whole.responses.mask[rows])


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_are_those_the_trainer_computes(temperature):
  model, params = language()
  repeated = drafts("noisy", sampler(model)(params, asked(), KEY, jnp.float32(0)).responses.tokens)
  sampled = sampler(model, window=8)(
    params, asked(), KEY, jnp.float32(temperature), drafts=repeated
  )
  score = jax.jit(functools.partial(scoring.response_logprobs, model))
  expected, _ = score(params, asked(), sampled.responses, jnp.float32(temperature))
  np.testing.assert_allclose(sampled.logprobs, expected, atol=1e-5)


KEY = jax.random.key(9)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["likely", "unlikely", "none"])
def test_every_response_has_its_probability(kind, seed):
  """χ² over all responses of at most three tokens, with the same draft in all rows."""
  length, rows = 3, 20_000
  model = tiny.language(layers=1, vocabulary=4)
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=2, scale=0.4))
  prompt = [3, 2]
  law = exact_law(model, params, prompt, 1.0, length)
  by_probability = sorted(law, key=law.get)
  longest = [response for response in by_probability if len(response) == length]
  text = {"likely": longest[-1], "unlikely": longest[len(longest) // 3], "none": longest[0]}[kind]
  repeated = draft([text] * rows, [0] * rows if kind == "none" else None)
  prompts = Prompts(
    tokens=jnp.tile(jnp.array([[0, *prompt]], jnp.int32), (rows, 1)),
    mask=jnp.tile(jnp.array([[False, True, True]]), (rows, 1)),
  )
  ask = sampler(model, length, window=4)
  sampled = ask(params, prompts, jax.random.key(seed), jnp.float32(1), drafts=repeated)
  counts = dict.fromkeys(law, 0)
  for tokens, mask in zip(*jax.device_get((sampled.responses.tokens, sampled.responses.mask))):
    counts[tuple(tokens[mask].tolist())] += 1
  expected = rows * np.array(list(law.values()))
  seen = np.array(list(counts.values()))
  rare = expected < 5
  seen, expected = (np.array([*x[~rare], x[rare].sum() + 1e-9]) for x in (seen, expected))
  statistic, degrees = ((seen - expected) ** 2 / expected).sum(), len(seen) - 1
  assert statistic < degrees + 4 * np.sqrt(2 * degrees)


def test_a_mesh_samples_what_one_device_does():
  model, params = language()
  plain = sampler(model)(params, asked(), KEY, jnp.float32(0))
  repeated = drafts("noisy", plain.responses.tokens)
  mesh = parallel.make_mesh((2, 2, 2))
  spread = jax.device_put(params, parallel.partition(params, model.axes, mesh))
  ends = {"eos_id": tiny.EOS, "pad_id": tiny.PAD, "length": R}
  ways = {"window": 4, "parts": parallel.parts(mesh), "shrinking": True}
  sample = jax.jit(layout.on(mesh, functools.partial(decode.sample, model, **ends, **ways)))
  given = parallel.put_batch((asked(), repeated), mesh)
  sampled = sample(spread, given[0], KEY, jnp.float32(0), drafts=given[1])
  same(jax.device_get(sampled), jax.device_get(plain))


def test_several_samples_of_a_prompt_share_its_draft():
  model, params = language()
  repeated = draft(tiny.ids(5, 4, R))
  few, many = asked(rows=4), jax.tree.map(lambda x: jnp.repeat(x, 4, axis=0), asked(rows=4))
  given = KEY, jnp.float32(1)
  one = sampler(model, window=4, samples=4)(params, few, *given, drafts=repeated)
  each = jax.tree.map(lambda x: jnp.repeat(x, 4, axis=0), repeated)
  same(one, sampler(model, window=4)(params, many, *given, drafts=each))


# How long it takes


def test_a_draft_that_is_repeated_takes_a_forward_per_window():
  model, params = language()
  plain = sampler(model, eos_id=-1)(params, asked(), KEY, jnp.float32(0))
  np.testing.assert_array_equal(plain.passes, R)
  for window in (4, 16):
    # So few rows that no window is too dear to be tried again.
    ask = sampler(model, eos_id=-1, window=window, platform="tpu")
    one = ask(params, asked(), KEY, jnp.float32(0), drafts=draft(plain.responses.tokens))
    # The prompt's forward gives the first token.
    np.testing.assert_array_equal(one.passes, 1 + -(-(R - 1) // window))


def test_a_draft_of_tokens_that_are_never_said_costs_no_forward():
  """The prompt may still propose one that is, so it is at most a forward for each token."""
  model, params = language()
  plain = sampler(model, eos_id=-1)(params, asked(), KEY, jnp.float32(0))
  never = draft(np.full((ROWS, R), tiny.VOCABULARY))  # no token that the model knows
  one = sampler(model, eos_id=-1, window=4)(params, asked(), KEY, jnp.float32(0), drafts=never)
  same(one, plain)
  assert (np.asarray(one.passes) <= R).all()


def test_windows_that_give_nothing_are_left():
  """Steps of whole windows, counted by what the model reads, while no proposal fits."""
  model, params = language()
  reads = []

  def apply(params, tokens, *rest, method="__call__"):
    result = model.apply(params, tokens, *rest, method=method)
    jax.debug.callback(lambda: reads.append(tokens.shape[1]))
    return result

  counting = dataclasses.replace(model, apply=apply)
  length = 64
  never = draft(np.full((ROWS, length), tiny.VOCABULARY))
  empty = Prompts(tokens=jnp.full((ROWS, 1), 3, jnp.int32), mask=jnp.ones((ROWS, 1), bool))
  ask = sampler(counting, length, eos_id=-1, window=4)
  # At a high temperature nothing repeats itself either.
  ask(params, empty, KEY, jnp.float32(5), drafts=never)
  jax.effects_barrier()
  wide = sum(count == 4 for count in reads)
  cost = speculation.price(ROWS, 4, "cpu")
  assert 1 <= wide <= 1 + np.ceil(length / speculation.patience(cost)) + 2
  assert len(reads) <= length


@pytest.mark.parametrize("rows, platform, length, expected", [
  (1, "cpu", 128, 16), (8, "cpu", 128, 8), (32, "cpu", 128, 4), (256, "cpu", 128, 2),
  (8, "tpu", 128, 16), (64, "tpu", 128, 8), (1, "gpu", 128, 16), (1, "cpu", 3, 2),
])  # fmt: skip
def test_windows_are_as_wide_as_they_are_cheap(rows, platform, length, expected):
  assert speculation.window(rows, platform, length) == expected
  assert speculation.price(rows, 1, platform) == 1
  assert speculation.price(rows, expected, platform) <= speculation.DEAREST


# Proposals


def slow_proposals(sources, response, pointer, count):
  """The next tokens one by one, each from the texts as they are when all before it were right."""
  texts, proposals = [*sources, *response], []
  for place in range(pointer, pointer + count):
    token = texts[place] if place < len(texts) else speculation.NOTHING
    proposals.append(token)
    texts.append(token)
  return proposals


def slow_pointer(sources, response, expected):
  """The place after the longest match with the response's end, nearest to the expected one."""
  texts = [*sources, *response]
  best = None
  for place in range(len(texts)):
    if texts[place] == speculation.NOTHING:
      continue
    match = 0
    while match < min(speculation.SUFFIX, len(response)) and place - 1 - match >= 0:
      if texts[place - 1 - match] != response[-1 - match]:
        break
      match += 1
    distance = place - expected
    rank = (match, -distance if distance >= 0 else 2 * distance)
    if match and (best is None or rank > best[0]):
      best = rank, place
  return expected if best is None else best[1]


@pytest.mark.parametrize("seed", range(6))
def test_proposals_are_those_of_slow_python(seed):
  rng = np.random.default_rng(seed)
  rows, start, room = 40, 14, 10
  sources = rng.integers(-1, 4, (rows, start))
  sources[:, -1] = speculation.NOTHING
  taken = rng.integers(1, room + 1, rows)
  responses = rng.integers(0, 4, (rows, room))
  texts = np.concatenate([sources, np.where(np.arange(room) < taken[:, None], responses, -1)], 1)
  pointer = np.array([rng.integers(0, start + n) for n in taken])
  given = tuple(map(jnp.array, (texts, taken, pointer)))
  proposed = np.asarray(speculation.propose(*given, start, 5))
  accepted, replaced = rng.integers(0, 3, rows), rng.random(rows) < 0.7
  moved = speculation.follow(*given, jnp.array(accepted), jnp.array(replaced), start)
  for i in range(rows):
    response = responses[i, : taken[i]].tolist()
    slow = slow_proposals(sources[i].tolist(), response, int(pointer[i]), 5)
    # What follows a place without a token is never read.
    until = slow.index(speculation.NOTHING) + 1 if speculation.NOTHING in slow else 5
    assert proposed[i, :until].tolist() == slow[:until]
    expected = int(pointer[i] + accepted[i] + replaced[i])
    if replaced[i]:
      expected = slow_pointer(sources[i].tolist(), response, expected)
    assert moved[i] == expected


def test_sources_hold_the_draft_before_the_prompt():
  prompts = Prompts(jnp.array([[7, 8, 9]]), jnp.array([[False, True, True]]))
  texts = speculation.sources(prompts, draft([[4, 5, 6]], [2]))
  assert texts.tolist() == [[4, 5, -1, -1, -1, 8, 9, -1]]


# Drawing


@pytest.mark.parametrize("proposal", [0, 1, 3, -1])
@pytest.mark.parametrize("temperature, top_p", [(1.0, None), (0.5, None), (1.0, 0.8)])
def test_kept_or_replaced_a_token_has_its_probability(proposal, temperature, top_p):
  logits = jnp.log(jnp.array([0.5, 0.25, 0.15, 0.1]))
  count = 40_000
  keys = jax.random.split(jax.random.key(1), count)[:, None]
  given = jnp.broadcast_to(logits, (count, 1, 4)), jnp.full((count, 1), proposal)
  cut = None if top_p is None else jnp.float32(top_p)
  tokens, logprobs, kept = drawing.draw_or_keep(*given, jnp.float32(temperature), keys, cut)
  law = np.exp(np.asarray(logits) / temperature)
  law = np.where(np.arange(4) < 3, law, 0) if top_p else law
  law /= law.sum()
  frequencies = np.bincount(np.asarray(tokens)[:, 0], minlength=4) / count
  # Five deviations of a share of so many draws.
  np.testing.assert_allclose(frequencies, law, atol=5 * 0.5 / count**0.5)
  np.testing.assert_allclose(np.exp(logprobs[:, 0]), law[tokens[:, 0]], rtol=1e-5)
  assert ((np.asarray(tokens) == proposal) == (np.asarray(kept)[:, None] == 1)).all()


def test_what_is_almost_certain_is_replaced_as_rarely_as_it_is_improbable():
  """Of 4 million draws about 40 fall on what has a probability of 1e-5."""
  rare, count = 1e-5, 1 << 22
  logprobs = jnp.log(jnp.array([1 - rare, rare]))
  keys = jax.random.split(jax.random.key(2), count)
  is_kept = jax.jit(drawing._is_kept)(
    jnp.full((count, 1), logprobs[0]), jnp.full((count, 1), logprobs[1]), keys[:, None]
  )
  assert 15 < count - int(is_kept.sum()) < 75
