"""Figures of PIT: rounds, temperatures, cost, and what the gap reward knows."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, panels, presentation, verdict

SPENDERS = {  # ways to spend samples, as results.json names them → label, whose colour, dashes
  "pit": ("pit, every round", "pit_second_only", (0, (4, 2))),
  "pit_stop": ("pit, stop rule", "pit", "-"),
  "best_of_n": ("best_of_n", "best_of_n", "-"),
  "gap_tournament": ("gap_tournament", "gap_tournament", "-"),
  "self_refine": ("self_refine", "self_refine", "-"),
}
TINTS = ("#2f4a73", "#7cb5aa", "#c99a3d", "#b3632d")  # of kinds of pairs


@dataclasses.dataclass(frozen=True)
class _Line:
  label: str
  rows: Sequence[Mapping]  # that it joins
  tint: str
  dash: str | tuple = "-"
  suffix: str = ""  # of the entries that it shows


def _draw(
  lines: Sequence[_Line], titles: Mapping[str, str], at: str, axis: str, is_wide: bool
) -> matplotlib.figure.Figure | None:
  """Returns a panel for each entry that has a title and a number, over the entry `at`."""
  rows = [row for line in lines for row in line.rows]
  keys = [key for key in titles if any(row.get(key) is not None for row in rows)]
  if not keys:
    return None
  shown = [titles[key] for key in keys]
  figure, drawn = panels.make_panels(shown, is_wide, height=250, columns=2)

  for axes, key in zip(drawn, keys, strict=True):
    for line in lines:
      entry = key + line.suffix
      interval = f"ci95{line.suffix}"
      points = [row for row in line.rows if row.get(entry) is not None]
      places = [row[at] for row in points]
      values = [row[entry] for row in points]
      style = {"linestyle": line.dash, "color": line.tint, "markersize": 5}
      if points:
        axes.plot(places, values, "o", label=line.label, **style)
      if key == "delta":
        panels.shade(axes, [row for row in points if row.get(interval)], at, interval, line.tint)

    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel(axis)
    panels.few_ticks(axes)

  panels.shared_legend(figure, is_wide)
  return figure


def _cost(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure | None:
  """Score and Δ over generated tokens, a line per way to spend samples, under the first judge."""
  rows = results.get("cost", ())
  judge = rows[0]["judge"] if rows else ""
  shown = [row for row in rows if row["judge"] == judge]
  shown.sort(key=lambda row: row["budget"])
  lines = [
    _Line(label, [row for row in shown if row["system"] == name], method.colour(tint), dash)
    for name, (label, tint, dash) in SPENDERS.items()
  ]

  titles = {"score": f"mean {judge} score", "delta": "Δ against original, %"}
  return _draw(lines, titles, "tokens", "tokens per prompt", is_wide)


def _margins(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """How often R_PIT is right against how sure it is, in fifths of each kind of pairs."""
  pairs = results.get("gap", {}).get("pairs", {})
  if not pairs:
    return None
  figure, ((axes,),) = panels.make_figure(is_wide, 380)
  axes.plot([0.5, 1], [0.5, 1], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))

  for (name, described), tint in zip(pairs.items(), TINTS, strict=False):
    groups = described["groups"]
    confidence, values = (np.array([g[key] for g in groups]) for key in ("confidence", "accuracy"))
    low, high = np.array([group["ci95"] for group in groups]).T
    axes.errorbar(
      confidence, values, (values - low, high - values), fmt="o-", color=tint, markersize=5,
      linewidth=1.3, elinewidth=0.9, label=f"{name}, n = {described['n']:,}",
    )  # fmt: skip

  panels.few_ticks(axes)
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
  axes.set_xlabel("how sure R_PIT is, σ(margin)")
  axes.set_ylabel("how often it is right")
  panels.shared_legend(figure, is_wide)

  return figure


def _rounds(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """Each round against round 0, with and without the stop rule."""
  rows = results.get("rounds", ())
  lines = [
    _Line("every round", rows, palette.RUST, (0, (4, 2))),
    _Line("with the stop rule", rows, palette.TEAL, suffix="_stop"),
  ]
  titles = {"delta": "Δ against round 0, %", "score": f"mean {verdict.score_judge(results)} score"}
  figure = _draw(lines, titles, "k", "round", is_wide)
  for axes in figure.axes if figure else ():
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))

  return figure


def _temperature(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure | None:
  rows = sorted(results.get("temperature", ()), key=lambda row: row["t"])
  if len({row["t"] for row in rows}) < 2:  # one point is no curve
    return None
  lines = [
    _Line(name, [row for row in rows if row["system"] == name], method.colour(name))
    for name in dict.fromkeys(row["system"] for row in results.get("temperature", ()))
  ]

  judge = verdict.score_judge(results)
  titles = {"score": f"mean {judge} score", "delta": "Δ against original, %"}
  return _draw(lines, titles, "t", "temperature", is_wide)


_figure = presentation.Figure
ROUNDS = _figure(
  "rounds",
  "Improving again and again, each round starting from the last round's response.",
  _rounds,
)
TEMPERATURE = _figure(
  "temperature", "Quality over sampling temperature; a system should be compared at its best.",
  _temperature,
)  # fmt: skip
COST = _figure("cost", "Quality over all tokens generated for an answer, drafts included.", _cost)
MARGINS = _figure(
  "margins", "How often R_PIT is right, by how sure it is; on the dotted line it would be honest.",
  _margins,
)  # fmt: skip
