"""What a sweep found: a table, figures, and one JSON file."""

import collections
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
import optuna

from pit_jax.report import cells, palette, plots, printed
from pit_jax.tools.sweep import space, trials

STATES = {"COMPLETE": "done", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def rows(study: optuna.Study, sweep: space.Sweep) -> list[dict[str, Any]]:
  """Returns a row per slot, the best first: its last trial, how often it was taken, and values."""
  # Trials come in the order of their numbers: the last one of a slot is the one that counts.
  listed: dict[int, dict[str, Any]] = {}
  taken = collections.Counter()
  for trial in study.get_trials(deepcopy=False):
    known = dict(trial.user_attrs)
    slot = known.pop(trials.SLOT, None)
    if slot is not None:
      taken[slot] += 1
      facts = {"slot": slot, "state": STATES[trial.state.name], "taken": taken[slot]}
      listed[slot] = {**facts, "values": _values(trial, sweep), **known}

  return sorted(listed.values(), key=lambda row: (-row.get("delta", -np.inf), row["slot"]))


def _values(trial: optuna.trial.FrozenTrial, sweep: space.Sweep) -> dict[str, Any]:
  """Returns the values of a trial, those that are known of one that waits."""
  # Where optuna keeps what a trial that waits will be given.
  by_key = trial.params or trial.system_attrs.get("fixed_params", {})
  return {key: sweep.value(key, stored) for key, stored in by_key.items()}


def write(study: optuna.Study, sweep: space.Sweep, workdir: pathlib.Path) -> None:
  """Writes sweep.json, frontier.png and parallel.png, and prints the table."""
  listed = rows(study, sweep)
  (workdir / "sweep.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
  done = [row for row in listed if row["state"] == "done"]
  with matplotlib.rc_context(palette.STYLE):
    figures = {"frontier": _frontier(done), "parallel": _parallel(done, list(sweep.space))}
  for name, figure in figures.items():
    plots.save(figure, workdir / f"{name}.png")
  width = min(shutil.get_terminal_size().columns, printed.WIDEST)

  print(printed.grid(_table(listed, list(sweep.space)), width))
  for row in listed:
    if trials.ERROR in row:
      print(f"\ntrial {row['slot']:03d} failed: {row[trials.ERROR]}")

  print(f"{workdir / 'sweep.json'}, frontier.png, parallel.png")


def _table(found: Sequence[Mapping], keys: Sequence[str]) -> cells.Table:
  rewards = dict.fromkeys(name for row in found for name in row.get("rewards", ()))
  columns = {
    "trial": lambda row: f"{row['slot']:03d}",
    "state": lambda row: row["state"],
    **{key: lambda row, key=key: _said(row["values"].get(key, cells.BLANK)) for key in keys},
    "Δ %": lambda row: cells.signed(row.get("delta"), row.get("ci95")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "judge": lambda row: row.get("judge", cells.BLANK),
    "KL, nats": lambda row: cells.fixed(row.get("kl")),
    "tokens": lambda row: cells.fixed(row.get("tokens")),
    **{
      # Of a function without its module; objective/rewards/NAME is the whole name.
      f"reward {name.split(':')[-1]}": lambda row, name=name: cells.fixed(
        row.get("rewards", {}).get(name)
      )
      for name in rewards
    },
    "time": lambda row: cells.duration(row.get("seconds")),
  }
  return cells.select("sweep", "", found, columns, words=2 + len(keys))


def _said(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _order(value: space.Stored) -> tuple:
  """Returns by what values are put in order: None, numbers, texts."""
  if value is None:
    return 0, 0, ""
  return (2, 0, value) if isinstance(value, str) else (1, value, "")


def _frontier(done: Sequence[Mapping]) -> matplotlib.figure.Figure:
  """Δ of every trial against the KL it paid."""
  figure = matplotlib.figure.Figure(figsize=(palette.WIDTH, 3.2), layout="constrained")
  axes = figure.subplots()
  for row in (row for row in done if row["kl"] is not None):
    low, high = row["ci95"]
    axes.plot([row["kl"]] * 2, [low, high], color=palette.MINT, linewidth=1)
    axes.plot(row["kl"], row["delta"], "o", color=palette.TEAL, markersize=4)
    axes.annotate(f" {row['slot']}", (row["kl"], row["delta"]), fontsize=10, color=palette.QUIET)

  axes.axhline(0, color=palette.INK, linewidth=0.8)
  axes.set_xlabel("KL of the last stage, nats per response")
  axes.set_title("Δ with 95% interval, by trial")
  return figure


def _parallel(done: Sequence[Mapping], keys: Sequence[str]) -> matplotlib.figure.Figure:
  """A line per trial through its values and its Δ; the better, the darker."""
  figure = matplotlib.figure.Figure(figsize=(palette.WIDTH, 3.2), layout="constrained")
  axes = figure.subplots()
  columns = [*([row["values"][key] for row in done] for key in keys), [r["delta"] for r in done]]

  for place, column in enumerate(columns):
    column = [space.as_stored(value) for value in column]
    distinct = sorted(set(column), key=_order)
    ranks = dict(zip(distinct, np.linspace(0, 1, len(distinct)), strict=True))
    for value in distinct if len(distinct) <= 6 else (distinct[0], distinct[-1]):
      axes.annotate(f" {_said(value)}", (place, ranks[value]), fontsize=10, parse_math=False)

    axes.axvline(place, color=palette.HAIRLINE)
    columns[place] = [ranks[value] for value in column]

  best = columns[-1]
  for index in np.argsort(best):
    heights = [column[index] for column in columns]
    shade = 0.15 + 0.85 * best[index]
    axes.plot(range(len(columns)), heights, color=palette.TEAL, alpha=shade)

  axes.set_xticks(range(len(columns)), [*keys, "Δ"])
  axes.set_yticks([])
  axes.set_xlim(-0.1, len(columns) - 0.7)
  axes.grid(visible=False)
  axes.set_title("Values by rank, from the least to the greatest")

  return figure
