"""The report's figures, drawn from results.json alone.

Every figure is about as wide as a phone's page is, so that its letters stay readable there; a
desktop page sets two side by side.
"""

import io
import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence

import markupsafe
import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, panels, presentation, verdict

# Metrics of reinforcement learning.
SCORE = "objective/score"
KL = "objective/kl"


def draw(
  figures: Sequence[presentation.Figure], results: Mapping, method: presentation.Presentation
) -> dict[str, matplotlib.figure.Figure]:
  """Draws those figures of a page that the results have numbers for; by name, in their order.

  The results are checked, and without what a shut gate holds back.
  """
  with matplotlib.rc_context(palette.STYLE):
    drawn = {figure.name: figure.draw(results, method) for figure in figures}
  return {name: figure for name, figure in drawn.items() if figure is not None}


def svg(figure: matplotlib.figure.Figure, label: str) -> str:
  """Returns the figure as an <svg> element with the page's width, typeface and colours.

  Its label is a sentence for those who cannot see it.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context(palette.STYLE):
    # Without a date the same results make the same page.
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})

  text = buffer.getvalue()
  head, body = text[text.index("<svg") :].split(">", 1)
  # The page sets the width; that of the drawing, in pt, would stand against it.
  head = re.sub(r'\s(width|height)="[^"]*pt"', "", head)
  body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
  body = re.sub("'DejaVu Sans'(, sans-serif)?", "var(--sans)", body)
  return palette.themed(f'{head} role="img" aria-label="{markupsafe.escape(label)}">{body}'.strip())


def save(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
  """Writes the figure as a PNG on white, in light colours."""
  with matplotlib.rc_context(palette.STYLE):
    figure.savefig(path, dpi=200, facecolor=palette.WHITE, metadata={"Software": None})


def _forest(results: Mapping, method: presentation.Presentation) -> matplotlib.figure.Figure | None:
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
  figure, ((axes,),) = panels.make_figure(0.85 + 0.31 * len(lines))

  for height, rows in enumerate(lines.values()):
    rows.sort(key=lambda row: judges.index(row["judge"]))
    for index, row in enumerate(rows):
      offset = 0.21 * (index - (len(rows) - 1) / 2)
      # The first judge has a full marker, the others hollow ones of their own form.
      colour = method.colour(row["a"])
      face = colour if row["judge"] == judges[0] else palette.WHITE
      at = height + offset
      axes.plot(row["ci95"], [at, at], color=colour, linewidth=1.5, solid_capstyle="round")
      axes.plot(
        row["delta"], at, color=colour, marker=markers[row["judge"]], markerfacecolor=face,
        linestyle="none", markersize=4.5,
      )  # fmt: skip

  others = sum(rows[0]["b"] == baseline for rows in lines.values())
  if 0 < others < len(lines):
    axes.axhline(others - 0.5, color=palette.EDGE, linewidth=0.8)
  _forest_axes(axes, list(lines), markers)
  return figure


def _pair_label(row: Mapping, rows: Sequence[Mapping]) -> str:
  """Names the pair, and what sets it apart from most others."""
  label = f"{row['a']} over {row['b']}"
  temperatures = [other.get("temperature") for other in rows]
  if row.get("temperature") != max(temperatures, key=temperatures.count):
    label += f", T {row['temperature']}"
  seed = row.get("seed")

  return label if seed in (None, "all") else f"{label}, seed {seed}"


def _forest_axes(axes: matplotlib.axes.Axes, labels: list[str], markers: Mapping[str, str]) -> None:
  axes.axvline(0, color=palette.INK, linewidth=0.9)
  axes.set_yticks(range(len(labels)), labels)
  _of_names(axes)
  axes.set_ylim(len(labels) - 0.4, -0.6)
  axes.set_xlabel("Δ, % of prompts")

  for place, (judge, marker) in enumerate(markers.items()):
    face = palette.WHITE if place else palette.QUIET
    axes.plot([], [], marker, color=palette.QUIET, markerfacecolor=face, label=judge)

  axes.figure.legend(loc="outside upper left", ncols=len(markers), handletextpad=0.1)


def _of_names(axes: matplotlib.axes.Axes) -> None:
  """Gives the look of a vertical axis whose ticks are names."""
  axes.tick_params(axis="y", length=0, labelcolor=palette.INK)
  axes.spines["left"].set_visible(False)
  axes.grid(axis="y", visible=False)


def _scores(results: Mapping, method: presentation.Presentation) -> matplotlib.figure.Figure | None:
  systems = results["systems"].items()
  scored = {name: row["score"] for name, row in systems if row.get("score") is not None}
  if not scored:
    return None
  figure, ((axes,),) = panels.make_figure(0.55 + 0.3 * len(scored))
  axes.barh([*scored], [*scored.values()], color=[*map(method.colour, scored)], height=0.6)

  for height, value in enumerate(scored.values()):
    shift, align = (-5, "right") if value < 0 else (5, "left")
    axes.annotate(
      panels.number(value), (value, height), (shift, 0), textcoords="offset points", va="center",
      ha=align, fontsize=9,
    )  # fmt: skip

  axes.invert_yaxis()
  _of_names(axes)
  axes.margins(x=0.12)
  axes.set_xlabel(f"mean {verdict.score_judge(results)} score")

  return figure


def _frontier(results: Mapping, _) -> matplotlib.figure.Figure | None:
  """Proxy and judge over KL, a row of panels per chain; a knee is a dotted line."""
  section = results.get("frontier", {})
  chains = section.get("chains", ())
  if not chains:
    return None
  width = 2 if section["judge"] else 1
  figure, rows = panels.make_figure(0.4 + 2.1 * len(chains), nrows=len(chains), ncols=width)
  tints = itertools.cycle((palette.BLUE, palette.TEAL))

  for axes, chain, tint in zip(rows, chains, tints, strict=False):
    names = {"proxy": chain["proxy"], "judge": section["judge"]}
    for panel, (key, name) in zip(axes, names.items(), strict=False):
      _over_kl(panel, chain, key, tint)
      panel.set_title(f"{chain['chain']}: {name}")

  for panel in rows[-1]:
    panel.set_xlabel("KL, nats per response")
  return figure


def _over_kl(axes: matplotlib.axes.Axes, chain: Mapping, key: str, tint: str) -> None:
  """Draws one quantity of a chain's checkpoints in their order, joined along training."""
  points = chain["points"]
  at, values = (np.array([point[name] for point in points]) for name in ("kl", key))
  low, high = np.array([point[f"{key}_ci95"] for point in points]).T

  # Estimates of a KL near 0 may lie below it, where the axis has no root.
  axes.errorbar(
    at.clip(min=0), values, (values - low, high - values), fmt="o-", color=tint, markersize=4,
    linewidth=1.3, elinewidth=0.8,
  )  # fmt: skip
  if chain["knee"]:
    axes.axvline(chain["knee"]["kl"], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))

  # Gain is about linear in the root of the KL at first (Gao et al. 2022).
  axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
  axes.set_xlim(left=0)
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))


