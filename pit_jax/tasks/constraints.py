"""Kinds of constraints on a text that a program can check: said in English, read back, met, mended.

A kind has wordings with slots, which are what prompts say and what is read back from them; whether
a text meets it; and a simple edit that makes a text meet it, where there is one. Words are compared
without case.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping

from pit_jax.tasks import sentences

Slots = Mapping[str, str]

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_PATTERNS = {"n": rf"(?:{'|'.join(NUMBERS)}|\d+)", "low": r"\d+", "high": r"\d+"}
_QUOTED = r"[^\"\n]+"  # what any other slot holds, between quotation marks


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of constraints."""

  # What a prompt says, of which any may be drawn; {n}, {low} and {high} are numbers, {word}, {name}
  # and {phrase} stand between quotation marks.
  wordings: tuple[str, ...]
  met: Callable[[str, Slots], bool]  # (text, slots) → whether the text does what is asked
  # (text, slots) → a text that does, or the same where no simple edit is known.
  mended: Callable[[str, Slots], str]
  # What of a text it decides; of two kinds that share one, a text need not be able to meet both.
  decides: frozenset[str]
  weight: float = 1.0


def words(text: str) -> list[str]:
  """Returns the words of a text, in small letters; "don't" and "well-known" are one each."""
  return [found.group().casefold() for found in _WORD.finditer(text)]


def count_sentences(text: str) -> int:
  """Returns how many sentences a text has, each line being at least one; see `sentences.split`."""
  return len(sentences.split(text))


def number(said: str) -> int:
  """Returns the number that a slot says, in words or digits."""
  return NUMBERS.index(said) + 1 if said in NUMBERS else int(said)


def occurrences(text: str, phrase: str) -> int:
  """Returns how often a phrase stands in a text as whole words."""
  return len(re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE))


def pattern(wording: str) -> re.Pattern:
  """Returns what reads a wording back, with a group for every slot."""
  parts = re.split(r"\{(\w+)\}", wording)
  slots = [f"(?P<{name}>{_PATTERNS.get(name, _QUOTED)})" for name in parts[1::2]]
  fixed = [re.escape(part) for part in parts[::2]]
  joined = "".join(one for pair in zip(fixed, [*slots, ""], strict=True) for one in pair)
  return re.compile(rf"(?<!\S){joined}(?!\S)")


def _first_sentences(text: str, count: int) -> str:
  spans = sentences.split(text)
  return text if len(spans) <= count else text[: spans[count - 1][1]]


def _few_words(text: str, most: int) -> str:
  """Returns whole sentences of at most so many words; where the first is longer, its beginning."""
  kept = ""
  for _, end in sentences.split(text):
    if len(words(text[:end])) > most:
      break
    kept = text[:end]
  if kept:
    return kept
  found = list(_WORD.finditer(text))
  return f"{text[: found[most - 1].end()]}." if len(found) > most else text


def _without(text: str, phrase: str) -> str:
  gone = re.sub(rf"\s*(?<!\w){re.escape(phrase)}(?!\w)", "", text, flags=re.IGNORECASE)
  return gone.strip()


def _lines(text: str, marks: re.Pattern) -> list[str]:
  return [line for line in text.splitlines() if marks.match(line)]


_DASH = re.compile(r"\s*-\s+\S")
_ENTRY = re.compile(r"\s*(\d+)[.)]\s+\S")


def _listed(text: str, count: int, mark: Callable[[int], str]) -> str:
  """Returns the first sentences of a text as so many entries, where there are as many."""
  pieces = [text[begin:end] for begin, end in sentences.split(text)]
  pieces = [re.sub(r"^\s*(?:-|\d+[.)])\s*", "", piece) for piece in pieces]
  pieces = [piece for piece in pieces if words(piece)]
  if len(pieces) < count:
    return text
  return "\n".join(f"{mark(i)} {piece}" for i, piece in enumerate(pieces[:count]))


def _is_numbered(text: str, slots: Slots) -> bool:
  found = [int(_ENTRY.match(line)[1]) for line in _lines(text, _ENTRY)]
  return found == [*range(1, number(slots["n"]) + 1)]


