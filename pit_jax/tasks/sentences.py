"""Sentences of a text as spans of characters, and of its tokens."""

import bisect
import itertools
import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]  # begin and end, without white space at either

# A run of marks, and what closes after it, before white space or the end; or a line's end.
_END = re.compile(r"""(?<![.!?…])([.!?…]++)(["'”’»)\]*_`]*+)(?=\s|\Z)|\n""")
_GAP = re.compile(r"\s*")
# What has no words: marks alone, a fence around code, what opens or closes a display of LaTeX.
_BARE = re.compile(
  r"[\W_]*|(?:`{3,}|~{3,})[\w+#-]*|\\(?:begin|end)\{\w+\*?\}(?:\{[^{}]*\}|\[[^\[\]]*\])*"
)
# Words before a full stop that does not end a sentence, in lower case, whatever follows.
_TITLES = {
  *("dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "rev", "gen", "capt", "lt", "sgt"),
  *("vs", "cf", "viz", "approx", "dept", "est", "e.g", "i.e"),
}
# Those of them that follow a name, and so may end a sentence, before a word that begins one.
_AFTER_NAMES = {"st", "jr", "sr", "dept"}
_BEGINNING = re.compile(
  r"""["'“‘(\[*_]*(?:I|You|He|She|It|We|They|My|Your|His|Her|Its|Our|Their|The|This|That|These"""
  r"""|Those|There|Then|But|And|So|If|When|While|In|On|At|What|Why|How|Who|Where)(?![\w-])"""
)
# The same before a number.
_NUMBERED = {
  *("no", "nos", "fig", "figs", "eq", "eqs", "sec", "ch", "p", "pp", "vol", "art", "ex", "tab"),
}
# The same before a small letter; dotted ones such as U.S and a.m are of these.
_OPEN = {"etc", "al", "inc", "ltd", "co", "corp"}
_DOTTED = re.compile(r"(?:\w\.)+\w")
# What a list numbers its entries by: "1", "12", "b", with nothing before it in its sentence.
_ENTRY = re.compile(r"[*_]*\(?[*_]*(?:\d{1,3}|[A-Za-z])")
# After a colon 1 numbers an entry where 2 numbers a later one, and is an amount elsewhere.
_SECOND = re.compile(r"(?<!\S)[(*_]*2\.[*_]*(?!\S)")
# Before a letter that was chosen, which is no initial.
_CHOICES = {"is", "are", "answer", "option", "choice", "or", "and"}


def split(text: str) -> list[Span]:
  """Returns the sentences of a text, in order; white space between them belongs to none.

  A sentence ends with ., ! or ?, or dots, and what closes after it (quotes, brackets, emphasis)
  where white space follows, and with a line. A full stop ends none after a title or "e.g.", within
  "U.S. or", after "Fig." before a number, an initial ("J. Smith"), or what numbers an entry of a
  list ("1.", "b."), and dots none before a small letter, nor does any mark that emphasis or code
  closes over. Decimals have no white space after their point. What has no letter or digit, or only
  fences code, belongs to the sentence before it; at the beginning, to the first one.
  """
  spans: list[Span] = []
  is_begun = True  # whether the last span has words
  for begin, end in _pieces(text):
    is_bare = _is_bare(text[begin:end])
    if spans and (is_bare or not is_begun):
      spans[-1] = (spans[-1][0], end)
      is_begun = is_begun or not is_bare
    else:
      spans.append((begin, end))
      is_begun = not is_bare
  return spans


def _pieces(text: str) -> list[Span]:
  """Returns what marks and lines divide a text into, whether it has words or not."""
  second = max((found.start() for found in _SECOND.finditer(text)), default=-1)
  spans = []
  begin = _after_gap(text, 0)
  for mark in _END.finditer(text):
    if mark.start() < begin:
      continue
    is_line = mark[0] == "\n"
    if not is_line and _goes_on(text, begin, mark, second):
      continue
    end = mark.start() if is_line else mark.end()
    spans.append((begin, begin + len(text[begin:end].rstrip())))
    begin = _after_gap(text, mark.end())
  if begin < len(text):
    spans.append((begin, begin + len(text[begin:].rstrip())))
  return spans


def _is_bare(piece: str) -> bool:
  return _BARE.fullmatch(piece) is not None


def _after_gap(text: str, place: int) -> int:
  """Returns where the white space ends that begins at a place."""
  return _GAP.match(text, place).end()


def _goes_on(text: str, begin: int, mark: re.Match, second: int) -> bool:
  """Returns whether a sentence that begins there goes on after a mark.

  Args:
    text: of which only what is next to the mark is read: it may be long, and have many marks.
    begin: of the sentence.
    mark: a match of _END, no line's end.
    second: where the last 2 stands that may number an entry.
  """
  run, closes = mark.groups()
  following = _after_gap(text, mark.end())
  is_small = text[following : following + 1].islower()
  if is_small and {*closes} & {*"*_`"}:
    return True
  if run in ("...", "…", "..", "....") and not closes:
    return is_small
  if run != "." or closes.strip("*_"):
    return False
  if _ENTRY.fullmatch(text, begin, mark.start()):
    return following < len(text)
  first = _word_begin(text, begin, mark.start())
  word = text[first : mark.start()].lstrip("(\"'“‘[*_").casefold()
  if _is_short(word, text, following):
    return True
  if len(word) != 1:
    return False
  last = _before_gap(text, begin, first)
  previous = text[_word_begin(text, begin, last) : last].strip("*_").casefold()
  if word == "1" and previous.endswith((":", ";")):
    return second > mark.start()
  is_initial = word.isalpha() and word != "i" and text[mark.start() - 1].isupper()
  is_chosen = previous.strip("*_:") in _CHOICES
  return is_initial and text[following : following + 1].isupper() and not is_chosen


def _is_short(word: str, text: str, following: int) -> bool:
  """Returns whether a word before a full stop is short for another, by what follows it."""
  if word in _AFTER_NAMES and _BEGINNING.match(text, following):
    return False
  if word in _TITLES:
    return following < len(text)
  if word in _NUMBERED:
    return text[following : following + 1].isdigit()
  is_open = word in _OPEN or _DOTTED.fullmatch(word)
  return bool(is_open) and text[following : following + 1].islower()


def _word_begin(text: str, begin: int, end: int) -> int:
  """Returns where the word begins that ends at a place, in a sentence that begins at another."""
  while end > begin and not text[end - 1].isspace():
    end -= 1
  return end


def _before_gap(text: str, begin: int, end: int) -> int:
  """Returns where the word ends that is before the white space that ends at a place."""
  while end > begin and text[end - 1].isspace():
    end -= 1
  return end


def said(text: str) -> list[str]:
  """Returns the sentences of a text in words."""
  return [text[begin:end] for begin, end in split(text)]


def repeated(sentences: Sequence[str]) -> list[bool]:
  """Returns which sentences were said before, whatever their case and white space.

  What has no words, as fences around code, counts for nothing in a sentence, and is no repeated one
  by itself.
  """
  seen: set[str] = set()
  marks = []
  for sentence in sentences:
    pieces = [sentence[begin:end] for begin, end in _pieces(sentence)]
    worded = " ".join(piece for piece in pieces if not _is_bare(piece))
    key = " ".join(worded.casefold().split())
    marks.append(key != "" and key in seen)
    seen.add(key)
  return marks


def distinct(text: str) -> str:
  """Returns a text without the sentences that repeat an earlier one; the others stay as they are.

  What stood between two sentences stays before the second one, and so does what has no words.
  """
  spans = _pieces(text)
  marks = repeated([text[begin:end] for begin, end in spans])
  kept = []
  before = 0
  for (_, end), is_repeated in zip(spans, marks, strict=True):
    if not is_repeated:
      kept.append(text[before:end])
    before = end
  return "".join(kept).strip()


def last_tokens(
  decode: Callable[[Sequence[int]], str], ids: Sequence[int], text: str, spans: Sequence[Span]
) -> list[int]:
  """Returns the place of the last token of each sentence: that which completes its last character.

  A token that straddles a border, as one of ". The" does, is the last one of the sentence before
  it; sentences that end within one token share it.

  Args:
    decode: ids → text.
    ids: of the text, as they were sampled.
    text: what they decode to.
    spans: of `split`.
  """

  def known(count: int) -> int:
    # A character whose bytes are not all there is another one: it does not count yet.
    decoded = zip(decode(ids[:count]), text, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], decoded))

  counts = range(len(ids) + 1)
  return [max(bisect.bisect_left(counts, end, key=known) - 1, 0) for _, end in spans]
