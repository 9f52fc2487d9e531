"""Numbers in texts, exactly: as digits, fractions, mixed numbers, powers, and ends of equations.

What is a number and cannot be read whole, such as 3:45, √2 or 3 + 4, is never read in part.
"""

import fractions
import re
import unicodedata

SENTENCE = re.compile(r"[!?]\s|\.\s+[*_\"(]*[A-Z]")  # where another one begins
UNREADABLE = ""  # there is a number, and it cannot be read
MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})

_LONGEST = 200  # characters of a number; more digits are noise, and cost time
_LARGEST = 2000  # digits of a power, about

# Digits with or without thousands apart, decimals, an exponent.
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DIGITS = rf"{_WHOLE}(?:\.\d+)?(?:[eE][+-]?\d{{1,3}})?|\.\d+"
_BRACED = r"\{(?:[^{}]|\{[^{}]*\})*\}"
# What has a value of which digits beside it, or in it, are a part.
_SYMBOL = (
  rf"\\(?:[dt]?frac|sqrt|binom)(?:\[[^\[\]]*\])?\s*(?:{_BRACED}\s*){{0,2}}"
  r"|\\(?:pi|infty|pm|log|ln|exp|sin|cos|tan)\b|√\s*\(?[\d.]*|[π∞±]"
)
_ITEM = re.compile(
  r"(?<![\w.,/^])(?P<sign>-?)[$€£]?(?:(?P<whole>\d+) (?=\d+\s*/))?"
  rf"(?P<digits>{_DIGITS})(?:\s*/\s*(?P<divisor>{_WHOLE})|\^[{{(]?(?P<power>[+-]?\d+)[)}}]?)?"
  rf"(?![\d_]|[.,:]\d|[eE][+-]?\d|\s*/\s*\d|[)\]}}]*\s*\^|\s*(?:{_SYMBOL})|\s?[xyz]\b(?!\s*\d))"
  rf"|(?<![^\W\d])(?<![a-zA-Z]\^)\d[\w.,/:]*(?:\^(?:[{{(][^{{}}()]*[)}}]|[-+]?[\w.]*))?|{_SYMBOL}",
  re.ASCII,
)
# What stands between two numbers of one equation; a unit, too.
_LINK = re.compile(
  r"[ \t)\]}$%°]*(?:(?P<operation>\s*&?=|[-+×÷·/x]|\*\*(?![ \t])|(?<=[ \t])\*(?=[ \t])"
  r"|(?<![ \t])\*(?![ \t]))"
  r"|[^\W\d_]+[ \t)\]}$%.]*(?P<of_units>[=+×*]))[ \t(\[{$]*"
)
_STOP = re.compile(rf"{SENTENCE.pattern}|(?i:\b(?:because|since)\b)")

