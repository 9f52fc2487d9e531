"""The report's figures, drawn from results.json alone.

Every figure is about as wide as a phone's page is, so that its letters stay readable there; a
desktop page sets two side by side.
"""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence

import markupsafe
import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, panels, tradeoffs, verdict


def draw(results: Mapping) -> dict[str, matplotlib.figure.Figure]:
  """Draws every figure the results have numbers for.

  Args:
    results: a checked results dict, without what a shut gate holds back.

  Returns:
    Figures by name, in the order of the page.
  """
  stages = results.get("stages", {})
  with matplotlib.rc_context(palette.STYLE):
    figures = {
      "comparisons": _forest(results["comparisons"]),
      "scores": _scores(results["systems"], verdict.score_judge(results)),
      "rounds": _rounds(results.get("rounds", ())),
      "temperature": _temperature(results.get("temperature", ())),
      "cost": tradeoffs.cost(results.get("cost", ())),
      "frontier": tradeoffs.frontier(results.get("frontier", {})),
      "gaps": _gaps(results.get("gap_order", {}).get("histogram", {})),
      "margins": tradeoffs.margins(results.get("gap", {}).get("pairs", {})),
      "reinforcement": _reinforcement(stages),
      "losses": _losses(stages),
    }
  return {name: figure for name, figure in figures.items() if figure is not None}


def svg(figure: matplotlib.figure.Figure, label: str) -> str:
  """Returns the figure as an <svg> element with the page's width, typeface and colours.

  Args:
    figure: what to draw.
    label: a sentence for those who cannot see it.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context(palette.STYLE):
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
  text = buffer.getvalue()
  head, body = text[text.index("<svg") :].split(">", 1)
  head = re.sub(r'\s(width|height)="[^"]*pt"', "", head)
  body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
  body = body.replace("'DejaVu Sans', sans-serif", "var(--sans)").replace(
    "'DejaVu Sans'", "var(--sans)"
  )
  drawn = f'{head} role="img" aria-label="{markupsafe.escape(label)}">{body}'.strip()
  return palette.themed(drawn)


def save(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
  """Writes the figure as a PNG on white, in light colours."""
  with matplotlib.rc_context(palette.STYLE):
    figure.savefig(path, dpi=200, facecolor=palette.WHITE, metadata={"Software": None})


def _forest(comparisons: Sequence[Mapping]) -> matplotlib.figure.Figure | None:
  """Δ with its interval: a line per pair of systems, a marker per judge."""
  judged = [row for row in comparisons if row["n"]]
  whole = [row for row in judged if row.get("seed") in (None, "all")] or judged
  if not whole:
    return None
  lines: dict[str, list[Mapping]] = {}
  for row in sorted(whole, key=lambda row: row["b"] != "original"):
    lines.setdefault(_pair_label(row, whole), []).append(row)
  judges = list(dict.fromkeys(row["judge"] for row in whole))
  figure, ((axes,),) = panels.make_figure(0.85 + 0.31 * len(lines))
  for height, rows in enumerate(lines.values()):
    rows.sort(key=lambda row: judges.index(row["judge"]))
    for index, row in enumerate(rows):
      offset = 0.21 * (index - (len(rows) - 1) / 2)
      _estimate(axes, row, height + offset, hollow=row["judge"] != judges[0])
  others = sum(rows[0]["b"] == "original" for rows in lines.values())
  if 0 < others < len(lines):
    axes.axhline(others - 0.5, color=palette.EDGE, linewidth=0.8)
  _forest_axes(axes, list(lines), judges)
  return figure


def _pair_label(row: Mapping, rows: Sequence[Mapping]) -> str:
  """Names the pair, and what sets it apart from most others."""
  label = f"{row['a']} over {row['b']}"
  temperatures = [other.get("temperature") for other in rows]
  if row.get("temperature") != max(temperatures, key=temperatures.count):
    label += f", T {row['temperature']}"
  seed = row.get("seed")
  return label if seed in (None, "all") else f"{label}, seed {seed}"


def _estimate(axes: matplotlib.axes.Axes, row: Mapping, height: float | int, hollow: bool) -> None:
  tint, marker = palette.colour(row["a"]), palette.MARKERS.get(row["judge"], "s")
  axes.plot(row["ci95"], [height, height], color=tint, linewidth=1.5, solid_capstyle="round")
  face = palette.WHITE if hollow else tint
  axes.plot(row["delta"], height, marker, color=tint, markersize=4.5, markerfacecolor=face)


def _forest_axes(axes: matplotlib.axes.Axes, labels: list[str], judges: list[str]) -> None:
  axes.axvline(0, color=palette.INK, linewidth=0.9)
  axes.set_yticks(range(len(labels)), labels)
  axes.tick_params(axis="y", length=0, labelcolor=palette.INK)
  axes.spines["left"].set_visible(False)
  axes.grid(axis="y", visible=False)
  axes.set_ylim(len(labels) - 0.4, -0.6)
  axes.set_xlabel("Δ, % of prompts")
  for judge in judges:
    face = palette.QUIET if judge == judges[0] else palette.WHITE
    marker = palette.MARKERS.get(judge, "s")
    axes.plot([], [], marker, color=palette.QUIET, markerfacecolor=face, label=judge)
  axes.figure.legend(loc="outside upper left", ncols=len(judges), handletextpad=0.1)


def _scores(systems: Mapping, judge: str) -> matplotlib.figure.Figure | None:
  scored = {name: row["score"] for name, row in systems.items() if row.get("score") is not None}
  if not scored:
    return None
  figure, ((axes,),) = panels.make_figure(0.55 + 0.3 * len(scored))
  axes.barh(
    list(scored), list(scored.values()), color=[palette.colour(name) for name in scored], height=0.6
  )
  for height, value in enumerate(scored.values()):
    side = -1 if value < 0 else 1
    axes.annotate(
      panels.number(value), (value, height), (5 * side, 0), textcoords="offset points", va="center",
      ha="left" if side > 0 else "right", fontsize=9,
    )  # fmt: skip
  axes.invert_yaxis()
  axes.tick_params(axis="y", length=0, labelcolor=palette.INK)
  axes.spines["left"].set_visible(False)
  axes.grid(axis="y", visible=False)
  axes.margins(x=0.12)
  axes.set_xlabel(f"mean {judge} score")
  return figure


def _rounds(rounds: Sequence[Mapping]) -> matplotlib.figure.Figure | None:
  """Each round against round 0, with and without the stop rule."""
  titles = {"delta": "Δ against round 0, %", "score": "mean score"}
  figure, drawn = panels.make_panels(rounds, titles, height=2.9)
  for axes, key in drawn:
    for suffix, name, tint, dash in (
      ("", "every round", palette.COLOURS["pit_second_only"], (0, (4, 2))),
      ("_stop", "with the stop rule", palette.COLOURS["pit"], "-"),
    ):
      points = [row for row in rounds if row.get(key + suffix) is not None]
      steps, values = [row["k"] for row in points], [row[key + suffix] for row in points]
      if points:
        axes.plot(steps, values, "o", linestyle=dash, color=tint, markersize=4, label=name)
      if key == "delta":
        interval = f"ci95{suffix}"
        panels.shade(axes, [row for row in points if row.get(interval)], "k", interval, tint)
    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel("round k")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
  if figure is not None:
    panels.shared_legend(figure)
  return figure


def _temperature(rows: Sequence[Mapping]) -> matplotlib.figure.Figure | None:
  titles = {"score": "mean score", "delta": "Δ against original, %"}
  figure, drawn = panels.make_panels(rows, titles, height=2.9)
  for axes, key in drawn:
    for system in dict.fromkeys(row["system"] for row in rows):
      points = [row for row in rows if row["system"] == system and row.get(key) is not None]
      points.sort(key=lambda row: row["t"])
      at, values = [row["t"] for row in points], [row[key] for row in points]
      tint = palette.colour(system)
      if points:
        axes.plot(at, values, "o-", color=tint, markersize=4, label=system)
      if key == "delta":
        panels.shade(axes, [row for row in points if row.get("ci95")], "t", "ci95", tint)
    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel("temperature")
  if figure is not None:
    panels.shared_legend(figure)
  return figure


def _gaps(histogram: Mapping) -> matplotlib.figure.Figure | None:
  """The four gaps, one above the other in eq. 1's order: the means should step to the left."""
  values = {name: np.asarray(histogram.get(name, ()), dtype=float) for name in palette.GAPS}
  values = {name: array for name, array in values.items() if array.size}
  if not values:
    return None
  low, high = np.quantile(np.concatenate(list(values.values())), (0.002, 0.998))
  figure, rows = panels.make_figure(0.5 + 0.78 * len(values), nrows=len(values), sharex=True)
  for (axes,), (name, array) in zip(rows, values.items(), strict=True):
    label, tint = palette.GAPS[name]
    axes.hist(
      array.clip(low, high),
      np.linspace(low, high + 1e-6, 41),
      histtype="stepfilled",
      color=tint,
      alpha=0.5,
    )
    axes.axvline(array.mean(), color=tint, linewidth=2)
    axes.set_title(f"r({name[0]},{name[1]})  {label}", fontsize=9, pad=2)
    axes.set_title(
      f"mean {panels.number(array.mean())}", loc="right", fontsize=9, color=palette.QUIET, pad=2
    )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
  rows[-1, 0].set_xlabel("gap reward, in deviations over samples of the SFT model")
  return figure


