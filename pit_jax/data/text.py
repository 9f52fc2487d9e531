"""The tokenizer: opened from a Hugging Face directory, or learnt here and saved as one."""

import copy
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import tokenizers
import transformers

from pit_jax.data import gguf_text, hf_text, words

PAD = "<pad>"
EOS = "<eos>"
SMALLEST = 256 + len((PAD, EOS))  # tokens of a tokenizer that is learnt here: every byte is one
GENERATION = "generation_config.json"  # where a model's directory lists all tokens that end a text


class Tokenizer:
  """Turns text into token ids and back; adds no special tokens and reads none in the text.

  A text that spells out `<eos>` is ordinary characters: only the library places special tokens.
  """

  def __init__(self, fast: transformers.PreTrainedTokenizerFast, stop_ids: Collection[int] = ()):
    """Wraps a Hugging Face tokenizer.

    Stop ids are tokens other than its end of sequence that end a response where one is sampled.

    Raises a ValueError where a text has no token for its end, or padding none of its own.
    """
    if fast.eos_token_id is None:
      raise ValueError("the tokenizer has no end-of-sequence token; set eos_token in its directory")
    self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((fast.eos_token_id, *stop_ids)))

    if fast.pad_token_id is None or fast.pad_token_id in self.stop_ids:
      raise ValueError(
        f"pad token id {fast.pad_token_id}, tokens that end a response {self.stop_ids}: padding "
        "must be a token of its own; open the directory with load_tokenizer, which adds one"
      )

    self._fast = fast
    self._rust = fast.backend_tokenizer
    self._rust.no_padding()
    self._rust.no_truncation()
    self._rust.encode_special_tokens = True
    self._words = words.Memory(self._ask) if words.are_read_alone(self._rust) else None
    self.eos_id: int = fast.eos_token_id
    self.pad_id: int = fast.pad_token_id

    # What the file would have written before every text; the plain form writes it before a prompt.
    self.bos: str = _beginning(fast)
    # Ids may have holes, and added tokens lie above the base vocabulary.
    self.vocab_size: int = 1 + max(self.vocabulary.values())

  @property
  def eos(self) -> str:
    """The token that ends a response, as a template's text spells it."""
    return self._fast.eos_token

  @property
  def vocabulary(self) -> dict[str, int]:
    """The id of every token, added ones included."""
    return self._rust.get_vocab(with_added_tokens=True)

  @property
  def special_ids(self) -> dict[str, int | None]:
    """The special tokens as a config.json names them; no text begins with one of its own."""
    return {"bos_token_id": None, "eos_token_id": self.eos_id, "pad_token_id": self.pad_id}

  @functools.cached_property
  def fingerprint(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the ids of a text."""
    content = [self._rust.to_str(), *self.stop_ids, self.pad_id]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

  def encode(self, text: str) -> list[int]:
    """Returns the token ids of a text, without special tokens."""
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of several texts at once, which is much faster than one by one.

    A tokenizer that reads word by word is asked for each word once, since texts repeat them.
    """
    return self._words.encode_batch(texts) if self._words else self._ask(texts)

  def _ask(self, texts: Sequence[str]) -> list[list[int]]:
    # Fast: without the offsets, which nobody reads here.
    encodings = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encodings]

  @property
  def chat_template(self) -> str | None:
    """The model's own chat template (Jinja); see `hf_text.chat_template`."""
    return hf_text.chat_template(self._fast)

  def render(self, form: str, messages: Sequence[Mapping[str, str]], is_asked: bool) -> str:
    """Returns messages in a chat template; if is_asked, up to where the assistant's turn begins."""
    return self._fast.apply_chat_template(
      list(messages), chat_template=form, tokenize=False, add_generation_prompt=is_asked
    )

  def encode_form(self, text: str) -> list[int]:
    """Returns the token ids of a template's text, in which special tokens are what they say."""
    self._rust.encode_special_tokens = False
    try:
      return self._rust.encode(text, add_special_tokens=False).ids
    finally:
      self._rust.encode_special_tokens = True

  def added(self, ids: Iterable[int]) -> dict[int, tokenizers.AddedToken]:
    """Returns those of some token ids that no merge makes: what templates mark their turns with."""
    tokens = self._fast.added_tokens_decoder
    return {token: tokens[token] for token in ids if token in tokens}

  def with_turns(self, end_id: int, marks: Iterable[tokenizers.AddedToken]) -> "Tokenizer":
    """Returns the tokenizer of a chat model.

    The end is the token that ends a turn, and so a response; what ended one before still does. A
    text that spells out marks, with which a template marks turns, is ordinary characters from now
    on, even where the tokenizer's file does not call them special.
    """
    fast = copy.deepcopy(self._fast)
    fast.eos_token = fast.convert_ids_to_tokens(end_id)
    for mark in marks:
      mark.special = True
      fast.add_tokens([mark], special_tokens=True)

    return Tokenizer(_padded(fast, (end_id, *self.stop_ids)), self.stop_ids)

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of token ids; special tokens are left out."""
    return self.decode_batch([ids])[0]

  def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
    """Returns the texts of several lists of token ids; special tokens are left out."""
    kept = [[int(token) for token in ids if token not in self.stop_ids] for ids in batch]
    return self._rust.decode_batch(kept, skip_special_tokens=True)

  def suffix(self, text: str, limit: int) -> list[int]:
    """Returns the last tokens of a text, at most `limit` and starting where a word starts.

    A text whose last `limit` tokens lie within one word is cut between two characters instead.
    """
    parts, ids = self._words.encode(text) if self._words else ([text], self._ask([text]))
    first = len(parts)
    room = limit

    while first and len(ids[first - 1]) <= room:
      first -= 1
      room -= len(ids[first])

    begun = self._suffix(parts[first - 1], room, is_last=first == len(parts)) if first else []
    return [*begun, *itertools.chain.from_iterable(ids[first:])]

  def _suffix(self, text: str, limit: int, is_last: bool) -> list[int]:
    """Does as `suffix` with a text of more tokens; nothing is left of a word unless it is last."""
    encoding = self._rust.encode(text, add_special_tokens=False)
    first = len(encoding.ids) - limit
    starts = [start for start, _ in encoding.offsets]
    ends = [0] + [end for _, end in encoding.offsets]

    # A character of several bytes may be several tokens, all with that character's offsets.
    whole = [i for i in range(first, len(starts)) if starts[i] >= ends[i]]
    begun = [i for i in whole if _starts_word(text, starts[i])]
    return encoding.ids[min(begun or (is_last and (whole or [first])) or [len(starts)]) :]

  def save(
    self,
    directory: str | os.PathLike,
    chat_template: str | None = None,
    *,
    keeps_bos: bool = False,
    borders: Sequence[str] = (),
  ) -> None:
    """Writes the tokenizer as a Hugging Face tokenizer directory, which is made if needed.

    What was written adds nothing to a text: the form that a prompt is in writes every token of it,
    the first one included, and a second would stand where training had none.

    Args:
      directory: where to.
      chat_template: written in the place of the tokenizer's own; None keeps that.
      keeps_bos: write the tokenizer as it is instead, of a model that is yet to be given a form.
      borders: pieces of a form's text that no token reaches across; see `template.Form.borders`.
    """
    fast = copy.deepcopy(self._fast)
    if not keeps_bos and self._rust.num_special_tokens_to_add(is_pair=False):
      bare = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B:1")
      fast.backend_tokenizer.post_processor = bare

    hf_text.isolate(fast, borders)
    if chat_template is not None:
      fast.chat_template = chat_template
    fast.save_pretrained(str(directory))

    if len(self.stop_ids) > 1:
      generation = {"eos_token_id": list(self.stop_ids), "pad_token_id": self.pad_id}
      content = json.dumps(generation, indent=2) + "\n"
      (pathlib.Path(directory) / GENERATION).write_text(content, encoding="utf-8")


def _beginning(fast: transformers.PreTrainedTokenizerFast) -> str:
  """Returns the beginning-of-sequence token that a tokenizer writes before a text; "" for none."""
  rust = fast.backend_tokenizer
  token = fast.bos_token
  # Some files name such a token and never write it; so the tokenizer is asked.
  added, bare = (rust.encode("a", add_special_tokens=adds).tokens for adds in (True, False))
  return token if token and added[:1] == [token] != bare[:1] else ""


def _starts_word(text: str, position: int) -> bool:
  """Whether a space is at or just before a position, or the text begins there."""
  return position == 0 or text[position].isspace() or text[position - 1].isspace()


def load_tokenizer(directory: str | os.PathLike) -> Tokenizer:
  """Opens a Hugging Face tokenizer directory, or the tokenizer of a GGUF file.

  A tokenizer without a padding token, or whose padding ends a text, pads with another special token
  it has, so that its model fits as it is: masks say what is padding, not ids. One without any gets
  `<pad>`, which `vocab_size` then counts. Tokens that the directory's generation_config.json lists
  as ends of a text are stop ids.

  Raises a ValueError where there is no tokenizer, or it has no end-of-sequence token.
  """
  path = pathlib.Path(directory)
  fast = gguf_text.read(path) if path.suffix == ".gguf" else hf_text.read(path)
  stop_ids = _stop_ids(path)
  return Tokenizer(_padded(fast, (fast.eos_token_id, *stop_ids)), stop_ids)


def _stop_ids(path: pathlib.Path) -> list[int]:
  """Returns the ends of a text that a directory's generation config lists, or a GGUF file."""
  if path.suffix == ".gguf":
    return gguf_text.stop_ids(path)
  if not (path / GENERATION).is_file():
    return []

  try:
    content = json.loads((path / GENERATION).read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path / GENERATION} cannot be read: {error}") from error

  if not isinstance(content, dict):
    kind = type(content).__name__
    raise ValueError(f"{path / GENERATION} must hold a JSON object, not {kind}")

  ids = content.get("eos_token_id")
  return [ids] if isinstance(ids, int) else list(ids or [])


