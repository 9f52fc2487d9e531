"""Models asked about rows of many lengths: what is put together changes no answer."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_models

from pit_jax import parallel, types

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
  ways = [asked.rate(params["reward"], QUESTIONS, ANSWERS) for asked in asking]
  np.testing.assert_allclose(*ways, rtol=1e-4, atol=1e-5)
  assert len(set(shapes[:4])) == 1 and len(set(shapes[4:])) > 1


def test_answers_come_back_in_the_order_of_the_questions(asking):
  params = tiny_models.models_of(asking[0])
  key = jax.random.key(0)
  ways = [asked.answer(params["policy"], QUESTIONS, key, 0.0) for asked in asking]
  assert ways[0] == ways[1]
  assert len(set(ways[0])) > 1


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