def _reinforcement(stages: Mapping) -> matplotlib.figure.Figure | None:
  """Reward and KL of every RL stage; the gold score is unknown to them and not here."""
  keys = {"objective/score": "pit", "objective/kl": "pit_second_only"}
  names = [name for name, stage in stages.items() if keys.keys() & stage.get("curve", {}).keys()]
  if not names:
    return None
  figure, rows = panels.make_figure(0.3 + 1.45 * len(names), nrows=len(names), ncols=2)
  for pair, name in zip(rows, names, strict=True):
    for axes, (key, system) in zip(pair, keys.items(), strict=True):
      points = stages[name]["curve"].get(key, ())
      if len(points):
        axes.plot(*np.array(points, dtype=float).T, color=palette.COLOURS[system])
    pair[0].set_title(f"{name}: reward")
    pair[1].set_title("KL, nats")
    pair[1].set_ylim(bottom=0)
  for axes in rows[-1]:
    axes.set_xlabel("step")
  return figure


def _losses(stages: Mapping) -> matplotlib.figure.Figure | None:
  curves = {}
  for name, stage in stages.items():
    keys = [key for key in stage.get("curve", {}) if key.split("/")[-1] == "loss"]
    if keys and "rl" not in stage["kind"]:
      curves[name] = stage["curve"][keys[0]]
  if not curves:
    return None
  count = (len(curves) + 1) // 2
  figure, rows = panels.make_figure(0.3 + 1.45 * count, nrows=count, ncols=2)
  for axes in rows.flat[len(curves) :]:
    axes.set_visible(False)
  for axes, (name, points) in zip(rows.flat, curves.items(), strict=False):
    axes.plot(*np.array(points, dtype=float).T, color=palette.COLOURS["original"])
    axes.set_title(name)
    axes.set_xlabel("step")
  return figure
