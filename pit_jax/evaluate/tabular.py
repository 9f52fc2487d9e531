"""The report's tables as rows of text, shared by the page and the terminal."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pit_jax.evaluate import palette, verdict

DESCRIPTIONS = {
  "original": "the policy after RLHF",
  "policy_sft": "the policy after fine-tuning only",
  "policy_resampled": "a second sample of original",
  "rlhf_longer": "original with the improver's RL steps added",
  "improver_sft": "the improver before RL, on original",
  "pit": "the improver after the curriculum, on original",
  "pit_first_only": "all RL steps on dataset references",
  "pit_second_only": "all RL steps on references from the policy",
  "self_refine": "the policy prompted to revise",
  "best_of_n": "the best of n samples of original",
}
BLANK = "·"


@dataclasses.dataclass(frozen=True)
class Table:
  """A titled table of text cells."""

  name: str  # a short identifier
  title: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  note: str = ""
  words: int = 1  # leading columns that hold words; the others hold numbers
  is_folded: bool = False  # detail: opened on demand on the page, left out in the terminal


def build(results: Mapping) -> dict[str, Table]:
  """Builds every table the results have figures for, by name, in the order of the page.

  Args:
    results: a checked results dict, without what a shut gate holds back.
  """
  makers = (
    _comparisons, _controls, _seeds, _systems, _rounds, _temperature, _reward_models, _gap_order,
    _stages, _data,
  )  # fmt: skip
  tables = (maker(results) for maker in makers)
  return {table.name: table for table in tables if table is not None and table.rows}


def fixed(value: float | int | None, digits: int = 2) -> str:
  """Returns a number with a true minus, or a dot where there is none."""
  return BLANK if value is None else f"{value:,.{digits}f}".replace("-", "−")


def percent(fraction: float | int | None) -> str:
  """Returns a fraction of 1 in percent."""
  return BLANK if fraction is None else f"{100 * fraction:.1f}%"


def duration(seconds: float | int | None) -> str:
  """Returns seconds as people say them."""
  if seconds is None:
    return BLANK
  if seconds < 100:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes / 60:.1f} h"


def _range(bounds: Sequence[float | int] | None) -> str:
  return BLANK if not bounds else " … ".join(verdict.signed(bound) for bound in bounds)


def _signed(value: float | int | None) -> str:
  return BLANK if value is None else verdict.signed(value)


def _select(
  name: str, title: str, rows: Sequence[Mapping], columns: Mapping[str, Callable], **more
) -> Table:
  """Renders the columns in which at least one row says something."""
  cells = {column: [render(row) for row in rows] for column, render in columns.items()}
  kept = {column: values for column, values in cells.items() if set(values) - {BLANK, ""}}
  words = sum(column in kept for column in list(columns)[: more.pop("words", 1)])
  return Table(
    name, title, tuple(kept), tuple(zip(*kept.values(), strict=True)), words=words, **more
  )


def _versus(name: str, title: str, rows: Sequence[Mapping], note: str) -> Table:
  if len({row.get("temperature") for row in rows}) == 1 and rows[0].get("temperature") is not None:
    note = f"All at temperature {rows[0]['temperature']}. {note}"
    rows = [{**row, "temperature": None} for row in rows]
  columns = {
    "system": lambda row: row["a"],
    "against": lambda row: row["b"],
    "T": lambda row: _plain(row.get("temperature")),
    "seed": lambda row: _plain(row.get("seed")),
    "judge": lambda row: row["judge"],
    "Δ": lambda row: _signed(row["delta"]),
    "95% interval": lambda row: _range(row["ci95"]),
    "win %": lambda row: fixed(row["win"], 1),
    "tie %": lambda row: fixed(row["tie"], 1),
    "lose %": lambda row: fixed(row["lose"], 1),
    "prompts": lambda row: f"{row['n']:,}",
  }
  return _select(name, title, rows, columns, note=note, words=5)


def _is_control(row: Mapping) -> bool:
  return "policy_resampled" in (row["a"], row["b"])


def _is_one_of_several(row: Mapping) -> bool:
  return row.get("seed") not in (None, "all")


def _comparisons(results: Mapping) -> Table:
  rows = [
    row for row in results["comparisons"] if not (_is_control(row) or _is_one_of_several(row))
  ]
  note = "Δ = win − lose, in percent of prompts. The interval comes from resampling prompts."
  return _versus("comparisons", "Comparisons", rows, note)


def _controls(results: Mapping) -> Table:
  rows = [row for row in results["comparisons"] if _is_control(row) and not _is_one_of_several(row)]
  rows += [row for row in results.get("controls", {}).values() if row not in rows]
  note = "What a control measures is chance and procedure alone: its Δ should be about 0."
  return _versus("controls", "Controls", rows, note)


def _seeds(results: Mapping) -> Table:
  rows = [row for row in results["comparisons"] if _is_one_of_several(row)]
  note = "Δ = win − lose, in percent of the prompts of that seed."
  table = _versus("seeds", "Each seed alone", rows, note)
  return dataclasses.replace(table, is_folded=True)


def _systems(results: Mapping) -> Table:
  rows = [{"name": name, **row} for name, row in results["systems"].items()]
  columns = {
    "system": lambda row: row["name"],
    "what it is": lambda row: row.get("about", DESCRIPTIONS.get(row["name"], "")),
    f"{verdict.score_judge(results)} score": lambda row: fixed(row.get("score")),
    "tokens": lambda row: fixed(row.get("tokens"), 1),
  }
  known = {"name", "about", "score", "tokens", f"score_{verdict.score_judge(results)}"}
  for key in dict.fromkeys(key for row in rows for key in row if key not in known):
    judge = key.removeprefix("score_")
    label = key.replace("_", " ") if judge == key else f"{judge} score"
    columns[label] = lambda row, key=key: _plain(row.get(key))
  note = "Tokens are the mean length of a response; an improver's come on top of its draft's."
  return _select("systems", "Systems", rows, columns, note=note, words=2)


def _rounds(results: Mapping) -> Table:
  columns = {
    "k": lambda row: str(row["k"]),
    "score": lambda row: fixed(row.get("score")),
    "Δ": lambda row: _signed(row.get("delta")),
    "95% interval": lambda row: _range(row.get("ci95")),
    "stopped": lambda row: percent(row.get("stopped")),
    "score*": lambda row: fixed(row.get("score_stop")),
    "Δ*": lambda row: _signed(row.get("delta_stop")),
    "95% interval*": lambda row: _range(row.get("ci95_stop")),
    "tokens": lambda row: fixed(row.get("tokens"), 1),
  }
  note = (
    "Round 0 is the original, and Δ is against it. * with the stop rule: a prompt keeps its "
    "response once the gap model sees no further gain; “stopped” is the fraction that has."
  )
  return _select("rounds", "Rounds", results.get("rounds", ()), columns, note=note)


def _temperature(results: Mapping) -> Table | None:
  points = {(row["t"], row["system"]): row for row in results.get("temperature", ())}
  if not points:
    return None
  systems = list(dict.fromkeys(system for _, system in points))
  rows = [{"t": t} for t in sorted({t for t, _ in points})]
  columns: dict[str, Callable] = {"temperature": lambda row: _plain(row["t"])}
  for key, label, render in (("score", "", fixed), ("delta", "Δ ", _signed)):
    for system in systems:
      columns[label + system] = lambda row, system=system, key=key, render=render: render(
        points.get((row["t"], system), {}).get(key)
      )
  return _select(
    "temperature", "Temperatures", rows, columns, note="Mean score, and Δ where given."
  )


def _reward_models(results: Mapping) -> Table:
  rows = [{"name": name, **row} for name, row in results.get("reward_models", {}).items()]
  columns = {
    "model": lambda row: row["name"],
    "on labels": lambda row: percent(row.get("accuracy")),
    "on gold": lambda row: percent(row.get("accuracy_gold")),
    "ECE": lambda row: fixed(row.get("ece"), 3),
    "gain": lambda row: fixed(row.get("gain")),
    "bias": lambda row: fixed(row.get("bias")),
    "zero point": lambda row: fixed(row.get("zero_point"), 3),
    "sign": lambda row: _agreement(row.get("sign_agreement")),
  }
  note = (
    "How often the model agrees with the labels and the gold score of held-out pairs, and its "
    "expected calibration error (ECE). Gain and bias bring the rewards of the SFT model's samples "
    "to mean 0 and variance 1; the zero point is the mean gap of identical pairs; sign is how "
    "often the gap has the sign of gold's difference between improved responses and drafts."
  )
  return _select("reward_models", "Reward models", rows, columns, note=note)


def _agreement(value: Mapping | float | int | None) -> str:
  if not isinstance(value, Mapping):
    return percent(value)
  return f"{percent(value['fraction'])} of {value['n']:,}"


def _gap_order(results: Mapping) -> Table | None:
  order = results.get("gap_order")
  if not order:
    return None
  holds = order.get("holds")
  columns = {
    f"r({name[0]},{name[1]})": lambda row, name=name: fixed(row[name]) for name in palette.GAPS
  }
  columns["r(w,l) > r(l,w)"] = lambda row: percent(row["accuracy"])
  columns["order holds"] = lambda row: BLANK if holds is None else ("yes" if holds else "no")
  note = "Wanted: r(w,l) ≥ r(w,w) ≈ r(l,l) ≥ r(l,w), on the means; ≈ is a quarter of the range."
  return _select("gap_order", "Order of the gaps", [order], columns, note=note, words=0)


def _stages(results: Mapping) -> Table:
  stages, seconds = results.get("stages", {}), results["seconds"]
  names = list(dict.fromkeys([*stages, *seconds]))
  rows = [{"name": name, "seconds": seconds.get(name), **stages.get(name, {})} for name in names]
  rows.append({"name": "total", "seconds": sum(seconds.values())})
  columns = {
    "stage": lambda row: row["name"],
    "kind": lambda row: row.get("kind", ""),
    "steps": lambda row: fixed(row.get("steps"), 0),
    "time": lambda row: duration(row["seconds"]),
  }
  return _select("stages", "Stages", rows, columns, note=_goodput(results), words=2)


def _goodput(results: Mapping) -> str:
  found = results.get("goodput")
  if not found:
    return ""
  lived, count = duration(found["seconds"]), found["sessions"]
  return (
    f"Processes worked on this run {count:,} {'time' if count == 1 else 'times'}, {lived} in all; "
    f"{percent(found['share'])} of that went into training steps that were kept."
  )


def _data(results: Mapping) -> Table:
  data = results.get("data", {})
  rows = [{"key": key.replace("_", " "), "value": _plain(data[key])} for key in data]
  columns = {"entry": lambda row: row["key"], "value": lambda row: row["value"]}
  return _select("data", "Data", rows, columns, words=2)


def _plain(value: Any) -> str:
  """Renders whatever a run recorded: numbers briefly, mappings as a list of their entries."""
  if value is None:
    return BLANK
  if isinstance(value, Mapping):
    return (
      ", ".join(f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items()) or "none"
    )
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, int):
    return f"{value:,}".replace("-", "−")
  return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
