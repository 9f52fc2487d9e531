"""Writes what a run found: results.json, one self-contained page, and the figures as PNGs."""

import base64
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import numpy as np
import rich.box
import rich.console
import rich.measure
import rich.table

from pit_jax import hosts
from pit_jax.report import cells, diagram, palette, plots, presentation, revisions, tabular, verdict
from pit_jax.storage import places

# Section → the keys it (a mapping) or each of its rows (a list) must have. Other keys are free.
REQUIRED = ("recipe", "seconds", "systems", "comparisons")
MAPPINGS = {
  **dict.fromkeys(("seconds", "systems", "stages", "reward_models", "data", "absent"), ()),
  **dict.fromkeys(("sampling", "speeds", "judges", "config"), ()),
  "gap_order": ("wl", "ww", "ll", "lw", "accuracy"),
  "power": ("needed",),
  "length": ("comparisons", "correlations"),
  "gap": ("pairs",),
  "labels": ("accuracy", "reliability", "order"),
  "frontier": ("chains",),
  "gate": ("passed", "reason"),
  "ledger": ("judge", "prompts", "regressions", "rounds"),
  "stop": ("judge", "rows"),
}
COMPARISON = ("a", "b", "judge", "n", "win", "lose", "tie", "delta", "ci95")
LISTS = {
  "comparisons": COMPARISON,
  "ablation": ("system", "accuracy", "order", "zero_point", "spread"),
  "rounds": ("k",),
  "temperature": ("t", "system"),
  "samples": ("prompt", "judge", "outcome", "worse_after", "finding", "kept", "stopped", "rounds"),
  "ratings": ("system", "judge", "elo", "bradley_terry"),
  "agreement": ("judges", "kappa"),
  "cost": ("system", "budget", "judge", "tokens", "samples", "reads", "score", "n"),
  "notes": (),
}


