"""Writes what a run found: results.json, one self-contained page, and the figures as PNGs."""

import json
import math
import os
import pathlib
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np

from pit_jax import hosts
from pit_jax.report import (
  advice,
  plots,
  presentation,
  printed,
  rendering,
  summary,
  tabular,
  verdict,
)
from pit_jax.storage import places

# Section → the keys it (a mapping) or each of its rows (a list) must have. Other keys are free.
REQUIRED = ("recipe", "seconds", "systems", "comparisons")
MAPPINGS = {
  **dict.fromkeys(
    ("seconds", "systems", "stages", "reward_models", "data", "absent", "not_made"), ()
  ),
  **dict.fromkeys(("sampling", "speeds", "judges", "config", "made"), ()),
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
  "answers": ("rank", "prompt", "judge", "change", "improved", "answers"),
  "ratings": ("system", "judge", "elo", "bradley_terry"),
  "agreement": ("judges", "kappa"),
  "cost": ("system", "budget", "judge", "tokens", "samples", "reads", "score", "n"),
  "notes": (),
}


def write(
  results: Mapping, workdir: str | os.PathLike, method: presentation.Presentation = presentation.ANY
) -> pathlib.Path:
  """Writes WORKDIR/report/{results.json, report.html, *.png}; returns the path of report.html.

  The page needs no other file and no network; it links what lies beside it. summary.png has the
  size of a card that other pages show for a link.

  Args:
    results: the figures of a run, as docs/reference/results.md describes them; `recipe`, `seconds`,
      `systems` and `comparisons` are required, every other section is shown when present. Arrays
      and numbers of NumPy are fine; what is not finite is written as null.
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
  drawings = {is_wide: plots.draw(figures, shown, method, is_wide) for is_wide in (True, False)}
  for name in (figure.name for figure in figures):
    path = directory / f"{name}.png"
    if name in drawings[True]:
      plots.save(drawings[True][name], path)
    else:  # an earlier page may have had it
      path.unlink(missing_ok=True)
  summary.save(results, shown, method, directory / "summary.png")

  drawn = [figure for figure in figures if figure.name in drawings[True]]
  elements = {figure.name: _element(drawings, figure.name, figure.said(shown)) for figure in drawn}
  page = directory / "report.html"
  _replace(page, rendering.render(results, shown, method, elements, directory))
  return page


def _element(drawings: Mapping[bool, Mapping], name: str, caption: str) -> markupsafe.Markup:
  """Returns a figure as two drawings, of which the page shows the one that fits its width."""
  kinds = {True: "wide", False: "narrow"}
  drawn = (plots.svg(drawings[is_wide][name], caption, kinds[is_wide]) for is_wide in kinds)
  return markupsafe.Markup("".join(drawn))


def publish(
  results: Mapping, workdir: str | os.PathLike, method: presentation.Presentation
) -> None:
  """Writes the report and prints its tables and where it is; of several hosts the first does."""
  if not hosts.is_first():
    return
  page = write(results, workdir, method)
  print(tables(results, method, min(shutil.get_terminal_size().columns, printed.WIDEST)))
  places.push()
  print(f"report: {places.address(page)}")


def tables(
  results: Mapping, method: presentation.Presentation = presentation.ANY, width: int = 80
) -> str:
  """Returns the headline and the page's tables as text for a terminal of so many characters.

  What it takes and raises is otherwise as for `write`.
  """
  results = check(results)
  claims, remark = method.claims(results)
  sentences = [verdict.headline(results, method), *advice.of_run(results, method)]
  sentences += [*(claim.sentence for claim in claims), remark]
  parts = [_filled(sentence, width) for sentence in sentences if sentence]

  for table in tabular.build(verdict.presentable(results, method), method).values():
    if table.is_folded or not table.is_printed:
      continue
    lines = [table.title, "", printed.grid(table, width)]
    parts.append("\n".join([*lines, *([_filled(table.note, width)] if table.note else [])]))

  parts += [_filled(f"Note: {note}", width) for note in results.get("notes", ())]
  lacking = results.get("not_made", {}).items()
  parts += [_filled(f"Experiment {name} was not made: {what}.", width) for name, what in lacking]
  return "\n\n".join(parts) + "\n"


def _filled(text: str, width: int) -> str:
  return textwrap.fill(text, width, break_on_hyphens=False)


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
