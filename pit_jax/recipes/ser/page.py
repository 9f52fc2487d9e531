"""What the report says of self-evolved reward learning: arms, rounds, pipeline, claims."""

from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.recipes.ser import figures
from pit_jax.report import (
  cells,
  claims,
  curves,
  diagram,
  palette,
  presentation,
  tabular,
  training_tables,
  verdict,
)
from pit_jax.statistics import significance

ABOUT = {
  "seed": "the seed's labels",
  "seed_longer": "the same, for as many steps as all rounds together",
  "ser": "after the round that the validating labels like best",
  "ser_oracle": "on the pairs that the rounds kept, with the labels that these had lost",
  "ser_random": "on them with labels at random",
  "all_labels": "no label lost",
}
CLAIMED = (  # who beats whom, and what that says
  ("ser", "seed", claims.PAPER, "labels of its own make a reward model better"),
  ("ser", "seed_longer", claims.EXPECTED, "it is more than training on the seed for longer"),
  ("all_labels", "ser", claims.EXPECTED, "it does not replace the labels that were lost"),
)
RANDOM = "ser_random"  # whose labels say nothing


def about(arm: str) -> str:
  """Returns what an arm is trained on."""
  number = arm.removeprefix("ser_")
  if not number.isdigit():
    return ABOUT[arm]
  return f"after {'one round' if number == '1' else f'{number} rounds'} of own labels"


def _section(results: Mapping) -> Mapping:
  return results.get("ser", {})


def arms(results: Mapping) -> cells.Table:
  """How often every arm is right on held-out pairs, over all draws and by check."""
  found = _section(results)
  names = dict.fromkeys(name for row in found.get("arms", ()) for name in row.get("checks", {}))
  columns = cells.columns({
    "arm": "arm", "trained on": lambda row: about(row["arm"]), "right": "accuracy",
    "draws": lambda row: cells.percents((min(row["draws"]), max(row["draws"]))),
  })  # fmt: skip
  for name in names:
    columns[name] = lambda row, name=name: cells.percent(_of_check(row, name))
  note = (
    f"Of {found.get('pairs', 0):,} held-out pairs, as {_judge(found)}; means over "
    f"{found.get('draws', 0)} draws, of which the least and the most are beside."
  )
  if names:
    note += " Under a check are the pairs that differ in it alone."
  return cells.select("ser_arms", "Arms", found.get("arms", ()), columns, note=note, words=2)


def _of_check(row: Mapping, name: str) -> float | None:
  return row.get("checks", {}).get(name, {}).get("accuracy")


def _judge(found: Mapping) -> str:
  return "the gold score tells them apart" if found.get("judge") == "gold" else "they are labelled"


def differences(results: Mapping) -> cells.Table:
  """Arm against arm, pair by pair and draw by draw."""
  rows = _section(results).get("differences", ())
  columns = cells.columns({
    "arm": "a", "against": "b", "Δ, points": "delta", "95% over draws": "ci95",
    "over draws and pairs": lambda row: cells.interval(row.get("ci95_both")),
    "draws above 0": lambda row: f"{row['positive']} of {len(row['draws'])}",
  })  # fmt: skip
  note = (
    "Δ = difference of the accuracies on the same pairs, in points. Draws say which rows keep "
    "their labels; their t interval holds for these pairs, the other one for pairs like these."
  )
  return cells.select("ser_differences", "Differences", rows, columns, note=note, words=2)


def rounds(results: Mapping) -> cells.Table:
  """What every round kept and how right its labels are, as means over the draws."""
  columns = cells.columns({
    "round": "round", "draws": "draws",
    "pool": lambda row: cells.fixed(row.get("pool"), 0),
    "kept": lambda row: cells.fixed(row.get("kept"), 0),
    "share": lambda row: cells.percent(row.get("share")),
    "gold agrees": lambda row: cells.percent(row.get("agreed_gold")),
    "lost labels agree": lambda row: cells.percent(row.get("agreed_labels")),
    "margin": lambda row: cells.fixed(row.get("margin")),
    "of kept": lambda row: cells.fixed(row.get("margin_kept")),
    "validation": lambda row: cells.percent(row.get("validation")),
    "held out": lambda row: cells.percent(row.get("accuracy")),
  })  # fmt: skip
  note = (
    "Means over the draws that had the round, its pool scored by the model of the round before. "
    "Margins are mean |score − score| of a pair, in nats. Validation and held out are what the "
    "round's own model is right on: the seed's validating labels and the held-out pairs. A round "
    "that kept too little trained none."
  )
  found = figures.by_round(_section(results).get("rounds", ()))
  return cells.select("ser_rounds", "Rounds", found, columns, note=note)


def checks(results: Mapping) -> cells.Table | None:
  """How right own labels are, check by check, as means over the draws."""
  found = _section(results).get("rounds", ())
  names = dict.fromkeys(name for row in found for name in row.get("checks", {}))
  rows = []
  for number in sorted({row["round"] for row in found if row.get("checks")}):
    same = [row["checks"] for row in found if row["round"] == number and row.get("checks")]
    rows.append({"round": number, **{name: _share(same, name) for name in names}})
  columns = cells.columns({"round": "round"})
  for name in names:
    columns[name] = lambda row, name=name: row[name]
  note = (
    "How often own labels are right where the two letters differ in one check alone; of so many."
  )
  return cells.select("ser_checks", "Own labels by check", rows, columns, note=note)


