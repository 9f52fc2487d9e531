"""What the report says of exercises from errors: arms by domain, what was written, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.recipes.instructors import arms, lessons
from pit_jax.report import cells, claims, diagram, palette, presentation, tabular, verdict

IN, OUT = "in", "out"
STILL = 5.0  # points by which what the target knew may fall that is said to stay


def table(results: Mapping) -> cells.Table:
  """Every arm with the share of right answers, in and out of the domain of its errors."""
  right = {(row["system"], row["kind"]): row for row in results.get("kinds", ())}
  names = list(dict.fromkeys(row["system"] for row in results.get("kinds", ())))
  systems = results["systems"]
  rows = [{**systems.get(name, {}), "system": name} for name in names]
  about = results.get("about", {})

  def share(kind):
    return lambda row: cells.percent(right.get((row["system"], kind), {}).get("right"))

  def check(name):
    return lambda row: cells.percent(row.get("checks", {}).get(name))

  def over(other, side):
    return lambda row: _delta(results, row["system"], other, side)

  columns = cells.columns({
    "arm": "system", "what it is": lambda row: about.get(row["system"], ""),
    "right, in domain": share(IN), "over target": over(arms.TARGET, IN),
    "right, out of it": share(OUT), "over target, out": over(arms.TARGET, OUT),
    "malformed": check("malformed"), "score": "score", "tokens": "tokens",
  })  # fmt: skip
  note = (
    f"In domain are the kinds of problems on which the target's answers to the training split are "
    f"wrong more often than over all kinds ({_kinds(results, IN)}); out of it the others "
    f"({_kinds(results, OUT)}). Right, and Δ = win − lose over the target in points with its 95% "
    f"interval, are {_judge(results)}'s, which chose nothing; score is the mean "
    f"{verdict.score_judge(results)} score."
  )
  return cells.select("arms", "Arms, in and out of domain", rows, columns, note=note, words=2)


def _judge(results: Mapping) -> str:
  return results.get("config", {}).get("instructors", {}).get("judge", "the judge")


def _kinds(results: Mapping, side: str) -> str:
  rows = results.get("kinds", ())
  return ", ".join(dict.fromkeys(row["kind"] for row in rows if row["domain"] == side)) or "none"


def _delta(results: Mapping, a: str, b: str, side: str) -> str:
  row = verdict.find(of_domain(results, side)["comparisons"], a, b)
  if row is None:
    return cells.BLANK
  return f"{cells.signed(row['delta'], row['ci95'])} ({cells.said('ci95', row)})"


def of_domain(results: Mapping, side: str) -> dict:
  """Returns results whose comparisons are those on the prompts of a domain."""
  rows = [row for row in results.get("domains", ()) if row["domain"] == side]
  return {**results, "comparisons": rows}


def kinds_table(results: Mapping) -> cells.Table:
  """Every arm with the share of right answers, kind by kind."""
  told = [row for row in results.get("kinds", ()) if row["domain"]]
  names = list(dict.fromkeys(row["kind"] for row in told))
  right = {(row["system"], row["kind"]): row["right"] for row in told}
  rows = [{"system": name} for name in dict.fromkeys(row["system"] for row in told)]

  def share(kind):
    return lambda row: cells.percent(right.get((row["system"], kind)))

  columns = cells.columns({"arm": "system", **{name: share(name) for name in names}})
  return cells.select("kinds", "Right answers by kind", rows, columns)


def lessons_table(results: Mapping) -> cells.Table:
  """What every round began with, and what became of what the instructor wrote."""
  rows = results.get("lessons", ())
  reasons = list(dict.fromkeys(name for row in rows for name in row["outcomes"]))
  first = [name for name in (lessons.TRAINED, lessons.VALIDATES) if name in reasons]

  def count(name):
    return lambda row: cells.fixed(row["outcomes"].get(name, 0), 0)

  columns = cells.columns({
    "arm": "arm", "round": "round", "wrong before": lambda row: cells.percent(row["wrong"]),
    "problems shown": lambda row: cells.fixed(row["requests"], 0),
    **{name: count(name) for name in [*first, *(one for one in reasons if one not in first)]},
    "worked right": lambda row: cells.percent(row.get("right")),
    "kinds trained on": lambda row: cells.plain(row["of"]) if row.get("of") else cells.BLANK,
  })  # fmt: skip
  note = (
    "Wrong before is the share of the answers to the training split that the instructor's problems "
    "are chosen from, of the target, or in le_shuffled of another student. Worked right is the "
    "share of the exercises whose worked answers the verifier passes; nothing was chosen by it."
  )
  return cells.select("lessons", "What was written", rows, columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the chain of learning from errors, and that of exercises at random."""
  stages = results.get("stages", {})
  numbers = range(1, results.get("config", {}).get("instructors", {}).get("rounds", 0) + 1)
  if not stages or not numbers:
    return []
  imitated = arms.TARGET in stages
  start = diagram.Box((
    arms.TARGET, "imitates the author" if imitated else "the base",
    *(diagram.effort(results, arms.TARGET) if imitated else ()),
  ))  # fmt: skip
  same = diagram.Box((arms.TARGET, "the same for all"))
  chains = {arms.LE: "answers, errors, exercises like them", arms.AUGMENTED: "exercises like any"}
  columns = [diagram.Column("Target", [[start], [same]])]
  for number in numbers:
    named = [(arms.stage(arm, number), words) for arm, words in chains.items()]
    # An arm ends where nothing was left to ask for; its chain goes on to what it had become.
    boxes = [
      [diagram.Box((name, words, *diagram.effort(results, name)) if name in stages
                   else (name, "nothing to write about"))]
      for name, words in named
    ]  # fmt: skip
    columns.append(diagram.Column(f"Round {number}", boxes))
  ends = [[diagram.Box((arm, "in domain and out of it"))] for arm in chains]
  return [*columns, diagram.Column("Held out", ends, diagram.rows(results, "held_out"))]


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of the paper's two methods, and of the controls."""
  inside = [
    claims.Stated(
      arms.LE, arms.AUGMENTED, "learning from error beats exercises at random in domain"
    ),
    claims.Stated(
      arms.LEC, arms.AUGMENTED, "learning by contrast beats exercises at random in domain"
    ),
    claims.Stated(arms.LE, arms.TARGET, "learning from error mends what the target failed on"),
    claims.Stated(
      arms.LE, arms.RIGHT, "exercises like errors beat those like what was solved", claims.EXPECTED
    ),
    claims.Stated(
      arms.LE, arms.SHUFFLED, "its own errors teach more than another student's", claims.EXPECTED
    ),
  ]
  outside = [
    claims.Stated(arms.LEC, arms.LE, "out of domain contrast beats learning from error alone"),
    claims.Stated(
      arms.TARGET, arms.LE,
      f"out of domain learning from error costs {STILL:g} points at most", claims.EXPECTED,
      at_most=(STILL, STILL),
    ),
  ]  # fmt: skip
  tests = claims.tests(of_domain(results, IN), inside, {})
  tests += claims.tests(of_domain(results, OUT), outside, {})
  found, _ = claims.decide(tests)
  return found, claims.remark(results) if found else ""


COLOURS = {
  arms.LE: palette.TEAL,
  arms.LEC: palette.BLUE,
  arms.AUGMENTED: palette.RUST,
  arms.TARGET: "#94a3ba",
  arms.RIGHT: palette.PURPLE,
}
PAGE = presentation.Presentation(
  title="Exercises from errors, arXiv 2407.00497",
  systems={name: presentation.System("", colour) for name, colour in COLOURS.items()},
  baseline=arms.TARGET,
  headlines={
    (arms.LE, arms.AUGMENTED): ("Exercises like its errors", "what exercises at random teach")
  },
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Learning from errors", (table, kinds_table, lessons_table)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
)
