"""What each model reads of a preference row: the encoded sets, in memory."""

import collections
import functools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies

from pit_jax import types
from pit_jax.data import batches, encode, padding, rows, template, text

PATIENT = hypothesis.settings(deadline=None, max_examples=60)

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


def demonstrations(name):
  return lambda rows, settings: encode.demonstrations(rows, settings.formats[name], settings)


def _opened(table):
  return table[:], table.contents


def _columns(record):
  """The prompts and responses of a record, by field."""
  return {name: column for name, column in vars(record).items() if name != "columns"}


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
    demonstrations("policy"): {"prompts": asked, "responses": chosen},
    demonstrations("improver"): {"prompts": given["rejected"], "responses": chosen},
    encode.preferences: {"prompts": asked, "chosen": chosen, "rejected": rejected},
    functools.partial(encode.preferences, shown="improver"): {
      "prompts": given["rejected"],
      "chosen": chosen,
      "rejected": rejected,
    },
    encode.gap_preferences: {
      "given_chosen": given["chosen"],
      "given_rejected": given["rejected"],
      "chosen": chosen,
      "rejected": rejected,
    },
  }
  for function, columns in expected.items():
    table = function(PAIRS, settings)
    found = {name: _spelled(tokenizer, column) for name, column in _columns(table[:]).items()}
    assert found == columns
    assert table.contents.counts == {"kept": 4, "cut": 0, "dropped": 0}
    assert table.contents.index.tolist() == [0, 1, 2, 3]


def test_plain_prompts(tokenizer):
  settings = _settings(tokenizer)
  asked = encode.prompts(
    settings.formats["policy"].conversations([row.prompt for row in PAIRS]), settings
  )[:]
  assert isinstance(asked, types.Prompts)
  assert _spelled(tokenizer, asked)[3] == "Question: d é\nAnswer:"
  given = encode.prompts(
    settings.formats["improver"].conversations(["p", "q"], [" r\n", "s"]), settings
  )
  expected = ["Question: p\nDraft: r\nBetter:", "Question: q\nDraft: s\nBetter:"]
  assert _spelled(tokenizer, given[:]) == expected
  learnt = demonstrations("improver")(PAIRS, settings)[:].prompts
  rejected = [row.rejected for row in PAIRS]
  again = encode.prompts(
    settings.formats["improver"].conversations([row.prompt for row in PAIRS], rejected), settings
  )[:]
  jax.tree.map(np.testing.assert_array_equal, again, learnt)


def test_a_record_is_padded_to_the_bucket_of_its_longest_row(tokenizer):
  record = encode.gap_preferences(PAIRS, _settings(tokenizer))[:]
  shapes = {name: column.tokens.shape for name, column in _columns(record).items()}
  longest = len("Question: a much longer question than that\nDraft: yes\nBetter:")
  assert shapes["given_chosen"] == shapes["given_rejected"] == (4, padding.bucket(longest))
  longest = len(" a much longer answer") + 1
  assert shapes["chosen"] == shapes["rejected"] == (4, padding.bucket(longest))
  short = encode.preferences(PAIRS, _settings(tokenizer))[[0]]
  assert short.chosen.tokens.shape == short.rejected.tokens.shape == (1, 16)


def test_over_long_rows_are_cut_and_counted(tokenizer):
  settings = _settings(tokenizer, prompt=len("Question: than that\nAnswer:"), response=12)
  record, (_, index, counts) = _opened(encode.preferences(PAIRS, settings))
  # Row 2 is gone: its two responses begin with the same twelve tokens.
  assert counts == {"kept": 3, "cut": 1, "dropped": 1}
  assert index.tolist() == [0, 1, 3]
  asked = ["Question: a b\nAnswer:", "Question: than that\nAnswer:", "Question: d é\nAnswer:"]
  assert _spelled(tokenizer, record.prompts) == asked
  record, (_, _, counts) = _opened(demonstrations("policy")(PAIRS, settings))
  assert counts == {"kept": 4, "cut": 2, "dropped": 0}
  assert _spelled(tokenizer, record.responses) == [" yes it is|", " yes|", " a much long", " x|"]
  record, (_, _, counts) = _opened(demonstrations("improver")(PAIRS, settings))
  assert _spelled(tokenizer, record.prompts)[1:3] == [
    "Question: than that\nDraft: so\nBetter:",
    "Question: c\nDraft: a much long\nBetter:",
  ]
  assert counts == {"kept": 4, "cut": 2, "dropped": 0}


def test_over_long_rows_are_dropped_and_counted(tokenizer):
  settings = _settings(tokenizer, prompt=40, response=12, over_long="drop")
  record, (_, index, counts) = _opened(encode.gap_preferences(PAIRS, settings))
  assert counts == {"kept": 2, "cut": 0, "dropped": 2}
  assert index.tolist() == [0, 3]
  assert _spelled(tokenizer, record.rejected) == [" no|", " y|"]
  asked = encode.prompts(
    settings.formats["policy"].conversations([row.prompt for row in PAIRS]), settings
  )
  assert asked.contents.index.tolist() == [0, 2, 3]
  with pytest.raises(ValueError, match="of 2 rows none is left: 2 are longer"):
    encode.preferences(PAIRS[1:3], settings)


def test_the_improver_never_exceeds_its_limit(tokenizer):
  """Its limit: the policy's prompt, a response, and its own template's tokens."""
  long = [rows.Preference("word " * 50, f"{i} " * 60, "no " * 60) for i in range(3)]
  record = demonstrations("improver")(long, _settings(tokenizer, 50, 20))[:]
  template_tokens = len("Question:\nDraft:\nBetter:")
  assert record.prompts.mask.sum(axis=1).max() <= 50 + 20 + template_tokens
  assert record.responses.mask.sum(axis=1).max() == 20


@PATIENT
@hypothesis.given(strategies.lists(strategies.text(alphabet="ab é\n", max_size=9), min_size=1))
def test_decoding_undoes_encoding(tokenizer, answers):
  ids = template.Template().encode_responses(tokenizer, answers).ids
  padded = padding.pad_responses(ids, 32, tokenizer.pad_id)
  assert encode.decode_responses(tokenizer, padded) == [answer.strip() for answer in answers]


def test_settings_are_checked(tokenizer):
  with pytest.raises(ValueError, match='over_long is \'keep\'; use "cut" or "drop"'):
    _settings(tokenizer, over_long="keep")


def test_a_record_is_batched_by_rows(tokenizer):
  table = encode.preferences(PAIRS, _settings(tokenizer))
  batch = batches.Batches(table, 8, 0)[0]
  counted = collections.Counter(_spelled(tokenizer, batch.prompts))
  assert counted == collections.Counter(2 * _spelled(tokenizer, table[:].prompts))
