"""A table of the report, and how its cells say numbers."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pit_jax.report import verdict

BLANK = "·"
TOO_FEW = "too few"  # prompts for an interval
BOUNDS = ("ci95", "ci95_stop")  # of a Δ over prompts


@dataclasses.dataclass(frozen=True)
class Table:
  """A titled table of text cells."""

  name: str  # a short identifier
  title: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  note: str = ""
  words: int = 1  # leading columns that hold words; the others hold numbers
  is_folded: bool = False  # detail: opened on demand on the page, left out in the terminal
  is_printed: bool = True  # in the terminal too, which has no room for very wide tables


def fixed(value: float | int | None, digits: int = 2) -> str:
  """Returns a number with a true minus, or a dot where there is none."""
  return BLANK if value is None else f"{value:,.{digits}f}".replace("-", "−")


def percent(fraction: float | int | None) -> str:
  """Returns a fraction of 1 in percent."""
  return BLANK if fraction is None else f"{100 * fraction:.1f}%"


def duration(seconds: float | int | None) -> str:
  """Returns seconds as people say them."""
  if seconds is None:
    return BLANK
  if round(seconds) < 60:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
  minutes, rest = divmod(round(seconds), 60)

  return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes / 60:.1f} h"


def interval(bounds: Sequence[float | int | None] | None) -> str:
  """Returns the bounds of an interval of Δ, signed; a dot where nothing was judged."""
  if not bounds or None in bounds:
    return BLANK
  return " … ".join(verdict.signed(bound, verdict.digits(bounds)) for bound in bounds)


def bounds(found: Sequence[float | int] | None, digits: int = 2) -> str:
  """Returns the bounds of any other interval, without signs; a dot where there is none."""
  if not found:
    return BLANK
  return " … ".join(fixed(bound, verdict.digits(found, digits)) for bound in found)


def within(value: float | int | None, found: Sequence[float | int] | None, digits: int = 2) -> str:
  """Returns a number with as many digits, up to so many, as its interval bears."""
  return fixed(value, verdict.digits(found, digits))


def percents(found: Sequence[float | int] | None) -> str:
  """Returns the bounds of an interval of a share in percent."""
  return BLANK if not found else " … ".join(f"{100 * bound:.1f}" for bound in found)


def signed(value: float | int | None, found: Sequence[float | int | None] | None = None) -> str:
  """Returns a Δ with its sign and the digits that its interval bears; a dot where there is none."""
  return BLANK if value is None else verdict.signed(value, verdict.digits(found))


def select(
  name: str,
  title: str,
  rows: Sequence[Mapping],
  columns: Mapping[str, Callable],
  *,
  note: str = "",
  about: Mapping[str, str] | None = None,
  **more,
) -> Table:
  """Renders the columns in which at least one row says something.

  Below stands the note and then, of `about`, what is said of the columns that are there.
  """
  cells = {column: [render(row) for row in rows] for column, render in columns.items()}
  # A column in which no row says anything goes; `words` then counts those that stay.
  kept = {column: values for column, values in cells.items() if set(values) - {BLANK, ""}}
  words = sum(column in kept for column in list(columns)[: more.pop("words", 1)])
  texts = tuple(zip(*kept.values(), strict=True))
  said = [sentence for column, sentence in (about or {}).items() if column in kept]
  note = " ".join(filter(None, [note, *said]))
  return Table(name, title, tuple(kept), texts, note=note, words=words, **more)


def plain(value: Any) -> str:
  """Renders whatever a run recorded: numbers briefly, mappings as a list of their entries."""
  if value is None:
    return BLANK
  if isinstance(value, Mapping):
    entries = [f"{key.replace('_', ' ')} {plain(item)}" for key, item in value.items()]
    return ", ".join(entries) or "none"
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, int):
    return f"{value:,}".replace("-", "−")
  return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)


def by_kind(what: str, counts: Mapping[str, Mapping[str, float | int]]) -> str:
  """Returns a sentence for a note with every row's counts by kind; "" where nothing is counted."""
  told = [
    f"{row}: {', '.join(f'{kind} {count:g}' for kind, count in own.items())}"
    for row, own in counts.items() if own
  ]  # fmt: skip
  return f" {what}: {'; '.join(told)}." if told else ""


def columns(entries: Mapping[str, str | Callable]) -> dict[str, Callable]:
  """Returns columns for `select`: label → an entry of a row, for SAID, or what renders it."""
  return {
    label: entry if callable(entry) else functools.partial(said, entry)
    for label, entry in entries.items()
  }


def said(entry: str, row: Mapping) -> str:
  """Returns an entry of a row as its column says it; a dot where the row has none."""
  if entry in BOUNDS and row.get(entry) and verdict.is_of_few(row):
    return TOO_FEW
  if entry in INTERVALS:
    render, interval = INTERVALS[entry]
    return render(row.get(entry), row.get(interval))
  return SAID.get(entry, plain)(row.get(entry))


_whole, _tenth, _thousandth = (functools.partial(fixed, digits=digits) for digits in (0, 1, 3))
_rating = functools.partial(within, digits=0)
INTERVALS = {  # entry of the results → how its column says it beside its interval, and that
  "delta": (signed, "ci95"),
  "delta_stop": (signed, "ci95_stop"),
  "elo": (_rating, "elo_ci95"),
  "bradley_terry": (_rating, "bradley_terry_ci95"),
}
SAID = {  # any other entry → how its column says it; what is not here is said as it is
  **dict.fromkeys(("ci95", "ci95_stop"), interval),
  **dict.fromkeys(
    ("score", "score_stop", "gain", "gap", "margin", "zero_point", "spread", "kl_bound", "shift",
     "deviation", "wl", "ww", "ll", "lw"), fixed
  ),
  **dict.fromkeys(("tokens", "feedback_tokens", "answer_tokens", "samples", "reads", "kl"), _tenth),
  "elo_spread": _whole,
  "ece": _thousandth,
  **dict.fromkeys(
    ("accuracy", "balanced", "matched", "order", "ordered", "above", "below", "stopped", "refined",
     "unchanged", "fallback"), percent
  ),
  **dict.fromkeys(("accuracy_ci95", "balanced_ci95", "matched_ci95", "ordered_ci95"), percents),
  **dict.fromkeys(("elo_ci95", "bradley_terry_ci95"), functools.partial(bounds, digits=0)),
}  # fmt: skip