def write(
  results: Mapping, workdir: str | os.PathLike, method: presentation.Presentation = presentation.ANY
) -> pathlib.Path:
  """Writes WORKDIR/report/{results.json, report.html, *.png}; returns the path of report.html.

  The page needs no other file and no network.

  Args:
    results: the figures of a run, as described in the README; `recipe`, `seconds`, `systems` and
      `comparisons` are required, every other section is shown when present. Arrays and numbers
      of NumPy are fine; what is not finite is written as null.
    workdir: the run's directory.
    method: what is said of the run's method.

  Raises:
    ValueError: if a section or one of its keys is missing or of the wrong kind.
  """
  results = check(results)
  directory = pathlib.Path(workdir) / "report"
  directory.mkdir(parents=True, exist_ok=True)
  _replace(directory / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
  shown = verdict.presentable(results, method)
  figures = [figure for section in tabular.sections(method) for figure in section.figures]
  captions = {figure.name: figure.caption for figure in figures}
  elements = {}
  for name, figure in plots.draw(figures, shown, method).items():
    plots.save(figure, directory / f"{name}.png")
    elements[name] = markupsafe.Markup(plots.svg(figure, captions[name]))

  page = directory / "report.html"
  _replace(page, _render(results, shown, method, elements))
  return page


def publish(
  results: Mapping, workdir: str | os.PathLike, method: presentation.Presentation
) -> None:
  """Writes the report and prints its tables and where it is; of several hosts the first does."""
  if not hosts.is_first():
    return
  page = write(results, workdir, method)
  print(tables(results, method))
  places.push()
  print(f"report: {places.address(page)}")


def tables(
  results: Mapping, method: presentation.Presentation = presentation.ANY, width: int = 100
) -> str:
  """Returns the headline and the page's tables as text for a terminal of so many characters.

  What it takes and raises is otherwise as for `write`.
  """
  results = check(results)
  console = rich.console.Console(file=io.StringIO(), width=width, color_system=None)
  console.print(verdict.headline(results, method), highlight=False)
  claims, remark = method.claims(results)
  for line in filter(None, [*(claim.sentence for claim in claims), remark]):
    console.print(f"\n{line}", highlight=False)

  for table in tabular.build(verdict.presentable(results, method), method).values():
    if table.is_folded or not table.is_printed:
      continue
    console.print(f"\n{table.title}", highlight=False)
    console.print(_grid(table, console), highlight=False, end="", crop=False, no_wrap=True)
    if table.note:
      console.print(table.note, highlight=False)

  for note in results.get("notes", ()):
    console.print(f"\nNote: {note}", highlight=False)
  return console.file.getvalue()


def _grid(table: cells.Table, console: rich.console.Console) -> rich.table.Table:
  """Returns a table for a terminal, wider than that where its words and numbers have no room."""
  drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
  for index, column in enumerate(table.columns):
    is_words = index < table.words
    parts = [part for row in (table.columns, *table.rows) for part in row[index].split()]
    width = max(map(len, parts), default=1)  # a name that is cut off is none
    justify = "left" if is_words else "right"
    drawn.add_column(column, justify=justify, no_wrap=not is_words, min_width=width)

  for row in table.rows:
    drawn.add_row(*row)
  # Measured as if lines had no end: a number that is cut off says another one.
  needed = rich.measure.Measurement.get(console, console.options.update(width=1_000), drawn).minimum
  drawn.width = needed if needed > console.width else None
  return drawn


def check(results: Mapping) -> dict[str, Any]:
  """Returns the results as plain JSON values, or says what is missing or of the wrong kind."""
  results = _plain(results)
  if missing := [key for key in REQUIRED if key not in results]:
    raise ValueError(
      f"results lack {', '.join(missing)}; required are {', '.join(REQUIRED)}, "
      f"got {', '.join(results) or 'nothing'}"
    )

  for section, keys in MAPPINGS.items():
    if section in results:
      _check_keys(section, results[section], keys)

  for section, keys in LISTS.items():
    if section in results:
      _check_kind(section, results[section], list, "a list")
      for index, row in enumerate(results[section] if keys else ()):
        _check_keys(f"{section}[{index}]", row, keys)

  for name, stage in results.get("stages", {}).items():
    _check_keys(f"stages.{name}", stage, ("kind",))
  return results


def _check_kind(where: str, value: Any, kind: type, name: str) -> None:
  if not isinstance(value, kind):
    raise ValueError(f"results.{where} must be {name}, got {type(value).__name__}")


def _check_keys(where: str, value: Any, keys: Sequence[str]) -> None:
  _check_kind(where, value, dict, "a mapping")
  if missing := [key for key in keys if key not in value]:
    raise ValueError(
      f"results.{where} lacks {', '.join(missing)}; it has {', '.join(value) or 'nothing'} "
      f"and needs {', '.join(keys)}"
    )


def _plain(value: Any) -> Any:
  """Turns arrays, NumPy numbers, tuples and records into what JSON knows."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, str | bool | None):
    return value
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, "tolist"):
    return _plain(np.asarray(value).tolist())

  if isinstance(value, Sequence | set | frozenset):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _replace(path: pathlib.Path, text: str) -> None:
  """Writes the whole file or none of it."""
  unfinished = path.with_name(path.name + ".unfinished")
  unfinished.write_text(text, encoding="utf-8")
  unfinished.replace(path)


def _render(
  results: Mapping, shown: Mapping, method: presentation.Presentation, drawn: Mapping[str, str]
) -> str:
  # Sections may be absent: a template may ask for keys of what is not there.
  templates = jinja2.Environment(
    loader=jinja2.PackageLoader("pit_jax.report"), undefined=jinja2.ChainableUndefined,
    autoescape=True, trim_blocks=True, lstrip_blocks=True,
  )  # fmt: skip
  templates.filters |= {"letters": _letters, "fixed": cells.fixed, "themed": palette.themed}
  templates.globals |= {
    "mark": revisions.mark, "colour": method.colour, "palette": palette, "duration": cells.duration
  }  # fmt: skip
  # The page allows no script but this one, by its hash; so it is not rendered.
  script = templates.loader.get_source(templates, "filter.js")[0]
  claims, remark = method.claims(results)
  columns = (method.diagram or diagram.of_stages)(results)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

  return templates.get_template("report.html.jinja").render(
    results=results,
    recipe=pathlib.PurePath(results["recipe"]).stem,  # a recipe of the user's own is a path
    method=method,
    headline=verdict.headline(results, method),
    key_figures=verdict.key_figures(shown),
    claims=claims,
    claims_remark=remark,
    gate=verdict.gate(results, method),
    sections=[
      (section, tabular.of_section(section, shown, method)) for section in tabular.sections(method)
    ],
    data=tabular.data(shown),
    figures=drawn,
    pipelines=[markupsafe.Markup(diagram.draw(columns, wide)) for wide in (True, False)],
    config=list(_flatten(results.get("config", {}))),
    ledger=shown.get("ledger"),
    samples=shown.get("samples"),
    script=markupsafe.Markup(script),
    script_hash=f"sha256-{digest}",
  )


def _flatten(config: Mapping, prefix: str = ""):
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from _flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _letters(text: str) -> markupsafe.Markup:
  """Sets R_P, M_P, y_w and their like with a lowered index."""
  escaped = str(markupsafe.escape(text)).replace("&#39;", "’")
  return markupsafe.Markup(re.sub(r"\b([MRy])_([A-Za-z0-9]+)\b", r"\1<sub>\2</sub>", escaped))
