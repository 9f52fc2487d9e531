"""Colours and type of the report: a system has the same colour in every figure and table.

Figures are drawn in the colours of a light page. A page takes them as CSS variables, so that each
has a second value where the reader asks for a dark scheme.
"""

import itertools
import re
from collections.abc import Sequence

INK = "#22262e"
QUIET = "#6d7178"
HAIRLINE = "#e4e2dc"
EDGE = "#b9b6ae"
WHITE = "#ffffff"
BLUE = "#2f4a73"
TEAL = "#0b7267"
RUST = "#b3632d"
MINT = "#7cb5aa"
PURPLE = "#7d6391"
OTHERS = ("#58707c", "#8a5a7d", "#7f7a3c", "#a3705c")
MARKERS = {"gold": "o", "language_model": "X", "R_public": "P", "R_judge": "s"}  # by judge
OTHER_MARKERS = ("D", "^", "v", "p")  # of the judges that a method brings, in their order
# Variable of a page → its colour in the light and in the dark scheme. What is white in a figure has
# the page's own colour.
PAGE = {
  "ink": (INK, "#e7e4dd"),
  "quiet": (QUIET, "#a3a39d"),
  "hairline": (HAIRLINE, "#33363d"),
  "edge": (EDGE, "#565a62"),
  "paper": ("#fcfbf9", "#16181c"),
  "band": ("#f3f1ec", "#1f2228"),  # behind what belongs together
  "accent": ("#0b7267", "#5fc2b4"),
  "remark": ("#d5b46b", "#d5b46b"),
  "worse": ("#9a4f1f", "#e08a52"),  # words that say so
  "shadow": ("#c9c5bb", "#000000"),  # where a table goes on beside what is seen
  "gone": ("#f6e3d8", "#4a2d22"),  # behind words that a revision took out
  "new": ("#d6ece6", "#123f39"),  # and behind those it put in
}
DARK = {  # a figure's colour → what it is in the dark scheme
  "#2f4a73": "#9db7e0",
  "#94a3ba": "#8391a8",
  "#a09c94": "#b5b0a6",
  "#7d6391": "#b598cc",
  "#7cb5aa": "#4f8f85",
  "#c99a3d": "#e0b25e",
  "#b3632d": "#e08a52",
  "#a84a4f": "#e58a8d",
  "#3f5f8a": "#6f95cf",
  "#6b7f38": "#a9bf6b",
  "#8a5a7d": "#c78fb8",
  "#58707c": "#8aa5b2",
  "#7f7a3c": "#b9b36c",
  "#a3705c": "#d39d87",
  "#c9a878": "#d9bd90",
}
WIDE = 880  # px of the page's column, and of figures for it
NARROW = 328  # and of those of a small phone
WIDTH = 5.4  # inches of a figure that is drawn once, for a desk and a phone
STYLE = {
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans"],
  "font.size": 12.5,  # px of the page, see panels.py
  "axes.titlesize": 12.5,
  "axes.titlelocation": "left",
  "axes.titley": 1.0,  # said, it need not be looked for: no axis has ticks above it
  "axes.titlecolor": INK,
  "axes.labelcolor": QUIET,
  "axes.edgecolor": EDGE,
  "axes.linewidth": 0.8,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": HAIRLINE,
  "grid.linewidth": 0.7,
  "xtick.color": QUIET,
  "ytick.color": QUIET,
  "xtick.labelsize": 12,
  "ytick.labelsize": 12,
  "text.color": INK,
  "legend.frameon": False,
  "legend.fontsize": 12.5,
  "lines.linewidth": 1.8,
  "svg.fonttype": "none",
  "svg.hashsalt": "pit_jax",  # the same figure gives the same bytes
}


def other(system: str) -> str:
  """Returns the colour of a system for which nobody chose one."""
  # Not by hash(), which differs between processes: a name keeps its colour.
  return OTHERS[sum(system.encode()) % len(OTHERS)]


def markers(judges: Sequence[str]) -> dict[str, str]:
  """Returns the marker of each judge of a figure."""
  others = itertools.cycle(OTHER_MARKERS)
  return {judge: MARKERS.get(judge) or next(others) for judge in judges}


def themed(drawing: str) -> str:
  """Returns SVG or CSS with the colours of this file as variables of the page; see `variables`."""
  return re.sub(r"#[0-9a-f]{6}\b", lambda found: _NAMES.get(found[0], found[0]), drawing)


def variables(is_dark: bool = False) -> str:
  """Returns the declarations of all variables, for the style of a page's root."""
  page = {name: colours[is_dark] for name, colours in PAGE.items()}
  figures = {light[1:]: DARK[light] if is_dark else light for light in DARK}
  return " ".join(f"--{name}: {colour};" for name, colour in (page | figures).items())


_NAMES = {
  **{light: f"var(--{light[1:]})" for light in DARK},
  **{light: f"var(--{name})" for name, (light, _) in PAGE.items()},
  WHITE: "var(--paper)",
}
