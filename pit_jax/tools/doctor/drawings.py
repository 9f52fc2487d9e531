"""The doctor's figures: lengths against their limits, and what length decides."""

from collections.abc import Mapping

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette, plots
from pit_jax.tools.doctor import estimates, examination

CAPTIONS = {
  "lengths": "Rows that are no longer than so many tokens. Dashed: the limits.",
  "by_ratio": "How often the longer response is chosen, with 95% intervals.",
}
COLOURS = {"prompt": palette.PURPLE, "chosen": palette.TEAL, "rejected": palette.RUST}


def draw(found: examination.Examination) -> dict[str, str]:
  """Returns every figure as an <svg> element that takes its colours from the page, by name."""
  with matplotlib.rc_context(palette.STYLE):
    figures = {"lengths": _lengths(found)}
    if found.by_ratio:
      figures["by_ratio"] = _by_ratio(found.by_ratio)

  return {name: plots.svg(figure, CAPTIONS[name]) for name, figure in figures.items()}


def _axes() -> tuple[matplotlib.figure.Figure, matplotlib.axes.Axes]:
  figure = matplotlib.figure.Figure(figsize=(palette.WIDTH, 2.9), layout="constrained")
  return figure, figure.subplots()


def _lengths(found: examination.Examination) -> matplotlib.figure.Figure:
  figure, axes = _axes()
  for name, colour in COLOURS.items():
    tokens, rows = np.unique(getattr(found.measured, name), return_counts=True)
    axes.step(tokens, rows.cumsum() / found.rows, where="post", color=colour, label=name)

  for limit, name in zip(found.limits, ("prompt", "chosen"), strict=True):
    axes.axvline(limit, color=COLOURS[name], linewidth=1, linestyle=(0, (4, 3)))
  axes.set_xscale("log")
  axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
  axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
  axes.set_ylim(0, 1.02)
  axes.set_xlabel("tokens")

  axes.legend(loc="upper left")
  return figure


def _by_ratio(by_ratio: Mapping[str, estimates.Estimate]) -> matplotlib.figure.Figure:
  figure, axes = _axes()
  for place, share in enumerate(by_ratio.values()):
    axes.plot([place] * 2, [share.low, share.high], color=palette.TEAL)
    axes.plot(place, share.value, "o", color=palette.TEAL, markersize=5)

  axes.axhline(0.5, color=palette.INK, linewidth=0.8)
  axes.set_xticks(range(len(by_ratio)), list(by_ratio))
  axes.set_xlim(-0.5, len(by_ratio) - 0.5)
  axes.set_ylim(0, 1)
  axes.grid(visible=False, axis="x")
  axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
  axes.set_xlabel("times as long as the shorter one")

  return figure