def _paragraphs(text: str) -> list[str]:
  return [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def _in_paragraphs(text: str, slots: Slots) -> str:
  count = number(slots["n"])
  pieces = [text[begin:end] for begin, end in sentences.split(text)]
  if len(pieces) < count:
    return text
  borders = [round(len(pieces) * i / count) for i in range(count + 1)]
  return "\n\n".join(" ".join(pieces[a:b]) for a, b in itertools.pairwise(borders))


def _named(text: str, slots: Slots) -> str:
  """Returns a text in which a name stands twice: at its ends, or without those after the second."""
  name, count = slots["name"], occurrences(text, slots["name"])
  if count > 2:
    places = list(re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE))
    for place in reversed(places[2:]):
      text = f"{text[: place.start()]}they{text[place.end() :]}"
    return text
  return " ".join([text, *[f"Think of it, {name}."] * (2 - count)])


def _begun(text: str, slots: Slots) -> str:
  head = text[:1].lower() if text[1:2].islower() else text[:1]
  return f"{slots['word']}, {head}{text[1:]}"


def _begins(text: str, slots: Slots) -> bool:
  found = words(text.lstrip())
  return bool(found) and found[0] == slots["word"].casefold()


def _ends(text: str, slots: Slots) -> bool:
  said = words(slots["phrase"])
  return words(text)[-len(said) :] == said


def _titled(text: str, slots: Slots) -> bool:
  first, _, rest = text.strip().partition("\n")
  return bool(re.fullmatch(r"\*[^*\n]+\*", first.strip())) and bool(rest.strip())


def _quoted(text: str, slots: Slots) -> bool:
  stripped = text.strip()
  return len(stripped) > 2 and stripped[0] in '"“' and stripped[-1] in '"”'


def _last_line(text: str) -> str:
  return text.strip().rpartition("\n")[2]


def _kind(
  wordings: tuple[str, ...],
  met: Callable[[str, Slots], bool],
  mended: Callable[[str, Slots], str],
  *decides: str,
  weight: float = 1.0,
) -> Kind:
  return Kind(wordings, met, mended, frozenset(decides), weight)


