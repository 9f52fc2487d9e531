"""The figure of the rounds: how much is kept, how right it is, and how sure the models are."""

from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np

from pit_jax.report import palette, panels, presentation

PANELS = {  # title → entries of a round, with their names and colours
  "kept, share of the pool": {"share": ("kept", palette.BLUE)},
  "own labels right, share": {
    "agreed_gold": ("as the gold score says", palette.TEAL),
    "agreed_labels": ("as the lost labels say", palette.RUST),
  },
  "margin, nats": {
    "margin": ("of the pool", palette.BLUE),
    "margin_kept": ("of what is kept", palette.PURPLE),
  },
  "held-out pairs right, share": {"accuracy": ("the round's model", palette.TEAL)},
}


def by_round(rows: Sequence[Mapping]) -> list[dict]:
  """Returns the mean over draws of every figure of a round, and how many `draws` had it."""
  found = []
  for number in sorted({row["round"] for row in rows}):
    same = [row for row in rows if row["round"] == number]
    names = dict.fromkeys(name for row in same for name in row)
    means = {}
    for name in names:
      values = [row[name] for row in same if isinstance(row.get(name), int | float)]
      means |= {name: float(np.mean(values))} if values else {}
    found.append(means | {"round": number, "draws": len(same)})
  return found


def _rounds(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """A panel for each figure of the rounds: every draw thin, and their mean."""
  rows = results.get("ser", {}).get("rounds", ())
  if not rows:
    return None
  means = by_round(rows)
  figure, drawn = panels.make_panels([*PANELS], is_wide, height=190, columns=2)
  for axes, entries in zip(drawn, PANELS.values(), strict=True):
    for entry, (name, tint) in entries.items():
      for each in _by_draw(rows):
        _line(axes, each, entry, color=tint, alpha=0.25, linewidth=1)
      _line(axes, means, entry, color=tint, label=name, marker="o")
    axes.set_xlabel("round")
    panels.whole_steps(axes)

  panels.shared_legend(figure, is_wide)
  return figure


def _by_draw(rows: Sequence[Mapping]) -> list[list[Mapping]]:
  """Returns the rows of each draw of each seed."""
  groups: dict[tuple, list[Mapping]] = {}
  for row in rows:
    groups.setdefault((row.get("seed"), row["draw"]), []).append(row)
  return [*groups.values()]


def _line(axes, rows: Sequence[Mapping], entry: str, **style: object) -> None:
  points = [(row["round"], row[entry]) for row in rows if row.get(entry) is not None]
  if points:
    axes.plot(*np.array(points, float).T, **style)


ROUNDS = presentation.Figure(
  "rounds",
  "Round by round: what is kept of the pool, how right its labels are, how far apart the two "
  "scores of a pair are, and what the round's model knows. Thin lines are single draws.",
  _rounds,
)
