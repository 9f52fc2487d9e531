"""Colours and type of the report: a system has the same colour in every figure and table.

Figures are drawn in the colours of a light page. A page takes them as CSS variables, so that each
has a second value where the reader asks for a dark scheme.
"""

import re

INK, QUIET, HAIRLINE, EDGE, WHITE = "#22262e", "#6d7178", "#e4e2dc", "#b9b6ae", "#ffffff"
COLOURS = {
  "original": "#2f4a73",
  "policy_sft": "#94a3ba",
  "policy_resampled": "#a09c94",
  "rlhf_longer": "#7d6391",
  "rlhf_longer_best_of_2": "#58707c",
  "improver_sft": "#7cb5aa",
  "pit": "#0b7267",
  "pit_first_only": "#c99a3d",
  "pit_second_only": "#b3632d",
  "pit_single_term": "#58707c",
  "pit_rp_difference": "#7f7a3c",
  "self_refine": "#a84a4f",
  "pit_rounds": "#3f5f8a",
  "best_of_2": "#7f7a3c",
  "best_of_n": "#6b7f38",
  "gap_tournament": "#8a5a7d",
  "self_refine_rounds": "#8c5d3e",
}
SPENDERS = {  # ways to spend samples, as results.json names them → label, whose colour, dashes
  "pit": ("pit, every round", "pit_second_only", (0, (4, 2))),
  "pit_stop": ("pit, stop rule", "pit", "-"),
  "best_of_n": ("best_of_n", "best_of_n", "-"),
  "gap_tournament": ("gap_tournament", "gap_tournament", "-"),
  "self_refine": ("self_refine", "self_refine", "-"),
}
OTHERS = ("#58707c", "#8a5a7d", "#7f7a3c", "#a3705c")
MARKERS = {  # by judge
  "gold": "o",
  "language_model": "X",
  "R_public": "P",
  "R_judge": "s",
  "R_P": "D",
  "R_PIT": "^",
}
GAPS = {  # what is compared, in the order of eq. 1, and its colour
  "wl": ("better, given the worse", "#0b7267"),
  "ww": ("better, given itself", "#7cb5aa"),
  "ll": ("worse, given itself", "#c9a878"),
  "lw": ("worse, given the better", "#b3632d"),
}
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
WIDTH = 5.4  # inches; a phone shows this at 390 px, where 1 pt of type is 1 px
STYLE = {
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans"],
  "font.size": 9.5,
  "axes.titlesize": 9.5,
  "axes.titlelocation": "left",
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
  "xtick.labelsize": 9,
  "ytick.labelsize": 9,
  "text.color": INK,
  "legend.frameon": False,
  "legend.fontsize": 9,
  "lines.linewidth": 1.8,
  "svg.fonttype": "none",
  "svg.hashsalt": "pit_jax",  # the same figure gives the same bytes
}


def colour(system: str) -> str:
  """Returns the colour of a system; one this file does not know gets a fixed one of its own."""
  return COLOURS.get(system) or OTHERS[sum(system.encode()) % len(OTHERS)]


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
