"""Figures of PIT: rounds, temperatures, cost, and what the gap reward knows."""

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, panels, presentation

SPENDERS = {  # ways to spend samples, as results.json names them → label, whose colour, dashes
  "pit": ("pit, every round", "pit_second_only", (0, (4, 2))),
  "pit_stop": ("pit, stop rule", "pit", "-"),
  "best_of_n": ("best_of_n", "best_of_n", "-"),
  "gap_tournament": ("gap_tournament", "gap_tournament", "-"),
  "self_refine": ("self_refine", "self_refine", "-"),
}
TINTS = ("#2f4a73", "#7cb5aa", "#c99a3d", "#b3632d")  # of kinds of pairs


def _cost(results: Mapping, method: presentation.Presentation) -> matplotlib.figure.Figure | None:
  """Score and Δ over generated tokens, a line per way to spend samples, under the first judge."""
  rows = results.get("cost", ())
  judges = list(dict.fromkeys(row["judge"] for row in rows))
  shown = [row for row in rows if row["judge"] == judges[0]]
  judge = judges[0] if judges else ""
  titles = {"score": f"mean {judge} score", "delta": "Δ against original, %"}
  figure, drawn = panels.make_panels(shown, titles, height=3.1)

  for axes, key in drawn:
    for system, (label, tint, dash) in SPENDERS.items():
      points = [row for row in shown if row["system"] == system and row.get(key) is not None]
      points.sort(key=lambda row: row["budget"])
      colour = method.colour(tint)

      if points:
        tokens = [row["tokens"] for row in points]
        values = [row[key] for row in points]
        axes.plot(tokens, values, "o", linestyle=dash, color=colour, markersize=4, label=label)

      if key == "delta":
        panels.shade(axes, points, "tokens", "ci95", colour)

    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel("tokens per prompt")

  if figure is not None:
    panels.shared_legend(figure, columns=2)
  return figure


def _margins(results: Mapping, _) -> matplotlib.figure.Figure | None:
  """How often R_PIT is right against how sure it is, in fifths of each kind of pairs."""
  pairs = results.get("gap", {}).get("pairs", {})
  if not pairs:
    return None
  figure, ((axes,),) = panels.make_figure(3.6)
  axes.plot([0.5, 1], [0.5, 1], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))

  for (name, described), tint in zip(pairs.items(), TINTS, strict=False):
    groups = described["groups"]
    confidence, values = (np.array([g[key] for g in groups]) for key in ("confidence", "accuracy"))
    low, high = np.array([group["ci95"] for group in groups]).T
    axes.errorbar(
      confidence, values, (values - low, high - values), fmt="o-", color=tint, markersize=4,
      linewidth=1.3, elinewidth=0.8, label=f"{name}, n = {described['n']:,}",
    )  # fmt: skip

  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
  axes.set_xlabel("how sure R_PIT is, σ(margin)")
  axes.set_ylabel("how often it is right")
  panels.shared_legend(figure, columns=1)

  return figure


def _rounds(results: Mapping, _) -> matplotlib.figure.Figure | None:
  """Each round against round 0, with and without the stop rule."""
  rounds = results.get("rounds", ())
  titles = {"delta": "Δ against round 0, %", "score": "mean score"}
  figure, drawn = panels.make_panels(rounds, titles, height=2.9)

  for axes, key in drawn:
    for suffix, name, tint, dash in (
      ("", "every round", palette.RUST, (0, (4, 2))),
      ("_stop", "with the stop rule", palette.TEAL, "-"),
    ):
      points = [row for row in rounds if row.get(key + suffix) is not None]
      steps = [row["k"] for row in points]
      values = [row[key + suffix] for row in points]
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


def _temperature(
  results: Mapping, method: presentation.Presentation
) -> matplotlib.figure.Figure | None:
  rows = results.get("temperature", ())
  titles = {"score": "mean score", "delta": "Δ against original, %"}
  figure, drawn = panels.make_panels(rows, titles, height=2.9)

  for axes, key in drawn:
    for system in dict.fromkeys(row["system"] for row in rows):
      points = [row for row in rows if row["system"] == system and row.get(key) is not None]
      points.sort(key=lambda row: row["t"])
      temperatures = [row["t"] for row in points]
      values = [row[key] for row in points]
      tint = method.colour(system)
      if points:
        axes.plot(temperatures, values, "o-", color=tint, markersize=4, label=system)
      if key == "delta":
        panels.shade(axes, [row for row in points if row.get("ci95")], "t", "ci95", tint)

    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel("temperature")

  if figure is not None:
    panels.shared_legend(figure)
  return figure


ROUNDS = presentation.Figure(
  "rounds",
  "Improving again and again, each round starting from the last round's response.",
  _rounds,
)
TEMPERATURE = presentation.Figure(
  "temperature",
  "Quality over sampling temperature; a system should be compared at its best.",
  _temperature,
)
COST = presentation.Figure(
  "cost", "Quality over all tokens generated for an answer, drafts included.", _cost
)
MARGINS = presentation.Figure(
  "margins",
  "How often R_PIT is right, by how sure it is; on the dotted line it would be honest.",
  _margins,
)
