"""Tables of a run's stages: how long they took, and what reinforcement learning changed."""

import statistics
from collections.abc import Mapping, Sequence

from pit_jax.report import cells, curves

SPEEDS = {  # what is known of a stage → what is to be said of it
  "tokens_per_second": "Tokens per second are those that a step reads or, in RL, samples, by the "
  "median of the logged steps that compiled nothing.",
  "mfu": "MFU: the share of the devices' peak that the mathematics of such a step used.",
}
FIFTH = 5  # one part of so many of a curve is its beginning, and one its end


def stages(results: Mapping) -> cells.Table:
  """Every stage with its steps, speed and time."""
  seconds = results["seconds"]
  trained, speeds = (results.get(section, {}) for section in ("stages", "speeds"))
  rows = [
    {"name": name, "seconds": seconds.get(name), **trained.get(name, {}), **speeds.get(name, {})}
    for name in dict.fromkeys([*trained, *seconds])
  ]
  rows.append({"name": "total", "seconds": sum(seconds.values())})

  columns = {
    "stage": lambda row: row["name"],
    "steps": lambda row: cells.fixed(row.get("steps"), 0),
    "tokens/s": lambda row: cells.fixed(row.get("tokens_per_second"), 0),
    "MFU": lambda row: cells.percent(row.get("mfu")),
    "time": lambda row: cells.duration(row["seconds"]),
  }
  keys = {key for row in rows for key in row}

  sentences = [text for key, text in SPEEDS.items() if key in keys]
  note = " ".join([*sentences, _goodput(results)]).strip()
  return cells.select("stages", "Stages", rows, columns, note=note)


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
    rows.append({
      "name": name,
      "steps": stage.get("steps"),
      "reward": ends(drawn.get(curves.SCORE, ())),
      "kl": ends(drawn.get(curves.KL, ())),
      "length": ends(drawn.get(curves.LENGTH, ())),
      "held": [value for _, value in stage.get("validation", {}).get(curves.KL, ())],
    })  # fmt: skip

  columns = {
    "stage": lambda row: row["name"],
    "iterations": lambda row: cells.fixed(row["steps"], 0),
    "reward, deviations": lambda row: _change(row["reward"], 2),
    "KL, nats": lambda row: _change(row["kl"], 2),
    "KL at the end, held out": lambda row: cells.fixed(row["held"][-1] if row["held"] else None),
    "length, tokens": lambda row: _change(row["length"], 1),
  }

  note = (
    "From → to: means over the first and the last fifth of the iterations, on the prompts that "
    "they learn from."
  )
  about = {
    "reward, deviations": "Deviations are those of the reward over samples of the model before RL.",
    "KL, nats": "KL is that from the model before RL, per response.",
  }
  title = "Before and after reinforcement"
  return cells.select("reinforced", title, rows, columns, note=note, about=about)


def ends(points: Sequence[Sequence[float | int]]) -> tuple[float, float] | None:
  """Returns the means of a curve's first and last fifth; None where it has no points."""
  values = [value for _, value in points]
  if not values:
    return None
  count = max(len(values) // FIFTH, 1)
  return statistics.fmean(values[:count]), statistics.fmean(values[-count:])


def _change(pair: tuple[float, float] | None, digits: int) -> str:
  return " → ".join(cells.fixed(value, digits) for value in pair) if pair else cells.BLANK
