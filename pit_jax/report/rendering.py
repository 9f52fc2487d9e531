"""The page of a report as one HTML document."""

import base64
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
import markupsafe

from pit_jax.report import (
  advice,
  cells,
  diagram,
  glossary,
  palette,
  presentation,
  revisions,
  tabular,
  verdict,
)

MADE = ("date", "command", "commit", "devices", "versions")  # of what is known of a report's making
BESIDE = {  # files of the report's folder that a reader may want → what they hold
  "results.json": "every figure of this page",
  "ledger.jsonl": "every prompt, round by round",
  "summary.png": "the result as a picture, 1200 × 630",
}
# Characters that no document may hold, as models write them now and then → pictures of them.
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}
FOLDERS = {"samples": "responses along training", "metrics": "every logged step"}


def render(
  results: Mapping,
  shown: Mapping,
  method: presentation.Presentation,
  drawn: Mapping[str, markupsafe.Markup],
  directory: pathlib.Path,
) -> str:
  """Returns the page.

  Args:
    results: checked results.
    shown: the same without what a shut gate holds back.
    method: what is said of the run's method.
    drawn: figures by name.
    directory: the folder in which the page will lie, whose files it links.
  """
  templates = _templates(method)
  # The page allows no script but this one, by its hash; so it is not rendered.
  script = templates.loader.get_source(templates, "filter.js")[0]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  claims, remark = method.claims(results)
  columns = (method.diagram or diagram.of_stages)(results)
  content = {
    "results": results,
    "shown": shown,
    "recipe": pathlib.PurePath(results["recipe"]).stem,  # a recipe of the user's own is a path
    "method": method,
    "headline": verdict.headline(results, method),
    "key_figures": verdict.key_figures(shown),
    "gate": verdict.gate(results, method),
    "advice": advice.of_run(results, method),
    "answers": _answers(shown),
    "pipelines": [markupsafe.Markup(diagram.draw(columns, wide)) for wide in (True, False)],
    "made": list(_made(results)),
    "names": glossary.names(shown, method),
    "claims": claims,
    "claims_remark": remark,
    "sections": _sections(shown, method, drawn),
    "figures": drawn,
    "ledger": shown.get("ledger"),
    "samples": shown.get("samples"),
    "drafts": shown.get("drafts"),
    "data": tabular.data(shown),
    "config": list(_flatten(results.get("config", {}))),
    "downloads": list(_downloads(directory)),
    "script": markupsafe.Markup(script),
    "script_hash": f"sha256-{digest}",
  }

  page = templates.get_template("report.html.jinja").render(content, contents=_contents(content))
  return page.translate(CONTROLS)


def _templates(method: presentation.Presentation) -> jinja2.Environment:
  # Sections may be absent: a template may ask for keys of what is not there.
  templates = jinja2.Environment(
    loader=jinja2.PackageLoader("pit_jax.report"), undefined=jinja2.ChainableUndefined,
    autoescape=True, trim_blocks=True, lstrip_blocks=True,
  )  # fmt: skip
  templates.filters |= {
    "letters": _letters, "fixed": cells.fixed, "themed": palette.themed,
    "change": lambda value: verdict.signed(value, digits=2),
  }  # fmt: skip
  templates.globals |= {
    "mark": revisions.mark, "alike": revisions.alike, "colour": method.colour, "palette": palette,
  }  # fmt: skip
  return templates


def _sections(
  shown: Mapping, method: presentation.Presentation, drawn: Mapping[str, Any]
) -> list[tuple]:
  """Returns anchor, section, figures and tables of every section that has any."""
  found = []
  for section in tabular.sections(method):
    figures = [figure for figure in section.figures if figure.name in drawn]
    tables = tabular.of_section(section, shown, method)
    if figures or tables:
      found.append((_anchor(section.title), section, figures, tables))
  return found


def _answers(shown: Mapping) -> dict[str, Mapping]:
  """Returns the answers by rank; a typical better one only of a run that gives better ones."""
  answers = {answer["rank"]: answer for answer in shown.get("answers", ())}
  row = verdict.principal(shown)
  if row is None or verdict.direction(row) <= 0:
    answers.pop("typical", None)
  return answers


def _contents(content: Mapping) -> list[tuple[str, str]]:
  """Returns anchor and title of every part of the page, in its order."""
  answers = content["answers"]
  parts = [
    ("what-to-do", "What to do", content["advice"]),
    ("one-improved-answer", "One improved answer", "typical" in answers),
    ("how-it-was-made", "How it was made", content["pipelines"][0]),
    ("what-the-names-mean", "What the names mean", content["names"].rows),
    ("claims", "The claims", content["claims"]),
    ("answers-of-the-policy", "Answers of the policy itself", content["drafts"]),
    ("answers", "Answers", "best" in answers or content["samples"]),
    *((anchor, section.title, True) for anchor, section, _, _ in content["sections"]),
    ("data-and-configuration", "Data and configuration", content["data"].rows or content["config"]),
    ("downloads", "Downloads", True),
  ]
  return [(anchor, title) for anchor, title, is_there in parts if is_there]


def _anchor(title: str) -> str:
  return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def _made(results: Mapping) -> Iterator[tuple[str, str]]:
  """Yields what is known of the report's making, and how long the run took."""
  known = results.get("made", {})
  for name in MADE:
    if name in known:
      yield name, known[name]

  goodput = results.get("goodput")
  seconds = goodput["seconds"] if goodput else sum(results["seconds"].values())
  share = f", {cells.percent(goodput['share'])} of it in steps that were kept" if goodput else ""
  yield "time", f"{cells.duration(seconds)} with evaluation{share}"


def _downloads(directory: pathlib.Path) -> Iterator[tuple[str, str, str]]:
  """Yields what lies in the report's folder and beside it.

  Of each there are its address from the page, the name that it is saved under, and what it holds.
  """
  for name, what in BESIDE.items():
    if (directory / name).is_file():
      yield name, name, what

  for folder, what in FOLDERS.items():
    for path in sorted((directory.parent / folder).glob("*.jsonl")):
      # A stage has a file of the same name in several folders: saved, they stay apart too.
      yield f"../{folder}/{path.name}", f"{path.stem}.{folder}.jsonl", f"{what}, {path.stem}"
  for path in sorted(directory.glob("*.png")):
    if path.name not in BESIDE:
      yield path.name, path.name, "a figure"


def _flatten(config: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from _flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _letters(text: str) -> markupsafe.Markup:
  """Sets R_P, M_P, y_w and their like with a lowered index."""
  escaped = str(markupsafe.escape(text)).replace("&#39;", "’")
  return markupsafe.Markup(re.sub(r"\b([MRy])_([A-Za-z0-9]+)\b", r"\1<sub>\2</sub>", escaped))
