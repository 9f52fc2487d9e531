"""What the report says of self-refinement tuning: critics, refinements, both stages, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.report import cells, claims, diagram, palette, presentation, tabular


def critics(results: Mapping) -> cells.Table:
  """Every critic with what became of the drafts, what it named, and how right its scores are."""
  columns = cells.columns({
    "critic": "system", "drafts": "drafts",
    "refined": lambda row: cells.percent(row["refined"]),
    "unchanged": lambda row: cells.percent(row["unchanged"]),
    "failed": lambda row: cells.percent(row["fallback"]),
    "tokens": "tokens",
    "weak ones named": lambda row: cells.percent(row.get("named")),
    "named ones weak": lambda row: cells.percent(row.get("fail")),
    "τ": lambda row: cells.within(row.get("tau"), row.get("tau_ci95")),
    "95% interval": lambda row: cells.bounds(row.get("tau_ci95")),
    "over seeds": lambda row: cells.bounds(row.get("tau_over_seeds", {}).get("ci95")),
  })  # fmt: skip
  rows = results.get("critics", ())
  failed = {row["system"]: row["kinds"] for row in rows if row.get("kinds")}
  kinds = "; ".join(f"{name}: {_counted(of)}" for name, of in failed.items())
  note = (
    "The teacher's row is of the drafts that stage 1 is taught on; all others are of the same "
    "held-out drafts of sft. Tokens are those of a whole reply. τ is Kendall's, of a critic's "
    "scores and the judge's of the same drafts."
    + (f" Failed, with the draft kept: {kinds}." if kinds else "")
  )
  return cells.select("critics", "Critics", rows, columns, note=note)


def _counted(kinds: Mapping[str, int]) -> str:
  return ", ".join(f"{kind} {count}" for kind, count in kinds.items())


def own(results: Mapping) -> cells.Table:
  """What became of the drafts of stage 2, and how right its pairs are."""
  columns = cells.columns({
    "pairs": "what", "number": lambda row: cells.plain(row["pairs"]),
    "of drafts": lambda row: cells.plain(row["drafts"]),
    "better": lambda row: cells.percent(row.get("better")),
    "worse": lambda row: cells.percent(row.get("worse")),
  })  # fmt: skip
  note = (
    "The model's refinements of its own drafts, and those that its second score puts above them, "
    "from which stage 2 learns. Better and worse says the judge; nothing is chosen by it."
  )
  return cells.select("own", "Pairs of stage 2", results.get("own", ()), columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns both stages of the method, and below them their controls."""
  stages = results.get("stages", {})
  if "stage_1" not in stages:
    return []
  drafted = diagram.Box(("sft", "writes the drafts", *diagram.effort(results, "sft")))
  lines = ("(x, y) → critique, better answer", *diagram.effort(results, "stage_1"))
  first = diagram.Box(("stage_1", *lines))
  plain = [name.removeprefix("stage_1_") for name in stages if name.startswith("stage_1_")]
  second = diagram.Box(("srt", "DPO: own refinement over draft", *diagram.effort(results, "srt")))
  others = [name for name in ("srt_sft", "srt_redrawn") if name in stages]
  others += ["PIT's improver"] if "improver" in stages else []
  last = diagram.Box(("controls", *others)) if others else diagram.Box(("no controls",))
  return [
    diagram.Column("Drafts", [[drafted], [diagram.Box(("sft", "the same for all"))]],
                   diagram.rows(results, stages.get("sft", {}).get("fold", ""))),
    diagram.Column("Stage 1", [[first], [diagram.Box(("controls", *plain))]],
                   diagram.rows(results, stages["stage_1"].get("fold", ""))),
    diagram.Column("Stage 2", [[second], [last]],
                   diagram.rows(results, stages["srt"].get("fold", ""))),
  ]  # fmt: skip


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of feedback in refining, and of stage 2."""
  expected = claims.EXPECTED
  stated = [
    claims.Stated(
      "stage_1_refined", "stage_1_plain_refined", "refining after feedback beats refining without"
    ),
    claims.Stated(
      "stage_1_refined", "stage_1_score_refined", "all of the feedback beats its score alone"
    ),
    claims.Stated("stage_1_refined", "stage_1_weaknesses_refined", "it beats its weaknesses alone"),
    claims.Stated(
      "stage_1_refined",
      "stage_1_shuffled_refined",
      "feedback on other drafts does not do it",
      expected,
    ),
    claims.Stated(
      "stage_1_refined",
      "stage_1_plain_refined_twice",
      "two refinements without feedback do not do it",
      expected,
    ),
    claims.Stated("stage_1_refined", "pit_refined", "it beats a round of PIT's improver", expected),
    claims.Stated(
      "stage_1_refined",
      "pit_refined_twice",
      "it beats two rounds of PIT's improver, for about as many tokens",
      expected,
    ),
    claims.Stated("srt", "stage_1", "stage 2 makes direct answers better"),
    claims.Stated("srt", "srt_sft", "preferring refinements beats imitating them", expected),
    claims.Stated(
      "srt", "srt_redrawn", "preferring a refinement to its own draft beats any draft", expected
    ),
  ]
  scored = {row["system"]: row for row in results.get("critics", ())}
  agrees = claims.measured(
    "its scores agree less with a judge's after stage 2", scored, "stage_1_refined",
    "srt_refined", "tau", what="τ",
  )  # fmt: skip
  found, _ = claims.decide([*claims.tests(results, stated, {}), *agrees])
  return found, claims.remark(results) if found else ""


PAGE = presentation.Presentation(
  title="Self-refinement tuning, arXiv 2406.07168",
  systems={
    "stage_1_refined": presentation.System("drafts, refined after own feedback", palette.TEAL),
    "stage_1_plain_refined": presentation.System(
      "drafts, refined without feedback: M_PIT^SFT", palette.RUST
    ),
    "stage_1_plain_refined_twice": presentation.System(
      "M_PIT^SFT twice: the tokens of feedback", "#c98a5e"
    ),
    "pit_refined": presentation.System("drafts, refined by PIT's improver", "#5a7d3a"),
    "pit_refined_twice": presentation.System("PIT's improver twice", "#9fb58a"),
    "srt_refined": presentation.System("drafts, refined by the model of stage 2", palette.BLUE),
    "sft": presentation.System("the policy that writes the drafts", "#94a3ba"),
    "stage_1": presentation.System("answers of the model of stage 1", palette.PURPLE),
    "srt": presentation.System("answers after stage 2, DPO on own refinements", "#2f6d5b"),
    "srt_sft": presentation.System("own refinements imitated instead", "#8c5d3e"),
    "srt_redrawn": presentation.System("refinements preferred to other drafts", "#a84a4f"),
  },
  baseline="sft",
  headlines={
    ("stage_1_refined", "stage_1_plain_refined"): (
      "Feedback before a refinement",
      "refining without it",
    )
  },
  claims=said,
  diagram=pipeline,
  stages={"gap_reward": "Training of R_PIT", "improver": "RL of PIT's improver"},
  rewards={"scalar": "R_PIT"},
  sections=(
    presentation.Section("Criticism and refinement", (critics, own)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
)
