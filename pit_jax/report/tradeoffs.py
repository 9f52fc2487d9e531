"""Figures of trade-offs: quality against tokens or KL, accuracy against confidence."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, panels

TINTS = ("#2f4a73", "#7cb5aa", "#c99a3d", "#b3632d")  # of kinds of pairs


def cost(rows: Sequence[Mapping]) -> matplotlib.figure.Figure | None:
  """Score and Δ over generated tokens, a line per way to spend samples, under the first judge."""
  judges = list(dict.fromkeys(row["judge"] for row in rows))
  shown = [row for row in rows if row["judge"] == judges[0]]
  judge = judges[0] if judges else ""
  titles = {"score": f"mean {judge} score", "delta": "Δ against original, %"}
  figure, drawn = panels.make_panels(shown, titles, height=3.1)
  for axes, key in drawn:
    for system, (label, tint, dash) in palette.SPENDERS.items():
      points = [row for row in shown if row["system"] == system and row.get(key) is not None]
      points.sort(key=lambda row: row["budget"])
      colour = palette.colour(tint)
      if points:
        at, values = [row["tokens"] for row in points], [row[key] for row in points]
        axes.plot(at, values, "o", linestyle=dash, color=colour, markersize=4, label=label)
      if key == "delta":
        panels.shade(axes, points, "tokens", "ci95", colour)
    if key == "delta":
      axes.axhline(0, color=palette.INK, linewidth=0.9)
    axes.set_xlabel("tokens per prompt")
  if figure is not None:
    panels.shared_legend(figure, columns=2)
  return figure


def frontier(found: Mapping) -> matplotlib.figure.Figure | None:
  """Proxy and judge over KL, a row of panels per chain; a knee is a dotted line."""
  chains = found.get("chains", ())
  if not chains:
    return None
  figure, rows = panels.make_figure(
    0.4 + 2.1 * len(chains), nrows=len(chains), ncols=2 if found["judge"] else 1
  )
  for axes, chain in zip(rows, chains, strict=True):
    tint = palette.colour("original" if chain["chain"] == "policy" else "pit")
    names = {"proxy": chain["proxy"], "judge": found["judge"]}
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


def margins(pairs: Mapping[str, Mapping]) -> matplotlib.figure.Figure | None:
  """How often R_PIT is right against how sure it is, in fifths of each kind of pairs."""
  if not pairs:
    return None
  figure, ((axes,),) = panels.make_figure(3.6)
  axes.plot([0.5, 1], [0.5, 1], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))
  for (name, known), tint in zip(pairs.items(), TINTS, strict=False):
    groups = known["groups"]
    at, values = (np.array([g[key] for g in groups]) for key in ("confidence", "accuracy"))
    low, high = np.array([group["ci95"] for group in groups]).T
    axes.errorbar(
      at, values, (values - low, high - values), fmt="o-", color=tint, markersize=4, linewidth=1.3,
      elinewidth=0.8, label=f"{name}, n = {known['n']:,}",
    )  # fmt: skip
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
  axes.set_xlabel("how sure R_PIT is, σ(margin)")
  axes.set_ylabel("how often it is right")
  panels.shared_legend(figure, columns=1)
  return figure
