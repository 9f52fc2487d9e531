"""The tokenizer inside a Hugging Face directory."""

import pathlib
from collections.abc import Sequence

import tokenizers
import transformers

from pit_jax import lfs


def read(path: pathlib.Path) -> transformers.PreTrainedTokenizerFast:
  """Returns the tokenizer of a directory, in its fast form.

  Raises:
    ValueError: there is no directory, or no tokenizer in it that can be read.
  """
  if not path.is_dir():
    raise ValueError(f"no tokenizer directory {path}; give one written by save_pretrained")
  lfs.check(*path.glob("tokenizer*"))
  # tokenizer.json says everything; the class that AutoTokenizer would pick may rebuild parts of it.
  has_json = (path / "tokenizer.json").is_file()
  reader = transformers.PreTrainedTokenizerFast if has_json else transformers.AutoTokenizer
  try:
    fast = reader.from_pretrained(str(path), local_files_only=True)
  except (OSError, ValueError, KeyError) as error:
    raise ValueError(f"{path} holds no readable tokenizer: {error}") from error
  if not fast.is_fast:
    raise ValueError(f"{path} has no tokenizer.json; save the fast form of the tokenizer")
  # Of some families a directory without a tokenizer is opened all the same, as one that knows
  # special tokens alone.
  if not has_json and not fast.get_vocab().keys() - fast.get_added_vocab().keys():
    raise ValueError(f"{path} holds no readable tokenizer: no file of it lists tokens")
  return fast


def isolate(fast: transformers.PreTrainedTokenizerFast, pieces: Sequence[str]) -> None:
  """Keeps tokens of a tokenizer from reaching across the borders of some pieces of text."""
  if pieces:
    splits = [tokenizers.pre_tokenizers.Split(piece, "isolated") for piece in pieces]
    known = fast.backend_tokenizer.pre_tokenizer
    steps = [*splits, known] if known is not None else splits
    fast.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
