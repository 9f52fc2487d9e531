"""Texts that share rows: each is there whole, and is scored as if it stood alone."""

import dataclasses

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_models
from hypothesis import strategies

from pit_jax import parallel
from pit_jax.data import padding, prefixes
from pit_jax.models import attention
from pit_jax.rollout import scoring

TEXT = strategies.lists(strategies.integers(0, 2), min_size=1, max_size=12)
# Few letters, and beginnings that are the same: much is shared.
TEXTS = strategies.lists(
  strategies.tuples(strategies.sampled_from([[], [3], [3, 4] * 6, [3, 4] * 6 + [5] * 9]), TEXT),
  min_size=1,
  max_size=20,
).map(lambda pairs: [np.array(start + rest, np.int32) for start, rest in pairs])


def seen(made, number):
  """Returns the tokens that the last one of a text sees, itself included."""
  row = made.row[number]
  visible = attention.causal(jnp.array(made.ends[[row]] > 0), jnp.array(made.ends[[row]]))
  return made.tokens[row][np.asarray(visible[0, made.last[number]])].tolist()


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(texts=TEXTS, room=strategies.integers(0, 30), shares=strategies.booleans())
def test_every_text_is_what_its_last_token_sees(texts, room, shares):
  made = prefixes.pack(texts, max(map(len, texts)) + room, shares=shares)
  assert [seen(made, number) for number in range(len(texts))] == [text.tolist() for text in texts]


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(texts=TEXTS)
def test_texts_that_share_nothing_have_ends_of_their_own(texts):
  """A kernel tells texts apart by their ends."""
  made = prefixes.pack(texts, 60, shares=False)
  for row, ends in zip(made.tokens, made.ends, strict=True):
    tokens = sum(
      len(text) for text, place in zip(texts, made.row) if (made.tokens[place] == row).all()
    )
    changes = np.flatnonzero(np.diff(ends, prepend=0))
    assert (ends > 0).sum() <= max(tokens, 1) and len(set(ends[changes])) == len(changes)
  assert (made.ends > 0).sum() == sum(map(len, texts))


def test_a_prompt_stands_once_for_its_responses_and_what_all_share_once_in_a_row():
  system, question = [9] * 10, [8] * 10
  texts = [system + question + [1, 2], system + [7] * 12, system + question + [1, 3, 4]]
  made = prefixes.pack([np.array(text) for text in texts], 40)
  assert made.tokens.tolist() == [system + [7] * 12 + question + [1, 2, 3, 4] + [0] * 4]
  first, second, third = 22, 34, 36  # ends of the texts: of what follows what is shared
  ends = [third] * 10 + [first] * 12 + [third] * 11 + [second] + [third] * 2 + [0] * 4
  assert made.ends.tolist() == [ends]
  assert (made.row == 0).all() and made.last.tolist() == [33, 21, 35]


def test_equal_texts_stand_once():
  made = prefixes.pack([np.array([1, 2, 3])] * 5, 4)
  assert made.tokens.tolist() == [[1, 2, 3, 0]] and made.last.tolist() == [2] * 5


@pytest.mark.parametrize("texts", [[], [[]], [[1, 2, 3, 4, 5]], [[1], []]], ids=str)
def test_what_cannot_be_packed_is_refused(texts):
  with pytest.raises(ValueError, match="cannot be packed into rows of 4; give texts of 1 to 4"):
    prefixes.pack([np.array(text, np.int32) for text in texts], 4)


WAYS = {
  "fixed": {},
  "by length": {"by_length": True},
  "kernel": {"attention": "splash_interpreted"},
  "windows": {"windowed": (True, False), "window": 3},
  "eight devices": {"mesh": (2, 2, 2)},
}


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_are_those_of_separate_texts(asking, way, batch_size):
  """Prompts that repeat, responses that begin alike, and texts of many lengths."""
  options = dict(WAYS[way])
  by_length = options.pop("by_length", False)
  mesh = parallel.make_mesh(options.pop("mesh", (1, 1, 1)))
  scalar = tiny.scalar(**options)
  changes = {"scalar": scalar, "batch_size": batch_size, "mesh": mesh, "by_length": by_length}
  asking = dataclasses.replace(asking, **changes)
  params = tiny.parameters(scalar, seed=3)
  prompts = tiny.prompts(1, [12, 9, 12, 3, 1, 12], 12)
  prompts.tokens[2] = prompts.tokens[0]
  first, second = tiny.responses(2, [5, 0, 1, 7, 3, 2], 7), tiny.responses(3, [7, 7, 4, 1, 6, 0], 7)
  second.tokens[0, :3] = first.tokens[0, :3]
  found = asking.score_all(params, (prompts, first), (prompts, second))
  plain = tiny.scalar(**{k: v for k, v in options.items() if k != "attention"})
  for scores, responses in zip(found, (first, second), strict=True):
    arrays = jax.tree.map(jnp.asarray, (params, prompts, responses))
    (expected,) = scoring.sequence_scores(plain, *arrays)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_joined_rows_are_their_real_tokens():
  prompts, responses = tiny.prompts(0, [2, 1], 3), tiny.responses(1, [1, 4], 4)
  joined = padding.joined(prompts, responses)
  for row, text in enumerate(joined):
    parts = [part.tokens[row][part.mask[row]] for part in (prompts, responses)]
    assert text.tolist() == np.concatenate(parts).tolist()
