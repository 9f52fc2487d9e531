"""A cache of words' token ids: texts repeat words, and a tokenizer is asked for each once."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence

import tokenizers

KNOWN = 200_000  # words whose ids are kept, at most

# A word begins at a single space between two characters that are none; other white space is inside.
# Possessive quantifiers (*+, ++) give nothing back, so that long texts take linear time.
_WORD = re.compile(r"\s*+\S++(?:(?! \S)\s++\S*+)*+|\s++")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_BREAKS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {f"{_CONTRACTIONS}{digits}{_BREAKS}" for digits in (r"\p{N}", r"\p{N}{1,3}")}


class Memory:
  """The ids of words, learnt as they come and forgotten all at once when they are too many."""

  def __init__(self, ask: Callable[[Sequence[str]], list[list[int]]]):
    """Starts without any word; `ask` gives the ids of texts by a tokenizer that reads words."""
    self._ask = ask
    self._known: dict[str, tuple[int, ...]] = {}  # tuples, which the garbage collector leaves alone

  def encode(self, text: str) -> tuple[list[str], list[tuple[int, ...]]]:
    """Returns the words of a text and the ids of each."""
    words = _WORD.findall(text)
    return words, list(map(self._learn(words), words))

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of several texts."""
    words = [_WORD.findall(text) for text in texts]
    find = self._learn(itertools.chain.from_iterable(words))
    return [list(itertools.chain.from_iterable(map(find, row))) for row in words]

  def _learn(self, words: Iterable[str]) -> Callable[[str], tuple[int, ...]]:
    """Returns what knows the ids of these words, after asking for those that are new."""
    wanted = set(words)
    new = list(wanted.difference(self._known))
    if len(self._known) + len(new) > KNOWN:
      self._known.clear()
      new = list(wanted)

    if new:
      self._known.update(zip(new, map(tuple, self._ask(new)), strict=True))
    return self._known.__getitem__


def are_read_alone(rust: tokenizers.Tokenizer) -> bool:
  """Returns whether the ids of a text are those of its words, one after the other.

  So it is with byte-level pre-tokenizers of known patterns (GPT-2, SmolLM2; Llama 3; Qwen), whose
  tokens hold a space at their beginning only; with others it is not known.
  """
  added = rust.get_added_tokens_decoder().values()
  if rust.pre_tokenizer is None or not all(map(_is_within_word, added)):
    return False
  state = json.loads(rust.pre_tokenizer.__getstate__())
  steps = state["pretokenizers"] if state["type"] == "Sequence" else [state]
  normalizer = rust.normalizer and json.loads(rust.normalizer.__getstate__())["type"]
  is_cut = any(step.get("use_regex") or step["type"] == "Split" for step in steps)

  return is_cut and normalizer in (None, "NFC") and all(map(_keeps_words, steps))


def _is_within_word(token: tokenizers.AddedToken) -> bool:
  """Whether an added token takes no space with it; special ones are not read in texts at all."""
  takes_more = token.lstrip or token.rstrip or token.single_word or " " in token.content
  return token.special or not takes_more


def _keeps_words(step: dict) -> bool:
  """Whether a pre-tokenizer, as JSON describes it, cuts before every single space or not at all."""
  if step["type"] == "Split":
    is_isolating = step["behavior"] == "Isolated" and not step["invert"]
    return is_isolating and step["pattern"].get("Regex") in _PATTERNS

  return step["type"] == "Digits" or (step["type"] == "ByteLevel" and not step["add_prefix_space"])
