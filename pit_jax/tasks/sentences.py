"""Sentences of a text as spans of characters, and of its tokens."""

import bisect
import itertools
import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]  # begin and end, without white space at either

# A run of marks with what closes after it, before white space or the end; or a line's end.
_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s|\Z)|\n""")
# Words before a full stop that does not end a sentence, in lower case, whatever follows.
_TITLES = {
  *("dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "rev", "gen", "capt", "lt", "sgt"),
  *("vs", "cf", "viz", "approx", "dept", "est", "e.g", "i.e"),
}
# The same before a number.
_NUMBERED = {
  *("no", "nos", "fig", "figs", "eq", "eqs", "sec", "ch", "p", "pp", "vol", "art", "ex", "tab"),
}
# The same before a small letter; dotted ones such as U.S and a.m are of these.
_OPEN = {"etc", "al", "inc", "ltd", "co", "corp"}
_DOTTED = re.compile(r"(?:\w\.)+\w")
# What a list numbers its entries by: "1", "12", "b", with nothing before it in its sentence.
_ENTRY = re.compile(r"\s*\(?(?:\d{1,3}|[A-Za-z])")
# Before a letter that was chosen, which is no initial.
_CHOICES = {"is", "are", "answer", "option", "choice", "or", "and"}


def split(text: str) -> list[Span]:
  """Returns the sentences of a text, in order; white space between them belongs to none.

  A sentence ends with ., ! or ?, or dots, and what closes after it (quotes, brackets) where white
  space follows, and with a line. A full stop ends none after a title or "e.g.", within "U.S. or",
  after "Fig." before a number, an initial ("J. Smith"), or what numbers an entry of a list ("1.",
  "b."), and dots none before a small letter. Decimals have no white space after their point.
  """
  spans = []
  begin = 0
  for mark in _END.finditer(text):
    end = mark.start() if mark[0] == "\n" else mark.end()
    if mark[0] != "\n" and _goes_on(text, begin, mark):
      continue
    spans.append((begin, end))
    begin = mark.end()
  spans.append((begin, len(text)))

  trimmed = [_trimmed(text, *span) for span in spans]
  return [(first, last) for first, last in trimmed if first < last]


def _goes_on(text: str, begin: int, mark: re.Match) -> bool:
  """Returns whether a sentence that begins there goes on after a mark."""
  following = text[mark.end() :].lstrip()
  if mark[0] in ("...", "…", "..", "...."):
    return following[:1].islower()
  if mark[0] != ".":
    return False
  before = text[begin : mark.start()]
  if _ENTRY.fullmatch(before) or re.search(r"[:;]\s+\d{1,3}\Z", before):
    return bool(following)
  *earlier, word = re.split(r"\s+", before) or [""]
  word = word.lstrip("(\"'“‘[").casefold()
  if word in _TITLES:
    return bool(following)
  if word in _NUMBERED:
    return following[:1].isdigit()
  if word in _OPEN or _DOTTED.fullmatch(word):
    return following[:1].islower()
  is_initial = (
    len(word) == 1 and word.isalpha() and word != "i" and text[mark.start() - 1].isupper()
  )
  previous = earlier[-1].casefold() if earlier else ""
  return is_initial and following[:1].isupper() and previous not in _CHOICES


def _trimmed(text: str, begin: int, end: int) -> Span:
  piece = text[begin:end]
  return begin + len(piece) - len(piece.lstrip()), begin + len(piece.rstrip())


def said(text: str) -> list[str]:
  """Returns the sentences of a text in words."""
  return [text[begin:end] for begin, end in split(text)]


def repeated(sentences: Sequence[str]) -> list[bool]:
  """Returns which sentences were said before, whatever their case and white space."""
  seen: set[str] = set()
  marks = []
  for sentence in sentences:
    key = " ".join(sentence.casefold().split())
    marks.append(key in seen)
    seen.add(key)
  return marks


def distinct(text: str) -> str:
  """Returns a text without the sentences that repeat an earlier one; the others stay as they are.

  What stood between two sentences stays before the second one.
  """
  spans = split(text)
  kept = []
  before = 0
  for (_, end), is_repeated in zip(spans, repeated(said(text)), strict=True):
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
