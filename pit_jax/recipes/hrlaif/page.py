"""What the report says of hybrid labels: arms, preference beside satisfaction, labels by class."""

from collections.abc import Mapping, Sequence

from pit_jax.recipes.hrlaif import arms
from pit_jax.report import cells, claims, diagram, palette, presentation, tabular, verdict

DISEASE = "labels of the basic labeller make fewer answers satisfy"
NOTHING_CURED = (
  "Under the basic labeller's labels satisfaction is not shown to have fallen over all prompts, so "
  "that nothing was cured there: what hybrid labels add is a gain over a policy that was not ill."
)


def _judges(results: Mapping) -> tuple[str, str]:
  """Returns who judges preference, and who satisfaction."""
  c = results.get("config", {}).get("hrlaif", {})
  return c.get("preference", ""), c.get("satisfaction", "")


def table(results: Mapping) -> cells.Table:
  """Every arm with whose labels it learnt, what it is preferred to, and what satisfies."""
  preference, satisfaction = _judges(results)
  systems = results["systems"]
  names = list(dict.fromkeys(row["system"] for row in results.get("classes", ())))
  rows = [{**systems.get(name, {}), "system": name} for name in names]
  by_class = {(row["system"], row["class"]): row for row in results.get("classes", ())}
  columns = cells.columns({
    "arm": "system", "what it is": lambda row: row.get("about", ""),
    f"preferred to sft, {preference}": lambda row: _delta(results, row["system"], preference),
    "satisfied": lambda row: cells.percent(row.get(f"score_{satisfaction}")),
    "over sft": lambda row: _delta(results, row["system"], satisfaction),
    **{f"satisfied, {name}": _satisfied(by_class, name) for name in _classes(results)},
    "answers right": _check("answer"), "workings right": _check("working"),
    "calm": _check("tone"), "score": "score", "tokens": "tokens",
  })  # fmt: skip
  note = (
    f"Preferred: Δ = win − lose against sft in percent of prompts under {preference}, which "
    f"labelled nothing; satisfied: the mean score of {satisfaction}, which nothing was trained or "
    "chosen by, and Δ against sft under it. Intervals are of 95%. "
    f"Score is the mean {verdict.score_judge(results)} score."
  )
  return cells.select("arms", "Preference and satisfaction", rows, columns, note=note, words=2)


def _check(name: str):
  return lambda row: cells.percent(row.get("checks", {}).get(name))


def _classes(results: Mapping) -> list[str]:
  return list(dict.fromkeys(row["class"] for row in results.get("classes", ())))


def _satisfied(by_class: Mapping, name: str):
  return lambda row: cells.percent(by_class.get((row["system"], name), {}).get("satisfied"))


def _delta(results: Mapping, system: str, judge: str) -> str:
  """Returns the Δ of a system over sft under a judge, with its interval."""
  row = verdict.find(results["comparisons"], system, arms.SFT, (judge,))
  if row is None:
    return cells.BLANK
  return f"{cells.signed(row['delta'], row['ci95'])} ({cells.said('ci95', row)})"


def classes_table(results: Mapping) -> cells.Table:
  """What share of every arm's answers satisfies, class by class, and against sft."""
  rows = [row for row in results.get("classes", ()) if "delta" in row]
  columns = cells.columns({
    "arm": "system", "class": "class", "prompts": lambda row: cells.fixed(row["n"], 0),
    "satisfied": lambda row: cells.percent(row["satisfied"]), "Δ to sft": "delta",
    "95% interval": "ci95",
  })  # fmt: skip
  note = "Δ = win − lose against sft on the same prompts, in percent of them."
  return cells.select("classes", "Satisfaction by class", rows, columns, note=note, words=2)


def _ill(results: Mapping) -> str:
  """Returns of which classes satisfaction fell under basic labels, in a sentence; "" of none."""
  rows = [row for row in results.get("classes", ())
          if row["system"] == arms.BASIC and row.get("delta") is not None]  # fmt: skip
  told = [
    f"{row['class']} (Δ = {cells.signed(row['delta'], row['ci95'])}%, 95% interval "
    f"{cells.interval(row['ci95'])})"
    for row in rows
    if verdict.direction(row) < 0
  ]
  return f" By classes it fell: {', '.join(told)}." if told else ""


