"""The tokenizer inside a Hugging Face directory."""

import pathlib
from collections.abc import Sequence

import tokenizers
import transformers

from pit_jax import lfs

# Files of JSON, without their suffix.
OBJECTS = ("config", "tokenizer", "tokenizer_config", "special_tokens_map", "added_tokens")


def read(path: pathlib.Path, *, by_class: bool = False) -> transformers.PreTrainedTokenizerFast:
  """Returns the tokenizer of a directory, in its fast form.

  By class, it is opened as transformers does, by the class that goes with the model, which may
  rebuild parts of tokenizer.json; else that file says everything.

  Raises a ValueError where there is no directory, or no tokenizer in it that can be read.
  """
  if not path.is_dir():
    raise ValueError(f"no tokenizer directory {path}; give one written by save_pretrained")
  lfs.check(*path.glob("tokenizer*"))
  _check_objects(path)
  has_json = (path / "tokenizer.json").is_file()
  is_bare = has_json and not by_class
  reader = transformers.PreTrainedTokenizerFast if is_bare else transformers.AutoTokenizer
  try:
    fast = reader.from_pretrained(str(path), local_files_only=True)
  except (OSError, ValueError, KeyError) as error:
    reason = " ".join(str(error).split())  # transformers lists what it tried
    raise ValueError(f"{path} holds no readable tokenizer: {reason}") from error

  if not fast.is_fast:
    raise ValueError(f"{path} has no tokenizer.json; save the fast form of the tokenizer")
  # Of some families a directory without a tokenizer is opened all the same, as one that knows
  # special tokens alone.
  if not has_json and not fast.get_vocab().keys() - fast.get_added_vocab().keys():
    raise ValueError(f"{path} holds no readable tokenizer: no file of it lists tokens")
  return fast


def _check_objects(path: pathlib.Path) -> None:
  """Raises a ValueError where a file of a tokenizer holds no JSON object: transformers trips."""
  for file in filter(pathlib.Path.is_file, (path / f"{name}.json" for name in OBJECTS)):
    with file.open(encoding="utf-8", errors="replace") as content:
      begins = content.read(1024).lstrip()[:1]
    if begins != "{":
      raise ValueError(f"{path} holds no readable tokenizer: {file.name} must hold a JSON object")


def isolate(fast: transformers.PreTrainedTokenizerFast, pieces: Sequence[str]) -> None:
  """Keeps tokens of a tokenizer from reaching across the borders of some pieces of text."""
  if pieces:
    splits = [tokenizers.pre_tokenizers.Split(piece, "isolated") for piece in pieces]
    own = fast.backend_tokenizer.pre_tokenizer
    # In front of the tokenizer's own steps, which then see each side of a border alone.
    steps = [*splits, own] if own is not None else splits
    fast.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)


def chat_template(fast: transformers.PreTrainedTokenizerFast) -> str | None:
  """Returns a tokenizer's chat template (Jinja), of several the default; None without one.

  Raises a ValueError where there are several and none of them is the default; all are named.
  """
  own = fast.chat_template
  if not own or isinstance(own, str):
    return own or None
  if "default" in own:
    return own["default"]
  raise ValueError(
    f"the tokenizer has the chat templates {', '.join(sorted(own))}, none of which is called "
    "'default'; write the one to use into its directory as chat_template.jinja, or set "
    'data.chat="plain"'
  )
