"""Models asked about rows of many lengths: what is put together changes no answer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_models

from pit_jax import parallel, types
from pit_jax.models import pure
from pit_jax.rollout import decode, embedding, programs

QUESTIONS = [f"what is the {'first ' * n}word ?" for n in (0, 5, 1, 4, 0, 2, 3)]
ANSWERS = [f"it is {'the last ' * (n % 3)}word ." for n in range(7)]


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  plain = tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))
  return plain, dataclasses.replace(plain, by_length=True)


@pytest.fixture
def shapes(monkeypatch):
  """Records the widths of what the models are given."""
  put_batch, seen = parallel.put_batch, []

  def noted(batch, mesh):
    seen.append(tuple(leaf.shape[1] for leaf in jax.tree.leaves(batch)))
    return put_batch(batch, mesh)

  monkeypatch.setattr(parallel, "put_batch", noted)
  return seen


def test_scores_do_not_depend_on_what_they_are_computed_with(asking, shapes):
  params = tiny_models.models_of(asking[0])
  ways = []
  widths = []
  for asked in asking:
    shapes.clear()
    ways.append(asked.rate(params["reward"], QUESTIONS, ANSWERS))
    widths.append({*shapes})
  np.testing.assert_allclose(*ways, rtol=1e-4, atol=1e-5)
  # Rows of one width that any text fits into; or, by length, of what these texts need.
  whole = 32 + asking[0].response_length
  assert widths[0] == {(whole, whole)}
  ((tokens, ends),) = widths[1]
  assert tokens == ends <= whole


def test_a_question_is_the_mean_of_the_states_of_its_own_tokens(asking):
  """By hand: each question alone, without padding."""
  params = jax.tree.map(jnp.asarray, tiny_models.models_of(asking[0])["policy"])
  shown = asking[0].settings.formats["policy"].conversations(QUESTIONS)
  alone = []
  for ids in asking[0].settings.encode(shown).ids:
    tokens = jnp.array([ids])
    hidden = asking[0].language.apply(params, tokens, tokens >= 0, method="hidden")
    alone.append(np.asarray(hidden)[0].mean(axis=0))
  assert len({len(one) for one in asking[0].settings.encode(shown).ids}) > 1
  for asked in asking:
    np.testing.assert_allclose(
      embedding.embeddings(asked, params, QUESTIONS), alone, rtol=1e-4, atol=1e-5
    )


def test_answers_come_back_in_the_order_of_the_questions(asking):
  params = tiny_models.models_of(asking[0])
  key = jax.random.key(0)
  ways = [asked.answer(params["policy"], QUESTIONS, key, 0.0) for asked in asking]
  assert ways[0] == ways[1]
  assert len(set(ways[0])) > 1


@pytest.mark.parametrize("samples", [1, 2])
def test_what_is_sampled_does_not_depend_on_the_batch(asking, samples):
  """Of the same key every response has its own noise, whatever rows it is sampled with."""
  params = tiny_models.models_of(asking[0])["improver"]
  chats = asking[0].settings.formats["improver"].conversations(QUESTIONS, ANSWERS)
  ways = []
  for asked in asking:
    for size in (1, 2, 6):  # the first of which gives places on
      one = dataclasses.replace(asked, batch_size=size)
      reply = functools.partial(one.reply, params, chats, jax.random.key(4), 1.0, samples=samples)
      ways.append((reply(), reply(ANSWERS)))
  plain, drafted = zip(*ways)
  assert len({*map(tuple, plain)}) == len({*map(tuple, drafted)}) == 1
  assert len(plain[0]) == samples * len(QUESTIONS) and len({*plain[0]}) > samples


def test_few_rows_are_a_small_batch_where_lengths_differ(asking, monkeypatch):
  params = tiny_models.models_of(asking[0])["policy"]
  put_batch, rows = parallel.put_batch, set()

  def noted(batch, mesh):
    rows.update(len(leaf) for leaf in jax.tree.leaves(batch))
    return put_batch(batch, mesh)

  monkeypatch.setattr(parallel, "put_batch", noted)
  replies = []
  for asked, size, expected in [(asking[0], 32, 32), (asking[1], 32, 8), (asking[1], 6, 6)]:
    rows.clear()
    asked = dataclasses.replace(asked, batch_size=size)
    replies.append(asked.answer(params, QUESTIONS, jax.random.key(1), 1.0))
    assert rows == {expected}
  assert replies[0] == replies[1] == replies[2]


def test_logprobs_keep_their_width(asking):
  params = tiny_models.models_of(asking[0])
  ways = []
  for asked in asking:
    asked = dataclasses.replace(asked, response_length=32)
    responses = asked.responses(ANSWERS)
    prompts = asked.responses(QUESTIONS)  # any tokens will do
    prompts = jax.tree.map(lambda leaf: leaf[:, ::-1], prompts)
    given = types.Prompts(tokens=prompts.tokens, mask=prompts.mask)
    ways.append(asked.logprobs(params["policy"], given, responses))
  assert ways[0].shape == ways[1].shape == (7, 32)
  np.testing.assert_allclose(*ways, rtol=1e-4, atol=1e-5)


# What sampling reads


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("changes", [{}, {"unroll": False}, {"dtype": "bfloat16"}], ids=str)
def test_sampling_reads_weights_laid_out_before_as_those_it_lays_out(changes, shape):
  model, mesh = tiny.language(tied=False, **changes), parallel.make_mesh(shape)
  params = jax.device_put(tiny.parameters(model, seed=0), parallel.homes(model, mesh))
  ends = {"eos_id": tiny.EOS, "pad_id": tiny.PAD}
  sample = programs.sampling(model, mesh, length=5, **ends)
  asked = parallel.put_batch(tiny.prompts(1, [1, 2, 3, 4], 4), mesh)
  given = asked, jax.random.key(0), np.float32(1)
  read = programs.laid_out(model, mesh, params)
  one = sample(params, *given)
  two = sample(read, *given)
  jax.tree.map(np.testing.assert_array_equal, one.responses, two.responses)
  np.testing.assert_allclose(one.logprobs, two.logprobs, rtol=1e-5, atol=1e-6)
  expected = pure.named(pure.gathered(model, params, mesh))
  for name, leaf in pure.named(read).items():
    for is_, wanted in zip(jax.tree.leaves(leaf), jax.tree.leaves(expected[name]), strict=True):
      assert (is_.shape, is_.dtype) == (wanted.shape, wanted.dtype), name
      assert is_.sharding.is_equivalent_to(wanted.sharding, is_.ndim), name


@pytest.mark.parametrize("is_ragged, size", [(False, None), (True, 256)])
def test_ragged_prompts_are_read_in_tiles(is_ragged, size, monkeypatch):
  """Of the platform's size, with as many parts as the mesh has."""
  seen, mesh = [], parallel.make_mesh((2, 2, 2))
  monkeypatch.setattr(decode, "sample", lambda model, params, **ways: seen.append(ways))
  programs.sampling(tiny.language(), mesh, is_ragged=is_ragged, length=3)(1)
  ways = {"shrinking": is_ragged, "tile": size, "parts": 4, "length": 3, "platform": "cpu"}
  ways["fewest"] = decode.FEWEST_OF_SMALL
  assert seen == [ways]


def test_what_lies_as_it_is_read_is_not_copied():
  mesh = parallel.make_mesh((1, 1, 1))
  for unroll in (True, False):
    model = tiny.language(unroll=unroll)
    params = jax.device_put(tiny.parameters(model, seed=0), parallel.homes(model, mesh))
    read = programs.laid_out(model, mesh, params)
    copied = {
      name for name, leaf in pure.named(read).items() if leaf is not pure.named(params)[name]
    }
    layers = {name for name in pure.named(params) if name.startswith("trunk.blocks.")}
    assert copied == (layers if unroll else set())
    again = programs.laid_out(model, mesh, read)
    assert all(leaf is pure.named(read)[name] for name, leaf in pure.named(again).items())


def test_weights_are_laid_out_once_for_all_batches(asking, monkeypatch):
  lay, calls = programs.laid_out, []
  monkeypatch.setattr(programs, "laid_out", lambda *asked: calls.append(1) or lay(*asked))
  params = tiny_models.models_of(asking[0])
  asking[0].answer(params["policy"], QUESTIONS, jax.random.key(0), 0.0)
  assert len(QUESTIONS) > 2 * asking[0].batch_size and len(calls) == 1
