"""The report's figures, drawn from results.json alone, each for a wide page and for a phone."""

import io
import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence

import markupsafe
import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.layout_engine
import numpy as np

from pit_jax.report import palette, panels, presentation, rewarded, verdict


def draw(
  figures: Sequence[presentation.Figure],
  results: Mapping,
  method: presentation.Presentation,
  is_wide: bool = True,
) -> dict[str, matplotlib.figure.Figure]:
  """Draws those figures of a page that the results have numbers for; by name, in their order.

  The results are checked, and without what a shut gate holds back.
  """
  with matplotlib.rc_context(palette.STYLE):
    tried = {figure.name: figure.draw(results, method, is_wide) for figure in figures}
    drawn = {name: figure for name, figure in tried.items() if figure is not None}
    for figure in drawn.values():
      lay_out(figure)

  return drawn


def lay_out(figure: matplotlib.figure.Figure) -> None:
  """Gives panels and legends of a figure their places, the same in each file that is made of it.

  A figure that has its own engine is laid out, and for that drawn, whenever it is saved.
  """
  matplotlib.layout_engine.ConstrainedLayoutEngine().execute(figure)


def svg(figure: matplotlib.figure.Figure, label: str, kind: str = "") -> str:
  """Returns the figure as an <svg> element with the page's width, typeface and colours.

  Its label is a sentence for those who cannot see it, its kind a class of the page's style.
  """
  buffer = io.StringIO()
  # Two drawings of a figure on one page: what they refer to must not have the same names.
  salt = {"svg.hashsalt": f"{palette.STYLE['svg.hashsalt']} {kind} {label}"}
  with matplotlib.rc_context(palette.STYLE | salt):
    # Without a date the same results make the same page.
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})

  text = buffer.getvalue()
  head, body = text[text.index("<svg") :].split(">", 1)
  # The page sets the width; that of the drawing, in pt, would stand against it.
  head = re.sub(r'\s(width|height)="[^"]*pt"', "", head)
  body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
  body = re.sub(r'<g id="[^"]*"', "<g", body)  # as many figures say; nothing refers to groups
  body = re.sub("'DejaVu Sans'(, sans-serif)?", "var(--sans)", body)
  about = f'class="{kind}" role="img" aria-label="{markupsafe.escape(label)}"'
  return palette.themed(f"{head} {about}>{body}".strip())


