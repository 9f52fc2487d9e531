"""Final answers of texts, and whether they are right: a number, a choice among letters, few words.

An answer is what follows the last mark of one ("the answer is", "answer:", "####", "\\boxed{…}").
Without a mark it is the last number of the text, the letter that its last line begins with or has
in parentheses, or its last line.
"""

import fractions
import re
import unicodedata
from collections.abc import Callable, Iterable

Answer = fractions.Fraction | str

_MARK = re.compile(r"####|\\boxed\s*\{|\banswer\s*(?:is|=|:)\s*:?", re.IGNORECASE)
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})
# Digits with or without thousands apart, decimals, an exponent.
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|\.\d+"
_NUMBER = re.compile(
  rf"(?<![\w.,/])(-?)[$€£]?({_DIGITS})(?:\s*/\s*(\d+))?"
  r"(?![\d_]|[.,]\d|[eE][+-]?\d|\s*/\s*\d)",
  re.ASCII,
)
_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}", re.ASCII)
_LONGEST = 200  # characters of a number; more digits are noise, and cost time
_LETTER = re.compile(
  r"\(([A-Za-z])\)|\b(?:[Oo]ption|[Cc]hoice)\s+([A-Z])\b|^\W*([A-Z])(?=[.):]|\W*$)|^\W*([a-z])\W*$"
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def final(text: str, form: str) -> Answer | None:
  """Returns the final answer of a text, None where it has none of this form.

  Args:
    text: of any length.
    form: "number" (exact: 0.5, 1/2 and .50 are the same; "%" and units are not read), "choice" (a
      letter, upper case unless it stands alone) or "text" (lower case, without articles,
      punctuation and outer space).

  Raises:
    ValueError: there is no such form.
  """
  if form not in FORMS:
    raise ValueError(f"form={form!r}; use one of {', '.join(FORMS)}")
  marks = list(_MARK.finditer(text))
  said = text[marks[-1].end() :] if marks else text
  return FORMS[form](said.strip(), bool(marks))


def is_right(text: str, answers: Iterable[str], form: str) -> bool:
  """Returns whether the final answer of a text is one of those that are right.

  Raises:
    ValueError: one of `answers` is none of this form, or there is no such form.
  """
  right = [check(answer, form) for answer in answers]
  found = final(text, form)
  return found is not None and found in right


def check(answer: str, form: str) -> Answer:
  """Returns a right answer as it is compared.

  Raises:
    ValueError: it is none of this form, or there is no such form.
  """
  found = final(answer, form)
  if found is None:
    raise ValueError(f"{answer!r} is no answer of the form {form}")
  return found


def _number(said: str, is_marked: bool) -> fractions.Fraction | None:
  """Returns the first number after a mark, else the last one of all."""
  plain = _FRACTION.sub(r"\1/\2", said.translate(_MINUS))
  found = list(_NUMBER.finditer(plain))
  if not found or len(found[0 if is_marked else -1][0]) > _LONGEST:
    return None
  sign, digits, divisor = found[0 if is_marked else -1].groups()
  above = fractions.Fraction(sign + digits.replace(",", ""))
  below = int(divisor or 1)
  return above / below if below else None


def _choice(said: str, is_marked: bool) -> str | None:
  """Returns the letter of a choice: after a mark the first one, else the last of the last line."""
  lines = said.splitlines()
  if not lines:
    return None
  found = list(_LETTER.finditer(lines[0] if is_marked else lines[-1]))
  return next(filter(None, found[0 if is_marked else -1].groups())).upper() if found else None


def _text(said: str, is_marked: bool) -> str | None:
  """Returns the line after a mark, else the last one, without what is no word."""
  lines = said.splitlines()
  if not lines:
    return None
  line = unicodedata.normalize("NFKC", lines[0] if is_marked else lines[-1]).casefold()
  words = re.sub(r"[^\w\s]", " ", line)
  return " ".join(_ARTICLES.sub(" ", words).split()) or None


FORMS: dict[str, Callable[[str, bool], Answer | None]] = {
  "number": _number, "choice": _choice, "text": _text,
}  # fmt: skip
