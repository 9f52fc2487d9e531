"""An examination as text for a terminal, as one page, and as JSON."""

import dataclasses
import io
import pathlib
from typing import Any

import jinja2
import markupsafe
import rich.box
import rich.console
import rich.padding
import rich.table
import rich.text

from pit_jax.report import cells, palette
from pit_jax.tools.doctor import drawings, examination, findings

SIGNS = {"ok": "✓", "unknown": "?", "note": "·", "warning": "!", "problem": "✗"}
STYLES = {"warning": "yellow", "problem": "bold red", "ok": "green"}  # in the terminal
SHOWN_WITH = {"truncation": "lengths", "length": "by_ratio"}  # finding → its figure
SCALE = (
  "A finding on less than 1% of the rows is a note, on less than 10% a warning, on more a problem. "
  "For a bias it is what the 95% interval leaves beyond one half."
)


def headline(found: examination.Examination) -> str:
  """Returns the one sentence that says what is wrong."""
  grave = [one for one in found.findings if one.severity in ("problem", "warning")]
  rows = findings.count(found.rows, "preference")
  if not grave:
    return f"Nothing stands against training on these {rows}."
  grave.sort(key=lambda one: -findings.SEVERITIES.index(one.severity))
  named = [one.title[0].lower() + one.title[1:] for one in grave]
  listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)

  return f"Look at {listed} before training on these {rows}."


def kicker(found: examination.Examination) -> str:
  """Returns where the rows come from and how they were measured."""
  parts = {name: getattr(found.division, name) for name in ("held_out", "validation", "judge")}
  folds = ", ".join(f"{name} {part:g}" for name, part in parts.items() if part)
  by = f" · folds by {found.division.fold_by}"
  return f"{found.source} · tokens: {found.tokenizer} · {folds or 'nothing held out'}{by}"


def text(found: examination.Examination, width: int = 100, is_coloured: bool = False) -> str:
  """Returns the findings for a terminal of so many characters per line, in colours or without."""
  system = "standard" if is_coloured else None
  console = rich.console.Console(
    file=io.StringIO(), width=width, color_system=system, force_terminal=is_coloured
  )

  def say(line: str, indent: int = 0, style: str | None = None) -> None:
    # As Text, since rows may hold brackets, which rich would read as its markup.
    plain = rich.text.Text(line, style=style or "")
    console.print(rich.padding.Padding(plain, (0, 0, 0, indent)))

  say(headline(found))
  say(kicker(found))
  for one in found.findings:
    console.print()
    say(f"{SIGNS[one.severity]} {one.title}: {one.severity}", 0, STYLES.get(one.severity))
    say(one.found, 2)
    if one.advice:
      say(one.advice, 2)

    for table in (figures_table(one), *one.tables):
      if table.rows:
        console.print(rich.padding.Padding(_drawn(table), (0, 0, 0, 2)))
      if table.note:
        say(table.note, 2)

    for example in one.examples:
      say(f"{where(example)}: {example.text}", 2)

  console.print()
  say(SCALE)
  return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _drawn(table: cells.Table) -> rich.table.Table:
  has_heads = any(table.columns)
  box = rich.box.SIMPLE_HEAD if has_heads else None
  drawn = rich.table.Table(box=box, show_header=has_heads, pad_edge=False, padding=(0, 2, 0, 0))
  for index, column in enumerate(table.columns):
    side = "left" if index < table.words else "right"
    drawn.add_column(column, justify=side, no_wrap=has_heads)

  for row in table.rows:
    drawn.add_row(*map(rich.text.Text, row))
  return drawn


def figures_table(one: findings.Finding) -> cells.Table:
  """Returns a finding's figures, each in its unit, with its interval."""
  rows = tuple((figure.label, said(figure), _interval(figure)) for figure in one.figures)
  columns = 3 if any(row[2] for row in rows) else 2
  return cells.Table("figures", "", ("",) * columns, tuple(row[:columns] for row in rows))


def said(figure: findings.Figure) -> str:
  """Returns a figure's value as people write it."""
  return cells.BLANK if figure.value is None else _written(figure.value, figure.unit)


def _written(value: float | int, unit: str) -> str:
  if unit == "share":
    return findings.percent(value)
  return cells.fixed(value, {"tokens": 1, "deviations": 2, "nats": 3}.get(unit, 0))


def where(example: findings.Example) -> str:
  """Returns the file's name and the rows of an example, all of one file."""
  # A place is "FILE, line N" or "FILE, row N", and a path may hold commas.
  files, numbers = zip(*(place.rsplit(", ", 1) for place in example.places), strict=True)
  return ", ".join([pathlib.PurePath(files[0]).name, *numbers])


def _interval(figure: findings.Figure) -> str:
  if figure.low is None or figure.high is None:
    return ""
  return " … ".join(_written(end, figure.unit) for end in (figure.low, figure.high))


def page(found: examination.Examination) -> str:
  """Returns a page that needs no other file and no network."""
  loaders = [jinja2.PackageLoader("pit_jax.tools.doctor"), jinja2.PackageLoader("pit_jax.report")]
  form = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
  templates = jinja2.Environment(
    loader=jinja2.ChoiceLoader(loaders), undefined=jinja2.StrictUndefined, **form
  )
  return templates.get_template("doctor.html.jinja").render(
    findings=found.findings,
    headline=headline(found),
    kicker=kicker(found),
    figures_table=figures_table,
    drawings={name: markupsafe.Markup(svg) for name, svg in drawings.draw(found).items()},
    captions=drawings.CAPTIONS,
    shown_with=SHOWN_WITH,
    signs=SIGNS,
    where=where,
    scale=SCALE,
    palette=palette,
  )


def record(found: examination.Examination) -> dict[str, Any]:
  """Returns everything that was found, as JSON can hold it."""
  return {
    "source": found.source,
    "rows": found.rows,
    "tokenizer": found.tokenizer,
    "limits": dict(zip(("prompt", "response"), found.limits, strict=True)),
    "folds": dataclasses.asdict(found.division),
    "headline": headline(found),
    "unusable": [dataclasses.asdict(row) for row in found.unusable],
    "findings": [dataclasses.asdict(one) for one in found.findings],
  }