def save(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
  """Writes the figure as a PNG on white, in light colours."""
  with matplotlib.rc_context(palette.STYLE):
    figure.savefig(path, dpi=144, facecolor=palette.WHITE, metadata={"Software": None})


def _forest(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure | None:
  """Δ with its interval: a line per pair of systems, a marker per judge."""
  judged = [row for row in results["comparisons"] if row["n"]]
  whole = [row for row in judged if row.get("seed") in (None, "all")] or judged
  if not whole:
    return None
  lines: dict[str, list[Mapping]] = {}
  baseline = method.baseline or results.get("headline", ("", ""))[1]

  # Sorting is stable: the baseline's comparisons first, all others in their order.
  for row in sorted(whole, key=lambda row: row["b"] != baseline):
    lines.setdefault(_pair_label(row, whole), []).append(row)
  judges = list(dict.fromkeys(row["judge"] for row in whole))
  markers = palette.markers(judges)
  each = 14 + 9 * max(map(len, lines.values()))
  height = panels.lines_height(len(lines), is_wide, each)
  figure, ((axes,),) = panels.make_figure(is_wide, height)

  for place, rows in enumerate(lines.values()):
    rows.sort(key=lambda row: judges.index(row["judge"]))
    for index, row in enumerate(rows):
      offset = 0.21 * (index - (len(rows) - 1) / 2)
      # The first judge has a full marker, the others hollow ones of their own form.
      colour = method.colour(row["a"])
      face = colour if row["judge"] == judges[0] else palette.WHITE
      at = place + offset
      axes.plot(row["ci95"], [at, at], color=colour, linewidth=1.6, solid_capstyle="round")
      axes.plot(
        row["delta"], at, color=colour, marker=markers[row["judge"]], markerfacecolor=face,
        linestyle="none", markersize=6,
      )  # fmt: skip

  others = sum(rows[0]["b"] == baseline for rows in lines.values())
  if is_wide and 0 < others < len(lines):
    axes.axhline(others - 0.5, color=palette.EDGE, linewidth=0.8)
  _forest_axes(axes, list(lines), markers, is_wide)
  return figure


def _pair_label(row: Mapping, rows: Sequence[Mapping]) -> str:
  """Names the pair, and what sets it apart from most others."""
  label = f"{row['a']} over {row['b']}"
  temperatures = [other.get("temperature") for other in rows]
  if row.get("temperature") != max(temperatures, key=temperatures.count):
    label += f", T {row['temperature']}"
  seed = row.get("seed")

  return label if seed in (None, "all") else f"{label}, seed {seed}"


def _forest_axes(
  axes: matplotlib.axes.Axes, labels: list[str], markers: Mapping[str, str], is_wide: bool
) -> None:
  axes.axvline(0, color=palette.INK, linewidth=0.9)
  panels.name_lines(axes, labels, is_wide)
  axes.set_xlabel("Δ, % of prompts")

  for place, (judge, marker) in enumerate(markers.items()):
    face = palette.WHITE if place else palette.QUIET
    style = {"markersize": 6, "markerfacecolor": face, "color": palette.QUIET}
    axes.plot([], [], marker, label=judge, **style)

  panels.shared_legend(axes.figure, is_wide)


def _scores(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure | None:
  systems = results["systems"].items()
  scored = {name: row["score"] for name, row in systems if row.get("score") is not None}
  if not scored:
    return None
  figure, ((axes,),) = panels.make_figure(is_wide, panels.lines_height(len(scored), is_wide))
  places = range(len(scored))
  thickness = 0.62 if is_wide else 0.36
  axes.barh(places, [*scored.values()], color=[*map(method.colour, scored)], height=thickness)

  for height, value in enumerate(scored.values()):
    shift, align = (-5, "right") if value < 0 else (5, "left")
    axes.annotate(
      panels.number(value), (value, height), (shift, 0), textcoords="offset points", va="center",
      ha=align,
    )  # fmt: skip

  panels.name_lines(axes, [*scored], is_wide)
  axes.margins(x=0.14)
  axes.set_xlabel(f"mean {verdict.score_judge(results)} score")

  return figure


def _frontier(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """Proxy and judge over KL, a panel for each of every chain; a knee is a dotted line."""
  section = results.get("frontier", {})
  tints = itertools.cycle((palette.BLUE, palette.TEAL))
  shown = []
  for chain, tint in zip(section.get("chains", ()), tints, strict=False):
    shown.append((chain, "proxy", f"{chain['chain']}: {chain['proxy']}, deviations", tint))
    if section["judge"]:
      shown.append((chain, "judge", f"{chain['chain']}: {section['judge']} score", tint))

  if not shown:
    return None
  titles = [title for _, _, title, _ in shown]
  figure, drawn = panels.make_panels(titles, is_wide, height=230, columns=2)
  for axes, (chain, key, _, tint) in zip(drawn, shown, strict=True):
    _over_kl(axes, chain, key, tint)

  return figure


def _over_kl(axes: matplotlib.axes.Axes, chain: Mapping, key: str, tint: str) -> None:
  """Draws one quantity of a chain's checkpoints over their KL, each with its step."""
  # In the order of KL: along training KL also falls, and a line through that order runs back.
  points = sorted(chain["points"], key=lambda point: point["kl"])
  at, values = (np.array([point[name] for point in points]) for name in ("kl", key))
  low, high = np.array([point[f"{key}_ci95"] for point in points]).T

  axes.errorbar(
    at, values, (values - low, high - values), fmt="o-", color=tint, markersize=5, linewidth=1.3,
    elinewidth=0.9,
  )  # fmt: skip
  if chain["knee"]:
    axes.axvline(chain["knee"]["kl"], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))

  axes.margins(x=0.08)
  axes.set_xlabel("KL, nats per response")
  panels.few_ticks(axes)


def _about_comparisons(results: Mapping) -> str:
  caption = (
    "Wins minus losses of the first system over the second, with 95% intervals: right of 0 the "
    "first one is better."
  )
  judges = {row["judge"] for row in results["comparisons"]}
  return f"{caption} A marker for each judge." if len(judges) > 1 else caption


def _about_frontier(results: Mapping) -> str:
  section = results["frontier"]
  judged = " and a judge that it does not" if section.get("judge") else ""
  is_all = all(rewarded.optimised(results, row) == row["proxy"] for row in section["chains"])
  reward = "The reward that training sees" if is_all else "One of the rewards that training sees"
  caption = (
    f"{reward}{judged}, over the KL that a checkpoint has from the model "
    "before RL: more to the right is further from it."
  )
  has_knee = any(chain["knee"] for chain in section["chains"])
  return f"{caption} A dotted line is a knee." if has_knee else caption


COMPARISONS = presentation.Figure("comparisons", _about_comparisons, _forest)
SCORES = presentation.Figure("scores", "Mean score of a response on held-out prompts.", _scores)
FRONTIER = presentation.Figure("frontier", _about_frontier, _frontier)
