"""Colours and type of the report: a system has the same colour in every figure and table."""

INK, QUIET, HAIRLINE = "#22262e", "#6d7178", "#e4e2dc"
COLOURS = {
  "original": "#2f4a73",
  "policy_sft": "#94a3ba",
  "policy_resampled": "#a09c94",
  "rlhf_longer": "#7d6391",
  "improver_sft": "#7cb5aa",
  "pit": "#0b7267",
  "pit_first_only": "#c99a3d",
  "pit_second_only": "#b3632d",
  "pit_single_term": "#58707c",
  "pit_rp_difference": "#7f7a3c",
  "self_refine": "#a84a4f",
  "pit_rounds": "#3f5f8a",
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
WIDTH = 5.4  # inches; a phone shows this at 390 px, where 1 pt of type is 1 px
STYLE = {
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans"],
  "font.size": 9.5,
  "axes.titlesize": 9.5,
  "axes.titlelocation": "left",
  "axes.titlecolor": INK,
  "axes.labelcolor": QUIET,
  "axes.edgecolor": "#b9b6ae",
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
