"""What the report's figures share: sizes, panels, legends, intervals."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import numpy as np

from pit_jax.report import palette


def make_figure(height: float | int, **grid: object) -> tuple[matplotlib.figure.Figure, np.ndarray]:
  """Returns a figure as wide as every one is, and its axes, a row of them per row of the grid."""
  figure = matplotlib.figure.Figure(figsize=(palette.WIDTH, height), layout="constrained")
  return figure, figure.subplots(squeeze=False, **grid)


def make_panels(rows: Sequence[Mapping], titles: Mapping[str, str], height: float | int):
  """Returns a figure with a panel for each key that some row has a number for, and the panels."""
  keys = [key for key in titles if any(row.get(key) is not None for row in rows)]
  if not keys:
    return None, ()
  figure, (axes,) = make_figure(height, ncols=len(keys))
  for panel, key in zip(axes, keys, strict=True):
    panel.set_title(titles[key])

  return figure, tuple(zip(axes, keys, strict=True))


def shared_legend(figure: matplotlib.figure.Figure, columns: int = 3) -> None:
  """Writes one legend above all panels, in at most so many columns."""
  handles, labels = figure.axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, len(labels)))


def shade(
  axes: matplotlib.axes.Axes, rows: Sequence[Mapping], at: str, interval: str, tint: str
) -> None:
  """Shades the intervals of the rows, if there are any."""
  if rows:
    low, high = np.array([row[interval] for row in rows], dtype=float).T
    axes.fill_between([row[at] for row in rows], low, high, color=tint, alpha=0.14, linewidth=0)


def number(value: float | int) -> str:
  """Returns a number with two decimals and a true minus."""
  return f"{value:.2f}".replace("-", "−")
