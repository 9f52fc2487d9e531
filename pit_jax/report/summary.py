"""The result of a run as one picture, of the size that other pages show for a link."""

import pathlib
import textwrap
from collections.abc import Mapping

import matplotlib
import matplotlib.figure

from pit_jax.report import palette, presentation, verdict

SIZE = (12.0, 6.3)  # inches; at DOTS per inch 1200 × 630 px
DOTS = 100
LEFT = 0.05  # of the width, as all places below; heights are of the height
LETTERS = 58  # of a line of the headline, and its lines
LINES = 6
MOST = 5  # systems


def save(
  results: Mapping, shown: Mapping, method: presentation.Presentation, path: pathlib.Path
) -> None:
  """Writes headline, key figures and mean scores of a run as a PNG of 1200 × 630 px.

  `shown` are the results without what a shut gate holds back.
  """
  with matplotlib.rc_context(palette.STYLE):
    figure = matplotlib.figure.Figure(figsize=SIZE)
    _words(figure, results, method)
    _figures(figure, shown)
    _scores(figure, shown, method)
    figure.savefig(path, dpi=DOTS, facecolor=palette.WHITE, metadata={"Software": None})


def _words(
  figure: matplotlib.figure.Figure, results: Mapping, method: presentation.Presentation
) -> None:
  recipe = pathlib.PurePath(results["recipe"]).stem
  source = results.get("data", {}).get("source")
  about = [f"pit_jax, recipe {recipe}", *([f"data {source}"] if source else [])]
  about += filter(None, [results.get("made", {}).get("date")])
  style = {"transform": figure.transFigure, "parse_math": False}
  figure.text(LEFT, 0.91, ", ".join(about), fontsize=15, color=palette.QUIET, **style)

  sentence = verdict.headline(results, method)
  lines = textwrap.wrap(sentence, LETTERS, max_lines=LINES, placeholder=" …")
  figure.text(
    LEFT, 0.855, "\n".join(lines), fontsize=22, va="top", linespacing=1.35, family="serif", **style
  )


def _figures(figure: matplotlib.figure.Figure, shown: Mapping) -> None:
  """Writes the first two figures of the top of the page, large."""
  style = {"transform": figure.transFigure, "parse_math": False}
  for place, (label, value, detail) in enumerate(verdict.key_figures(shown)[:2]):
    left = LEFT + 0.22 * place
    figure.text(left, 0.2, value, fontsize=32, color=palette.TEAL, family="serif", **style)
    figure.text(left, 0.145, label, fontsize=13, **style)
    figure.text(left, 0.1, detail.partition(", of ")[0], fontsize=13, color=palette.QUIET, **style)


def _scores(
  figure: matplotlib.figure.Figure, shown: Mapping, method: presentation.Presentation
) -> None:
  """Draws mean scores as bars: of the headline's systems, then of others as they come."""
  systems = shown["systems"]
  names = dict.fromkeys([*reversed(shown.get("headline", ())), *systems])
  scored = {
    name: systems[name]["score"]
    for name in names
    if systems.get(name, {}).get("score") is not None and name not in shown.get("controls", ())
  }
  if not scored:
    return

  first = list(scored)[:MOST]
  axes = figure.add_axes((0.62, 0.1, 0.33, 0.27))
  axes.barh(first, [scored[name] for name in first], color=[*map(method.colour, first)])
  axes.invert_yaxis()
  axes.tick_params(axis="y", length=0, labelsize=13)
  axes.set_xticks([])
  axes.spines[["left", "bottom"]].set_visible(False)
  axes.grid(visible=False)
  axes.set_title(f"mean {verdict.score_judge(shown)} score", fontsize=13, color=palette.QUIET)
  for place, name in enumerate(first):
    text = f" {scored[name]:.2f}".replace("-", "−")
    axes.text(max(scored[name], 0), place, text, va="center", fontsize=13)
