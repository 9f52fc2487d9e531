"""Tokenizers of GGUF files: they split, merge and begin texts as their file says."""

import pytest
import test_gguf

from pit_jax.data import text


@pytest.mark.parametrize(
  "split, numbers", [("smollm", ["1", "2", "3"]), ("gpt-2", ["123"]), ("llama-bpe", ["123"])]
)
def test_a_tokenizer_splits_as_its_file_says(tmp_path, split, numbers):
  words = test_gguf.write_words(tmp_path / "x.gguf", split)
  tokenizer = text.load_tokenizer(tmp_path / "x.gguf")
  ids = tokenizer.encode("hello123")
  assert [words[i] for i in ids] == ["hello", *numbers]
  assert tokenizer.decode(ids) == "hello123"
  special = tokenizer.encode("<|im_end|>")
  assert 2 not in special and tokenizer.decode(special) == "<|im_end|>"


@pytest.mark.parametrize(
  "split, pieces", [("llama-bpe", ["yes"]), ("smollm", list("yes")), ("qwen2", list("yes"))]
)
def test_llama_3_looks_a_piece_up_before_it_merges(tmp_path, split, pieces):
  words = test_gguf.write_words(tmp_path / "x.gguf", split)
  tokenizer = text.load_tokenizer(tmp_path / "x.gguf")
  assert [words[i] for i in tokenizer.encode("yes")] == pieces
  tokenizer.save(tmp_path / "saved")
  again = text.load_tokenizer(tmp_path / "saved")
  assert again.encode("yes hello") == tokenizer.encode("yes hello")


def test_padding_is_another_special_token_and_the_vocabulary_stays(tmp_path):
  words = test_gguf.write_words(tmp_path / "x.gguf")
  tokenizer = text.load_tokenizer(tmp_path / "x.gguf")
  assert (tokenizer.eos_id, tokenizer.vocab_size) == (2, len(words))
  assert tokenizer.pad_id in (0, 1)
  tokenizer.save(tmp_path / "saved")
  again = text.load_tokenizer(tmp_path / "saved")
  assert again.fingerprint == tokenizer.fingerprint


def test_an_unknown_tokenizer_is_refused_by_name(tmp_path):
  test_gguf.write_words(tmp_path / "x.gguf", split="kimi-k2")
  with pytest.raises(ValueError, match=r"'gpt2' with 'kimi-k2' splits; read are .*smollm"):
    text.load_tokenizer(tmp_path / "x.gguf")


@pytest.mark.parametrize(
  "split, said, bos",
  [
    ("llama-bpe", None, "<|im_start|>"),  # by its kind
    ("llama-bpe", True, "<|im_start|>"),
    ("llama-bpe", False, ""),
    ("qwen2", None, ""),
    ("smollm", None, ""),
    ("smollm", True, "<|im_start|>"),
  ],
)
def test_a_file_says_whether_texts_begin_with_a_token(tmp_path, split, said, bos):
  def more(writer):
    if said is not None:
      writer.add_add_bos_token(said)

  test_gguf.write_words(tmp_path / "x.gguf", split, more)
  assert text.load_tokenizer(tmp_path / "x.gguf").bos == bos


def test_ends_of_turns_and_messages_stop_a_response(tmp_path):
  def more(writer):
    writer.add_eot_token_id(0)

  test_gguf.write_words(tmp_path / "x.gguf", more=more)
  tokenizer = text.load_tokenizer(tmp_path / "x.gguf")
  assert (tokenizer.eos_id, tokenizer.stop_ids) == (2, (2, 0))
  assert tokenizer.pad_id not in tokenizer.stop_ids


def test_of_several_templates_the_default_is_the_models(tmp_path):
  def more(writer):
    writer.add_string("tokenizer.chat_template.rag", "{{ documents }}")

  test_gguf.write_words(tmp_path / "x.gguf", more=more)
  assert text.load_tokenizer(tmp_path / "x.gguf").chat_template == test_gguf.TERSE
