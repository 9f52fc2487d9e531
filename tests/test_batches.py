"""Padding, order, and the records made of preference rows."""

import collections
import math

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax import types
from pit_jax.data import batches, encode, rows, template, text

PATIENT = hypothesis.settings(deadline=None, max_examples=60)
IDS = strategies.lists(strategies.lists(strategies.integers(0, 9), max_size=6), max_size=5)


def test_buckets_are_the_documented_lengths():
  allowed = [*range(8, 129, 8), *range(144, 257, 16), *range(288, 513, 32)]
  for length in range(1, 513):
    assert batches.bucket(length) == min(size for size in allowed if size >= length)
  with pytest.raises(ValueError, match="give at least 1"):
    batches.bucket(0)


@PATIENT
@hypothesis.given(IDS, strategies.integers(6, 9))
def test_padding_is_what_a_loop_would_write(ids, length):
  prompts = batches.pad_prompts(ids, length, 7)
  responses = batches.pad_responses(ids, length, 7)
  assert prompts.tokens.shape == responses.mask.shape == (len(ids), length)
  assert (prompts.tokens.dtype, prompts.mask.dtype) == (np.int32, bool)
  for i, row in enumerate(ids):
    gap = length - len(row)
    assert prompts.tokens[i].tolist() == [7] * gap + row
    assert prompts.mask[i].tolist() == [False] * gap + [True] * len(row)
    assert responses.tokens[i].tolist() == row + [7] * gap
    assert responses.mask[i].tolist() == [True] * len(row) + [False] * gap


def test_a_row_longer_than_the_padding_is_refused():
  for pad in (batches.pad_prompts, batches.pad_responses):
    with pytest.raises(ValueError, match="row 1 has 3 tokens and the padded length is 2"):
      pad([[1], [1, 2, 3]], 2, 0)


def _record(count):
  """A record whose row i can be told from any other: all its tokens are i."""
  tokens = np.repeat(np.arange(count, dtype=np.int32)[:, None], 3, axis=1)
  return types.Prompts(tokens=tokens, mask=np.ones_like(tokens, bool))


def _sequence(count, batch_size, seed, steps):
  """The rows that the first steps show, in order."""
  shuffled = batches.Batches(_record(count), batch_size, seed)
  shown = [shuffled[step].tokens for step in range(steps)]
  assert all(tokens.shape == (batch_size, 3) for tokens in shown)
  return np.concatenate(shown)[:, 0].tolist()


@pytest.mark.parametrize(("count", "batch_size"), [(20, 6), (20, 20), (7, 10), (1, 3)])
def test_every_epoch_shows_every_row_once(count, batch_size):
  epochs = 3
  steps = batches.Batches(_record(count), batch_size, 0).steps(epochs)
  shown = _sequence(count, batch_size, 0, steps)
  for epoch in range(epochs):
    assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own():
  orders = []
  for seed in (0, 1, 2, -1, 2**40):
    shown = _sequence(20, 10, seed, 6)
    orders += [tuple(shown[:20]), tuple(shown[20:40]), tuple(shown[40:])]
  assert len(set(orders)) == len(orders)
  assert tuple(range(20)) not in orders


def test_a_step_does_not_depend_on_the_steps_before_it():
  whole = _sequence(11, 4, 5, 8)
  for step in (7, 2, 5):
    fresh = batches.Batches(_record(11), 4, 5)
    assert fresh[step].tokens[:, 0].tolist() == whole[4 * step : 4 * step + 4]
  with pytest.raises(ValueError, match="step -1 is before the first"):
    fresh[-1]


def test_all_arrays_of_a_record_stay_together():
  columns = {"prompts": _record(9), "score": np.arange(9.0)}
  batch = batches.Batches(columns, 4, 0)[1]
  assert batch["score"].tolist() == batch["prompts"].tokens[:, 0].tolist()


def test_steps_are_the_fewest_that_show_everything():
  shuffled = batches.Batches(_record(10), 4, 0)
  assert [shuffled.steps(epochs) for epochs in (0, 0.1, 0.4, 0.5, 1, 2)] == [0, 1, 1, 2, 3, 5]
  for epochs in (0.3, 0.7, 1.2, 3.0):
    steps = shuffled.steps(epochs)
    assert 4 * steps >= round(10 * epochs, 6) > 4 * (steps - 1)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 5)])