def _padded(
  fast: transformers.PreTrainedTokenizerFast, stop_ids: Collection[int | None]
) -> transformers.PreTrainedTokenizerFast:
  """Gives a tokenizer a padding token that ends no text, one of its own where it has one."""
  if fast.pad_token_id is None or fast.pad_token_id in stop_ids:
    marked = [token.content for token in fast.added_tokens_decoder.values() if token.special]
    # A token called pad goes first, then any that ends no text, then a new one.
    spare = dict.fromkeys([*fast.all_special_tokens, *marked])
    spare = [token for token in spare if fast.convert_tokens_to_ids(token) not in stop_ids]
    fast.add_special_tokens({"pad_token": ([t for t in spare if "pad" in t] + spare + [PAD])[0]})

  return fast


def train_tokenizer(
  texts: Iterable[str], vocab_size: int, directory: str | os.PathLike
) -> Tokenizer:
  """Learns a byte-level BPE tokenizer and saves it as a Hugging Face tokenizer directory.

  Every byte is a token, so that any text can be encoded. The same texts give the same tokenizer. It
  has at most `vocab_size` tokens, at least 258; fewer when the texts hold fewer pairs.
  """
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  if vocab_size < SMALLEST:
    raise ValueError(f"vocab_size {vocab_size} does not hold all bytes; use at least {SMALLEST}")
  learner = tokenizers.Tokenizer(tokenizers.models.BPE())
  learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  learner.decoder = tokenizers.decoders.ByteLevel()

  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=vocab_size, special_tokens=[PAD, EOS], initial_alphabet=alphabet, show_progress=False
  )
  learner.train_from_iterator(texts, trainer)
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=learner, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
  )

  fast.save_pretrained(str(directory))
  return load_tokenizer(directory)
