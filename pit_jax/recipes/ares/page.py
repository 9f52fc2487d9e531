"""What the report says of sentence rewards and corrections: arms, pipeline, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.recipes.ares import arms
from pit_jax.report import cells, claims, diagram, palette, presentation, tabular, verdict


def table(results: Mapping) -> cells.Table:
  """Every arm with what it answers, and what the teacher says of its sentences."""
  rows = [{**results["systems"].get(row["system"], {}), **row}
          for row in results.get("sentences", ())]  # fmt: skip

  def check(name):
    return lambda row: cells.percent(row.get("checks", {}).get(name))

  columns = cells.columns({
    "arm": "system", f"{verdict.score_judge(results)} score": lambda row: cells.fixed(row["score"]),
    "answers right": check("answer"), "calls right": check("working"),
    "calm": check("tone"), "malformed": check("malformed"),
    "sentences": lambda row: cells.fixed(row["sentences"]),
    "with a repeated one": lambda row: cells.percent(row["repeated"]),
    "teacher’s sum": lambda row: cells.signed(row["reward"]),
    "without noise": lambda row: cells.signed(row.get("exact")),
    "dropped": lambda row: cells.percent(row["dropped"]),
  })  # fmt: skip
  note = (
    "The teacher’s sum is that of its scores less ½ over the sentences of an answer, which RL "
    "maximised; answers are dropped about which its reply cannot be used."
  )
  return cells.select("sentences", "Arms, and their sentences", rows, columns, note=note)


def corrected(results: Mapping) -> cells.Table:
  """What became of the answers that were corrected, by the arm that imitates them."""
  columns = cells.columns({
    name: (lambda row, name=name: cells.plain(row[name]))
    for name in ("of", "answers", "repeated", "changed", "failed")
  })  # fmt: skip
  note = (
    "Repeated: answers of which sentences that repeat others were taken out first. Changed: those "
    "that the teacher then changed. Both parts of the fold, to train on and to validate, count."
  )
  rows = results.get("corrections", ())
  note += cells.by_kind("Failed", {row["of"]: row.get("kinds", {}) for row in rows})
  return cells.select("corrections", "Corrections", rows, columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the alternation, once and twice, and below it the arms that leave a part out."""
  stages = results.get("stages", {})
  if arms.ARES not in stages:
    return []

  def box(name, *lines):
    return diagram.Box((name, *lines, *diagram.effort(results, name)))

  first, last = (arms.reinforced(half) for half in arms.HALVES)
  begun = arms.corrected(arms.HALVES[0])
  chains = [
    [[box(arms.SFT, "imitates the author")], [diagram.Box((arms.SFT, "the same for all"))]],
    [[box(arms.SENTENCES, "RL for scores of sentences")],
     [diagram.Box((f"{arms.SUM}, {arms.PERMUTED}", "the same in sum, elsewhere"))]],
    [[box(arms.ARES, "imitates corrections")],
     [box(arms.CORRECTED, "imitates corrections, no RL")]],
    [[diagram.Box((first, f"{begun}: corrections"))], [diagram.Box(("asked as often",))]],
    [[diagram.Box((last, f"{arms.TWICE}: corrections"))],
     [diagram.Box(("compared", "with ares, and with sft"))]],
  ]  # fmt: skip
  titles = ("Imitation", "Reinforcement", "Correction", "Twice: half of both", "The other half")
  return [diagram.Column(*column) for column in zip(titles, chains, strict=True)]


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of credit, of alternation, and of the controls."""
  third = claims.share(results, arms.SENTENCES, arms.SFT, 1 / 3)
  stated = [
    claims.Stated(arms.ARES, arms.SFT, "RL and then corrections improve a policy"),
    claims.Stated(
      arms.SENTENCES, arms.SUM, "a score at each sentence beats their sum at the end"
    ),
    claims.Stated(
      arms.PERMUTED, arms.SFT, "scores at other sentences gain at most a third", claims.EXPECTED,
      at_most=third,
    ),
    claims.Stated(
      arms.ARES, arms.CORRECTED, "RL before corrections beats as many asks for corrections alone"
    ),
    claims.Stated(arms.ARES, arms.SENTENCES, "corrections after RL improve it"),
    claims.Stated(
      arms.TWICE, arms.CORRECTED, "two rounds beat as many asks for corrections alone"
    ),
    claims.Stated(arms.TWICE, arms.ARES, "two rounds beat one", claims.EXPECTED),
  ]  # fmt: skip
  found, _ = claims.decide(claims.tests(results, stated, {}))
  return found, claims.remark(results) if found else ""


COLOURS = {
  arms.ARES: palette.TEAL, arms.SFT: "#94a3ba", arms.CORRECTED: palette.PURPLE,
  arms.SENTENCES: palette.BLUE, arms.SUM: palette.RUST,
}  # fmt: skip
PAGE = presentation.Presentation(
  title="Alternate reinforcement and supervised learning, arXiv 2407.00087",
  systems={name: presentation.System("", colour) for name, colour in COLOURS.items()},
  baseline=arms.SFT,
  headlines={
    (arms.ARES, arms.CORRECTED): ("Scores of sentences, then corrections", "corrections alone")
  },
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Sentences", (table, corrected)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
  rewards={"sentences": "the teacher’s scores of sentences"},
)
