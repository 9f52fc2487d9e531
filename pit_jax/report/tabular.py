"""The report's tables as rows of text, shared by the page and the terminal."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from pit_jax.report import cells, experiment_tables, plots, presentation, verdict

SPEEDS = {  # what is known of a stage → what is to be said of it
  "tokens_per_second": "Tokens per second are those that a step reads or, in RL, samples, by the "
  "median of the logged steps.",
  "mfu": "MFU: the share of the devices' peak that the mathematics of such a step used.",
}


def build(results: Mapping, method: presentation.Presentation) -> dict[str, cells.Table]:
  """Builds every table the results have figures for, by name, in the order of the page.

  The results are checked, and without what a shut gate holds back.
  """
  tables = [table for section in sections(method) for table in of_section(section, results, method)]
  return {table.name: table for table in [*tables, data(results)] if table.rows}


def sections(method: presentation.Presentation) -> Sequence[presentation.Section]:
  """Returns the sections of a method's page."""
  return SHARED if method.sections is None else method.sections


def of_section(
  section: presentation.Section, results: Mapping, method: presentation.Presentation
) -> list[cells.Table]:
  """Returns the tables of a section that the results have figures for."""
  about = {name: {"about": system.about} for name, system in method.systems.items()}
  systems = {name: about.get(name, {}) | row for name, row in results["systems"].items()}
  tables = [maker({**results, "systems": systems}) for maker in section.tables]
  return [table for table in tables if table is not None and table.rows]


def _versus(name: str, title: str, rows: Sequence[Mapping], note: str) -> cells.Table:
  # One temperature of all rows goes into the note, and its column away.
  if len({row.get("temperature") for row in rows}) == 1 and rows[0].get("temperature") is not None:
    note = f"All at temperature {rows[0]['temperature']}. {note}"
    rows = [{**row, "temperature": None} for row in rows]

  failures = sum((collections.Counter(row.get("failures")) for row in rows), collections.Counter())
  if failures:
    counts = cells.plain(failures)
    note += f" Failed are prompts without a verdict, which count as nothing: {counts}."

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


def _compared(results: Mapping, of_controls: bool) -> list[Mapping]:
  """Returns the comparisons over all seeds with controls, or those without."""
  names = set(results.get("controls", ()))
  return [
    row
    for row in results["comparisons"]
    if names.isdisjoint((row["a"], row["b"])) != of_controls and row.get("seed") in (None, "all")
  ]


def comparisons(results: Mapping) -> cells.Table:
  """Systems against each other, but for controls."""
  rows = _compared(results, of_controls=False)
  note = "Δ = win − lose, in percent of prompts. The interval comes from resampling prompts."
  if any("over_seeds" in row for row in rows):
    note += " That over seeds is a 95% t interval of the seeds' own Δ."

  if chosen := next((row for row in rows if row.get("chosen_by") == row["judge"]), None):
    note += (
      f" Best temperatures are those that {chosen['judge']} likes best, on prompts that are not "
      "compared here: its own row flatters them."
    )

  return _versus("comparisons", "Comparisons", rows, note)


def controls(results: Mapping) -> cells.Table:
  """Comparisons in which only chance speaks."""
  note = "What a control measures is chance and procedure alone: its Δ should be about 0."
  return _versus("controls", "Controls", _compared(results, of_controls=True), note)


def seeds(results: Mapping) -> cells.Table:
  """The comparisons of each of several seeds."""
  rows = [row for row in results["comparisons"] if row.get("seed") not in (None, "all")]
  note = "Δ = win − lose, in percent of the prompts of that seed."
  return dataclasses.replace(_versus("seeds", "Each seed alone", rows, note), is_folded=True)


def judges(results: Mapping) -> cells.Table:
  """What is known of the judges themselves."""
  rows = [
    {"judge": judge, "key": key.replace("_", " "), "value": cells.plain(value)}
    for judge, facts in results.get("judges", {}).items()
    for key, value in facts.items()
  ]
  columns = {name: lambda row, name=name: row[name] for name in ("judge", "key", "value")}
  note = "Requests and tokens are of all commands that asked this model with these transcripts."

  return cells.select("judges", "Who was asked to judge", rows, columns, note=note, words=3)


def systems(results: Mapping) -> cells.Table:
  """Every system with its scores and length."""
  rows = [{"name": name, **row} for name, row in results["systems"].items()]
  columns = {
    "system": lambda row: row["name"],
    "what it is": lambda row: row.get("about", ""),
    f"{verdict.score_judge(results)} score": lambda row: cells.fixed(row.get("score")),
    "tokens": lambda row: cells.fixed(row.get("tokens"), 1),
  }

  # Every other key is a column of its own; `score_JUDGE` is the score of that judge.
  named = {"name", "about", "score", "tokens", f"score_{verdict.score_judge(results)}"}
  for key in dict.fromkeys(key for row in rows for key in row if key not in named):
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


def reward_models(results: Mapping) -> cells.Table:
  """What is known of each reward model."""
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
    "validation pairs, and its expected calibration error (ECE). Gain and bias bring the rewards "
    "of the SFT model's samples, or without one of the data's responses, to mean 0 and variance 1; "
    "the zero point is the mean gap of identical pairs; sign is how often the gap has the sign of "
    "gold's difference between improved responses and drafts; cut is how many pairs a published "
    "model saw shortened to its length limits."
  )

  return cells.select("reward_models", "Reward models", rows, columns, note=note)


def _agreement(value: Mapping | float | int | None) -> str:
  if not isinstance(value, Mapping):
    return cells.percent(value)
  return f"{cells.percent(value['fraction'])} of {value['n']:,}"


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
  # The ledger ends with the last step: evaluation is in the table's total alone.
  return (
    f"Training took {count:,} {'process' if count == 1 else 'processes'}, "
    f"{cells.duration(goodput['seconds'])} in all from begin to last step; "
    f"{cells.percent(goodput['share'])} of that went into steps that were kept."
  )


def data(results: Mapping) -> cells.Table:
  """What the run was trained on."""
  facts = results.get("data", {})
  rows = [{"key": key.replace("_", " "), "value": cells.plain(facts[key])} for key in facts]
  columns = {"entry": lambda row: row["key"], "value": lambda row: row["value"]}
  return cells.select("data", "Data", rows, columns, words=2)


COMPARED = presentation.Section(
  "How the systems compare",
  (comparisons, experiment_tables.significant, seeds, controls, judges, systems),
  (plots.COMPARISONS, plots.SCORES),
)
OPTIMISED = presentation.Section(
  "Reward against KL", experiment_tables.OPTIMISED, (plots.FRONTIER,), beside=True
)
CERTAINTY = presentation.Section("How sure the figures are", experiment_tables.CERTAINTY)
MODELS = presentation.Section("What the reward models know", (reward_models,), beside=True)
TRAINING = presentation.Section(
  "Training", (stages,), (plots.REINFORCEMENT, plots.LOSSES), beside=True
)
SHARED = (COMPARED, OPTIMISED, CERTAINTY, MODELS, TRAINING)
