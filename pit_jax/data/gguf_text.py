"""The tokenizer inside a GGUF file, as a Hugging Face tokenizer."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import gguf
import tokenizers
import transformers

from pit_jax import lfs

LLAMA = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
  r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA.replace(r"\p{N}{1,3}", r"\p{N}")
# Of the kinds of tokens (ggml.token_type) those that no merge makes.
CONTROL = 3
USER_DEFINED = 4


def _splitting(pattern: str) -> tokenizers.pre_tokenizers.PreTokenizer:
  return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def _bytes(*, splits: bool) -> tokenizers.pre_tokenizers.PreTokenizer:
  return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits)


SPLITS = {  # tokenizer.ggml.pre → what happens to a text before its merges
  "default": [_bytes(splits=True)],
  "gpt-2": [_bytes(splits=True)],
  "smollm": [tokenizers.pre_tokenizers.Digits(individual_digits=True), _bytes(splits=True)],
  "llama-bpe": [_splitting(LLAMA), _bytes(splits=False)],
  "qwen2": [_splitting(QWEN), _bytes(splits=False)],
}
WHOLE_FIRST = ("llama-bpe",)  # of SPLITS, those whose pieces are looked up before they are merged


def read(path: str | os.PathLike) -> transformers.PreTrainedTokenizerFast:
  """Returns the byte-level BPE tokenizer of a GGUF file, with its chat template.

  Raises a ValueError where the file cannot be read or its tokenizer is of another kind.
  """
  metadata = _said(path)
  kind = metadata.get("ggml.model")
  split = metadata.get("ggml.pre", "default")

  if kind != "gpt2" or split not in SPLITS:
    raise ValueError(
      f"{path}: the tokenizer is {kind!r} with {split!r} splits; read are 'gpt2' with "
      f"{', '.join(SPLITS)}. Give the model's own tokenizer directory instead"
    )

  words = metadata["ggml.tokens"]
  tokenizer = _model(metadata, split)
  names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
  ids = {ours: metadata.get(f"ggml.{theirs}_token_id") for theirs, ours in names.items()}
  specials = {f"{name}_token": words[token] for name, token in ids.items() if token is not None}

  fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)
  if metadata.get("ggml.add_bos_token", split in WHOLE_FIRST):  # Llama 3's says it by its kind
    fast.add_bos_token = True
  fast.chat_template = _templates(metadata)
  return fast


def stop_ids(path: str | os.PathLike) -> list[int]:
  """Returns the tokens that end a turn or a message in a GGUF file, beside its end of a text."""
  metadata = _said(path)
  names = [f"ggml.{kind}_token_id" for kind in ("eot", "eom")]
  return [int(metadata[name]) for name in names if name in metadata]


def _said(path: str | os.PathLike) -> dict[str, Any]:
  """Returns what a GGUF file says of its tokenizer, by the names within `tokenizer.`."""
  lfs.check(path)
  try:
    fields = gguf.GGUFReader(pathlib.Path(path)).fields
  except (OSError, ValueError, IndexError) as error:
    raise ValueError(f"{path} is no readable GGUF file: {error}") from error

  return {name: field.contents() for name, field in _within("tokenizer.", fields).items()}


def _within(prefix: str, said: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what is said under names that begin with a prefix, by the rest of the names."""
  return {name.removeprefix(prefix): said[name] for name in said if name.startswith(prefix)}


def _templates(said: Mapping[str, Any]) -> str | dict[str, str] | None:
  """Returns the chat template, or all of several by their names, as transformers has them."""
  named = _within("chat_template.", said)
  own = said.get("chat_template")
  if not named:
    return own
  return named if own is None else {"default": own, **named}


def _model(said: Mapping[str, Any], split: str) -> tokenizers.Tokenizer:
  """Returns the tokenizer without the roles of its special tokens."""
  words = said["ggml.tokens"]
  kinds = said["ggml.token_type"]
  merges = [tuple(merge.split(" ", 1)) for merge in said["ggml.merges"]]
  vocab = {word: i for i, word in enumerate(words)}
  model = tokenizers.models.BPE(vocab=vocab, merges=merges, ignore_merges=split in WHOLE_FIRST)
  learnt = tokenizers.Tokenizer(model)

  # Qwen's own tokenizer.json normalises; a GGUF file has no word for it.
  if split == "qwen2":
    learnt.normalizer = tokenizers.normalizers.NFC()
  learnt.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(SPLITS[split])
  learnt.decoder = tokenizers.decoders.ByteLevel()

  for word, kind in zip(words, kinds, strict=True):
    if kind in (CONTROL, USER_DEFINED):
      learnt.add_tokens([tokenizers.AddedToken(word, special=kind == CONTROL, normalized=False)])

  return learnt
