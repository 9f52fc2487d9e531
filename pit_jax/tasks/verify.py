"""Final answers of texts, and whether they are right: a number, a choice among letters, few words.

An answer is what follows the last mark of one ("the answer is", "answer:", "####", "\\boxed{…}")
after which there is one: the first number, the letter it begins with, or the line. Without a mark
it is the last number of the text, the letter that its last line begins with or has in parentheses,
or its last line. A right answer is read as what follows a mark.
"""

import fractions
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from pit_jax.tasks import numerals

Answer = fractions.Fraction | str

# "This answer is helpful" is said of an answer that was given before.
_MARK = re.compile(
  r"####|(?P<box>\\boxed\s*\{)|(?<!this )\banswer[\s*_]*(?:is|=|:)(?:\s*:)?", re.IGNORECASE
)
_PARENTHESISED = r"\(([A-Za-z])\)|\b(?:[Oo]ption|[Cc]hoice)\s+([A-Z])\b"
_LETTER = re.compile(rf"{_PARENTHESISED}|^\W*([A-Z])(?=[.):]|\W*$)|^\W*([a-z])\W*$")
# After a mark a letter may be followed by words, but "A" and "I" are words themselves, and of
# several letters none is the answer.
_OTHERS = r"(?!\s*(?:,|/|&|or\b|and\b)\s*\(?[A-Z]\b(?!['’]))"
_MARKED_LETTER = re.compile(
  rf"{_PARENTHESISED}|^\W*([A-Z])(?=[.):]|\W*$)|^\W*([a-z])\W*$"
  rf"|^\W*([B-HJ-Z])\b(?![-'’]){_OTHERS}"
  rf"|^\W*([AI])(?=\s*[,;(–—]|\s+-\s|\s+(?:because|since|as)\b){_OTHERS}"
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def final(text: str, form: str) -> Answer | None:
  """Returns the final answer of a text, None where it has none of this form.

  Args:
    text: of any length.
    form: "number" (exact: 0.5, 1/2 and .50 are the same; "%" and units are not read; None of one
      that cannot be read whole, such as √2), "choice" (a letter, upper case unless it stands alone)
      or "text" (lower case, without articles, punctuation but for a minus, and outer space).

  Raises:
    ValueError: there is no such form.
  """
  if form not in FORMS:
    raise ValueError(f"form={form!r}; use one of {', '.join(FORMS)}")
  said = _marked(text)
  return _first(said, form, is_marked=True) if said else _first([text], form, is_marked=False)


def is_marked(text: str, form: str) -> bool:
  """Returns whether a text has a final answer behind a mark of one."""
  return _first(_marked(text), form, is_marked=True) is not None


def is_right(text: str, answers: Iterable[str], form: str) -> bool:
  """Returns whether the final answer of a text is one of those that are right.

  A text that is nothing but a right answer, word by word, is right, too.

  Raises:
    ValueError: one of `answers` is none of this form, or there is no such form.
  """
  known = {" ".join(answer.split()): check(answer, form) for answer in answers}
  found = final(text, form)
  return " ".join(text.split()) in known or (found is not None and found in known.values())


def check(answer: str, form: str) -> Answer:
  """Returns a right answer as it is compared.

  It is read as what follows a mark; one of several sentences or lines, which shows how it is come
  by, as any text.

  Raises:
    ValueError: it is none of this form, or there is no such form.
  """
  said = answer.strip()
  is_alone = len(said.splitlines()) < 2 and not numerals.SENTENCE.search(said)
  if form in FORMS and is_alone and not _marked(said):
    found = _first([said], form, is_marked=True)
  else:
    found = final(answer, form)
  if found is None:
    raise ValueError(f"{answer!r} is no answer of the form {form}")
  return found


def _marked(text: str) -> list[str]:
  """Returns what follows each mark up to the next one, or stands in its box, the last first."""
  marks = list(_MARK.finditer(text))
  ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
  said = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
  return [_inside(one) if mark["box"] else one for mark, one in zip(marks, said, strict=True)][::-1]


def _inside(text: str) -> str:
  """Returns a text up to the brace that closes one before it."""
  depth = 1
  for place, character in enumerate(text):
    depth += (character == "{") - (character == "}")
    if not depth:
      return text[:place]
  return text


def _first(said: Sequence[str], form: str, is_marked: bool) -> Answer | None:
  """Returns the answer in the first of some texts that has one, None where it cannot be read."""
  for one in said:
    found = FORMS[form](numerals.without_latex(one), is_marked)
    if found is not None:
      return None if found == numerals.UNREADABLE else found
  return None


def _line(said: str, place: int) -> str:
  """Returns the first (0) or last (-1) line that has a word, "" where there is none."""
  lines = [line.strip() for line in said.splitlines() if re.search(r"\w", line)]
  return lines[place] if lines else ""


def _choice(said: str, is_marked: bool) -> str | None:
  """Returns the letter of a choice: after a mark the first one, else the last of the last line."""
  letter, place = (_MARKED_LETTER, 0) if is_marked else (_LETTER, -1)
  found = list(letter.finditer(_line(said, place)))
  return next(filter(None, found[place].groups())).upper() if found else None


def _text(said: str, is_marked: bool) -> str | None:
  """Returns the line after a mark, else the last one, without what is no word."""
  line = unicodedata.normalize("NFKC", _line(said, 0 if is_marked else -1)).casefold()
  # A minus is what tells -3 from 3.
  words = re.sub(r"(?!(?<!\w)-\d)[^\w\s]", " ", line.translate(numerals.MINUS))
  return " ".join(_ARTICLES.sub(" ", words).split()) or None


FORMS: dict[str, Callable[[str, bool], Answer | None]] = {
  "number": numerals.number, "choice": _choice, "text": _text,
}  # fmt: skip
