"""The report's tables as rows of text, shared by the page and the terminal."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from pit_jax.report import cells, experiment_tables, label_tables, palette, training_tables, verdict

DESCRIPTIONS = {
  "original": "the policy after RLHF",
  "policy_sft": "the policy after fine-tuning only",
  "policy_resampled": "a second sample of original",
  "rlhf_longer": "original, its RL carried on for the improver's RL steps",
  "rlhf_longer_best_of_2": "of two samples of rlhf_longer the one with the higher R_P",
  "improver_sft": "the improver before RL, on original",
  "pit": "the improver after the curriculum, on original",
  "pit_first_only": "all RL steps on dataset references",
  "pit_second_only": "all RL steps on references from the policy",
  "pit_single_term": "the curriculum with R_PIT trained on r(w,l) > r(l,w) alone",
  "pit_rp_difference": "the curriculum with R_P(x, y) − R_P(x, y_ref) as the reward",
  "self_refine": "the policy prompted to revise",
  "pit_rounds": "all rounds of pit, with the stop rule",
  "self_refine_rounds": "all rounds of self_refine",
  "best_of_2": "of two samples of original the one with the higher R_P",
  "best_of_n": "of n samples of original the one with the highest R_P",
  "gap_tournament": "of n samples the one that R_PIT likes best among all",
}

SPEEDS = {  # what is known of a stage → what is to be said of it
  "tokens_per_second": "Tokens per second are those that a step reads or, in RL, samples, by the "
  "median of the logged steps.",
  "mfu": "MFU: the share of the devices' peak that the mathematics of such a step used.",
}


def build(results: Mapping) -> dict[str, cells.Table]:
  """Builds every table the results have figures for, by name, in the order of the page.

  Args:
    results: a checked results dict, without what a shut gate holds back.
  """
  makers = (
    _comparisons, _controls, _seeds, _judges, _systems, _rounds, _refinements, _temperature,
    _reward_models, *label_tables.MAKERS, _gap_order, *experiment_tables.MAKERS,
    *training_tables.MAKERS, _stages, _data,
  )  # fmt: skip
  tables = (maker(results) for maker in makers)
  return {table.name: table for table in tables if table is not None and table.rows}


def _versus(name: str, title: str, rows: Sequence[Mapping], note: str) -> cells.Table:
  if len({row.get("temperature") for row in rows}) == 1 and rows[0].get("temperature") is not None:
    note = f"All at temperature {rows[0]['temperature']}. {note}"
    rows = [{**row, "temperature": None} for row in rows]
  failures = sum((collections.Counter(row.get("failures")) for row in rows), collections.Counter())
  if failures:
    said = cells.plain(failures)
    note += f" Failed are prompts without a verdict, which count as nothing: {said}."
  columns = {
    "system": lambda row: row["a"],
    "against": lambda row: row["b"],
    "T": lambda row: cells.plain(row.get("temperature")),
    "seed": lambda row: cells.plain(row.get("seed")),
    "judge": lambda row: row["judge"],
    "Δ": lambda row: cells.signed(row["delta"]),
    "95% interval": lambda row: cells.interval(row["ci95"]),
    "over seeds": lambda row: cells.interval(row.get("over_seeds", {}).get("ci95")),
    "win %": lambda row: cells.fixed(row["win"], 1),
    "tie %": lambda row: cells.fixed(row["tie"], 1),
    "lose %": lambda row: cells.fixed(row["lose"], 1),
    "prompts": lambda row: f"{verdict.prompts(row):,}",
    "failed": lambda row: cells.plain(row.get("failed") or None),
  }
  return cells.select(name, title, rows, columns, note=note, words=5)


def _is_control(row: Mapping) -> bool:
  return "policy_resampled" in (row["a"], row["b"])


def _is_one_of_several(row: Mapping) -> bool:
  return row.get("seed") not in (None, "all")


def _comparisons(results: Mapping) -> cells.Table:
  rows = [
    row for row in results["comparisons"] if not (_is_control(row) or _is_one_of_several(row))
  ]
  note = "Δ = win − lose, in percent of prompts. The interval comes from resampling prompts."
  if any("over_seeds" in row for row in rows):
    note += " That over seeds is a 95% t interval of the seeds' own Δ."
  if any(row.get("chosen_by") == row["judge"] for row in rows):
    note += (
      " Best temperatures are those that R_P likes best, on prompts that are not compared here: "
      "its own row flatters them."
    )
  return _versus("comparisons", "Comparisons", rows, note)


def _controls(results: Mapping) -> cells.Table:
  rows = [row for row in results["comparisons"] if _is_control(row) and not _is_one_of_several(row)]
  rows += [row for row in results.get("controls", {}).values() if row not in rows]
  note = "What a control measures is chance and procedure alone: its Δ should be about 0."
  return _versus("controls", "Controls", rows, note)


def _seeds(results: Mapping) -> cells.Table:
  rows = [row for row in results["comparisons"] if _is_one_of_several(row)]
  note = "Δ = win − lose, in percent of the prompts of that seed."
  table = _versus("seeds", "Each seed alone", rows, note)
  return dataclasses.replace(table, is_folded=True)


def _judges(results: Mapping) -> cells.Table:
  judges = results.get("judges", {})
  rows = [
    {"judge": judge, "key": key.replace("_", " "), "value": cells.plain(value)}
    for judge, facts in judges.items()
    for key, value in facts.items()
  ]
  columns = {name: lambda row, name=name: row[name] for name in ("judge", "key", "value")}
  note = "Requests and tokens are of all commands that asked this model with these transcripts."
  return cells.select("judges", "Who was asked to judge", rows, columns, note=note, words=3)


def _systems(results: Mapping) -> cells.Table:
  rows = [{"name": name, **row} for name, row in results["systems"].items()]
  columns = {
    "system": lambda row: row["name"],
    "what it is": lambda row: row.get("about", DESCRIPTIONS.get(row["name"], "")),
    f"{verdict.score_judge(results)} score": lambda row: cells.fixed(row.get("score")),
    "tokens": lambda row: cells.fixed(row.get("tokens"), 1),
  }
  known = {"name", "about", "score", "tokens", f"score_{verdict.score_judge(results)}"}
  for key in dict.fromkeys(key for row in rows for key in row if key not in known):
    judge = key.removeprefix("score_")
    label = key.replace("_", " ") if judge == key else f"{judge} score"
    columns[label] = lambda row, key=key: cells.plain(row.get(key))
  note = (
    "Tokens are the mean length of a response; an improver's come on top of its draft's. A system "
    "with a number of prompts was measured on these alone."
  )
  for name, reason in results.get("absent", {}).items():
    note += f" {name} is not among them: {reason}."
  return cells.select("systems", "Systems", rows, columns, note=note, words=2)


def _rounds(results: Mapping) -> cells.Table:
  columns = {
    "k": lambda row: str(row["k"]),
    "score": lambda row: cells.fixed(row.get("score")),
    "Δ": lambda row: cells.signed(row.get("delta")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "stopped": lambda row: cells.percent(row.get("stopped")),
    "score*": lambda row: cells.fixed(row.get("score_stop")),
    "Δ*": lambda row: cells.signed(row.get("delta_stop")),
    "95% interval*": lambda row: cells.interval(row.get("ci95_stop")),
    "tokens": lambda row: cells.fixed(row.get("tokens"), 1),
  }
  note = (
    "Round 0 is the original, and Δ is against it. * with the stop rule: a prompt keeps its "
    "response once the gap model sees no further gain; “stopped” is the fraction that has."
  )
  return cells.select("rounds", "Rounds", results.get("rounds", ()), columns, note=note)


def _refinements(results: Mapping) -> cells.Table:
  columns = {
    "k": lambda row: str(row["k"]),
    "score": lambda row: cells.fixed(row.get("score")),
    "Δ": lambda row: cells.signed(row.get("delta")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "refined": lambda row: cells.percent(row.get("refined")),
    "unchanged": lambda row: cells.percent(row.get("unchanged")),
    "stopped": lambda row: cells.percent(row.get("stopped")),
    "fell back": lambda row: cells.percent(row.get("fallback")),
    "feedback tokens": lambda row: cells.fixed(row.get("feedback_tokens"), 1),
    "answer tokens": lambda row: cells.fixed(row.get("answer_tokens"), 1),
  }
  rows = results.get("self_refine", ())
  kinds = sum((collections.Counter(row.get("kinds")) for row in rows), collections.Counter())
  note = (
    "The policy is asked for feedback on its last answer, then for a better one, with all earlier "
    "drafts and feedback before it; Δ is against original. Unchanged: the new answer is the draft. "
    "Stopped: the feedback said that nothing is to be made better, in this round or before. Fell "
    f"back to the draft, because of its form: {cells.plain(kinds)}. Tokens are those of the round, "
    "per prompt."
  )
  return cells.select("self_refine", "Self-Refine", rows, columns, note=note)


def _temperature(results: Mapping) -> cells.Table | None:
  points = {(row["t"], row["system"]): row for row in results.get("temperature", ())}
  if not points:
    return None
  systems = list(dict.fromkeys(system for _, system in points))
  rows = [{"t": t} for t in sorted({t for t, _ in points})]
  columns: dict[str, Callable] = {"temperature": lambda row: cells.plain(row["t"])}
  for key, label, render in (("score", "", cells.fixed), ("delta", "Δ ", cells.signed)):
    for system in systems:
      columns[label + system] = lambda row, system=system, key=key, render=render: render(
        points.get((row["t"], system), {}).get(key)
      )
  return cells.select(
    "temperature", "Temperatures", rows, columns, note="Mean score, and Δ where given."
  )


def _reward_models(results: Mapping) -> cells.Table:
  rows = [{"name": name, **row} for name, row in results.get("reward_models", {}).items()]
  columns = {
    "model": lambda row: row["name"],
    "on labels": lambda row: cells.percent(row.get("accuracy")),
    "on gold": lambda row: cells.percent(row.get("accuracy_gold")),
    "ECE": lambda row: cells.fixed(row.get("ece"), 3),
    "gain": lambda row: cells.fixed(row.get("gain")),
    "bias": lambda row: cells.fixed(row.get("bias")),
    "zero point": lambda row: cells.fixed(row.get("zero_point"), 3),
    "sign": lambda row: _agreement(row.get("sign_agreement")),
    "cut": lambda row: cells.percent(row.get("cut")),
  }
  note = (
    "How often the model agrees with the labels and the gold score of the reward models' "
    "validation pairs, and its "
    "expected calibration error (ECE). Gain and bias bring the rewards of the SFT model's samples, "
    "or without one of the data's responses, to mean 0 and variance 1; the zero point is the mean "
    "gap of identical pairs; sign is how often the gap has the sign of gold's difference between "
    "improved responses and drafts; cut is how many pairs a published model saw shortened to its "
    "length limits."
  )
  return cells.select("reward_models", "Reward models", rows, columns, note=note)


def _agreement(value: Mapping | float | int | None) -> str:
  if not isinstance(value, Mapping):
    return cells.percent(value)
  return f"{cells.percent(value['fraction'])} of {value['n']:,}"


def _gap_order(results: Mapping) -> cells.Table | None:
  order = results.get("gap_order")
  if not order:
    return None
  holds = order.get("holds")
  columns = {
    f"r({name[0]},{name[1]})": lambda row, name=name: cells.fixed(row[name])
    for name in palette.GAPS
  }
  columns["r(w,l) > r(l,w)"] = lambda row: cells.percent(row["accuracy"])
  columns["order holds"] = lambda row: cells.BLANK if holds is None else ("yes" if holds else "no")
  note = "Wanted: r(w,l) ≥ r(w,w) ≈ r(l,l) ≥ r(l,w), on the means; ≈ is a quarter of the range."
  return cells.select("gap_order", "Order of the gaps", [order], columns, note=note, words=0)


def _stages(results: Mapping) -> cells.Table:
  seconds = results["seconds"]
  stages, speeds = (results.get(section, {}) for section in ("stages", "speeds"))
  rows = [
    {"name": name, "seconds": seconds.get(name), **stages.get(name, {}), **speeds.get(name, {})}
    for name in dict.fromkeys([*stages, *seconds])
  ]
  rows.append({"name": "total", "seconds": sum(seconds.values())})
  columns = {
    "stage": lambda row: row["name"],
    "steps": lambda row: cells.fixed(row.get("steps"), 0),
    "tokens/s": lambda row: cells.fixed(row.get("tokens_per_second"), 0),
    "MFU": lambda row: cells.percent(row.get("mfu")),
    "time": lambda row: cells.duration(row["seconds"]),
  }
  known = {key for row in rows for key in row}
  said = [text for key, text in SPEEDS.items() if key in known]
  note = " ".join([*said, _goodput(results)]).strip()
  return cells.select("stages", "Stages", rows, columns, note=note)


def _goodput(results: Mapping) -> str:
  found = results.get("goodput")
  if not found:
    return ""
  lived, count = cells.duration(found["seconds"]), found["sessions"]
  return (
    f"Processes worked on this run {count:,} {'time' if count == 1 else 'times'}, {lived} in all; "
    f"{cells.percent(found['share'])} of that went into training steps that were kept."
  )


def _data(results: Mapping) -> cells.Table:
  data = results.get("data", {})
  rows = [{"key": key.replace("_", " "), "value": cells.plain(data[key])} for key in data]
  columns = {"entry": lambda row: row["key"], "value": lambda row: row["value"]}
  return cells.select("data", "Data", rows, columns, words=2)