def test_in_order_shows_every_row_once_in_one_shape(count, batch_size):
  shown = list(batches.in_order(_record(count), batch_size))
  assert len(shown) == math.ceil(count / batch_size)
  assert {batch.tokens.shape for batch, _ in shown} == {(batch_size, 3)}
  real = np.concatenate([batch.tokens[:number] for batch, number in shown])
  np.testing.assert_array_equal(real, _record(count).tokens)
  last, number = shown[-1]
  assert set(last.tokens[number:, 0].tolist()) <= {count - 1}


def test_records_that_cannot_be_batched_are_refused():
  for make in (
    lambda *given: batches.Batches(*given, 0),
    lambda *given: [*batches.in_order(*given)],
  ):
    with pytest.raises(ValueError, match="without rows"):
      make(_record(0), 4)
    with pytest.raises(ValueError, match="batch size 0"):
      make(_record(4), 0)
    with pytest.raises(ValueError, match=r"have \[4, 5\] rows"):
      make([_record(4), _record(5)], 2)


PAIRS = [
  rows.Preference("a b", "yes it is", "no"),
  rows.Preference("a much longer question than that", "yes", "so"),
  rows.Preference("c", "a much longer answer", "a much longer reply"),
  rows.Preference("d é", "x", "y"),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  """One token per byte, so that lengths can be counted by hand."""
  return text.train_tokenizer(["a"], 258, tmp_path_factory.mktemp("bytewise"))


def _settings(tokenizer, prompt=100, response=100, over_long="cut"):
  return encode.Settings(tokenizer, template.Template(), prompt, response, over_long)


def _spelled(tokenizer, column):
  """The real tokens of every row as text, the end of sequence as a bar."""
  ids = [tokens[mask].tolist() for tokens, mask in zip(column.tokens, column.mask)]
  ends = ["|" if row and row[-1] == tokenizer.eos_id else "" for row in ids]
  return [tokenizer.decode(row) + end for row, end in zip(ids, ends)]


def _columns(record):
  """The prompts and responses of a record, by field."""
  return vars(record)


def test_every_model_reads_the_row_in_its_own_way(tokenizer):
  settings = _settings(tokenizer)
  asked = [f"Question: {row.prompt}\nAnswer:" for row in PAIRS]
  given = {
    name: [f"Question: {row.prompt}\nDraft: {getattr(row, name)}\nBetter:" for row in PAIRS]
    for name in ("chosen", "rejected")
  }
  chosen = [f" {row.chosen}|" for row in PAIRS]
  rejected = [f" {row.rejected}|" for row in PAIRS]
  expected = {
    encode.policy_demonstrations: {"prompts": asked, "responses": chosen},
    encode.improver_demonstrations: {"prompts": given["rejected"], "responses": chosen},
    encode.preferences: {"prompts": asked, "chosen": chosen, "rejected": rejected},
    encode.gap_preferences: {
      "given_chosen": given["chosen"],
      "given_rejected": given["rejected"],
      "chosen": chosen,
      "rejected": rejected,
    },
  }
  for function, columns in expected.items():
    record, counts, index = function(PAIRS, settings)
    found = {name: _spelled(tokenizer, column) for name, column in _columns(record).items()}
    assert found == columns
    assert counts == {"kept": 4, "cut": 0, "dropped": 0}
    assert index.tolist() == [0, 1, 2, 3]


def test_plain_prompts(tokenizer):
  settings = _settings(tokenizer)
  asked = encode.policy_prompts([row.prompt for row in PAIRS], settings)
  assert isinstance(asked.record, types.Prompts)
  assert _spelled(tokenizer, asked.record)[3] == "Question: d é\nAnswer:"
  given = encode.improver_prompts(["p", "q"], [" r\n", "s"], settings)
  expected = ["Question: p\nDraft: r\nBetter:", "Question: q\nDraft: s\nBetter:"]
  assert _spelled(tokenizer, given.record) == expected
  demonstrations = encode.improver_demonstrations(PAIRS, settings).record.prompts
  rejected = [row.rejected for row in PAIRS]
  again = encode.improver_prompts([row.prompt for row in PAIRS], rejected, settings).record
  jax.tree.map(np.testing.assert_array_equal, again, demonstrations)


def test_a_record_is_padded_to_the_bucket_of_its_longest_row(tokenizer):
  record = encode.gap_preferences(PAIRS, _settings(tokenizer)).record
  shapes = {name: column.tokens.shape for name, column in _columns(record).items()}
  longest = len("Question: a much longer question than that\nDraft: yes\nBetter:")
  assert shapes["given_chosen"] == shapes["given_rejected"] == (4, batches.bucket(longest))
  longest = len(" a much longer answer") + 1
  assert shapes["chosen"] == shapes["rejected"] == (4, batches.bucket(longest))
  short = encode.preferences(PAIRS[:1], _settings(tokenizer)).record
  assert short.chosen.tokens.shape == short.rejected.tokens.shape == (1, 16)


def test_over_long_rows_are_cut_and_counted(tokenizer):
  settings = _settings(tokenizer, prompt=len("Question: than that\nAnswer:"), response=12)
  record, counts, index = encode.preferences(PAIRS, settings)
  # Row 2 is gone: its two responses begin with the same twelve tokens.
  assert counts == {"kept": 3, "cut": 1, "dropped": 1}
  assert index.tolist() == [0, 1, 3]
  asked = ["Question: a b\nAnswer:", "Question: than that\nAnswer:", "Question: d é\nAnswer:"]
  assert _spelled(tokenizer, record.prompts) == asked
  record, counts, _ = encode.policy_demonstrations(PAIRS, settings)
  assert counts == {"kept": 4, "cut": 2, "dropped": 0}
  assert _spelled(tokenizer, record.responses) == [" yes it is|", " yes|", " a much long", " x|"]
  record, counts, _ = encode.improver_demonstrations(PAIRS, settings)
  assert _spelled(tokenizer, record.prompts)[1:3] == [
    "Question: than that\nDraft: so\nBetter:",
    "Question: c\nDraft: a much long\nBetter:",
  ]
  assert counts == {"kept": 4, "cut": 2, "dropped": 0}


def test_over_long_rows_are_dropped_and_counted(tokenizer):
  settings = _settings(tokenizer, prompt=40, response=12, over_long="drop")
  record, counts, index = encode.gap_preferences(PAIRS, settings)
  assert counts == {"kept": 2, "cut": 0, "dropped": 2}
  assert index.tolist() == [0, 3]
  assert _spelled(tokenizer, record.rejected) == [" no|", " y|"]
  asked = encode.policy_prompts([row.prompt for row in PAIRS], settings)
  assert asked.index.tolist() == [0, 2, 3]
  with pytest.raises(ValueError, match="of 2 rows none is left: 2 are longer"):
    encode.preferences(PAIRS[1:3], settings)


def test_the_improver_never_exceeds_its_limit(tokenizer):
  """Its limit: the policy's prompt, a response, and its own template's tokens."""
  long = [rows.Preference("word " * 50, f"{i} " * 60, "no " * 60) for i in range(3)]
  record = encode.improver_demonstrations(long, _settings(tokenizer, 50, 20)).record
  template_tokens = len("Question:\nDraft:\nBetter:")
  assert record.prompts.mask.sum(axis=1).max() <= 50 + 20 + template_tokens
  assert record.responses.mask.sum(axis=1).max() == 20


@PATIENT
@hypothesis.given(strategies.lists(strategies.text(alphabet="ab é\n", max_size=9), min_size=1))
def test_decoding_undoes_encoding(tokenizer, answers):
  ids = template.Template().encode_responses(tokenizer, answers).ids
  padded = batches.pad_responses(ids, 32, tokenizer.pad_id)
  assert encode.decode_responses(tokenizer, padded) == [answer.strip() for answer in answers]


def test_settings_are_checked(tokenizer):
  with pytest.raises(ValueError, match='over_long is \'keep\'; use "cut" or "drop"'):
    _settings(tokenizer, over_long="keep")


def test_a_record_is_batched_by_rows(tokenizer):
  record = encode.preferences(PAIRS, _settings(tokenizer)).record
  batch = batches.Batches(record, 8, 0)[0]
  counted = collections.Counter(_spelled(tokenizer, batch.prompts))
  assert counted == collections.Counter(2 * _spelled(tokenizer, record.prompts))