def _share(rows: Sequence[Mapping], name: str) -> str:
  counts = [row[name] for row in rows if name in row]
  total = sum(one["n"] for one in counts)
  if not total:
    return cells.BLANK
  right = sum(one["n"] * one["accuracy"] for one in counts)
  return f"{cells.percent(right / total)} of {total:,}"


def ends(results: Mapping) -> cells.Table:
  """Why the rounds of each draw ended, and which one was kept."""
  columns = cells.columns({
    "seed": "seed", "draw": "draw", "ended because": "ended", "labels": "labels",
    "validate": "validation", "unlabelled": "unlabelled", "rounds": "rounds", "kept": "best",
  })  # fmt: skip
  rows = _section(results).get("ends", ())
  note = "Kept is the round whose model is `ser`; 0 is that of the seed."
  return cells.select("ser_ends", "Each draw", rows, columns, note=note, words=3, is_folded=True)


def sentence(results: Mapping) -> str:
  """Says by how much labels of its own change a model, and how sure that is."""
  found = _section(results)
  if not found:
    return f"A run of recipe {results['recipe']} without a comparison to report."
  shares = {row["arm"]: row["accuracy"] for row in found["arms"]}
  row = _row(results, "ser", "seed")
  bounds = row.get("ci95_both")
  sure = "one draw of the labels, which tells of no other"
  if bounds:
    low, high = (verdict.signed(bound) for bound in bounds)
    sure = (
      f"95% interval {low} to {high} over {len(row['draws'])} draws of the labels and the pairs"
    )
  return (
    f"A reward model that labels pairs for itself is right on {100 * shares['ser']:.1f}% of "
    f"{found['pairs']:,} held-out pairs, as {_judge(found)}, and that of the seed's labels alone "
    f"on {100 * shares['seed']:.1f}%: {verdict.signed(row['delta'])} points ({sure})."
  )


def _row(results: Mapping, a: str, b: str) -> Mapping:
  return next(row for row in _section(results)["differences"] if (row["a"], row["b"]) == (a, b))


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of the paper's claim and of the controls."""
  found = _section(results)
  if not found or found["draws"] < 2:
    return (), ""
  last = [row["arm"] for row in found["arms"] if row["arm"].removeprefix("ser_").isdigit()][-1]
  chance = (last, RANDOM, claims.EXPECTED, "labels at random on the same pairs are worse")
  stated = [*CLAIMED, chance]
  rows = [_row(results, a, b) for a, b, *_ in stated]
  corrected = significance.holm(np.array([row["p"] for row in rows]))
  made = [
    _claim(row, kind, words, p)
    for row, (_, _, kind, words), p in zip(rows, stated, corrected.tolist(), strict=True)
  ]
  return made, (
    "Tests are t-tests over the draws of the labels with the choice of pairs added, corrected for "
    "the number of claims (Holm)."
  )


def _claim(row: Mapping, kind: str, words: str, p: float) -> claims.Claim:
  low, high = row["ci95_both"]
  outcome = claims.NOT_SHOWN
  if p <= significance.LEVEL:
    outcome = claims.HERE if row["delta"] > 0 else claims.OPPOSITE_HERE
  grounds = (
    f"{row['a']} over {row['b']} Δ = {verdict.signed(row['delta'])} points (95% interval "
    f"{verdict.signed(low)} to {verdict.signed(high)}, {row['positive']} of {len(row['draws'])} "
    "draws above 0)"
  )
  return claims.Claim(f"{kind} that {words}", outcome, grounds)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the seed, the rounds on the pool, and what is compared, with the controls below."""
  found = _section(results)
  if not found:
    return []
  first = found["ends"][0]
  count = max(row["round"] for row in found["rounds"])
  seed = diagram.Box(
    ("seed", f"{first['labels']:,} labels", f"{first['validation']:,} more validate")
  )
  loop = diagram.Box(
    ("score, keep, relabel, train", f"of {first['unlabelled']:,} pairs the sure ones",
     f"{count} times at most")
  )  # fmt: skip
  controls = [diagram.Box((name, about(name))) for name in ("seed_longer", RANDOM)]
  return [
    diagram.Column("Seed", [[seed], [diagram.Box(("seed", "the same"))]]),
    diagram.Column("Rounds", [[loop], controls]),
    diagram.Column(
      "Held out",
      [[diagram.Box(("ser", "compared with the seed"))], [diagram.Box(("controls", "with both"))]],
      f"{found['pairs']:,} pairs",
    ),
  ]


PAGE = presentation.Presentation(
  title="Self-evolved reward learning, arXiv 2411.00418",
  systems={
    "best_of_ser": presentation.System("", palette.TEAL),
    "best_of_seed": presentation.System("", palette.BLUE),
    "best_of_all": presentation.System("", palette.PURPLE),
    "policy_sft": presentation.System("fine-tuned on what the data prefers", "#94a3ba"),
    "ppo_seed": presentation.System("RL for the seed's model", palette.BLUE),
    "ppo_ser": presentation.System("RL for the evolved model", palette.TEAL),
  },
  baseline="best_of_seed",
  sentence=sentence,
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section(
      "Labels of its own", (arms, differences, rounds, checks, ends), (figures.ROUNDS,)
    ),
    tabular.COMPARED,
    tabular.CERTAINTY,
    presentation.Section(
      "Training",
      (training_tables.reinforced, training_tables.stages),
      (curves.REINFORCEMENT,),
    ),
  ),
  rewards={"reward": "the evolved reward"},
)
