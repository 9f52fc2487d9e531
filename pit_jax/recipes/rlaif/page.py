"""What the report says of the study: its arms, what it claims, and how far feedback carries."""

from collections.abc import Mapping, Sequence

import matplotlib.figure

from pit_jax.recipes.rlaif import arms
from pit_jax.report import cells, claims, diagram, palette, panels, presentation, tabular, verdict


def table(results: Mapping) -> cells.Table:
  """Every arm with its teacher, critic and labels, between both ends of the study, by judge."""
  rows = [{**row, **results["systems"].get(row["system"], {})} for row in results.get("arms", ())]
  columns = cells.columns({
    "arm": "system", "teacher": "teacher", "critic": "critic", "labels": "kept", "by": _raters,
    "right": lambda row: cells.percent(row.get("right")), "score": "score", "tokens": "tokens",
  })  # fmt: skip
  for judge in verdict.believed(results["comparisons"]):
    # Defaults hold the values of this turn; a closure would see those of the last.
    columns[f"over sft_10, {judge}"] = lambda row, judge=judge: _delta(
      results, row["system"], "sft_10", judge
    )
    columns[f"sft_100_strong over it, {judge}"] = lambda row, judge=judge: _delta(
      results, "sft_100_strong", row["system"], judge
    )

  note = (
    f"Score is the mean {verdict.score_judge(results)} score. “Over” is Δ = win − lose, in percent "
    "of prompts, with its 95% interval. Labels are the pairs that a critic decided; right is the "
    "share of them that the gold score agrees with, by which nothing was trained or chosen."
  )
  return cells.select("arms", "Arms of the study", rows, columns, note=note, words=3)


def _raters(row: Mapping) -> str:
  """Returns how many labels each of several raters gave that were asked as one critic."""
  given = row.get("kept_of", {})
  is_one = {*given} <= {row["critic"]}
  return "" if is_one else ", ".join(f"{name} {count}" for name, count in given.items())


def _delta(results: Mapping, a: str, b: str, judge: str) -> str:
  """Returns the Δ of a comparison over all seeds, with its interval."""
  row = verdict.find(results["comparisons"], a, b, (judge,))
  if row is None:
    return cells.BLANK
  return f"{cells.signed(row['delta'], row['ci95'])} ({cells.said('ci95', row)})"


def _gains(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """Draws what feedback adds to each arm's start, by who wrote and who said what is better."""
  rows = [row for row in results.get("arms", ()) if row["critic"]]
  found = [(row, verdict.find(results["comparisons"], row["system"], row["start"])) for row in rows]
  told = [(row, gain) for row, gain in found if gain is not None and "ci95" in gain]
  if not told:
    return None
  figure, ((axes,),) = panels.make_figure(is_wide, panels.lines_height(len(told), is_wide))

  for height, (_, gain) in enumerate(told):
    low, high = gain["ci95"]
    axes.plot([low, high], [height, height], color=palette.TEAL, linewidth=2)
    axes.plot([gain["delta"]], [height], "o", color=palette.TEAL, markersize=5)
  axes.axvline(0, color=palette.INK, linewidth=0.9)
  names = [f"{row['critic']} on {row['teacher']}’s" for row, _ in told]
  panels.name_lines(axes, names, is_wide)
  axes.set_xlabel("Δ over the start, %")
  return figure


def _crossover(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """Draws both ends of the study over the teachers of the crossover."""
  rows = results.get("crossover", ())
  if not rows:
    return None
  figure, ((axes,),) = panels.make_figure(is_wide, 330)
  lines = {
    "rlaif over its start": [(row["system"], row["start"]) for row in rows],
    "sft_100_strong over rlaif": [("sft_100_strong", row["system"]) for row in rows],
  }

  for (label, pairs), colour in zip(lines.items(), (palette.TEAL, palette.BLUE), strict=True):
    found = [verdict.find(results["comparisons"], *pair) for pair in pairs]
    points = [{"at": place, **row} for place, row in enumerate(found) if row is not None]
    places = [row["at"] for row in points]
    axes.plot(
      places, [row["delta"] for row in points], "o-", color=colour, label=label, markersize=5
    )
    panels.shade(axes, points, "at", "ci95", colour)

  axes.axhline(0, color=palette.INK, linewidth=0.9)
  axes.set_xticks(range(len(rows)), [row["teacher"] for row in rows])
  axes.set_xlabel("teacher")
  axes.set_ylabel("Δ, %")
  panels.shared_legend(figure, is_wide)
  return figure


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the two chains of the study, of the weak and of the strong teacher."""
  rows = results.get("arms", ())
  ends = {"sft_10": ("rlaif", "sft_100"), "sft_10_strong": (arms.MATCHED, "sft_100_strong")}
  columns = [
    diagram.Column("A tenth of the prompts", []),
    diagram.Column("The other prompts", []),
    diagram.Column("Held out", []),
  ]

  trained = {row["system"]: row["teacher"] for row in rows}
  for start, (after, against) in ends.items():
    if start not in trained:
      continue
    teacher = trained[start]
    critics = ", ".join(row["critic"] for row in rows if row["start"] == start)
    boxes = (
      diagram.Box((start, f"imitates {teacher}", *diagram.effort(results, start))),
      diagram.Box((after, f"DPO on labels of {critics}", *diagram.effort(results, after))),
      diagram.Box(("compared", f"with {against}, which imitates {teacher} on all prompts")),
    )
    for column, box in zip(columns, boxes, strict=True):
      column.chains.append([box])

  return columns if rows else []


GAINS = presentation.Figure(
  "gains",
  "What AI feedback adds to the policy that it started from, by critic and by the teacher "
  "whose answers that policy imitates.",
  _gains,
)
CROSSOVER = presentation.Figure(
  "crossover",
  "What AI feedback gains, and how far fine-tuning on the strong teacher is ahead of it, as more "
  "and more of the weak teacher's answers are written as the strong one's are.",
  _crossover,
)


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of the paper's directions, and of the controls."""
  third = claims.share(results, "rlaif", "sft_10", 1 / 3)
  stated = [
    claims.Stated("rlaif", "sft_10", "AI feedback improves a policy fine-tuned on a weak teacher"),
    claims.Stated("sft_100_strong", "rlaif", "fine-tuning on the critic's equal beats AI feedback"),
    claims.Stated(
      arms.MATCHED, "sft_10_strong",
      "feedback adds at most a third of that where the teacher is as good as the critic",
      at_most=third,
    ),
    claims.Stated(
      "rlaif_random_critic", "sft_10", "random labels gain at most a third of it", claims.EXPECTED,
      at_most=third,
    ),
  ]  # fmt: skip
  found, _ = claims.decide(claims.tests(results, stated, {}))
  return found, claims.remark(results) if found else ""


# What each is depends on the configuration, and the results say it.
COLOURS = {"rlaif": palette.TEAL, "sft_10": "#94a3ba", "sft_100_strong": palette.BLUE}
PAGE = presentation.Presentation(
  title="AI feedback, critically evaluated, arXiv 2402.12366",
  systems={name: presentation.System("", colour) for name, colour in COLOURS.items()},
  baseline="sft_10",
  headlines={("rlaif", "sft_10"): ("AI feedback", "the answers of the fine-tuned policy")},
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("The study", (table,), (GAINS, CROSSOVER)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
)
