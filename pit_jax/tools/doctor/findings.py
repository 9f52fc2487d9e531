"""What an examination finds: a sentence, what to do about it, figures, and where to look."""

import dataclasses
from collections.abc import Sequence

from pit_jax.report import cells
from pit_jax.tools.doctor import estimates

SEVERITIES = ("ok", "unknown", "note", "warning", "problem")  # from the least to the gravest
# Shares of the rows from which something is a warning, a problem.
MANY = 0.01
MOST = 0.10
EXAMPLES = 5  # shown of each finding


@dataclasses.dataclass(frozen=True)
class Figure:
  """A number that was counted or estimated."""

  label: str
  value: float | int | None  # None where the data cannot tell
  unit: str = "count"  # or "share" (in [0, 1]), "nats", "tokens", "deviations"
  low: float | None = None  # the lower end of the 95% interval; None for what was counted
  high: float | None = None  # its upper end


@dataclasses.dataclass(frozen=True)
class Example:
  """Rows that show a finding."""

  places: tuple[str, ...]  # file and line, or row, of each
  text: str  # what stands there, shortened


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was looked for, found or not."""

  name: str  # a short identifier
  title: str
  severity: str  # one of SEVERITIES
  found: str  # what is the case, in a sentence
  advice: str = ""  # what to do; "" where there is nothing to be done
  figures: tuple[Figure, ...] = ()  # the numbers behind it
  examples: tuple[Example, ...] = ()  # a few of the rows concerned
  tables: tuple[cells.Table, ...] = ()  # more numbers
  places: tuple[str, ...] = ()  # every row concerned, for programs to read


def severity(share: float | int) -> str:
  """Returns how grave it is that this share of the rows, in [0, 1], is concerned."""
  if share <= 0:
    return "ok"
  return "note" if share < MANY else "warning" if share < MOST else "problem"


def weighed(
  name: str, title: str, share: float, found: str, advice: str, *shown, fine: str = "", **more
) -> Finding:
  """Returns a finding on a share of the rows, in [0, 1], with advice only where there are any.

  Where there are none, it says `fine` instead of `found`, unless that is "".
  """
  if share > 0:
    return Finding(name, title, severity(share), found, advice, *shown, **more)
  return Finding(name, title, severity(share), fine or found, "", *shown, **more)


def gravest(severities: Sequence[str]) -> str:
  """Returns the gravest of some severities."""
  return max(severities, key=SEVERITIES.index, default="ok")


def shorten(text: str, length: int = 160) -> str:
  """Returns a text on one line, its middle left out where it is longer than `length`."""
  line = " ".join(text.split())
  half = length // 2
  return line if len(line) <= length else f"{line[:half].rstrip()} … {line[-half:].lstrip()}"


def shorten_beside(texts: Sequence[str], length: int = 160) -> list[str]:
  """Returns texts that stand beside each other, each as by `shorten`, so that they are told apart.

  Where that would leave out the first place in which they differ, what is shown of a longer one
  begins shortly before it.
  """
  lines = [" ".join(text.split()) for text in texts]
  # What the first and the last one in order have in common, all of them have.
  signs = list(zip(min(lines), max(lines), strict=False))
  same = next((at for at, (one, other) in enumerate(signs) if one != other), len(signs))
  if same < length // 4 or len({*lines}) == 1:
    return [shorten(line, length) for line in lines]

  begin = same - length // 4
  begin = lines[0].rfind(" ", 0, begin) + 1 or begin  # whole words, where there are any
  return [_from(line, begin, length) for line in lines]


def _from(line: str, begin: int, length: int) -> str:
  """Returns what stands in a line from a place on, or all of a line that is not too long."""
  if len(line) <= length:
    return line
  shown = line[begin : begin + length]
  end = " …" if begin + length < len(line) else ""
  return f"{'… ' if begin else ''}{shown.rstrip()}{end}"


def count(number: float | int, noun: str) -> str:
  """Returns "1 row", "2,000 rows"; the plural is regular unless the noun gives both ("is/are")."""
  one, _, several = noun.partition("/")
  return f"{number:,} {one if number == 1 else several or one + 's'}"


def percent(share: float | int) -> str:
  """Returns a share in percent, with more digits where it is nearly none or nearly all."""
  return f"{100 * share:.2f}%" if 0 < min(share, 1 - share) < MANY else f"{100 * share:.1f}%"


def estimated(label: str, found: estimates.Estimate) -> Figure:
  """Returns an estimated share as a figure."""
  return Figure(label, found.value, "share", found.low, found.high)


def interval(found: estimates.Estimate) -> str:
  """Returns the 95% interval of a share in words."""
  return f"95% interval {percent(found.low)} to {percent(found.high)}"
