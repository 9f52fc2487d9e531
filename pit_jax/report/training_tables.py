"""Tables of a run's stages: how long they took, and what reinforcement learning changed."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from pit_jax.report import cells, curves, rewarded

SPEEDS = {  # what is known of a stage → what is to be said of it
  "tokens_per_second": "Tokens per second are those that a step reads or, in RL, samples, by the "
  "median of the logged steps that compiled nothing.",
  "mfu": "MFU: the share of the devices' peak that the mathematics of such a step used.",
}
KEPT = "ended in"
BEST = "kept"
ABOUT = {
  KEPT: "A stage ended in what was logged of the step whose parameters were kept.",
  BEST: "Kept is the best step, where that is not the last.",
}
DEVIATIONS = "reward, deviations"
UNITLESS = "reward, no unit"
FIFTH = 5  # one part of so many of a curve is its beginning, and one its end


def stages(results: Mapping) -> cells.Table:
  """Every stage with what it ended in, its steps, speed and time."""
  seconds = results["seconds"]
  trained, speeds = (results.get(section, {}) for section in ("stages", "speeds"))
  rows = [
    {"name": name, "seconds": seconds.get(name), **trained.get(name, {}), **speeds.get(name, {})}
    for name in dict.fromkeys([*trained, *seconds])
  ]
  rows.append({"name": "total", "seconds": sum(seconds.values())})

  columns = {
    "stage": lambda row: row["name"],
    KEPT: lambda row: cells.plain(row["facts"]) if row.get("facts") else cells.BLANK,
    "steps": lambda row: cells.fixed(row.get("steps"), 0),
    BEST: lambda row: cells.fixed(
      None if row.get("step") == row.get("steps") else row.get("step"), 0
    ),
    "tokens/s": lambda row: cells.fixed(row.get("tokens_per_second"), 0),
    "MFU": lambda row: cells.percent(row.get("mfu")),
    "time": lambda row: cells.duration(row["seconds"]),
  }
  keys = {key for row in rows for key in row}

  sentences = [text for key, text in SPEEDS.items() if key in keys]
  note = " ".join([*sentences, _goodput(results)]).strip()
  return cells.select("stages", "Stages", rows, columns, note=note, about=ABOUT, words=2)


def _goodput(results: Mapping) -> str:
  goodput = results.get("goodput")
  if not goodput:
    return ""
  count = goodput["sessions"]
  rest = goodput["seconds"] - sum(results["seconds"].values())
  return (
    f"The run took {count:,} {'process' if count == 1 else 'processes'} and "
    f"{cells.duration(goodput['seconds'])} by the clock, evaluation included"
    + (f": {cells.duration(rest)} more than its stages, for loading and saving" if rest > 0 else "")
    + f". {cells.percent(goodput['share'])} of the clock went into training steps that were kept."
  )


def reinforced(results: Mapping) -> cells.Table:
  """What each stage of reinforcement learning began with and ended in."""
  rows = []
  for name in curves.reinforced(results):
    stage = results["stages"][name]
    drawn = stage["curve"]
    own, other = ("reward", "sum") if rewarded.is_single(stage) else ("sum", "reward")
    rows.append({
      "name": name,
      "maximised": rewarded.words(stage, cells.BLANK),
      "steps": stage.get("steps"),
      own: ends(drawn.get(curves.SCORE, ())),
      other: None,
      "kl": ends(drawn.get(curves.KL, ())),
      "length": ends(drawn.get(curves.LENGTH, ())),
      "held": [value for _, value in stage.get("validation", {}).get(curves.KL, ())],
    })  # fmt: skip
    rows += _parts(name, stage)

  columns = {
    "stage": lambda row: row["name"],
    "reward": lambda row: row["maximised"],
    "iterations": lambda row: cells.fixed(row.get("steps"), 0),
    DEVIATIONS: lambda row: _change(row["reward"], 2),
    UNITLESS: lambda row: _change(row["sum"], 2),
    "KL, nats": lambda row: _change(row.get("kl"), 2),
    "KL at the end, held out": _held_out,
    "length, tokens": lambda row: _change(row.get("length"), 1),
  }

  note = (
    "From → to: means over the first and the last fifth of the iterations, on the prompts that "
    "they learn from."
  )
  about = {
    DEVIATIONS: "Deviations are those of the reward over samples of the model before RL.",
    UNITLESS: "A Python function has a unit of its own, and a sum of rewards none: the rows of "
    "its parts, before their weights, say which of them rose.",
    "KL, nats": "KL is that from the model before RL, per response.",
  }
  title = "Before and after reinforcement"
  return cells.select("reinforced", title, rows, columns, note=note, about=about, words=2)


def _parts(name: str, stage: Mapping) -> list[dict]:
  """Returns a row for each reward of a sum."""
  rewards = rewarded.of_stage(stage)
  if len(rewards) < 2:
    return []
  rows = []
  for reward, facts in rewards.items():
    pair = ends(stage["curve"].get(f"{rewarded.PREFIX}{reward}", ()))
    places = ("sum", "reward") if rewarded.is_function(reward) else ("reward", "sum")
    rows.append({"name": name, "maximised": facts["called"], places[0]: pair, places[1]: None})

  return rows


def _held_out(row: Mapping) -> str:
  return cells.fixed(row["held"][-1] if row.get("held") else None)


def ends(points: Sequence[Sequence[float | int]]) -> tuple[float, float] | None:
  """Returns the means of a curve's first and last fifth; None where it has no points."""
  values = [value for _, value in points]
  if not values:
    return None
  count = max(len(values) // FIFTH, 1)
  return statistics.fmean(values[:count]), statistics.fmean(values[-count:])


def rise(points: Sequence[Sequence[float | int]]) -> tuple[float, float] | None:
  """Returns by how much a curve rose, and two standard errors of that; None of fewer than 3 points.

  The scatter is that of neighbouring points about each other, which a slow rise hardly moves; the
  means are those of `ends`.
  """
  values = [value for _, value in points]
  if len(values) < 3:
    return None
  # von Neumann (1941): half the mean square of successive differences.
  squares = [(after - before) ** 2 for before, after in itertools.pairwise(values)]
  variance = statistics.fmean(squares) / 2
  first, last = ends(points)
  return last - first, 2 * math.sqrt(2 * variance / max(len(values) // FIFTH, 1))


def _change(pair: tuple[float, float] | None, digits: int) -> str:
  return " → ".join(cells.fixed(value, digits) for value in pair) if pair else cells.BLANK
