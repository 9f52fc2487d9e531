"""Ids found word by word are those that the tokenizer gives whole texts."""

import hypothesis
import pytest
import tokenizers
import transformers
from hypothesis import strategies

from pit_jax.data import text, words

PATIENT = hypothesis.settings(deadline=None, max_examples=60)
SAMPLE = ["the letter to mia , please", "the bill is 12 . rent 4", "naïve café 東京 <eos>"]
TEXTS = strategies.text(max_size=40).map(lambda value: value.encode(errors="ignore").decode())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(SAMPLE * 3, 320, tmp_path_factory.mktemp("tokenizer"))


DIGITS = tokenizers.pre_tokenizers.Digits(individual_digits=True)
BYTES = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA_3, QWEN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
  r"|\s*[\r\n]+|\s+(?!\S)|\s+"
  for digits in (r"\p{N}{1,3}", r"\p{N}")
)


def _split(pattern):
  return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


READERS = {  # pre-tokenizer, and whether its words are known
  "gpt2": ([tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)], True),
  "smollm2": ([DIGITS, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)], True),
  "llama3": ([_split(LLAMA_3), BYTES], True),
  "qwen": ([_split(QWEN), BYTES], True),
  "spaced": ([tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)], False),
  "whole": ([BYTES], False),
  "prefixed": ([tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)], False),
  "lines": ([_split(r"[^\n]+"), BYTES], False),
}
ODD = strategies.text(alphabet="ab  \n\t'ts.5é東\u00a0\u0301\x1c\u2003,-", max_size=40)


@pytest.mark.parametrize("name", READERS)
def test_ids_found_word_by_word_are_those_of_the_whole_text(tokenizer, name):
  steps, is_known = READERS[name]
  rust = tokenizers.Tokenizer.from_str(tokenizer._rust.to_str())
  rust.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
  if name == "qwen":
    rust.normalizer = tokenizers.normalizers.NFC()
    rust.add_tokens(["é東", "<b>"])
  if name == "spaced":
    rust.add_tokens(["b a"])
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=rust, pad_token=text.PAD, eos_token=text.EOS
  )
  reader = text.Tokenizer(fast)
  rust.encode_special_tokens = True
  assert words.are_read_alone(reader._rust) == is_known

  @PATIENT
  @hypothesis.given(strategies.lists(ODD | TEXTS, max_size=4))
  def check(texts):
    expected = [rust.encode(value, add_special_tokens=False).ids for value in texts]
    assert reader.encode_batch(texts) == expected

  check()


def test_few_words_are_kept(tokenizer, monkeypatch):
  monkeypatch.setattr(words, "KNOWN", 3)
  values = ["a b c d e", "b c", "the letter", "a b", ""]
  assert tokenizer.encode_batch(values) == [tokenizer.encode(value) for value in values]


LONG = strategies.text(alphabet="ab  \n\t'.5é東", max_size=40)


@PATIENT
@hypothesis.given(LONG, strategies.integers(1, 12))
def test_a_text_is_cut_where_one_read_whole_is(tokenizer, value, limit):
  whole = text.Tokenizer(tokenizer._fast)
  whole._words = None
  assert tokenizer.suffix(value, limit) == whole.suffix(value, limit)
