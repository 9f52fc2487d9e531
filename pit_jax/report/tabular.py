"""The report's tables as rows of text, shared by the page and the terminal."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from pit_jax.report import (
  cells,
  curves,
  experiment_tables,
  glossary,
  plots,
  presentation,
  training_tables,
  verdict,
)
from pit_jax.statistics import margins

FEW = 100  # pairs below which an accuracy and a calibration error are a warning's worth


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
  systems = {
    name: {**row, "about": glossary.about(name, results, method)}
    for name, row in results["systems"].items()
  }
  tables = [maker({**results, "systems": systems}) for maker in section.tables]
  return [table for table in tables if table is not None and table.rows]


def _versus(name: str, title: str, rows: Sequence[Mapping], note: str) -> cells.Table:
  # One temperature of all rows goes into the note, and its column away.
  if len({row.get("temperature") for row in rows}) == 1 and rows[0].get("temperature") is not None:
    note = f"All at temperature {rows[0]['temperature']}. {note}"
    rows = [{**row, "temperature": None} for row in rows]

  # So do the judge, where it is one for all, and its column.
  if len(judges := {row["judge"] for row in rows}) == 1 and len(rows) > 1:
    note = f"Judged by {judges.pop()}. {note}"
    rows = [{**row, "judge": ""} for row in rows]

  if any(map(verdict.is_of_few, rows)):
    note += f" Fewer than {verdict.FEW} prompts are too few for an interval."
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
    "Δ %": lambda row: cells.signed(row["delta"], row["ci95"]),
    "95% interval": lambda row: cells.said("ci95", row),
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
  """Systems against each other, but for controls, each pair under the judge believed most."""
  rows = _first(_compared(results, of_controls=False))
  note = "Δ = win − lose, in percent of prompts. The interval comes from resampling prompts."
  if any("over_seeds" in row for row in rows):
    note += " That over seeds is a 95% t interval of the seeds' own Δ."

  compared = results["comparisons"]
  if chosen := next((row for row in compared if row.get("chosen_by") == row["judge"]), None):
    note += (
      f" Best temperatures are those that {chosen['judge']} likes best, on prompts that are not "
      "compared here: its own row flatters them."
    )

  return _versus("comparisons", "Comparisons", rows, note)


def other_judges(results: Mapping) -> cells.Table:
  """The same pairs under every other judge."""
  rows = _compared(results, of_controls=False)
  first = _first(rows)
  others = [row for row in rows if row not in first]
  note = "Δ = win − lose, in percent of prompts."
  table = _versus("other_judges", "The same under the other judges", others, note)
  return dataclasses.replace(table, is_folded=True)


def _first(rows: Sequence[Mapping]) -> list[Mapping]:
  """Returns of every pair at every temperature the row of the judge that is believed most.

  One that could not judge most of the prompts comes after all others.
  """
  order = verdict.believed(rows)
  best: dict[tuple, Mapping] = {}
  for row in sorted(rows, key=lambda row: (not verdict.is_judged(row), order.index(row["judge"]))):
    best.setdefault((row["a"], row["b"], row.get("temperature")), row)

  return [row for row in rows if any(row is kept for kept in best.values())]


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
    "repetition": lambda row: cells.percent(row.get("repetition")),
  }

  # Every other key is a column of its own; `score_JUDGE` is the score of that judge.
  named = {"name", "about", "score", "tokens", "repetition", "checks"}
  named.add(f"score_{verdict.score_judge(results)}")
  for key in dict.fromkeys(key for row in rows for key in row if key not in named):
    judge = key.removeprefix("score_")
    label = key.replace("_", " ") if judge == key else f"{judge} score"
    render = cells.plain if judge == key else cells.fixed
    columns[label] = lambda row, key=key, render=render: render(row.get(key))

  on_top = "; an improver's come on top of its draft's" if results.get("rounds") else ""
  about = {
    "tokens": f"Tokens are the mean length of a response{on_top}.",
    "repetition": "Repetition is the share of three-token sequences that stood earlier in the same "
    "answer.",
    "prompts": "A system with a number of prompts was measured on these alone.",
  }
  table = cells.select("systems", "Systems", rows, columns, about=about, words=2)
  absent = [f"{k} is not among them: {why}." for k, why in results.get("absent", {}).items()]
  return dataclasses.replace(table, note=" ".join(filter(None, [table.note, *absent])))


def checks(results: Mapping) -> cells.Table:
  """The share of every system's answers that pass each check of the data's task."""
  systems = results["systems"].items()
  rows = [{"name": name, **row} for name, row in systems if row.get("checks")]
  columns = {
    "system": lambda row: row["name"],
    f"{verdict.score_judge(results)} score": lambda row: cells.fixed(row.get("score")),
  }
  for check in dict.fromkeys(check for row in rows for check in row["checks"]):
    columns[check.replace("_", " ")] = lambda row, check=check: cells.percent(
      row["checks"].get(check)
    )

  about = {"malformed": "What is malformed cannot be read by the task, and passes no check."}
  return cells.select("checks", "What the answers get right", rows, columns, about=about)


def reward_models(results: Mapping) -> cells.Table:
  """What is known of each reward model."""
  rows = [{"name": name, **row} for name, row in results.get("reward_models", {}).items()]
  columns = {
    "model": lambda row: row["name"],
    "on labels": lambda row: cells.percent(row.get("accuracy")),
    "95% interval": _of_pairs,
    "on gold": lambda row: cells.percent(row.get("accuracy_gold")),
    "ECE": lambda row: cells.fixed(row.get("ece"), 3),
    "pairs": lambda row: cells.fixed(row.get("n"), 0),
    "gain": lambda row: cells.fixed(row.get("gain")),
    "shift": lambda row: cells.fixed(row.get("shift")),
    "zero point": lambda row: cells.fixed(row.get("zero_point"), 3),
    "sign": lambda row: _agreement(row.get("sign_agreement")),
    "cut": lambda row: cells.percent(row.get("cut")),
  }

  about = {
    "on labels": "On labels: how often the model agrees with the labels of the reward models' "
    "validation pairs.",
    "on gold": "On gold: how often with the gold score of these pairs.",
    "ECE": "ECE is the expected calibration error, of 1.",
    "gain": "Gain and shift bring the rewards of the SFT model's samples, or without one of the "
    "data's responses, to mean 0 and variance 1.",
    "zero point": "The zero point is the mean gap of identical pairs.",
    "sign": "Sign is how often the gap has the sign of gold's difference between improved "
    "responses and drafts.",
    "cut": "Cut is how many pairs a published model saw shortened to its length limits.",
  }

  fewest = min((row["n"] for row in rows if row.get("n")), default=FEW)
  note = f"{fewest:,.0f} pairs are few: neither figure says much of others." * (fewest < FEW)
  return cells.select("reward_models", "Reward models", rows, columns, note=note, about=about)


def _of_pairs(row: Mapping) -> str:
  """Returns the interval of an accuracy, where it is known of how many pairs it is."""
  if row.get("accuracy") is None or not row.get("n"):
    return cells.BLANK
  return cells.percents(margins.wilson(row["accuracy"], row["n"]))


def _agreement(value: Mapping | float | int | None) -> str:
  if not isinstance(value, Mapping):
    return cells.percent(value)
  return f"{cells.percent(value['fraction'])} of {value['n']:,}"


def data(results: Mapping) -> cells.Table:
  """What the run was trained on."""
  facts = results.get("data", {})
  rows = [{"key": key.replace("_", " "), "value": cells.plain(facts[key])} for key in facts]
  columns = {"entry": lambda row: row["key"], "value": lambda row: row["value"]}
  return cells.select("data", "Data", rows, columns, words=2)


SYSTEMS = (systems, checks)
COMPARED = presentation.Section(
  "How the systems compare",
  (comparisons, other_judges, experiment_tables.significant, seeds, controls, judges, *SYSTEMS),
  (plots.COMPARISONS, plots.SCORES),
)
OPTIMISED = presentation.Section(
  "Reward against KL", experiment_tables.OPTIMISED, (plots.FRONTIER,)
)
CERTAINTY = presentation.Section("How sure the figures are", experiment_tables.CERTAINTY)
MODELS = presentation.Section("What the reward models know", (reward_models,))
TRAINING = presentation.Section(
  "Training",
  (training_tables.reinforced, training_tables.stages),
  (curves.REINFORCEMENT, curves.LOSSES),
)
SHARED = (COMPARED, OPTIMISED, CERTAINTY, MODELS, TRAINING)
