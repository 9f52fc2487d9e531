"""What the report says of MultiCritique: critics, pairs with and without filters, RL, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.report import cells, claims, diagram, palette, presentation, tabular

CHECKS = ("answer", "working", "greeting", "tone", "closing")
_UNGRADED, _FAILED = "Units without a grade", "Revisions that failed"  # of notes


def critics(results: Mapping) -> cells.Table:
  """Every critic with precision, recall and F1 of what it names."""
  columns = cells.columns({
    "critic": "system", "drafts": "drafts", "units": lambda row: cells.fixed(row["units"]),
    "precision": lambda row: cells.percent(row.get("precision")),
    "recall": lambda row: cells.percent(row.get("recall")),
    "F1": lambda row: cells.percent(row.get("f1")),
    "95% interval": lambda row: cells.percents(row.get("f1_ci95")),
    "over seeds": lambda row: cells.percents(row.get("f1_over_seeds", {}).get("ci95")),
    **{f"F1 {name}": lambda row, name=name: cells.percent(row.get("parts", {}).get(name))
       for name in CHECKS},
  })  # fmt: skip
  rows = results.get("criticism", ())
  note = (
    "Rows of taught_… are of who teaches, on the drafts that are taught; all others are critics "
    "that were trained, on the same held-out drafts. F1 is of the checks that are named among "
    "those that a letter fails."
  )
  kinds = {row["system"]: row.get("kinds", {}) for row in rows}
  ungraded = {name: kinds.pop(name) for name in ("taught_merged",) if name in kinds}
  note += cells.by_kind("Units lost", kinds) + cells.by_kind(_UNGRADED, ungraded)
  note += cells.by_kind(_FAILED, {row["system"]: row.get("failures", {}) for row in rows})
  return cells.select("criticism", "Critics", rows, columns, note=note)


def pairs(results: Mapping) -> cells.Table:
  """What every filter keeps of the pairs of critiques, and how right their labels are."""
  columns = cells.columns({
    "filter": "filter", "pairs": lambda row: cells.plain(row["pairs"]),
    "share": lambda row: cells.percent(row["share"]),
    "labels right": lambda row: cells.percent(row.get("accuracy")),
    "95% interval": lambda row: cells.percents(row.get("accuracy_ci95")),
    "over seeds": lambda row: cells.percents(row.get("accuracy_over_seeds", {}).get("ci95")),
    "of equal F1": lambda row: cells.percent(row.get("alike")),
    "F1 ahead": "gain",
  })  # fmt: skip
  note = (
    "A label is right where the chosen critique has the higher F1; pairs of equal F1 are not among "
    "these. marv_random_reward scores revisions by a reward model of random labels, marv_shuffled "
    "has revisers see the critiques of other drafts."
  )
  rows = results.get("critique_pairs", ())
  note += cells.by_kind(_UNGRADED, {row["filter"]: row.get("kinds", {}) for row in rows})
  note += cells.by_kind(_FAILED, {row["filter"]: row.get("failures", {}) for row in rows})
  return cells.select("critique_pairs", "Pairs of critiques", rows, columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the method from drafts to RL."""
  stages = results.get("stages", {})
  if "critic_merged" not in stages:
    return []
  names = [name for name in stages if name.startswith("critic_")]
  singles = [name for name in names[1:] if "rl_" not in name]
  reinforced = [name for name in names if "rl_" in name and not name.endswith("_reward")]
  drafted = diagram.Box(("sft", "writes the drafts", *diagram.effort(results, "sft")))
  scoring = diagram.Box(("reward", "scores revisions", *diagram.effort(results, "reward")))
  taught = diagram.Box(("critic_merged", "merged units", *diagram.effort(results, "critic_merged")))
  columns = [
    diagram.Column("Drafts", [[drafted], [scoring]],
                   diagram.rows(results, stages.get("sft", {}).get("fold", ""))),
    diagram.Column("Critics", [[taught], [diagram.Box(("controls", *singles))]],
                   diagram.rows(results, stages["critic_merged"].get("fold", ""))),
  ]  # fmt: skip
  if reinforced:
    first, *others = reinforced
    own = diagram.Box((first, "pairs that MARV keeps", *diagram.effort(results, first)))
    fold = stages[f"{first}_reward"].get("fold", "")
    boxes = [[own], [diagram.Box(("controls", *others))]]
    columns.append(diagram.Column("RL on pairs", boxes, diagram.rows(results, fold)))
  return columns


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of drafts that are revised after each critic's critiques."""
  expected = claims.EXPECTED
  own = "revised_merged"
  singles = [
    row["system"].removeprefix("critic_")
    for row in results.get("criticism", ())
    if row["system"].startswith("critic_") and "rl_" not in row["system"]
  ]
  stated = [
    claims.Stated(own, "revised_union", "the meta-critic makes merged critiques better"),
    *(
      claims.Stated(own, f"revised_{name}", f"merged critiques beat those of {name} alone")
      for name in singles if name not in ("union", "merged")
    ),
    claims.Stated("revised_rl_marv", own, "RL on pairs that MARV keeps makes critics better"),
    claims.Stated(
      "revised_rl_all", own, "RL on all pairs makes critics worse", at_most=(0.0, 0.0)
    ),
    claims.Stated("revised_rl_marv", "revised_rl_all", "MARV's pairs beat all pairs"),
    claims.Stated("revised_rl_marv", "revised_rl_random", "they beat as many at random", expected),
  ]  # fmt: skip
  found, _ = claims.decide([*claims.tests(results, stated, {}), *_measured(results)])
  return found, claims.remark(results) if found else ""


def _measured(results: Mapping) -> list[claims.Measured]:
  """Returns the tests of labels, whatever is learnt from them, and of what critics name."""
  filters = {row["filter"]: row for row in results.get("critique_pairs", ())}
  right = {"name": "accuracy", "what": "the share of right labels"}
  found = claims.measured("MARV makes labels right", filters, "marv", "all", **right)
  expected = {"kind": claims.EXPECTED, **right}
  for other, what in (
    ("random", "MARV's labels are right more often than as many at random"),
    ("marv_shuffled", "critiques of other drafts do not do it"),
    ("marv_random_reward", "a reward model of random labels does not do it"),
  ):
    found += claims.measured(what, filters, "marv", other, **expected)

  critics_of = {row["system"]: row for row in results.get("criticism", ())}
  for name in critics_of:
    if name.startswith("critic_") and "rl_" not in name and name != "critic_merged":
      what = f"merged critiques teach to name flaws better than {name.removeprefix('critic_')}'s"
      found += claims.measured(what, critics_of, "critic_merged", name, name="f1", what="F1")
  return found


PAGE = presentation.Presentation(
  title="MultiCritique with MARV, arXiv 2410.15287",
  systems={
    "revised_merged": presentation.System("drafts revised after merged critiques", palette.TEAL),
    "revised_union": presentation.System("… merged without the meta-critic", palette.RUST),
    "revised_rl_marv": presentation.System("… after RL on MARV's pairs", palette.BLUE),
    "revised_rl_all": presentation.System("… after RL on all pairs", palette.PURPLE),
    "revised_rl_random": presentation.System("… after RL on as many at random", "#c98a5e"),
    "sft": presentation.System("the drafts", "#94a3ba"),
  },
  baseline="sft",
  headlines={
    ("revised_merged", "revised_union"): (
      "Merging critiques after a meta-critic",
      "merging them all",
    ),
  },
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Critics and their pairs", (critics, pairs)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
)