_WRAPPER = re.compile(
  r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf)|mbox|operatorname)\s*\{([^{}]*)\}"
)
_APART = r"(?<![\d.,])(\d{{1,3}}(?:(?:{})\d{{3}})+)(?!\d|\s*/)"
_THIN = re.compile(_APART.format(r"\\[,;: ]|[\u00a0\u2009\u202f]"))
_SPACED = re.compile(_APART.format(r"[ \u00a0\u2009\u202f]"))
_FRACTION = re.compile(
  r"(\d\s*)?\\[dt]?frac\s*(?:\{\s*(-?[\d,.]+)\s*\}\s*\{\s*([\d,.]+)\s*\}|(\d)(\d))", re.ASCII
)
_TENS = re.compile(
  rf"(?<![\w.,^{{])({_DIGITS})\s*[×·*x]\s*10\^[{{(]?\s*([+-]?\d+)\s*[)}}]?", re.ASCII
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_NAMES = {r"\times": "×", r"\cdot": "·", r"\div": "÷"}


def number(said: str, is_marked: bool) -> fractions.Fraction | str | None:
  """Returns the first number after a mark, else the last one of all.

  An equation is the number that it ends in.

  Args:
    said: without LaTeX, as `without_latex` has it.
    is_marked: whether it follows a mark; then what gives a reason, and further sentences, are left
      out, a minus may stand apart, and thousands may have spaces between them.

  Returns:
    The number; None if there is none; `UNREADABLE` if it is one that cannot be read.
  """
  plain = _plain(said)
  if is_marked:
    plain = _STOP.split(plain, maxsplit=1)[0]
    plain = re.sub(r"\A([ \t*_:(${]*)-[ \t]+(?=[$.\d])", r"\1-", plain)
    plain = _SPACED.sub(_joined, plain)
  equations = _equations(plain)
  if not equations:
    return None
  sides = equations[0 if is_marked else -1]
  values = [_value(side[0]) for side in sides if len(side) == 1]
  return next((value for value in reversed(values) if value is not None), UNREADABLE)


def without_latex(said: str) -> str:
  """Returns a text without LaTeX's fonts, spaces and thousands."""
  if "\\" not in said and "{" not in said:
    return said
  for _ in range(2):  # a font may stand in another one
    said = _WRAPPER.sub(r"\1", said)
  said = _THIN.sub(_joined, said.replace(r"\!", "").replace("{,}", ","))
  said = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", said)
  return re.sub(r"\\(?:[,;: ]|left\b|right\b)", " ", re.sub(r"\\([$%#&])", r"\1", said))


def _joined(match: re.Match[str]) -> str:
  return re.sub(r"\D", "", match[0])


def _plain(said: str) -> str:
  """Returns a text in which numbers are written in few ways."""
  plain = re.sub(r"<<[^<>]*>>", "", said.translate(MINUS))  # a calculator's notes
  plain = _THIN.sub(_joined, plain)
  for name, sign in _NAMES.items():
    plain = plain.replace(name, sign)
  plain = re.sub(r"(?<=[\d)])[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{m[0].translate(_RAISED)}", plain)
  plain = re.sub(r"[¼-¾⅐-⅞]", lambda m: f" {unicodedata.normalize('NFKC', m[0])}", plain)
  plain = _FRACTION.sub(_slashed, plain.replace("⁄", "/"))
  plain = re.sub(r"\^[ \t]*\{[ \t]*([+-]?\d+)[ \t]*\}", r"^{\1}", plain)
  return re.sub(r"=([ \t]*)-[ \t]+(?=[$.\d])", r"=\1-", _TENS.sub(r"\1e\2", plain))


def _slashed(match: re.Match[str]) -> str:
  before, above, below, digit, divisor = match.groups()
  whole = f"{before.strip()} " if before else ""
  return f"{whole}{above or digit}/{below or divisor}"


def _equations(plain: str) -> list[list[list[re.Match[str]]]]:
  """Returns all equations, each as its sides, each as the numbers in it; most are one number."""
  equations: list[list[list[re.Match[str]]]] = []
  end = 0
  for item in _ITEM.finditer(plain):
    link = _LINK.fullmatch(plain, end, item.start()) if equations else None
    if not link:
      equations.append([[item]])
    elif (link["operation"] or link["of_units"]).endswith("="):
      equations[-1].append([item])
    else:
      equations[-1][-1].append(item)
    end = item.end()
  return equations


def _value(item: re.Match[str]) -> fractions.Fraction | None:
  """Returns what a number is, None where it cannot be read."""
  sign, whole, digits, divisor, power = item.groups()
  if digits is None or len(item[0]) > _LONGEST:
    return None
  value = fractions.Fraction(digits.replace(",", ""))
  if divisor:
    below = int(divisor.replace(",", ""))
    if not below or (whole and value >= below):
      return None
    value = value / below + int(whole or 0)
  if power:
    exponent = int(power)
    if (
      len(digits) * abs(exponent) > _LARGEST or "e" in digits.lower() or (not value and power < "0")
    ):
      return None
    value **= exponent
  return -value if sign else value