def labels_table(results: Mapping) -> cells.Table:
  """How many labels every arm has of each class, whose they are, and how many are right."""
  rows = results.get("class_labels", ())
  columns = cells.columns({
    "arm": "system", "class": "class", "labels by": "by",
    "pairs": lambda row: cells.fixed(row["pairs"], 0),
    "right": lambda row: cells.percent(row.get("right")),
  })  # fmt: skip
  note = (
    "Right is the share of the labels that the gold score agrees with, of those on which it "
    "prefers an answer; nothing was trained or chosen by it. All arms learn from as many pairs."
  )
  return cells.select("labels", "Labels by class", rows, columns, note=note, words=3)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the chain of each of both labellers, and what they are compared with."""
  stages = results.get("stages", {})
  if arms.SFT not in stages:
    return []
  starts = [[diagram.Box((arms.SFT, "imitates the author", *diagram.effort(results, arms.SFT)))],
            [diagram.Box((arms.SFT, "the same for all"))]]  # fmt: skip
  told = {
    arms.BASIC: "one labeller for all prompts",
    arms.HYBRID: "verified, rated or rewritten by class",
  }
  rewards = [_box(results, f"{system}_reward", words) for system, words in told.items()]
  policies = [_box(results, system, "RL for it, near sft") for system in told]
  ends = [[diagram.Box((system, "compared with sft, and each other"))] for system in told]
  folds = [stages[name].get("fold", "") for name in (arms.SFT, f"{arms.BASIC}_reward", arms.BASIC)]
  return [
    diagram.Column("Imitation", starts, diagram.rows(results, folds[0])),
    diagram.Column("Labels, and a reward", rewards, diagram.rows(results, folds[1])),
    diagram.Column("RL", policies, diagram.rows(results, folds[2])),
    diagram.Column("Held out", ends, diagram.rows(results, "held_out")),
  ]


def _box(results: Mapping, stage: str, words: str) -> list[diagram.Box]:
  return [diagram.Box((stage, words, *diagram.effort(results, stage)))]


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of the paper's two numbers, and of the controls."""
  preference, satisfaction = _judges(results)
  third = claims.share(results, arms.HYBRID, arms.BASIC, 1 / 3, satisfaction)

  def stated(a, b, statement, judge, kind=claims.PAPER, **how):
    return claims.Stated(a, b, statement, kind, judge=judge, **how)

  disease = stated(arms.SFT, arms.BASIC, DISEASE, satisfaction)
  entries = [
    stated(arms.BASIC, arms.SFT, "they make answers preferred", preference),
    disease,
    stated(arms.HYBRID, arms.SFT, "hybrid labels make answers preferred", preference),
    stated(arms.HYBRID, arms.SFT, "hybrid labels make more answers satisfy", satisfaction),
    stated(arms.HYBRID, arms.BASIC, "more answers satisfy than by basic labels", satisfaction),
  ]
  for control, statement, how in (
    ("hybrid_random", "a verifier at random gains at most a third of that", {"at_most": third}),
    ("hybrid_noisy", "a verifier that errs still gains over basic labels", {}),
  ):
    own = (control, arms.BASIC, statement, satisfaction)
    entries.append(stated(*own, claims.EXPECTED, **how))
  own = ("hybrid", "hybrid_unwritten", "rewriting adds to what satisfies", satisfaction)
  entries.append(stated(*own, claims.EXPECTED))

  found, _ = claims.decide(claims.tests(results, entries, {}))
  if not found:
    return found, ""
  shown = [one for one in found if DISEASE in one.statement]
  is_ill = any(one.outcome in (claims.HOLDS, claims.HERE) for one in shown)
  return found, claims.remark(results) + ("" if is_ill else f" {NOTHING_CURED}{_ill(results)}")


# What each arm is depends on the configuration, and the results say it.
COLOURS = {arms.HYBRID: palette.TEAL, arms.BASIC: palette.RUST, arms.SFT: "#94a3ba"}
PAGE = presentation.Presentation(
  title="Hybrid labels, arXiv 2403.08309",
  systems={name: presentation.System("", colour) for name, colour in COLOURS.items()}
  | {arms.SFT: presentation.System("fine-tuned on the author's answers", COLOURS[arms.SFT])},
  baseline=arms.SFT,
  headlines={
    (arms.HYBRID, arms.BASIC): ("RL for hybrid labels", "what RL for basic labels answers")
  },
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Preference and satisfaction", (table, classes_table, labels_table)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
  rewards={"reward": "the reward model of its labels"},
)