def _reinforcement(results: Mapping, _) -> matplotlib.figure.Figure | None:
  """Reward and KL of every RL stage; the gold score is unknown to them and not here."""
  keys = {SCORE: palette.TEAL, KL: palette.RUST}
  stages = results.get("stages", {})
  names = [name for name, stage in stages.items() if keys.keys() & stage.get("curve", {}).keys()]
  if not names:
    return None
  figure, rows = panels.make_figure(0.3 + 1.45 * len(names), nrows=len(names), ncols=2)

  for pair, name in zip(rows, names, strict=True):
    for axes, (key, tint) in zip(pair, keys.items(), strict=True):
      points = stages[name]["curve"].get(key, ())
      if len(points):
        axes.plot(*np.array(points, dtype=float).T, color=tint)

    pair[0].set_title(f"{name}: reward")
    pair[1].set_title("KL, nats")
    pair[1].set_ylim(bottom=0)

  for axes in rows[-1]:
    axes.set_xlabel("step")
  return figure


def _losses(results: Mapping, _) -> matplotlib.figure.Figure | None:
  """The first curve of every stage that reinforcement learning is not."""
  curves = {}
  for name, stage in results.get("stages", {}).items():
    filled = {key: points for key, points in stage.get("curve", {}).items() if points}
    if filled and not filled.keys() & {SCORE, KL}:
      metric = next(iter(filled))
      is_loss = metric.rpartition("/")[2] == "loss"
      curves[name if is_loss else f"{name}: {metric}"] = filled[metric]

  if not curves:
    return None
  count = (len(curves) + 1) // 2
  figure, rows = panels.make_figure(0.3 + 1.45 * count, nrows=count, ncols=2)
  for axes in rows.flat[len(curves) :]:
    axes.set_visible(False)

  for axes, (name, points) in zip(rows.flat, curves.items(), strict=False):
    axes.plot(*np.array(points, dtype=float).T, color=palette.BLUE)
    axes.set_title(name)
    axes.set_xlabel("step")

  return figure


COMPARISONS = presentation.Figure("comparisons", "Wins minus losses, with 95% intervals.", _forest)
SCORES = presentation.Figure("scores", "Mean score of a response on held-out prompts.", _scores)
FRONTIER = presentation.Figure(
  "frontier",
  "The reward that training sees and a judge that it does not, over the KL they cost.",
  _frontier,
)
REINFORCEMENT = presentation.Figure(
  "reinforcement",
  "What reinforcement learning saw: its reward, and the KL it paid.",
  _reinforcement,
)
LOSSES = presentation.Figure("losses", "Losses of the supervised stages.", _losses)
