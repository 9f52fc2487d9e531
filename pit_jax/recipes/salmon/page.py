"""What the report says of an instructable reward model: principles, conflicts, policies, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.report import cells, claims, diagram, palette, presentation, tabular


def principles(results: Mapping) -> cells.Table:
  """Every principle with how right each reward model is that is shown it alone."""
  by_key: dict[tuple, dict] = {}
  for row in results.get("principles", ()):
    key = (row["principle"], row["shown"])
    by_key.setdefault(
      key, {"principle": row["principle"], "shown": row["shown"], "n": row.get("n")}
    )
    by_key[key][row["model"]] = cells.percent(row.get("accuracy"))
  models = dict.fromkeys(row["model"] for row in results.get("principles", ()))
  columns = cells.columns({
    "principle": "principle", "shown": "shown", "pairs": "n",
    **{model: lambda row, model=model: row.get(model, cells.BLANK) for model in models},
  })  # fmt: skip
  told_by = results.get("conditioning", {}).get("told_by", "")
  note = (
    "Share of held-out pairs that differ by the principle in which a reward model that is shown it "
    f"alone prefers the better one; of a negated one, the worse. Who is better says {told_by}."
  )
  return cells.select("principles", "Single principles", [*by_key.values()], columns, note=note)


def conflicts(results: Mapping) -> cells.Table:
  """Every reward model with how often it follows the shown one of two contradicting principles."""
  columns = cells.columns({
    "reward model": "model", "conflicts": "n",
    "the first": lambda row: cells.percent(row.get("first")),
    "the second": lambda row: cells.percent(row.get("second")),
    "both": lambda row: cells.percent(row.get("both")),
  })  # fmt: skip
  note = (
    "One answer is better by one principle, the other by another. Both: the reward model is with "
    "each when it is shown that alone, which one that does not read principles never is."
  )
  return cells.select("conflicts", "Conflicts", results.get("conflicts", ()), columns, note=note)


def policies(results: Mapping) -> cells.Table:
  """Every policy with its list, how far it went, and the share of answers that pass each check."""
  systems = results["systems"]
  rows = [{"system": "sft", "list": [], "kl": 0.0}, *results.get("policies", ())]
  rows = [{**systems.get(row["system"], {}), **row} for row in rows]
  names = dict.fromkeys(name for row in rows for name in row.get("checks", {}))
  columns = cells.columns({
    "policy": "system", "list": lambda row: ", ".join(row["list"]),
    "KL": lambda row: cells.fixed(row.get("kl")),
    **{name: lambda row, name=name: cells.percent(row.get("checks", {}).get(name))
       for name in names},
    "tokens": "tokens",
  })  # fmt: skip
  note = "KL is to sft, in nats per answer. A policy without a list has principles drawn by weight."
  return cells.select("policies", "Policies of one reward model", rows, columns, note=note)


def steering(results: Mapping) -> cells.Table | None:
  """Every principle with how often its check is passed by policies under lists."""
  return _steered(results, "steering", "What a principle does", "answers")


def improved_steering(results: Mapping) -> cells.Table | None:
  """Every principle with how often its check is passed by versions under lists."""
  title = "What a principle does to versions"
  what = "versions that the improver makes, and of answers by sft that is shown the list (anew),"
  return _steered(results, "improved_steering", title, what)


def _steered(results: Mapping, name: str, title: str, what: str) -> cells.Table | None:
  """Every principle with how often its check is passed with it, without it, and negated."""
  rows = results.get(name, ())
  if not rows:
    return None
  versions = {"version": "version"} if "version" in rows[0] else {}
  columns = cells.columns({
    "principle": "principle", **versions,
    "with": lambda row: cells.percent(row.get("with")),
    "without": lambda row: cells.percent(row.get("without")),
    "difference": lambda row: cells.percent(row.get("difference")),
    "95% interval": lambda row: cells.percents(row.get("ci95")),
    "negated": lambda row: cells.percent(row.get("negated")),
    "with − negated": lambda row: cells.percent(row.get("difference_negated")),
  })  # fmt: skip
  note = (
    f"Mean shares of {what} that pass the check under lists with the principle, without any "
    "mention of it, and with its negation."
  )
  return cells.select(name, title, rows, columns, note=note)


def improved(results: Mapping) -> cells.Table | None:
  """Every list with what the improver makes of the same drafts under it."""
  rows = results.get("improved", ())
  if not rows:
    return None
  names = dict.fromkeys(name for row in rows for name in row.get("checks", {}))
  columns = cells.columns({
    "list": lambda row: ", ".join(row["list"]),
    "version": "version",
    "kept": lambda row: cells.percent(row.get("share")),
    **{name: lambda row, name=name: cells.percent(row.get("checks", {}).get(name))
       for name in names},
    "tokens": "tokens",
  })  # fmt: skip
  note = (
    "The same drafts, one round of the improver, the same noise: what differs is the list. Kept is "
    "what the stop rule leaves, and the share of drafts that it replaces; anew is what sft answers "
    "that is shown the list, and no draft."
  )
  return cells.select("improved", "Improvement under principles", rows, columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the one reward model, and the policies that it makes."""
  stages = results.get("stages", {})
  if "reward" not in stages:
    return []
  rows = results.get("policies", ())
  sampled = diagram.Box(("sft", "two samples per prompt", *diagram.effort(results, "sft")))
  lines = ("reads principles", *diagram.effort(results, "reward"))
  rewarding = diagram.Box(("R_P", *lines))
  boxes = [diagram.Box((row["system"], ", ".join(row["list"]) or "drawn by weight"))
           for row in rows]  # fmt: skip
  return [
    diagram.Column("Sampled and judged", [[sampled]], diagram.rows(results, "reward")),
    diagram.Column("One reward model", [[rewarding]]),
    diagram.Column("A policy per list", [boxes], diagram.rows(results, "rl")),
  ]


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of RL under its list."""
  stated = [
    claims.Stated("salmon", "sft", "RL under the run's principles beats the policy it begins with")
  ]
  found, _ = claims.decide(claims.tests(results, stated, {}))
  return found, claims.remark(results) if found else ""


PAGE = presentation.Presentation(
  title="SALMON: a reward model that reads principles, arXiv 2310.05910",
  systems={
    "salmon": presentation.System("", palette.TEAL),
    "sft": presentation.System("the policy that was sampled", "#94a3ba"),
  },
  baseline="sft",
  headlines={("salmon", "sft"): ("RL under principles", "the policy it begins with")},
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section(
      "Principles", (principles, conflicts, policies, steering, improved, improved_steering)
    ),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
  rewards={"reward": "the reward model under the list"},
)
