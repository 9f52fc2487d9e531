"""What the report's figures share: sizes, panels, legends, names, intervals.

Every figure is drawn twice: as wide as a page on a desk is, and as a phone is. Its unit is the
page's px, so that a letter of 12.5 in a figure is one of 12.5 px on the page. `plots.draw` gives
panels and legends their places.
"""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from pit_jax.report import palette

PX = 1 / 72  # inches
LETTER = 7.2  # px of a letter of a legend, on average
HANDLE = 48  # px of a legend's mark, with what is around it
NARROW_NAME = 2.05  # a line of a narrow figure by one of a wide one: its name stands above it


def make_figure(
  is_wide: bool, height: float | int, **grid: object
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
  """Returns a figure of so many px, and its axes, a row of them per row of the grid."""
  size = ((palette.WIDE if is_wide else palette.NARROW) * PX, height * PX)
  figure = matplotlib.figure.Figure(figsize=size)
  return figure, figure.subplots(squeeze=False, **grid)


def make_panels(
  titles: Sequence[str], is_wide: bool, height: float | int = 210, columns: int = 3
) -> tuple[matplotlib.figure.Figure, list[matplotlib.axes.Axes]]:
  """Returns a figure of a panel per title, of so many px each: side by side, on a phone below.

  No row of a wide figure has one panel alone where another row has three.
  """
  rows = len(titles)
  if is_wide:
    rows = -(-len(titles) // columns)
    columns = -(-len(titles) // rows)
  else:
    columns = 1

  figure, axes = make_figure(is_wide, 30 + height * rows, nrows=rows, ncols=columns)
  for panel in axes.flat[len(titles) :]:
    panel.set_visible(False)
  panels = list(axes.flat[: len(titles)])
  for panel, title in zip(panels, titles, strict=True):
    panel.set_title(title)

  return figure, panels


def shared_legend(figure: matplotlib.figure.Figure, is_wide: bool) -> None:
  """Writes one legend above all panels, in as many columns as there is room for."""
  entries = {}
  for axes in figure.axes:
    handles, labels = axes.get_legend_handles_labels()
    entries |= dict(zip(labels, handles, strict=True)) | entries
  if not entries:
    return

  widest = HANDLE + LETTER * max(map(len, entries))
  columns = max(int((palette.WIDE if is_wide else palette.NARROW) // widest), 1)
  figure.legend(
    entries.values(), entries.keys(), loc="outside upper left", ncols=min(columns, len(entries))
  )


def name_lines(axes: matplotlib.axes.Axes, names: Sequence[str], is_wide: bool) -> None:
  """Names the lines of an axis, which are at 0, 1, …: beside them, on a phone above each."""
  axes.set_ylim(len(names) - 0.4, -0.6 if is_wide else -0.95)
  axes.spines["left"].set_visible(False)
  axes.grid(axis="y", visible=False)
  if is_wide:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK)
    return

  axes.set_yticks([])
  across = axes.get_yaxis_transform()  # x from 0 to 1 over the figure, y of the data
  for height, name in enumerate(names):
    axes.text(
      0, height - 0.38, name, transform=across, va="bottom", bbox={"facecolor": palette.WHITE,
      "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def lines_height(count: int, is_wide: bool, each: float | int = 26) -> float | int:
  """Returns the px of a figure of so many named lines."""
  return 70 + count * each * (1 if is_wide else NARROW_NAME)


def whole_steps(axes: matplotlib.axes.Axes) -> None:
  """Sets ticks of the horizontal axis at whole numbers alone, few enough to stand apart."""
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
  axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))


def few_ticks(axes: matplotlib.axes.Axes) -> None:
  """Sets ticks few enough to stand apart."""
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
  axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))


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