KINDS: dict[str, Kind] = {
  "sentences": _kind(
    ("Use exactly {n} sentences.", "Write {n} sentences, no more and no fewer."),
    lambda y, s: count_sentences(y) == number(s["n"]),
    lambda y, s: _first_sentences(y, number(s["n"])),
    *("length", "sentences"),
    weight=2.0,
  ),
  "few sentences": _kind(
    ("Use at most {n} sentences.", "Do not write more than {n} sentences."),
    lambda y, s: 0 < count_sentences(y) <= number(s["n"]),
    lambda y, s: _first_sentences(y, number(s["n"])),
    *("length", "sentences"),
  ),
  "few words": _kind(
    ("Use at most {n} words.", "Keep it under or at {n} words."),
    lambda y, s: 0 < len(words(y)) <= number(s["n"]),
    lambda y, s: _few_words(y, number(s["n"])),
    "length",
  ),
  "many words": _kind(
    ("Use at least {n} words.", "Write no fewer than {n} words."),
    lambda y, s: len(words(y)) >= number(s["n"]),
    lambda y, s: y,
    "length",
  ),
  "between": _kind(
    ("Use between {low} and {high} words.", "Write {low} to {high} words."),
    lambda y, s: int(s["low"]) <= len(words(y)) <= int(s["high"]),
    lambda y, s: _few_words(y, int(s["high"])),
    "length",
    weight=2.0,
  ),
  "holds": _kind(
    ('Use the word "{word}".', 'The word "{word}" has to be in it.'),
    lambda y, s: occurrences(y, s["word"]) > 0,
    lambda y, s: f"{y} It has something to do with the {s['word']}.",
    "holds",
  ),
  "avoids": _kind(
    ('Do not use the word "{word}".', 'Leave out the word "{word}".'),
    lambda y, s: bool(words(y)) and not occurrences(y, s["word"]),
    lambda y, s: _without(y, s["word"]),
    "avoids",
  ),
  "begins": _kind(
    ('Begin with the word "{word}".', 'Let the first word be "{word}".'),
    _begins,
    _begun,
    "start",
  ),
  "ends": _kind(
    ('End with the words "{phrase}".', 'Let the last words be "{phrase}".'),
    _ends,
    lambda y, s: f"{y} {s['phrase'][:1].upper()}{s['phrase'][1:]}.",
    "end",
  ),
  "small letters": _kind(
    ("Use small letters only.", "Write everything in lower case."),
    lambda y, s: bool(words(y)) and y == y.lower(),
    lambda y, s: y.lower(),
    "case",
  ),
  "capitals": _kind(
    ("Use capital letters only.", "Write everything in upper case."),
    lambda y, s: bool(words(y)) and y == y.upper() and y != y.lower(),
    lambda y, s: y.upper(),
    "case",
  ),
  "list": _kind(
    ("Write a list of {n} items, each on a line that begins with a dash.",
     "Answer in {n} lines that begin with a dash, and nothing else of that kind."),
    lambda y, s: len(_lines(y, _DASH)) == number(s["n"]),
    lambda y, s: _listed(y, number(s["n"]), lambda i: "-"),
    *("shape", "sentences", "start", "end"),
    weight=2.0,
  ),
  "numbered": _kind(
    ("Write a list of {n} items that are numbered from 1.",
     "Number your {n} points from 1, each on a line of its own."),
    _is_numbered,
    lambda y, s: _listed(y, number(s["n"]), lambda i: f"{i + 1}."),
    *("shape", "sentences", "start", "end", "digits"),
    weight=2.0,
  ),
  "paragraphs": _kind(
    ("Write {n} paragraphs with an empty line between them.",
     "Divide it into {n} paragraphs by empty lines."),
    lambda y, s: len(_paragraphs(y)) == number(s["n"]),
    _in_paragraphs,
    *("shape", "sentences"),
  ),
  "question": _kind(
    ("End with a question.", "Let the last sentence be a question."),
    lambda y, s: y.strip().rstrip("\"”'").endswith("?"),
    lambda y, s: f"{y} What do you think?",
    "end",
  ),
  "no commas": _kind(
    ("Use no commas.", "Do not use any comma."),
    lambda y, s: bool(words(y)) and "," not in y,
    lambda y, s: y.replace(",", ""),
    "commas",
  ),
  "no digits": _kind(
    ("Use no digits.", "Write without any digits."),
    lambda y, s: bool(words(y)) and not re.search(r"\d", y),
    lambda y, s: re.sub(r"\s*\d+", "", y).strip(),
    "digits",
  ),
  "no exclamation": _kind(
    ("Use no exclamation marks.", "Do not exclaim: no exclamation marks."),
    lambda y, s: bool(words(y)) and "!" not in y,
    lambda y, s: y.replace("!", "."),
    "exclamation",
  ),
  "name": _kind(
    ('Say the name "{name}" exactly twice.', 'The name "{name}" has to stand in it twice.'),
    lambda y, s: occurrences(y, s["name"]) == 2,
    _named,
    "name",
    weight=2.0,
  ),
  "quoted": _kind(
    ("Put the whole answer between quotation marks.",
     "Your whole answer has to stand in quotation marks."),
    _quoted,
    lambda y, s: '"{}"'.format(y.strip().strip("\"“”").strip()),
    *("shape", "start", "end"),
  ),
  "title": _kind(
    ("Give it a title between two stars, on a line of its own.",
     "Begin with a line that is a title between two stars."),
    _titled,
    lambda y, s: f"*A few words*\n{y}",
    *("shape", "start", "sentences"),
  ),
  "postscript": _kind(
    ('Add a last line that begins with "P.S."', 'Close with a line that begins with "P.S."'),
    lambda y, s: _last_line(y).strip().startswith("P.S."),
    lambda y, s: f"{y}\nP.S. Take your time.",
    *("end", "sentences", "case"),
  ),
}  # fmt: skip
