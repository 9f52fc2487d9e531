"""The figure of a gap reward's order."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np

from pit_jax.report import palette, panels, presentation

GAPS = {  # what is compared, in the order of eq. 1, and its colour
  "wl": ("better, given the worse", "#0b7267"),
  "ww": ("better, given itself", "#7cb5aa"),
  "ll": ("worse, given itself", "#c9a878"),
  "lw": ("worse, given the better", "#b3632d"),
}


def _gaps(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """The four gaps, one above the other in eq. 1's order: the means should step to the left."""
  histogram = results.get("gap_order", {}).get("histogram", {})
  values = {name: np.asarray(histogram.get(name, ()), dtype=float) for name in GAPS}
  values = {name: array for name, array in values.items() if array.size}
  if not values:
    return None

  # A few outliers would squeeze all else into one bin.
  low, high = np.quantile(np.concatenate(list(values.values())), (0.002, 0.998))
  height = 40 + 64 * len(values)
  figure, rows = panels.make_figure(is_wide, height, nrows=len(values), sharex=True)
  for (axes,), (name, array) in zip(rows, values.items(), strict=True):
    label, tint = GAPS[name]
    bins = np.linspace(low, high + 1e-6, 41)
    axes.hist(array.clip(low, high), bins, histtype="stepfilled", color=tint, alpha=0.5)
    axes.axvline(array.mean(), color=tint, linewidth=2)
    mean = f"mean {panels.number(array.mean())}"
    axes.set_title(f"r({name[0]},{name[1]})  {label}" if is_wide else label, pad=2)
    axes.set_title(mean, loc="right", color=palette.QUIET, pad=2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)

  rows[-1, 0].set_xlabel(
    "gap reward, in deviations over samples of the SFT model" if is_wide else "gap, deviations"
  )
  return figure


ORDER = presentation.Figure(
  "gaps", "Gap rewards of held-out pairs. Their means should move left from top to bottom.", _gaps
)
