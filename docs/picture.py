"""Draws the README's picture from a run: python docs/picture.py runs/demo/report/results.json

Pipeline and result, as one SVG that needs nothing else. It has its own colours for the dark scheme
and letters that are legible on a phone, where 600 units are about 360 pixels.
"""

import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images" / "pit.svg"
WIDTH, HEIGHT = 600, 656
JUDGE, TEMPERATURE = "gold", 1.0
TITLE = "Answers to held-out prompts, by gold score"
# Which comparisons are drawn, and what is written above each.
BARS = (
  ("pit", "original", "one round of PIT against RLHF"),
  ("best_of_n", "original", "best of six samples against RLHF"),
  ("pit_rounds", "best_of_n", "all rounds of PIT against best of six"),
)
STYLE = """
.paper{fill:#fcfbf9} .box{fill:#f3f1ec;stroke:#b9b6ae} .ink{fill:#22262e} .quiet{fill:#5d6168}
.line{stroke:#5d6168;stroke-width:2;fill:none} .tip{fill:#5d6168}
.win{fill:#0b7267} .tie{fill:#736f67} .lose{fill:#b3632d} .on{fill:#ffffff}
@media (prefers-color-scheme:dark){
.paper{fill:#16181c} .box{fill:#1f2228;stroke:#565a62} .ink{fill:#e7e4dd} .quiet{fill:#b3b3ad}
.line{stroke:#b3b3ad} .tip{fill:#b3b3ad}
.win{fill:#5fc2b4} .tie{fill:#9a9fa6} .lose{fill:#e08a52} .on{fill:#16181c}}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:20px}
.title{font-weight:600} .middle{text-anchor:middle}
"""
COLUMNS = ((15, "1 imitate"), (215, "2 compare"), (415, "3 reinforce"))
BOX = 170  # units wide
CHAINS = (
  ("The policy answers", 74, ("x → y", "R_P(x, y)", "R_P − β KL")),
  ("The improver betters a draft", 214, ("x, draft → y", "R_PIT(x, y, y′)", "R_PIT − β KL")),
)


def draw(results: Mapping[str, Any]) -> str:
  """Returns the picture as SVG.

  Args:
    results: of a run of recipe pit with a gold score.

  Raises:
    ValueError: a comparison is not there.
  """
  parts = [*_pipeline(), *_result(results)]
  head = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    f'aria-label="{_said(results)}">'
  )
  paper = f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="12"/>'
  return "\n".join([head, f"<style>{STYLE}</style>", paper, *parts, "</svg>\n"])


def _pipeline() -> Iterator[str]:
  for x, title in COLUMNS:
    yield _text(x + BOX / 2, 34, title, "quiet middle")
  for title, y, boxes in CHAINS:
    yield _text(15, y, title, "ink title")
    for (x, _), text in zip(COLUMNS, boxes, strict=True):
      yield f'<rect class="box" x="{x}" y="{y + 14}" width="{BOX}" height="52" rx="8"/>'
      yield _text(x + BOX / 2, y + 47, text, "ink middle")
    for x, _ in COLUMNS[:-1]:
      yield _arrow(x + BOX + 4, y + 40, x + 196, y + 40)

  # What the policy writes is what the improver learns to better.
  yield _arrow(500, 144, 500, 222)
  yield _text(488, 190, "drafts", "quiet end")


def _result(results: Mapping[str, Any]) -> Iterator[str]:
  y = 334
  yield _text(15, y, TITLE, "ink title")
  for a, b, title in BARS:
    row = _row(results, a, b)
    y += 38
    yield _text(15, y, f"{title} ({row['n']})", "quiet")
    yield from _bar(row, y + 10)
    y += 52

  for x, kind, text in ((15, "win", "better"), (130, "tie", "equal"), (235, "lose", "worse")):
    yield f'<rect class="{kind}" x="{x}" y="{y + 14}" width="18" height="18" rx="3"/>'
    yield _text(x + 26, y + 30, text, "quiet")


def _bar(row: Mapping[str, Any], y: float) -> Iterator[str]:
  """Yields a bar of what is better, equal and worse, in percent."""
  x, whole = 15.0, WIDTH - 30
  for kind in ("win", "tie", "lose"):
    width = whole * row[kind] / 100
    yield f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="34"/>'
    if width > 40:  # else there is no room
      yield _text(x + width / 2, y + 24, f"{row[kind]:.0f}%", "on middle title")
    x += width


def _said(results: Mapping[str, Any]) -> str:
  """Returns the picture in words."""
  bars = [(title, _row(results, a, b)) for a, b, title in BARS]
  shares = [
    f"{title}, {row['n']} prompts: {row['win']:.0f}% better, {row['tie']:.0f}% equal, "
    f"{row['lose']:.0f}% worse"
    for title, row in bars
  ]
  return (
    "Two chains of imitation, reward model and reinforcement learning, of a policy and of an "
    f"improver that learns on its drafts. {TITLE}: {'; '.join(shares)}."
  )


def _row(results: Mapping[str, Any], a: str, b: str) -> Mapping[str, Any]:
  for row in results["comparisons"]:
    if (row["a"], row["b"], row["judge"], row["temperature"]) == (a, b, JUDGE, TEMPERATURE):
      return row
  raise ValueError(f"{a} was not compared with {b} under {JUDGE}; draw the picture of a demo run")


def _text(x: float, y: float, text: str, kinds: str) -> str:
  anchor = ' text-anchor="end"' if "end" in kinds.split() else ""
  return f'<text class="{kinds}" x="{x:g}" y="{y:g}"{anchor}>{text}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
  """Returns an arrow to the right or downwards."""
  tips = ((-9, -6), (-9, 6)) if to_x > x else ((-6, -9), (6, -9))
  corners = " ".join(f"{to_x + dx:g},{to_y + dy:g}" for dx, dy in ((0, 0), *tips))
  return (
    f'<path class="line" d="M{x:g} {y:g}L{to_x:g} {to_y:g}"/>'
    f'<polygon class="tip" points="{corners}"/>'
  )


def main(arguments: Sequence[str]) -> None:
  """Draws the picture of a results.json."""
  results = json.loads(pathlib.Path(arguments[0]).read_text(encoding="utf-8"))
  TARGET.write_text(draw(results), encoding="utf-8")


if __name__ == "__main__":
  main(sys.argv[1:])
